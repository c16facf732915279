//! Example client for leadsd in Rust. It prints its results and fails if they are unexpected.

/// Ends the step unless something holds.
macro_rules! check {
    ($holds:expr, $($otherwise:tt)+) => {
        let holds: bool = $holds;
        if !holds {
            return Err(format!($($otherwise)+).into());
        }
    };
}

mod connect;
mod failure;
mod names;
mod transfer;

use std::{error::Error, time::Duration};

use clap::Parser as _;
use futures_util::future::join_all;
use tonic::{Code, Request, Status, service::interceptor::InterceptedService, transport::Channel};

use connect::{Caller, MAX_RESPONSE_SIZE, Server};
use failure::{Failure, retry};
use pb::{
    Filter, FilterGroup, FilterOperator, GetLeadRequest, ListLeadsRequest, SearchLeadsRequest,
    Sort, SortDirection, lead_write_result::Outcome, leads_service_client::LeadsServiceClient,
    quota_service_client::QuotaServiceClient,
};

/// The contract.
#[expect(clippy::large_enum_variant, reason = "generated")]
pub mod pb {
    tonic::include_proto!("leadsd.v1");
}

type Done = Result<(), Box<dyn Error>>;

type Calling = InterceptedService<Channel, Caller>;

/// Example client for leadsd.
#[derive(Debug, clap::Parser)]
struct Options {
    #[command(flatten)]
    server: Server,
    /// Contact for created leads.
    #[arg(long, default_value = "101")]
    contact: String,
    /// Address of that contact.
    #[arg(long, default_value = "ada@example.com")]
    email: String,
    /// Address of an owner.
    #[arg(long, default_value = "sales@example.com")]
    owner: String,
}

/// Client and its state.
struct Walk {
    server: Server,
    channel: Channel,
    leads: LeadsServiceClient<Calling>,
    quota: QuotaServiceClient<Calling>,
    contact: String,
    email: String,
    owner: String,
    /// Unique word in the name of every lead of this run.
    word: String,
}

#[tokio::main]
async fn main() -> Done {
    let Options { server, contact, email, owner } = Options::parse();
    let word = format!("rust{:032x}", rand::random::<u128>());
    // Metadata of every call: portal, priority and caller.
    let caller = Caller {
        metadata: vec![
            ("leadsd-portal", "default".to_owned()),
            ("leadsd-priority", "interactive".to_owned()),
            ("leadsd-caller", word.clone()),
        ],
        token_file: server.token_file.clone(),
    };
    let channel = server.connect()?;
    let mut walk = Walk {
        leads: LeadsServiceClient::with_interceptor(channel.clone(), caller.clone())
            .max_decoding_message_size(MAX_RESPONSE_SIZE),
        quota: QuotaServiceClient::with_interceptor(channel.clone(), caller),
        server,
        channel,
        contact,
        email,
        owner,
        word,
    };
    walk.create().await?;
    walk.names().await?;
    walk.batch().await?;
    walk.search().await?;
    transfer::transfer(&mut walk.leads, &walk.contact, &walk.word).await?;
    walk.portals().await?;
    walk.errors().await?;
    walk.limits().await?;
    walk.deadline().await?;
    walk.balancing().await?;
    println!("rust: all as expected");
    Ok(())
}

impl Walk {
    /// Creates a lead once with two calls, and reads it.
    async fn create(&mut self) -> Done {
        let name = format!("One of {}", self.word);
        let request = pb::CreateLeadRequest {
            properties: properties(&[("hs_lead_name", &name), ("hs_lead_label", "HOT")]),
            primary_contact_id: self.contact.clone(),
            request_id: format!("{:032x}", rand::random::<u128>()),
            ..Default::default()
        };
        let first = self.leads.create_lead(request.clone()).await?;
        // A retry, as after a timeout: the same request id returns the same lead.
        let again = self.leads.create_lead(request).await?.into_inner();
        let cost = first.metadata().get("leadsd-quota-cost").cloned();
        let id = first.into_inner().lead.unwrap_or_default().id;
        let repeated = again.lead.unwrap_or_default().id;
        check!(id == repeated, "the repeat made another lead: {id} and {repeated}");
        println!("created {id} for {cost:?} HubSpot calls");

        let request = GetLeadRequest {
            id,
            properties: vec!["hs_lead_name".to_owned(), "hs_lead_label".to_owned()],
            associations: vec!["contacts".to_owned()],
            ..Default::default()
        };
        let lead = self.leads.get_lead(request).await?.into_inner().lead.unwrap_or_default();
        check!(lead.properties["hs_lead_label"] == "HOT", "another label: {lead:?}");
        let contacts = &lead.associations["contacts"].objects;
        check!(contacts.iter().any(|object| object.id == self.contact), "alone: {lead:?}");
        let time = lead.create_time.unwrap_or_default();
        println!("read {:?} of {time}", lead.properties["hs_lead_name"]);
        Ok(())
    }

