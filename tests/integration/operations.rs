//! Every lead operation of HubSpot with every parameter, in each API version: the result of the
//! call and its single HubSpot request.

mod association_writes;
mod associations;
mod batches;
mod default_properties;
mod pagination;
mod single_calls;
mod typed_properties;

use leadsd::grpc::pb;
use leadsd_hubspot_fake::LoggedRequest;
use serde_json::Value;
use url::form_urlencoded;

use crate::harness::TestApp;

/// API versions and the path of their leads.
pub(crate) const VERSIONS: [(&str, &str); 3] = [
    ("2026-09", "/crm/objects/2026-09/leads"),
    ("2026-03", "/crm/objects/2026-03/leads"),
    ("v3", "/crm/v3/objects/leads"),
];

/// Names and values of a query.
type Query<'a> = &'a [(&'a str, &'a str)];

/// A service of one API version, with a lead and a unique property `crm_key`.
struct Scene {
    app: TestApp,
    base: &'static str,
    /// Jane, labelled COLD and then HOT, keyed `k-1`.
    jane: String,
    /// An archived lead.
    gone: String,
}

// === impl Scene ===

impl Scene {
    async fn start(version: &'static str, base: &'static str) -> Self {
        // Nothing beside what a test selects.
        let builder = TestApp::builder().api_version(version);
        let app = builder.set("HUBSPOT__DEFAULT_PROPERTIES", "[]").start().await;
        app.hubspot.add_unique_property("crm_key");
        let mut create = app.create_request("Jane");
        create.properties.insert("crm_key".into(), "k-1".into());
        create.properties.insert("hs_lead_label".into(), "COLD".into());
        let jane = app.leads.clone().create_lead(create).await.unwrap().into_inner();
        let jane = jane.lead.unwrap().id;
        let update = pb::UpdateLeadRequest {
            id: jane.clone(),
            properties: crate::harness::properties(&[("hs_lead_label", "HOT")]),
            ..Default::default()
        };
        app.leads.clone().update_lead(update).await.unwrap();
        let gone = app.lead("Gone");
        let archive = pb::ArchiveLeadRequest { id: gone.clone(), ..Default::default() };
        app.leads.clone().archive_lead(archive).await.unwrap();
        app.hubspot.clear_log();
        Self { app, base, jane, gone }
    }

    /// The only request since the last check.
    #[track_caller]
    fn only_request(&self) -> LoggedRequest {
        let mut log = self.app.hubspot.log();
        self.app.hubspot.clear_log();
        let request = log.pop().expect("a request");
        assert!(log.is_empty(), "one request, not also {log:?}");
        request
    }

    /// Asserts one of `count` requests since the last check.
    #[track_caller]
    fn saw_one_of(&self, count: usize, method: &str, end: &str, body: &Value, status: u16) {
        let log = self.app.hubspot.log();
        self.app.hubspot.clear_log();
        assert_eq!(log.len(), count, "{log:?}");
        let path = format!("{}{end}", self.base);
        let found = log.iter().find(|call| (&*call.method, &*call.path) == (method, &*path));
        let found = found.expect("a request");
        assert_eq!((&found.body, found.status), (body, status), "{method} {end}");
    }

    /// Asserts the only request since the last check.
    #[track_caller]
    fn saw(&self, method: &str, end: &str, query: Query<'_>, body: &Value, status: u16) {
        let LoggedRequest {
            method: got_method,
            path,
            query: got_query,
            body: got_body,
            status: got,
        } = self.only_request();
        assert_eq!((got_method.as_str(), path), (method, format!("{}{end}", self.base)));
        let mut pairs: Vec<(String, String)> =
            form_urlencoded::parse(got_query.as_bytes()).into_owned().collect();
        pairs.sort();
        let wanted: Vec<(String, String)> =
            query.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        assert_eq!(pairs, wanted, "query of {method} {end}");
        assert_eq!(got_body, *body, "body of {method} {end}");
        assert_eq!(got, status, "status of {method} {end}");
    }
}

/// Versions of a property, newest first.
fn history(lead: &pb::Lead, property: &str) -> Vec<String> {
    let versions = lead.property_history.get(property).map(|found| found.versions.clone());
    versions.unwrap_or_default().into_iter().filter_map(|version| version.value).collect()
}

/// Ids of the objects of this type that a lead is associated with.
fn associated(lead: &pb::Lead, kind: &str) -> Vec<String> {
    let found = lead.associations.get(kind).map(|found| found.objects.clone());
    found.unwrap_or_default().into_iter().map(|object| object.id).collect()
}
