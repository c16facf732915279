//! One portal: its secret, its credential, and what that can do.

mod place;
mod secret;

use std::time::Duration;

pub(super) use self::place::{Held, Place};
use self::secret::Credential;
use super::{
    Args,
    check::{Area, Check, Outcome, Seen},
    report::Report,
    soon, write,
};
use crate::{
    cli::remediation::{self, Remediation},
    hubspot::{AccountInfo, DiagnosticsClient, DiagnosticsError, LeadsProbe, PropertyDefinition},
    leads::Reason,
    vault::{CasOutcome, Error, SecretData, SecretVersion},
};
use leadsd_base::{
    secret::Secret,
    time::{SystemClock, WallClock as _},
};

/// HubSpot advises to rotate static tokens every six months.
const OLD: Duration = Duration::from_secs(183 * 24 * 3_600);

/// Scopes that the service needs.
const READ: &str = "crm.objects.leads.read";
const WRITE: &str = "crm.objects.leads.write";

/// One portal and what asks about it.
pub(super) struct Portal<'a> {
    pub(super) place: Place<'a>,
    pub(super) hubspot_client: &'a DiagnosticsClient,
}

/// A credential that HubSpot has accepted.
pub(super) struct Accepted {
    pub(super) token: Secret,
    account: Option<AccountInfo>,
    hub_id: Option<u64>,
    /// None if HubSpot does not say.
    scopes: Option<Vec<String>>,
}

// === impl Portal ===