    /// Creates many: one result per input, in input order.
    async fn batch(&mut self) -> Done {
        let labels = ["HOT", "WARM", "BOILING", "COLD", "HOT", "WARM"];
        let inputs = labels.iter().enumerate().map(|(number, label)| {
            let name = format!("Batch {number} of {}", self.word);
            pb::LeadCreate {
                properties: properties(&[("hs_lead_name", &name), ("hs_lead_label", label)]),
                primary_contact_id: self.contact.clone(),
                ..Default::default()
            }
        });
        let request = pb::BatchCreateLeadsRequest {
            inputs: inputs.collect(),
            request_id: format!("{:032x}", rand::random::<u128>()),
            ..Default::default()
        };
        let results = self.leads.batch_create_leads(request).await?.into_inner().results;
        check!(results.len() == labels.len(), "results missing: {results:?}");
        for ((number, label), result) in labels.iter().enumerate().zip(results) {
            match result.outcome {
                Some(Outcome::Lead(lead)) => {
                    check!(*label != "BOILING", "input {number} was taken: {lead:?}");
                }
                Some(Outcome::Error(status)) => {
                    let failure = Failure::from(&status);
                    let expected = *label == "BOILING" && failure.reason == "VALIDATION_FAILED";
                    check!(expected, "input {number}: {failure}");
                    println!("input {number} failed alone: {failure}");
                }
                None => return Err(format!("input {number} has no outcome").into()),
            }
        }
        Ok(())
    }

