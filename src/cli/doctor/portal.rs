//! Checks of one portal: its credential, and what HubSpot allows with it.

use std::time::Duration;

use super::{
    args::Args,
    check::{Area, Check, CheckResult, Outcome, deadline},
    credential::Credential,
    location::{SecretLocation, StoredCredential},
    report::Report,
    write,
};
use crate::{
    cli::remediation::{self, Remediation},
    hubspot::{AccountInfo, DiagnosticsClient, LeadsProbe, PropertyDefinition},
    vault::{CasOutcome, Error, SecretData, SecretVersion},
};
use leadsd_base::{
    secret::Secret,
    time::{SystemClock, WallClock as _},
};

/// Maximum age of a static token: HubSpot advises to rotate it every six months.
const OLD: Duration = Duration::from_secs(183 * 24 * 3_600);

/// Scopes that the service needs.
const READ: &str = "crm.objects.leads.read";
const WRITE: &str = "crm.objects.leads.write";

/// One portal, and the clients that its checks use.
pub(super) struct Portal<'a> {
    pub(super) location: SecretLocation<'a>,
    pub(super) hubspot_client: &'a DiagnosticsClient,
}

/// A credential that HubSpot has accepted.
pub(super) struct Accepted {
    pub(super) token: Secret,
    account: Option<AccountInfo>,
    hub_id: Option<u64>,
    /// `None` if HubSpot does not name them.
    scopes: Option<Vec<String>>,
}

// === impl Portal ===

