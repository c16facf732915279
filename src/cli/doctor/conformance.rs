//! Conformance: tries every fact about HubSpot that leadsd depends on against a test account.
//!
//! The run creates leads and archives them at its end, also if it fails or is interrupted. Its result
//! sets the switches of the fake HubSpot. It does not use the client of the service, which hides
//! differences between accounts.

mod account;
mod associations;
mod batches;
mod contacts;
mod creates;
mod reads;
mod searches;
mod unique;
mod updates;

use std::{path::Path, sync::OnceLock};

use serde_json::json;

use self::account::{TestAccount, Tried};
use super::{
    args::Args, check::CheckOutcome, fact::Fact, location::SecretLocation,
    observations::Observations,
};
use crate::hubspot::{ApiArea, DiagnosticsClient, RawRequest};
use leadsd_base::secret::Secret;

/// Version of the format of the file with switches.
const VERSION: u32 = 1;

/// Question before the run.
pub(super) const QUESTION: &str = "This creates up to twenty leads in the HubSpot account of the portal, perhaps a property, and \
     archives them. It associates one of the leads with up to 501 contacts. Use a test account. \
     Continue?";

/// Conformance run. Archives its records even if it fails or is interrupted.
#[derive(Default)]
pub(super) struct Session {
    account: OnceLock<TestAccount>,
}

// === impl Session ===

impl Session {
    /// Tries all facts, and cleans up.
    pub(super) async fn run(
        &self,
        location: &SecretLocation<'_>,
        client: &DiagnosticsClient,
        token: &Secret,
        args: &Args,
    ) -> (CheckOutcome, Observations) {
        let mut seen = Observations::default();
        let contact = match contact(client, token, args.contact.as_deref()).await {
            Ok(contact) => contact,
            Err(cause) => {
                let fix = "name a contact for the created leads: --contact ID";
                return (CheckOutcome::fail(cause, fix), seen);
            }
        };
        let account = self.account.get_or_init(|| {
            let version = location.config.hubspot.api_version;
            TestAccount::new(client.clone(), token.clone(), version, contact)
        });
        let failed = try_all(account, &mut seen).await.err();
        seen.complete(failed.as_deref().unwrap_or("not tried"));
        let created = account.created();
        let cleaned = account.clean_up().await;
        let written = args.switches.as_deref().map(|file| write(file, location, &seen));
        let outcome = outcome(&seen, created, failed.as_deref(), cleaned.err(), written);
        (outcome, seen)
    }

    /// Ends the run, which then cleans up. Returns false if there is none.
    pub(super) fn stop(&self) -> bool {
        self.account.get().map(TestAccount::stop).is_some()
    }
}

/// Tries all facts. Errors if HubSpot stops responding, or a record that later facts need cannot be created.
async fn try_all(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    reads::without_lead(account, seen).await?;
    let id = creates::accepted(account, seen).await?;
    reads::of_lead(account, seen, &id).await?;
    creates::rejected(account, seen).await?;
    updates::of_lead(account, seen, &id).await?;
    let pair = batches::create(account, seen).await?;
    batches::of_leads(account, seen, &pair).await?;
    associations::of_lead(account, seen, &pair[0]).await?;
    contacts::by_address(account, seen).await?;
    contacts::owners(account, seen).await?;
    contacts::scopes(account, seen).await?;
    unique::values(account, seen).await?;
    updates::merge(account, seen).await?;
    searches::of_new_lead(account, seen).await?;
    updates::archive(account, seen, &id).await
}

/// The contact to create leads of: the given one, or that of the first lead listed.
async fn contact(
    client: &DiagnosticsClient,
    token: &Secret,
    given: Option<&str>,
) -> Result<String, String> {
    if let Some(contact) = given {
        return Ok(contact.to_owned());
    }
    let query = vec![("limit", "1".to_owned()), ("associations", "contacts".to_owned())];
    let (method, area, path) = (http::Method::GET, ApiArea::Leads, String::new());
    let request = RawRequest { method, area, path, query, body: None };
    let page = client.raw(&request, token, super::check::deadline()).await;
    let page = page.map_err(|error| format!("HubSpot {error}"))?;
    let contact = &page.body["results"][0]["associations"]["contacts"]["results"][0]["id"];
    contact.as_str().map(str::to_owned).ok_or_else(|| {
        "the first lead listed has no contact to associate new leads with".to_owned()
    })
}

/// Writes the switches of the fake HubSpot.
fn write(file: &Path, location: &SecretLocation<'_>, seen: &Observations) -> Result<(), String> {
    let text = json!({
        "version": VERSION,
        "portal": location.name.as_str(),
        "api_version": location.config.hubspot.api_version.as_str(),
        "switches": seen.switches(),
        "facts": seen.json(),
    });
    std::fs::write(file, format!("{text:#}\n"))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}

fn outcome(
    seen: &Observations,
    created: usize,
    failed: Option<&str>,
    left: Option<String>,
    written: Option<Result<(), String>>,
) -> CheckOutcome {
    if let Some(left) = left {
        let cause = format!("created records are not archived: {left}");
        return CheckOutcome::fail(cause, "archive them in HubSpot");
    }
    if let Some(failed) = failed {
        let fix = "correct the cause and run it again; the facts so far are in the table";
        return CheckOutcome::fail(format!("the run ended early: {failed}"), fix);
    }
    if let Some(Err(cause)) = written {
        return CheckOutcome::fail(cause, "name a writable file with --switches");
    }
    let [expected, _, unknown] = seen.counts();
    let [required, tolerated] = seen.different();
    if !required.is_empty() {
        let cause = format!("HubSpot differs in facts that leadsd needs: {}", required.join(", "));
        let fix = "see the table; report it, with the table, to the maintainers of leadsd";
        return CheckOutcome::fail(cause, fix);
    }
    let counts = format!(
        "{expected} facts as expected, {unknown} unknown; created and archived {created} leads"
    );
    if tolerated.is_empty() {
        return CheckOutcome::Ok(counts);
    }
    let cause =
        format!("{counts}; different in facts that leadsd does not need: {}", tolerated.join(", "));
    let fix = "nothing: leadsd works either way. To test a client with these differences, write \
               --switches FILE and run leadsd dev --switches FILE";
    CheckOutcome::warn(cause, fix)
}
