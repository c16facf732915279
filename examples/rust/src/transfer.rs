//! Import and export: streams of any number of leads, which are continued if they end early.

use std::{collections::BTreeMap, error::Error, time::Duration};

use futures_util::stream;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::{
    Calling, Done,
    failure::Failure,
    pb::{
        self, Filter, FilterGroup, FilterOperator, import_leads_request, import_leads_response,
        import_result::Outcome, import_row, leads_service_client::LeadsServiceClient,
    },
    properties,
};

/// Maximum number of streams of one import or export.
const ATTEMPTS: u32 = 10;

/// Pause before a stream is continued.
const PAUSE: Duration = Duration::from_secs(1);

type Rows = BTreeMap<String, pb::LeadCreate>;
type Results = BTreeMap<String, pb::ImportResult>;

/// Imports rows, one of which is invalid, and exports what was created.
pub async fn transfer(leads: &mut LeadsServiceClient<Calling>, contact: &str, word: &str) -> Done {
    let rows: Rows = [("row-1", "HOT"), ("row-2", "BOILING"), ("row-3", "COLD")]
        .into_iter()
        .map(|(key, label)| {
            let name = format!("{key} of {word}");
            let lead = pb::LeadCreate {
                properties: properties(&[("hs_lead_name", &name), ("hs_lead_label", label)]),
                primary_contact_id: contact.to_owned(),
                ..Default::default()
            };
            (key.to_owned(), lead)
        })
        .collect();
    let results = import(leads, &rows, word).await?;
    let mut created = Vec::new();
    for (key, result) in results {
        match result.outcome {
            Some(Outcome::Lead(lead)) => created.push(lead.id),
            Some(Outcome::Error(status)) => {
                let failure = Failure::from(&status);
                if key != "row-2" || failure.reason != "VALIDATION_FAILED" {
                    return Err(format!("{key}: {failure}").into());
                }
            }
            None => return Err(format!("{key} has no outcome").into()),
        }
    }
    let exported = export(leads, word).await?;
    if created.len() != 2 || !created.iter().all(|id| exported.contains(id)) {
        return Err(format!("{created:?} in {exported:?}").into());
    }
    println!("imported 2 of {} rows, exported {} leads", rows.len(), exported.len());
    Ok(())
}

/// Creates a lead for each row; returns one result per key. A stream that breaks or ends early is continued
/// with the rows that have no result: with the same import id, no lead is created twice.
async fn import(
    leads: &mut LeadsServiceClient<Calling>,
    rows: &Rows,
    import_id: &str,
) -> Result<Results, Box<dyn Error>> {
    let settings = pb::ImportSettings { import_id: import_id.to_owned(), ..Default::default() };
    let mut results = Results::new();
    for _ in 0..ATTEMPTS {
        match import_part(leads, &settings, rows, &mut results).await {
            Ok(true) => return Ok(results),
            Ok(false) => {}
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => return Err(status.into()),
        }
        sleep(PAUSE).await;
    }
    Err("the import does not end".into())
}

/// One stream. True if all rows have results.
async fn import_part(
    leads: &mut LeadsServiceClient<Calling>,
    settings: &pb::ImportSettings,
    rows: &Rows,
    results: &mut Results,
) -> Result<bool, Status> {
    let request = |content| pb::ImportLeadsRequest { content: Some(content) };
    let mut requests = vec![request(import_leads_request::Content::Settings(settings.clone()))];
    for (key, lead) in rows.iter().filter(|(key, _)| !results.contains_key(*key)) {
        let write = Some(import_row::Write::Create(lead.clone()));
        let row = pb::ImportRow { key: key.clone(), write };
        requests.push(request(import_leads_request::Content::Row(row)));
    }
    // The connection sends the rows while results are read.
    let mut messages = leads.import_leads(stream::iter(requests)).await?.into_inner();
    while let Some(message) = messages.message().await? {
        match message.content {
            Some(import_leads_response::Content::Result(result)) => {
                results.insert(result.key.clone(), result);
            }
            Some(import_leads_response::Content::Summary(summary)) => return Ok(summary.complete),
            None => {}
        }
    }
    Ok(false)
}

/// Ids of all leads with a word in their name. The token of each message continues a stream that breaks or
/// ends early, at any replica.
async fn export(
    leads: &mut LeadsServiceClient<Calling>,
    word: &str,
) -> Result<Vec<String>, Box<dyn Error>> {
    let filter = Filter {
        property_name: "hs_lead_name".to_owned(),
        operator: FilterOperator::ContainsToken.into(),
        value: word.to_owned(),
        ..Default::default()
    };
    let mut request = pb::ExportLeadsRequest {
        filter_groups: vec![FilterGroup { filters: vec![filter] }],
        properties: vec!["hs_lead_name".to_owned()],
        ..Default::default()
    };
    let mut ids = Vec::new();
    for _ in 0..ATTEMPTS {
        match export_part(leads, &mut request, &mut ids).await {
            Ok(true) => return Ok(ids),
            Ok(false) => {}
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => return Err(status.into()),
        }
        sleep(PAUSE).await;
    }
    Err("the export does not end".into())
}

/// One stream. True if all leads were sent.
async fn export_part(
    leads: &mut LeadsServiceClient<Calling>,
    request: &mut pb::ExportLeadsRequest,
    ids: &mut Vec<String>,
) -> Result<bool, Status> {
    let mut messages = leads.export_leads(request.clone()).await?.into_inner();
    while let Some(message) = messages.message().await? {
        ids.extend(message.leads.into_iter().map(|lead| lead.id));
        request.resume_token = message.resume_token;
        if message.complete {
            return Ok(true);
        }
    }
    Ok(false)
}
