//! Startup message of `leadsd dev`: addresses, whether calls are real, and commands to paste.

use std::io::{self, Write as _};

use super::DevUpstream;
use crate::app::BoundService;
use leadsd_vault_fake::FakeVault;

/// Placeholder for a contact id that the reader fills in.
const CONTACT_PLACEHOLDER: &str = "CONTACT_ID";

/// Prints addresses and commands to paste.
pub(super) fn print(
    bound: &BoundService,
    upstream: &DevUpstream,
    vault: &FakeVault,
) -> io::Result<()> {
    let (grpc, admin) = (bound.grpc_address(), bound.admin_address());
    let mut out = io::stdout().lock();
    match upstream {
        DevUpstream::Fake(hubspot, contacts) => write!(
            out,
            "leadsd dev: HubSpot and Vault are fakes in memory; nothing leaves this machine\n\
             \n\
             gRPC     {grpc}\n\
             admin    http://{admin}/ready\n\
             HubSpot  http://{} (fake)\n\
             Vault    http://{} (fake)\n\
             contacts {}\n",
            hubspot.address(),
            vault.address(),
            contacts.join(", "),
        )?,
        DevUpstream::Real(url) => write!(
            out,
            "leadsd dev: CALLS ARE REAL. They read and change the HubSpot account that you logged in \
             to,\nand count towards its limits. The credential is kept in memory only.\n\
             \n\
             gRPC     {grpc}\n\
             admin    http://{admin}/ready\n\
             HubSpot  {url} (REAL)\n\
             Vault    http://{} (fake, in memory)\n",
            vault.address(),
        )?,
    }
    write!(out, "\nTry:\n\n  grpcurl -plaintext {grpc} list\n")?;
    for (json, method) in example_calls(upstream) {
        let method = format!("leadsd.v1.LeadsService/{method}");
        writeln!(out, "  grpcurl -plaintext -d '{json}' {grpc} {method}")?;
    }
    out.write_all(b"\nCtrl-C stops it.\n\n")?;
    out.flush()
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
    let search = (search.to_owned(), "SearchLeads");
    match upstream {
        DevUpstream::Real(_) => {
            let list = r#"{"page_size":5,"properties":["hs_lead_name"]}"#.to_owned();
            vec![(list, "ListLeads"), search, create(CONTACT_PLACEHOLDER)]
        }
        DevUpstream::Fake(hubspot, contacts) => {
            let id = hubspot.first_lead().unwrap_or_default();
            let get = format!(
                r#"{{"id":"{id}","properties":["hs_lead_name","hs_pipeline_stage"],"associations":["contacts"]}}"#
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
