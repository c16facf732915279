//! Startup message of `leadsd dev`: addresses, whether calls are real, and commands to paste.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use super::{
    Args, DevUpstream,
    callers::Callers,
    fakes::{App, Fake, Fakes, secret_path},
    settings::authorize_url,
};
use crate::{app::BoundService, leads::PortalName};
use leadsd_vault_fake::FakeVault;

/// Placeholder for a contact id that the reader fills in.
const CONTACT_PLACEHOLDER: &str = "CONTACT_ID";

/// Method whose results lag behind writes.
const SEARCH: &str = "SearchLeads";

/// Facts of the startup message.
pub(super) struct Banner<'a> {
    pub(super) args: &'a Args,
    pub(super) bound: &'a BoundService,
    pub(super) upstream: &'a DevUpstream,
    pub(super) vault: &'a FakeVault,
    pub(super) callers: Option<&'a Callers>,
    /// Configuration file of the service.
    pub(super) config: &'a Path,
}

// === impl Banner ===

impl Banner<'_> {
    /// Prints addresses and commands to paste.
    pub(super) fn print(&self) -> io::Result<()> {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = match self.upstream {
            DevUpstream::Fakes(fakes) => self.write_fakes(&mut text, fakes),
            DevUpstream::Real(url) => self.write_real(&mut text, url),
        }
        .and_then(|()| self.write_calls(&mut text))
        .and_then(|()| match self.upstream {
            DevUpstream::Fakes(fakes) => self.write_peers(&mut text, fakes),
            DevUpstream::Real(_) => Ok(()),
        });
        text.push_str("\nCtrl-C stops it.\n\n");
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn write_fakes(&self, out: &mut String, fakes: &Fakes) -> std::fmt::Result {
        let (grpc, admin) = (self.bound.grpc_address(), self.bound.admin_address());
        write!(
            out,
            "leadsd dev: HubSpot and Vault are fakes in memory; nothing leaves this machine\n\
             \n\
             gRPC     {grpc}\n\
             admin    http://{admin}/ready\n"
        )?;
        let several = fakes.all.len() > 1;
        for Fake { portal, hubspot, .. } in &fakes.all {
            let of_portal = if several { format!(", portal {portal}") } else { String::new() };
            writeln!(out, "HubSpot  http://{} (fake{of_portal})", hubspot.address())?;
        }
        let (vault, lag) = (self.vault.address(), fakes.search_lag);
        let Fake { contacts, owners, .. } = fakes.first();
        write!(
            out,
            "Vault    http://{vault} (fake)\n\
             contacts {}\n\
             owner    {}\n\
             search   finds a write after {lag:?}, as HubSpot's index lags (--search-lag)\n",
            contacts.join(", "),
            owners.join(", "),
        )?;
        let Args { faults, latency, quota, state, .. } = self.args;
        if let Some(quota) = quota {
            writeln!(out, "quota    {quota}")?;
        }
        if !latency.is_zero() {
            writeln!(out, "latency  {latency:?}")?;
        }
        if !faults.is_empty() {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            writeln!(out, "faults   {}", faults.join(", "))?;
        }
        if let Some(state) = state {
            let leads: usize = fakes.all.iter().map(|fake| fake.hubspot.snapshot().leads()).sum();
            writeln!(out, "state    {}, {leads} leads", state.display())?;
        }
        Ok(())
    }

    fn write_real(&self, out: &mut String, url: &url::Url) -> std::fmt::Result {
        let (grpc, admin) = (self.bound.grpc_address(), self.bound.admin_address());
        write!(
            out,
            "leadsd dev: CALLS ARE REAL. They read and change the HubSpot account that you logged in \
             to,\nand count towards its limits. The credential is kept in memory only.\n\
             \n\
             gRPC     {grpc}\n\
             admin    http://{admin}/ready\n\
             HubSpot  {url} (REAL)\n\
             Vault    http://{} (fake, in memory)\n\
             config   {} (for leadsd doctor --config)\n",
            self.vault.address(),
            self.config.display(),
        )
    }

    /// Example calls, with the API key if callers are authenticated.
    fn write_calls(&self, out: &mut String) -> std::fmt::Result {
        let grpc = self.bound.grpc_address();
        let mut options = self.callers.map_or_else(
            || "-plaintext".to_owned(),
            |callers| {
                format!(
                    "-cacert {} -H 'x-api-key: {}'",
                    quoted(&callers.ca),
                    callers.api_key.expose()
                )
            },
        );
        write!(out, "\nTry:\n\n  grpcurl {options} {grpc} list\n")?;
        if let Some(callers) = self.callers {
            let Callers { ca, client_cert, client_key, .. } = callers;
            let [ca, cert, key] = [ca, client_cert, client_key].map(|path| quoted(path));
            writeln!(out, "  grpcurl -cacert {ca} -cert {cert} -key {key} {grpc} list")?;
        }
        if let Some(portal) = self.portal_to_name() {
            let _ = write!(options, " -H 'leadsd-portal: {portal}'");
        }
        for (json, method) in example_calls(self.upstream) {
            let wait = if method == SEARCH { wait_for_index(self.upstream) } else { String::new() };
            let method = format!("leadsd.v1.LeadsService/{method}");
            writeln!(out, "  {wait}grpcurl {options} -d '{json}' {grpc} {method}")?;
        }
        Ok(())
    }

    /// First portal, if calls have to name one.
    fn portal_to_name(&self) -> Option<String> {
        match self.upstream {
            DevUpstream::Fakes(fakes) if fakes.all.len() > 1 => {
                Some(fakes.first().portal.to_string())
            }
            DevUpstream::Fakes(_) | DevUpstream::Real(_) => None,
        }
    }

    /// Requests to the fakes, and a login.
    fn write_peers(&self, out: &mut String, fakes: &Fakes) -> std::fmt::Result {
        out.write_str("\nThe fakes:\n\n")?;
        for Fake { hubspot, token, .. } in &fakes.all {
            let path = match self.args.api_version.as_str() {
                "v3" => "v3/objects",
                dated => &format!("objects/{dated}"),
            };
            let (token, address) = (token.expose(), hubspot.address());
            writeln!(
                out,
                "  curl -s -H 'Authorization: Bearer {token}' http://{address}/crm/{path}/leads"
            )?;
        }
        let (vault, token) = (self.vault.address(), self.vault.root_token().expose());
        let first = &fakes.first().portal;
        let secret = secret_path(first);
        writeln!(
            out,
            "  curl -s -H 'X-Vault-Token: {token}' http://{vault}/v1/secret/data/{secret}"
        )?;
        for Fake { portal, hubspot, app, .. } in &fakes.all {
            let App { client_id, client_secret } = app;
            // The configuration has the consent page of the first.
            let consent_page = if portal == first {
                String::new()
            } else {
                let url = authorize_url(hubspot.address());
                format!("LEADSD_HUBSPOT__AUTHORIZE_URL={url} ")
            };
            write!(
                out,
                "\nAn OAuth login{}, with client id {client_id}\nand client secret {}:\n\n  \
                 {consent_page}leadsd login --config {} --portal {portal}\n",
                self.of_portal(portal),
                client_secret.expose(),
                quoted(self.config),
            )?;
        }
        Ok(())
    }

    /// Names a portal if there are several.
    fn of_portal(&self, portal: &PortalName) -> String {
        match self.portal_to_name() {
            Some(_) => format!(" of portal {portal}"),
            None => String::new(),
        }
    }
}