impl Portal<'_> {
    pub(super) async fn examine(
        &self,
        stored_credential: StoredCredential,
        args: &Args,
        report: &mut Report,
    ) {
        if self.run_checks(stored_credential, args, report).await.is_none() {
            report.skip_rest(Area::Portal, Some(self.location.name.as_str()));
        }
    }

    async fn run_checks(
        &self,
        stored_credential: StoredCredential,
        args: &Args,
        report: &mut Report,
    ) -> Option<()> {
        let name = Some(self.location.name.as_str());
        let StoredCredential { stored, keys, credential } = stored_credential;
        let accepted = self.accepted(&stored, &keys, credential);
        let accepted = report.check(Check::HubspotToken, name, accepted).await?;
        let account = self.account(&accepted, &keys);
        report.check(Check::HubspotAccount, name, account).await;
        report.note(Check::HubspotScopes, name, scopes_result(&accepted), Duration::ZERO);
        let answered = report.check(Check::HubspotLeads, name, self.leads(&accepted.token)).await;
        let pipelines = self.pipelines(&accepted.token);
        report.check(Check::HubspotPipelines, name, pipelines).await;
        let properties = self.properties(&accepted.token);
        report.check(Check::HubspotProperties, name, properties).await;
        let property = self.request_id_property(&accepted.token);
        report.check(Check::HubspotRequestId, name, property).await;
        let Some(answered) = answered else {
            // The counts are in the response with the leads, so that check decides.
            report.skip_rest_for(Area::Portal, name, Check::HubspotLeads);
            return None;
        };
        report.note(Check::HubspotQuota, name, quota_result(&answered), Duration::ZERO);
        if args.write_probe {
            let probe = write::probe(&self.location, &accepted.token, args.contact.as_deref());
            report.check(Check::HubspotWrite, name, probe).await;
        }
        Some(())
    }

    /// Presents the credential to HubSpot, as the service does.
    async fn accepted(
        &self,
        stored: &SecretVersion,
        keys: &SecretData,
        credential: Credential,
    ) -> CheckResult<Accepted> {
        match credential {
            Credential::Static(token) => self.static_accepted(stored, token).await,
            Credential::OAuth(app, refresh_token) => {
                let traded = self
                    .hubspot_client
                    .exchange_refresh_token(&app, &refresh_token, deadline())
                    .await;
                let traded = match traded {
                    Ok(traded) => traded,
                    Err(error) => return CheckResult::fail(self.location.remediation(&error)),
                };
                let info =
                    self.hubspot_client.introspect(&app, &traded.access_token, deadline()).await;
                let info = info.unwrap_or_default();
                let new = traded.refresh_token.filter(|new| *new != refresh_token);
                if let Some(new) = &new
                    && let Err(advice) = self.write_back(stored, keys, new).await
                {
                    return CheckResult::fail(advice);
                }
                let noted = match &new {
                    Some(_) => "; HubSpot replaced it, and it was stored".to_owned(),
                    None => stored_since(stored).1,
                };
                let accepted = Accepted {
                    token: traded.access_token,
                    account: None,
                    hub_id: traded.hub_id.or(info.hub_id),
                    scopes: info.scopes.or(traded.scopes),
                };
                CheckResult::ok(accepted, format!("the OAuth grant gives access tokens{noted}"))
            }
        }
    }

    async fn static_accepted(
        &self,
        stored: &SecretVersion,
        token: Secret,
    ) -> CheckResult<Accepted> {
        let account = match self.hubspot_client.account(&token, deadline()).await {
            Ok(account) => account,
            Err(error) => return CheckResult::fail(self.location.remediation(&error)),
        };
        // Whether HubSpot tells of service keys here is not established: a failure is no answer.
        let info = self.hubspot_client.static_token(&token, deadline()).await.unwrap_or_default();
        let accepted = Accepted {
            token,
            hub_id: info.hub_id.or(account.hub_id),
            account: Some(account),
            scopes: info.scopes,
        };
        let (age, text) = stored_since(stored);
        if age.is_some_and(|age| age > OLD) {
            return CheckResult::warn(
                accepted,
                format!("the static token works{text}"),
                "rotate it: HubSpot advises to do so every six months, and keeps the old one for 7 \
                 days",
            );
        }
        CheckResult::ok(accepted, format!("the static token works{text}"))
    }

    /// Stores a rotated refresh token.
    async fn write_back(
        &self,
        stored: &SecretVersion,
        keys: &SecretData,
        new: &Secret,
    ) -> Result<(), Remediation> {
        let location = self.location.vault_client.data_path(&self.location.path);
        let mut keys = keys.clone();
        keys.set("refresh_token", new.expose());
        match self.location.vault_client.write(&self.location.path, stored.version, &keys).await {
            // A conflict means that another process has stored a newer one.
            Ok(CasOutcome::Written(_) | CasOutcome::Conflict) => Ok(()),
            Err(Error::Denied) => Err(Remediation {
                cause: format!(
                    "HubSpot replaced the refresh token, and Vault's policy does not allow to store \
                     the new one at {location}"
                ),
                fix: format!(
                    "{}, then leadsd login --portal {}",
                    remediation::policy(&location, &["read", "update"]).fix,
                    self.location.name
                ),
            }),
            Err(error) => Err(remediation::vault(&error, &self.location.config.vault, &location)),
        }
    }

    async fn account(&self, accepted: &Accepted, keys: &SecretData) -> CheckResult<()> {
        let info = match accepted.account.clone() {
            Some(info) => info,
            None => match self.hubspot_client.account(&accepted.token, deadline()).await {
                Ok(info) => info,
                Err(error) => return CheckResult::fail(self.location.remediation(&error)),
            },
        };
        let id = accepted.hub_id.or(info.hub_id);
        let text = id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let noted = keys.text("hub_id").map(str::trim);
        if let (Some(id), Some(noted)) = (id, noted)
            && id.to_string() != noted
        {
            return CheckResult::warn(
                (),
                format!("the credential is of account {id}, and the secret says {noted}"),
                "see which is meant; leadsd login stores both together",
            );
        }
        let more = [info.kind, info.time_zone, info.ui_domain];
        let more: Vec<String> = more.into_iter().flatten().collect();
        CheckResult::ok((), format!("{text} ({})", more.join(", ")))
    }

    async fn leads(&self, token: &Secret) -> CheckResult<LeadsProbe> {
        match self.hubspot_client.leads(token, deadline()).await {
            Ok(answered) => {
                let found =
                    if answered.count == 0 { "readable; there are none" } else { "readable" };
                CheckResult::ok(answered, found)
            }
            Err(error) => CheckResult::fail(self.location.remediation(&error)),
        }
    }

    async fn pipelines(&self, token: &Secret) -> CheckResult<()> {
        match self.hubspot_client.pipelines(token, deadline()).await {
            Ok(all) if all.is_empty() => CheckResult::warn(
                (),
                "the account has no pipeline for leads",
                "set leads up in HubSpot: Settings, Objects, Leads",
            ),
            Ok(all) => {
                let one = |(label, stages): &(String, usize)| format!("{label} ({stages} stages)");
                let all: Vec<String> = all.iter().take(5).map(one).collect();
                CheckResult::ok((), all.join(", "))
            }
            Err(error) => CheckResult::fail(self.location.remediation(&error)),
        }
    }

    async fn properties(&self, token: &Secret) -> CheckResult<()> {
        match self.hubspot_client.properties(token, deadline()).await {
            Ok(count) => CheckResult::ok((), format!("{count} properties")),
            Err(error) => CheckResult::fail(self.location.remediation(&error)),
        }
    }

    async fn request_id_property(&self, token: &Secret) -> CheckResult<()> {
        let own = self
            .location
            .config
            .portals
            .get(&self.location.name)
            .map(|own| &own.request_id_property);
        let from = self.location.config.portals_from.as_ref().map(|from| &from.request_id_property);
        let Some(name) = own.or(from).and_then(Option::as_deref) else {
            let text = "none is configured: a create whose answer gets lost is reported as unknown";
            return CheckResult::ok((), text);
        };
        let make = format!(
            "make a single-line text property of leads named {name} with unique values; the flag \
             cannot be set later"
        );
        match self.hubspot_client.property(token, name, deadline()).await {
            Ok(Some(PropertyDefinition { kind, field, unique: true }))
                if kind == "string" && field != "textarea" =>
            {
                CheckResult::ok((), format!("{name} has unique values"))
            }
            Ok(Some(PropertyDefinition { kind, field, .. }))
                if kind != "string" || field == "textarea" =>
            {
                let cause =
                    format!("{name} is of type {kind} ({field}), and request ids are short texts");
                CheckResult::fail(Remediation::new(cause, format!("{make}, or name another one")))
            }
            Ok(Some(_)) => {
                let cause = format!("{name} may have the same value twice");
                CheckResult::fail(Remediation::new(cause, format!("{make}, or name another one")))
            }
            Ok(None) => {
                CheckResult::fail(Remediation::new(format!("leads have no property {name}"), make))
            }
            Err(error) => CheckResult::fail(self.location.remediation(&error)),
        }
    }
}