impl Portal<'_> {
    pub(super) async fn examine(&self, held: Held, args: &Args, report: &mut Report) {
        if self.looked_at(held, args, report).await.is_none() {
            report.skip_rest(Area::Portal, Some(self.place.name.as_str()));
        }
    }

    async fn looked_at(&self, held: Held, args: &Args, report: &mut Report) -> Option<()> {
        let name = Some(self.place.name.as_str());
        let Held { stored, keys, credential } = held;
        let accepted = self.accepted(&stored, &keys, credential);
        let accepted = report.check(Check::HubspotToken, name, accepted).await?;
        let account = self.account(&accepted, &keys);
        report.check(Check::HubspotAccount, name, account).await;
        report.note(Check::HubspotScopes, name, scopes_seen(&accepted), Duration::ZERO);
        let answered = report.check(Check::HubspotLeads, name, self.leads(&accepted.token)).await;
        let pipelines = self.pipelines(&accepted.token);
        report.check(Check::HubspotPipelines, name, pipelines).await;
        let properties = self.properties(&accepted.token);
        report.check(Check::HubspotProperties, name, properties).await;
        let property = self.request_id_property(&accepted.token);
        report.check(Check::HubspotRequestId, name, property).await;
        let Some(answered) = answered else {
            // Whatever else has failed since: the counts come with the leads.
            report.skip_rest_for(Area::Portal, name, Check::HubspotLeads);
            return None;
        };
        report.note(Check::HubspotQuota, name, quota_seen(&answered), Duration::ZERO);
        if args.write_probe {
            let probe = write::probe(self, &accepted.token, args.contact.as_deref());
            report.check(Check::HubspotWrite, name, probe).await;
        }
        Some(())
    }

    /// Shows the credential to HubSpot, as the service does.
    async fn accepted(
        &self,
        stored: &SecretVersion,
        keys: &SecretData,
        credential: Credential,
    ) -> Seen<Accepted> {
        match credential {
            Credential::Static(token) => self.static_accepted(stored, token).await,
            Credential::OAuth(app, refresh_token) => {
                let traded =
                    self.hubspot_client.exchange_refresh_token(&app, &refresh_token, soon()).await;
                let traded = match traded {
                    Ok(traded) => traded,
                    Err(fault) => return Seen::fail(self.advice(&fault)),
                };
                let facts =
                    self.hubspot_client.introspect(&app, &traded.access_token, soon()).await;
                let facts = facts.unwrap_or_default();
                let new = traded.refresh_token.filter(|new| *new != refresh_token);
                if let Some(new) = &new
                    && let Err(advice) = self.write_back(stored, keys, new).await
                {
                    return Seen::fail(advice);
                }
                let noted = match &new {
                    Some(_) => "; HubSpot replaced it, and it was stored".to_owned(),
                    None => stored_since(stored).1,
                };
                let accepted = Accepted {
                    token: traded.access_token,
                    account: None,
                    hub_id: traded.hub_id.or(facts.hub_id),
                    scopes: facts.scopes.or(traded.scopes),
                };
                Seen::ok(accepted, format!("the OAuth grant gives access tokens{noted}"))
            }
        }
    }

    async fn static_accepted(&self, stored: &SecretVersion, token: Secret) -> Seen<Accepted> {
        let account = match self.hubspot_client.account(&token, soon()).await {
            Ok(account) => account,
            Err(fault) => return Seen::fail(self.advice(&fault)),
        };
        // Whether HubSpot tells of service keys here is not established: a failure is no answer.
        let facts = self.hubspot_client.static_token(&token, soon()).await.unwrap_or_default();
        let accepted = Accepted {
            token,
            hub_id: facts.hub_id.or(account.hub_id),
            account: Some(account),
            scopes: facts.scopes,
        };
        let (age, text) = stored_since(stored);
        if age.is_some_and(|age| age > OLD) {
            return Seen::warn(
                accepted,
                format!("the static token works{text}"),
                "rotate it: HubSpot advises to do so every six months, and keeps the old one for 7 \
                 days",
            );
        }
        Seen::ok(accepted, format!("the static token works{text}"))
    }

    /// Stores the refresh token that came in place of the one that was used.
    async fn write_back(
        &self,
        stored: &SecretVersion,
        keys: &SecretData,
        new: &Secret,
    ) -> Result<(), Remediation> {
        let place = self.place.vault_client.data_path(&self.place.path);
        let mut keys = keys.clone();
        keys.set("refresh_token", new.expose());
        match self.place.vault_client.write(&self.place.path, stored.version, &keys).await {
            // If somebody else was faster, theirs is newer.
            Ok(CasOutcome::Written(_) | CasOutcome::Conflict) => Ok(()),
            Err(Error::Denied) => Err(Remediation {
                cause: format!(
                    "HubSpot replaced the refresh token, and Vault's policy does not allow to store \
                     the new one at {place}"
                ),
                fix: format!(
                    "{}, then leadsd login --portal {}",
                    remediation::policy(&place, &["read", "update"]).fix,
                    self.place.name
                ),
            }),
            Err(error) => Err(remediation::vault(&error, &self.place.config.vault, &place)),
        }
    }

    async fn account(&self, accepted: &Accepted, keys: &SecretData) -> Seen<()> {
        let facts = match accepted.account.clone() {
            Some(facts) => facts,
            None => match self.hubspot_client.account(&accepted.token, soon()).await {
                Ok(facts) => facts,
                Err(fault) => return Seen::fail(self.advice(&fault)),
            },
        };
        let id = accepted.hub_id.or(facts.hub_id);
        let text = id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let noted = keys.text("hub_id").map(str::trim);
        if let (Some(id), Some(noted)) = (id, noted)
            && id.to_string() != noted
        {
            return Seen::warn(
                (),
                format!("the credential is of account {id}, and the secret says {noted}"),
                "see which is meant; leadsd login stores both together",
            );
        }
        let more = [facts.kind, facts.time_zone, facts.ui_domain];
        let more: Vec<String> = more.into_iter().flatten().collect();
        Seen::ok((), format!("{text} ({})", more.join(", ")))
    }

    async fn leads(&self, token: &Secret) -> Seen<LeadsProbe> {
        match self.hubspot_client.leads(token, soon()).await {
            Ok(answered) => {
                let found =
                    if answered.count == 0 { "readable; there are none" } else { "readable" };
                Seen::ok(answered, found)
            }
            Err(fault) => Seen::fail(self.advice(&fault)),
        }
    }

    async fn pipelines(&self, token: &Secret) -> Seen<()> {
        match self.hubspot_client.pipelines(token, soon()).await {
            Ok(all) if all.is_empty() => Seen::warn(
                (),
                "the account has no pipeline for leads",
                "set leads up in HubSpot: Settings, Objects, Leads",
            ),
            Ok(all) => {
                let one = |(label, stages): &(String, usize)| format!("{label} ({stages} stages)");
                let all: Vec<String> = all.iter().take(5).map(one).collect();
                Seen::ok((), all.join(", "))
            }
            Err(fault) => Seen::fail(self.advice(&fault)),
        }
    }

    async fn properties(&self, token: &Secret) -> Seen<()> {
        match self.hubspot_client.properties(token, soon()).await {
            Ok(count) => Seen::ok((), format!("{count} properties")),
            Err(fault) => Seen::fail(self.advice(&fault)),
        }
    }

    async fn request_id_property(&self, token: &Secret) -> Seen<()> {
        let own =
            self.place.config.portals.get(&self.place.name).map(|own| &own.request_id_property);
        let from = self.place.config.portals_from.as_ref().map(|from| &from.request_id_property);
        let Some(name) = own.or(from).and_then(Option::as_deref) else {
            let text = "none is configured: a create whose answer gets lost is reported as unknown";
            return Seen::ok((), text);
        };
        let make = format!(
            "make a single-line text property of leads named {name} with unique values; the flag \
             cannot be set later"
        );
        match self.hubspot_client.property(token, name, soon()).await {
            Ok(Some(PropertyDefinition { kind, field, unique: true }))
                if kind == "string" && field != "textarea" =>
            {
                Seen::ok((), format!("{name} has unique values"))
            }
            Ok(Some(PropertyDefinition { kind, field, .. }))
                if kind != "string" || field == "textarea" =>
            {
                let cause =
                    format!("{name} is of type {kind} ({field}), and request ids are short texts");
                Seen::fail(Remediation::new(cause, format!("{make}, or name another one")))
            }
            Ok(Some(_)) => {
                let cause = format!("{name} may have the same value twice");
                Seen::fail(Remediation::new(cause, format!("{make}, or name another one")))
            }
            Ok(None) => {
                Seen::fail(Remediation::new(format!("leads have no property {name}"), make))
            }
            Err(fault) => Seen::fail(self.advice(&fault)),
        }
    }

    /// What a failure of HubSpot means for this portal.
    pub(super) fn advice(&self, fault: &DiagnosticsError) -> Remediation {
        let mut advice = remediation::hubspot(fault, &self.place.config.hubspot.base_url);
        if let DiagnosticsError::Api(error) = fault
            && error.reason() == Reason::LeadNotFound
        {
            "check hubspot.api_version".clone_into(&mut advice.fix);
        }
        advice
    }
}

/// How long ago it was stored, if Vault says so, and the words for it.
fn stored_since(stored: &SecretVersion) -> (Option<Duration>, String) {
    let age = |written| SystemClock.now().duration_since(written).try_into().ok();
    let age: Option<Duration> = stored.created_at.and_then(age);
    let days = age.map(|age| age.as_secs() / 86_400);
    (age, days.map_or_else(String::new, |days| format!(", stored {days} days ago")))
}

fn scopes_seen(accepted: &Accepted) -> Outcome {
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

/// What the headers of an answer say is left.
fn quota_seen(answered: &LeadsProbe) -> Outcome {
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