/// Path for a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// Command that waits until the search index has the lead of the example before.
fn wait_for_index(upstream: &DevUpstream) -> String {
    match upstream {
        DevUpstream::Fakes(Fakes { search_lag: Duration::ZERO, .. }) | DevUpstream::Real(_) => {
            String::new()
        }
        DevUpstream::Fakes(Fakes { search_lag, .. }) => {
            format!("sleep {}; ", search_lag.as_secs_f64().ceil())
        }
    }
}

/// Example requests with their methods. With a real account, a write needs a contact id that the
/// reader fills in.
fn example_calls(upstream: &DevUpstream) -> Vec<(String, &'static str)> {
    let create = |contact: &str| {
        let properties = r#"{"hs_lead_name":"My first lead","hs_lead_label":"HOT"}"#;
        let json = format!(r#"{{"properties":{properties},"primary_contact_id":"{contact}"}}"#);
        (json, "CreateLead")
    };
    let search = r#"{"filter_groups":[{"filters":[{"property_name":"hs_lead_label","operator":"FILTER_OPERATOR_EQ","value":"HOT"}]}],"properties":["hs_lead_name","hs_lead_label"]}"#;
    let search = (search.to_owned(), SEARCH);
    match upstream {
        DevUpstream::Real(_) => {
            let list = r#"{"page_size":5,"properties":["hs_lead_name"]}"#.to_owned();
            vec![(list, "ListLeads"), search, create(CONTACT_PLACEHOLDER)]
        }
        DevUpstream::Fakes(fakes) => {
            let Fake { hubspot, contacts, .. } = fakes.first();
            let id = hubspot.first_lead().unwrap_or_default();
            let get = format!(
                r#"{{"id":"{id}","properties":["hs_lead_name","hs_pipeline_stage"],"associations":["contacts"],"display":true}}"#
            );
            let update = format!(r#"{{"id":"{id}","properties":{{"hs_lead_label":"COLD"}}}}"#);
            let archive = format!(r#"{{"id":"{id}"}}"#);
            vec![
                create(contacts.first().map_or(CONTACT_PLACEHOLDER, String::as_str)),
                search,
                (get, "GetLead"),
                (update, "UpdateLead"),
                (archive, "ArchiveLead"),
            ]
        }
    }
}