/// Age of the secret, if Vault tells it, and a text with it.
fn stored_since(stored: &SecretVersion) -> (Option<Duration>, String) {
    let age = |written| SystemClock.now().duration_since(written).try_into().ok();
    let age: Option<Duration> = stored.created_at.and_then(age);
    let days = age.map(|age| age.as_secs() / 86_400);
    (age, days.map_or_else(String::new, |days| format!(", stored {days} days ago")))
}

fn scopes_result(accepted: &Accepted) -> Outcome {
    let Some(scopes) = &accepted.scopes else {
        return Outcome::Ok("HubSpot does not tell; hubspot.leads shows".to_owned());
    };
    let has = |wanted: &str| scopes.iter().any(|scope| scope == wanted);
    let fix = |scope: &str| {
        format!(
            "add {scope} to the app or key, and let the account agree to it again: leadsd login"
        )
    };
    if !has(READ) {
        return Outcome::fail(format!("the scope {READ} is missing"), fix(READ));
    }
    if !has(WRITE) {
        let cause = format!("the scope {WRITE} is missing: leads can be read, and not written");
        return Outcome::warn(cause, fix(WRITE));
    }
    Outcome::Ok(scopes.join(", "))
}

/// Result of the quota check, from the rate limits in a response.
fn quota_result(answered: &LeadsProbe) -> Outcome {
    let limits = answered.limits;
    let scarce = |left: Option<u64>, of: Option<u64>| {
        left.zip(of).is_some_and(|(left, of)| left.saturating_mul(10) < of)
    };
    let text = |left: Option<u64>, of: Option<u64>| match (left, of) {
        (Some(left), Some(of)) => format!("{left} of {of}"),
        _ => "not told".to_owned(),
    };
    let (burst, daily) =
        (text(limits.remaining, limits.max), text(limits.daily_remaining, limits.daily));
    if scarce(limits.daily_remaining, limits.daily) {
        return Outcome::warn(
            format!("the day's calls are nearly used up: {daily} left"),
            "see which apps of the account use them up (Settings, Integrations, API usage); they \
             start over at midnight in the account's time zone",
        );
    }
    if scarce(limits.remaining, limits.max) {
        return Outcome::warn(
            format!("the calls of the current window are nearly used up: {burst} left"),
            "something else uses this app's limit at the moment; let only leadsd use the credential",
        );
    }
    Outcome::Ok(format!("left in the window: {burst}; in the day: {daily}"))
}
