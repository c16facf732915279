//! Checks of one portal: its credential, and the permissions and limits of that credential.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    args::Args,
    check::{Area, Check, CheckOutcome, CheckResult, deadline},
    conformance::Session,
    credential::Credential,
    location::{SecretLocation, StoredCredential},
    report::Report,
    schema, time_zone, write,
};
use crate::{
    cli::remediation::{self, Remediation},
    hubspot::{AccountInfo, DiagnosticsClient, DiagnosticsError, LeadsProbe, PropertyDefinition},
    vault::{CasOutcome, Error, SecretData, SecretVersion},
};
use leadsd_base::{
    secret::Secret,
    time::{SystemClock, WallClock as _},
};

/// Age of a static token from which the check warns: HubSpot advises rotation every six months.
const MAX_TOKEN_AGE: Duration = Duration::from_secs(183 * 24 * 3_600);

/// Scope for reads.
const READ: &str = "crm.objects.leads.read";

/// Scope for writes.
const WRITE: &str = "crm.objects.leads.write";

/// Portal to check, and the clients for its checks.
pub(super) struct PortalChecks<'a> {
    pub(super) location: SecretLocation<'a>,
    pub(super) hubspot_client: &'a DiagnosticsClient,
    pub(super) conformance: &'a Session,
}

/// Credential that HubSpot accepts.
pub(super) struct Accepted {
    pub(super) token: Secret,
    account: Option<AccountInfo>,
    hub_id: Option<u64>,
    /// `None` if HubSpot does not report scopes.
    scopes: Option<Vec<String>>,
}

// === impl PortalChecks ===