    /// Finds the leads of the batch page by page.
    async fn search(&mut self) -> Done {
        let filters = vec![
            Filter {
                property_name: "hs_lead_name".to_owned(),
                operator: FilterOperator::ContainsToken.into(),
                value: self.word.clone(),
                ..Default::default()
            },
            Filter {
                property_name: "hs_lead_label".to_owned(),
                operator: FilterOperator::In.into(),
                values: vec!["WARM".to_owned(), "COLD".to_owned()],
                ..Default::default()
            },
        ];
        let last_name_first = Sort {
            property_name: "hs_lead_name".to_owned(),
            direction: SortDirection::Descending.into(),
        };
        let mut request = SearchLeadsRequest {
            filter_groups: vec![FilterGroup { filters }],
            sorts: vec![last_name_first],
            properties: vec!["hs_lead_name".to_owned()],
            page_size: 2,
            ..Default::default()
        };
        let mut names = Vec::new();
        let mut pages = 0;
        loop {
            let page = self.leads.search_leads(request.clone()).await?.into_inner();
            check!(page.total == 3, "{} leads match instead of 3", page.total);
            pages += 1;
            names
                .extend(page.leads.into_iter().map(|lead| lead.properties["hs_lead_name"].clone()));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let expected = [5, 3, 1].map(|number| format!("Batch {number} of {}", self.word));
        check!(names == expected && pages == 2, "found {names:?} on {pages} pages");
        println!("found {} leads on {pages} pages", names.len());
        Ok(())
    }

    /// Selects portal and priority of single calls.
    async fn portals(&mut self) -> Done {
        let with = |name: &'static str, value: &'static str| {
            let token_file = self.server.token_file.clone();
            let caller = Caller { metadata: vec![(name, value.to_owned())], token_file };
            LeadsServiceClient::with_interceptor(self.channel.clone(), caller)
                .max_decoding_message_size(MAX_RESPONSE_SIZE)
        };
        let one = || ListLeadsRequest { page_size: 1, ..Default::default() };
        with("leadsd-priority", "bulk").list_leads(one()).await?;
        let answer = with("leadsd-portal", "nowhere").list_leads(one()).await;
        // Errors for authenticated callers do not list the portals.
        let (code, reason) = match self.server.token_file {
            Some(_) => (Code::PermissionDenied, "CALLER_FORBIDDEN"),
            None => (Code::InvalidArgument, "UNKNOWN_PORTAL"),
        };
        fails(answer, code, reason)?;
        Ok(())
    }

    /// Reads the error details of a failed call.
    async fn errors(&mut self) -> Done {
        let unknown = GetLeadRequest { id: "999999999".to_owned(), ..Default::default() };
        fails(self.leads.get_lead(unknown).await, Code::NotFound, "LEAD_NOT_FOUND")?;
        let name = format!("Invalid of {}", self.word);
        let invalid = pb::CreateLeadRequest {
            properties: properties(&[("hs_lead_name", &name)]),
            ..Default::default()
        };
        let answer = self.leads.create_lead(invalid).await;
        let failure = fails(answer, Code::InvalidArgument, "INVALID_REQUEST")?;
        let fields: Vec<_> = failure.fields.iter().map(|violation| &violation.field).collect();
        check!(fields == ["primary_contact_id"], "other fields: {failure}");
        Ok(())
    }

    /// Sends more searches than HubSpot allows per second: calls without a permit before their
    /// deadline are rejected immediately, with a retry delay.
    async fn limits(&mut self) -> Done {
        let query = |number| SearchLeadsRequest {
            query: format!("{}{number}", self.word),
            ..Default::default()
        };
        let hurried = (0..30).map(|number| {
            let mut request = Request::new(query(number));
            request.set_timeout(Duration::from_millis(500));
            let mut leads = self.leads.clone();
            async move { leads.search_leads(request).await }
        });
        let mut refused = 0;
        for answer in join_all(hurried).await {
            let Err(status) = answer else { continue };
            let failure = Failure::from(&status);
            // A call may also exceed its deadline, which tonic reports as cancelled if its local
            // timer fires first.
            if matches!(failure.code, Code::DeadlineExceeded | Code::Cancelled) {
                continue;
            }
            let expected = failure.reason == "RATE_LIMITED" && failure.retry_after.is_some();
            check!(expected, "not a refusal with a time to wait: {failure}");
            refused += 1;
        }
        check!(refused > 0, "no search was refused");
        // A retry after the stated delay succeeds.
        let leads = &self.leads;
        retry(async || leads.clone().search_leads(query(30)).await).await?;
        println!("{refused} of 30 hurried searches refused, the patient one answered");
        Ok(())
    }

    /// Watches the quota until the deadline.
    async fn deadline(&mut self) -> Done {
        let interval = prost_types::Duration { seconds: 0, nanos: 100_000_000 };
        let mut request = Request::new(pb::WatchQuotaRequest { interval: Some(interval) });
        request.set_timeout(Duration::from_millis(500));
        let mut answers = self.quota.watch_quota(request).await?.into_inner();
        let mut seen = 0;
        let end = loop {
            match answers.message().await {
                Ok(Some(answer)) => {
                    let quota = answer.quota.unwrap_or_default();
                    check!(quota.buckets.len() == 3, "other limits than HubSpot's: {quota:?}");
                    seen += 1;
                }
                Ok(None) => return Err("the stream ended before its deadline".into()),
                Err(end) => break end,
            }
        };
        check!(end.code() == Code::DeadlineExceeded && seen > 1, "after {seen} answers: {end}");
        println!("saw the quota {seen} times until the deadline");
        Ok(())
    }

    /// Asserts that each address served calls of one channel.
    async fn balancing(&mut self) -> Done {
        if self.server.address.len() < 2 {
            return Ok(());
        }
        for _ in 0..20 * self.server.address.len() {
            self.leads.list_leads(ListLeadsRequest { page_size: 1, ..Default::default() }).await?;
        }
        for address in &self.server.address {
            let one = Server { address: vec![address.clone()], ..self.server.clone() };
            let caller = Caller { metadata: Vec::new(), token_file: one.token_file.clone() };
            let mut client = QuotaServiceClient::with_interceptor(one.connect()?, caller);
            let quota = client.get_quota(pb::GetQuotaRequest {}).await?.into_inner().quota;
            let burst = quota.unwrap_or_default().buckets.swap_remove(0);
            let used: f64 = burst.callers.iter().map(|caller| caller.used).sum();
            check!(used >= 5.0, "{address} answered {used} calls: {burst:?}");
            println!("{address} answered {used} calls");
        }
        Ok(())
    }
}

/// Returns the error of a call that must fail.
fn fails<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    code: Code,
    reason: &str,
) -> Result<Failure, Box<dyn Error>> {
    let failure = match answer {
        Err(status) => Failure::from(&status),
        Ok(answer) => return Err(format!("{answer:?} instead of {reason}").into()),
    };
    if (failure.code, failure.reason.as_str()) != (code, reason) {
        return Err(format!("{failure} instead of {reason}").into());
    }
    println!("as it should: {failure}");
    Ok(failure)
}

fn properties<M: FromIterator<(String, String)>>(pairs: &[(&str, &str)]) -> M {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