impl PortalChecks<'_> {
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
        let accepted = self.authenticate(&stored, &keys, credential);
        let accepted = report.check(Check::HubspotToken, name, accepted).await?;
        let account = self.account(&accepted, &keys);
        report.check(Check::HubspotAccount, name, account).await;
        report.note(Check::HubspotScopes, name, scopes_result(&accepted), Duration::ZERO);
        let leads = report.check(Check::HubspotLeads, name, self.leads(&accepted.token)).await;
        let pipelines = self.pipelines(&accepted.token);
        report.check(Check::HubspotPipelines, name, pipelines).await;
        let properties = self.properties(&accepted.token);
        report.check(Check::HubspotProperties, name, properties).await;
        let schema = schema::examine(&self.location, self.hubspot_client, &accepted.token);
        report.check(Check::HubspotSchema, name, schema).await;
        let property = self.request_id_property(&accepted.token);
        report.check(Check::HubspotRequestId, name, property).await;
        let Some(leads) = leads else {
            // The rate limits are headers of the response with the leads.
            report.skip_rest_for(Area::Portal, name, Check::HubspotLeads);
            return None;
        };
        report.note(Check::HubspotQuota, name, quota_result(&leads), Duration::ZERO);
        if args.write_probe {
            let probe = write::probe(&self.location, &accepted.token, args.contact.as_deref());
            report.check(Check::HubspotWrite, name, probe).await;
        }
        if args.conformance {
            let since = Instant::now();
            let (location, client) = (&self.location, self.hubspot_client);
            let (outcome, facts) =
                self.conformance.run(location, client, &accepted.token, args).await;
            report.note(Check::HubspotConformance, name, outcome, since.elapsed());
            report.add_facts(facts);
        }
        Some(())
    }

    /// Authenticates to HubSpot as the service does.
    async fn authenticate(
        &self,
        stored: &SecretVersion,
        keys: &SecretData,
        credential: Credential,
    ) -> CheckResult<Accepted> {
        match credential {
            Credential::Static(token) => self.authenticate_static(stored, token).await,
            Credential::OAuth(app, refresh_token) => {
                let response = self
                    .hubspot_client
                    .exchange_refresh_token(&app, &refresh_token, deadline())
                    .await;
                let response = match response {
                    Ok(response) => response,
                    Err(error) => return CheckResult::fail(self.location.remediation(&error)),
                };
                let info =
                    self.hubspot_client.introspect(&app, &response.access_token, deadline()).await;
                let info = info.unwrap_or_default();
                let new = response.refresh_token.filter(|new| *new != refresh_token);
                if let Some(new) = &new
                    && let Err(remediation) = self.write_back(stored, keys, new).await
                {
                    return CheckResult::fail(remediation);
                }
                let stored_text = match &new {
                    Some(_) => "; stored the rotated refresh token".to_owned(),
                    None => stored_since(stored).1,
                };
                let accepted = Accepted {
                    token: response.access_token,
                    account: None,
                    hub_id: response.hub_id.or(info.hub_id),
                    scopes: info.scopes.or(response.scopes),
                };
                CheckResult::ok(accepted, format!("the refresh token is valid{stored_text}"))
            }
        }
    }

    async fn authenticate_static(
        &self,
        stored: &SecretVersion,
        token: Secret,
    ) -> CheckResult<Accepted> {
        let account = match self.hubspot_client.account(&token, deadline()).await {
            Ok(account) => account,
            Err(error) => {
                let mut remediation = self.location.remediation(&error);
                let has_account = stored.data.as_ref().is_some_and(|keys| keys.has("hub_id"));
                let is_rejected = matches!(
                    error,
                    DiagnosticsError::Unauthorized | DiagnosticsError::TokenExpired
                );
                if is_rejected && !has_account {
                    // HubSpot does not tell the account of a rejected token, so a secret that was stored
                    // by hand is replaced only with this option.
                    remediation.fix.push_str(" --replace");
                }
                return CheckResult::fail(remediation);
            }
        };
        // HubSpot does not document whether this endpoint knows service keys: ignore errors.
        let info = self.hubspot_client.static_token(&token, deadline()).await.unwrap_or_default();
        let accepted = Accepted {
            token,
            hub_id: info.hub_id.or(account.hub_id),
            account: Some(account),
            scopes: info.scopes,
        };
        let (age, text) = stored_since(stored);
        if age.is_some_and(|age| age > MAX_TOKEN_AGE) {
            return CheckResult::warn(
                accepted,
                format!("the static token is valid{text}"),
                "rotate it: HubSpot advises rotation every six months, and accepts the old token for \
                 7 more days",
            );
        }
        CheckResult::ok(accepted, format!("the static token is valid{text}"))
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
            // A conflict means that another process has stored a newer token.
            Ok(CasOutcome::Written(_) | CasOutcome::Conflict) => Ok(()),
            Err(Error::Denied) => Err(Remediation {
                cause: format!(
                    "HubSpot rotated the refresh token, and Vault's policy does not allow storing \
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
        let stored_id = keys.text("hub_id").map(str::trim);
        if let (Some(id), Some(stored_id)) = (id, stored_id)
            && id.to_string() != stored_id
        {
            return CheckResult::warn(
                (),
                format!(
                    "the credential is of account {id}, but hub_id in the secret is {stored_id}"
                ),
                "check which account is meant; leadsd login stores credential and hub_id together",
            );
        }
        if let Some(name) = &info.time_zone
            && let Some(remediation) =
                time_zone::mismatch(self.location.config, &self.location.name, name)
        {
            return CheckResult { value: Some(()), outcome: CheckOutcome::Warn(remediation) };
        }
        let more = [info.kind, info.time_zone, info.ui_domain];
        let more: Vec<String> = more.into_iter().flatten().collect();
        CheckResult::ok((), format!("{text} ({})", more.join(", ")))
    }

    async fn leads(&self, token: &Secret) -> CheckResult<LeadsProbe> {
        match self.hubspot_client.leads(token, deadline()).await {
            Ok(leads) => {
                let found =
                    if leads.count == 0 { "readable; the account has none" } else { "readable" };
                CheckResult::ok(leads, found)
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
        let from =
            self.location.config.portal_discovery.as_ref().map(|from| &from.request_id_property);
        let Some(name) = own.or(from).and_then(Option::as_deref) else {
            let text = "not configured: a create without a response has an unknown outcome";
            return CheckResult::ok((), text);
        };
        let create = format!(
            "create a single-line text property of leads named {name} with unique values; the flag \
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
                    format!("{name} has type {kind} ({field}); single-line text is required");
                CheckResult::fail(Remediation::new(cause, format!("{create}, or name another one")))
            }
            Ok(Some(_)) => {
                let cause = format!("{name} does not require unique values");
                CheckResult::fail(Remediation::new(cause, format!("{create}, or name another one")))
            }
            Ok(None) => {
                let cause = format!("leads have no property {name}");
                CheckResult::fail(Remediation::new(cause, create))
            }
            Err(error) => CheckResult::fail(self.location.remediation(&error)),
        }
    }
}

/// Age of the secret as a duration and as text; `None` and an empty text if Vault does not report it.
fn stored_since(stored: &SecretVersion) -> (Option<Duration>, String) {
    let age = |written| SystemClock.now().duration_since(written).try_into().ok();
    let age: Option<Duration> = stored.created_at.and_then(age);
    let days = age.map(|age| age.as_secs() / 86_400);
    (age, days.map_or_else(String::new, |days| format!(", stored {days} days ago")))
}

fn scopes_result(accepted: &Accepted) -> CheckOutcome {
    let Some(scopes) = &accepted.scopes else {
        return CheckOutcome::Ok("unknown: HubSpot does not report scopes".to_owned());
    };
    let has = |wanted: &str| scopes.iter().any(|scope| scope == wanted);
    let fix = |scope: &str| {
        format!("add {scope} to the app or key, then grant access again: leadsd login")
    };
    if !has(READ) {
        return CheckOutcome::fail(format!("the scope {READ} is missing"), fix(READ));
    }
    if !has(WRITE) {
        let cause = format!("the scope {WRITE} is missing: leads can be read but not written");
        return CheckOutcome::warn(cause, fix(WRITE));
    }
    CheckOutcome::Ok(scopes.join(", "))
}

/// Evaluates the rate limits in a response; warns below 10 %.
fn quota_result(leads: &LeadsProbe) -> CheckOutcome {
    let limits = leads.limits;
    let scarce = |left: Option<u64>, max: Option<u64>| {
        left.zip(max).is_some_and(|(left, max)| left.saturating_mul(10) < max)
    };
    let text = |left: Option<u64>, max: Option<u64>| match (left, max) {
        (Some(left), Some(max)) => format!("{left} of {max}"),
        _ => "unknown".to_owned(),
    };
    let (burst, daily) =
        (text(limits.remaining, limits.max), text(limits.daily_remaining, limits.daily));
    if scarce(limits.daily_remaining, limits.daily) {
        return CheckOutcome::warn(
            format!("the daily limit is nearly exhausted: {daily} calls left"),
            "check which apps of the account use it (Settings, Integrations, API usage); it resets at \
             midnight in the account's time zone",
        );
    }
    if scarce(limits.remaining, limits.max) {
        return CheckOutcome::warn(
            format!("the limit of the current window is nearly exhausted: {burst} calls left"),
            "another client uses the same app or key; use this credential only for leadsd",
        );
    }
    CheckOutcome::Ok(format!("calls left in the window: {burst}; in the day: {daily}"))
}
