//! Every RPC with every caller that is not permitted: each rejection has its code and reason, uses
//! no HubSpot call, and reveals nothing about portals.

use leadsd::grpc::{
    DESCRIPTORS,
    pb::{
        self, leads_service_client::LeadsServiceClient, quota_service_client::QuotaServiceClient,
    },
};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use serde_json::json;
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};
use tonic_types::StatusExt as _;

use super::{World, api_key, issuers, issuers::Issuer};
use crate::harness::{Builder, TestApp, failure};

/// Credentials and metadata of a call.
type Metadata = Vec<(&'static str, String)>;

/// Texts that may not appear in errors about a foreign portal.
const FOREIGN: [&str; 4] = ["zurich", "hubspot/", "watcher", "everywhere"];

/// Required permission of each method. A new method needs a row.
const NEEDS: [(&str, &str); 26] = [
    ("LeadsService/GetLead", "read"),
    ("LeadsService/ListLeads", "read"),
    ("LeadsService/SearchLeads", "read"),
    ("LeadsService/ListLeadAssociations", "read"),
    ("LeadsService/BatchGetLeads", "read"),
    ("LeadsService/ExportLeads", "export"),
    ("LeadsService/ImportLeads", "import"),
    ("LeadsService/CreateLead", "write"),
    ("LeadsService/UpdateLead", "write"),
    ("LeadsService/ArchiveLead", "write"),
    ("LeadsService/UpsertLead", "write"),
    ("LeadsService/BatchCreateLeads", "write"),
    ("LeadsService/BatchUpdateLeads", "write"),
    ("LeadsService/BatchUpsertLeads", "write"),
    ("LeadsService/BatchArchiveLeads", "write"),
    ("LeadsService/AssociateLead", "write"),
    ("LeadsService/DissociateLead", "write"),
    ("LeadsService/BatchAssociateLeads", "write"),
    ("LeadsService/BatchDissociateLeads", "write"),
    ("QuotaService/GetQuota", "quota"),
    ("QuotaService/WatchQuota", "quota"),
    ("SchemaService/ListLeadProperties", "read"),
    ("SchemaService/ListLeadPipelines", "read"),
    ("SchemaService/ListOwners", "read"),
    ("SchemaService/ListAssociationTypes", "read"),
    ("SchemaService/ListPortals", "anything"),
];

/// All methods of the contract and further services, with their required permission.
fn methods() -> Vec<(String, &'static str)> {
    let mut all = Vec::new();
    for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}/{}", service.name(), method.name());
                let row = NEEDS.iter().find(|(known, _)| *known == name);
                let (_, need) = row.unwrap_or_else(|| panic!("{name} has no row"));
                all.push((format!("/{}.{name}", file.package()), *need));
            }
        }
    }
    assert_eq!(all.len(), NEEDS.len(), "rows of methods that are gone: {all:?}");
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        all.push((path, "anything"));
    }
    all.push(("/nobody.v1.Nothing/Nothing".to_owned(), "anything"));
    // UNIMPLEMENTED is no secret to a caller with any right.
    all.push(("/leadsd.v1.LeadsService/DropAllLeads".to_owned(), "anything"));
    all
}

/// Calls a method with an empty message; returns the first response or the error.
async fn call(channel: &Channel, path: &str, metadata: &Metadata) -> Result<(), Status> {
    let mut request = Request::new(tokio_stream(()));
    for (key, value) in metadata {
        request.metadata_mut().append(*key, value.parse().unwrap());
    }
    request.set_timeout(std::time::Duration::from_secs(10));
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::try_from(path).unwrap();
    let mut answer = grpc.streaming(request, path, codec).await?.into_inner();
    answer.message().await.map(|_| ())
}

fn tokio_stream<T: Send + 'static>(one: T) -> impl futures_util::Stream<Item = T> + Send {
    futures_util::stream::iter([one])
}

fn bearer(token: &str) -> Metadata {
    vec![("authorization", format!("Bearer {token}"))]
}

fn key(name: &str) -> Metadata {
    vec![("x-api-key", api_key(name))]
}

fn with(mut metadata: Metadata, key: &'static str, value: &str) -> Metadata {
    metadata.push((key, value.to_owned()));
    metadata
}

/// Asserts a rejection; returns its content without the request id.
#[track_caller]
fn refusal(status: Status, code: Code, reason: &str, what: &str) -> String {
    let details = status.get_error_details();
    assert!(details.bad_request().is_none() && details.resource_info().is_none(), "{what}");
    assert!(status.metadata().get("leadsd-quota-cost").is_none(), "{what}: no portal was called");
    let id = details.request_info().expect("the call has an id").request_id.clone();
    let told = format!("{} {details:?} {:?}", status.message(), status.metadata());
    let told = told.replace(&id, "ID");
    let found = failure(Err::<(), _>(status));
    assert_eq!((found.0, found.1.as_str()), (code, reason), "{what}: {told}");
    // The status details are a binary header; only date and request id differ.
    told.split(" MetadataMap").next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn unauthenticated_callers_are_rejected() {
    let world = World::start().await;
    let (anonymous, nameless) = (world.connect().await, {
        let client = world.ca.client(&issuers::Names::none());
        issuers::connect(&world.app.grpc, &world.ca, Some(&client)).await.unwrap()
    });
    let other = Issuer { id: world.issuer.id.clone(), ..Issuer::new() };
    let token = |name, change| world.issuer.token(name, change);
    let good = token("writer", json!({}));
    let cases: Vec<(&str, &Channel, Metadata)> = vec![
        ("no identity", &anonymous, vec![]),
        ("a certificate without a name", &nameless, vec![]),
        ("a name it gives itself", &anonymous, vec![("leadsd-caller", "writer".to_owned())]),
        ("an unknown key", &anonymous, vec![("x-api-key", "x".repeat(40))]),
        ("the hash of a key", &anonymous, vec![("x-api-key", issuers::sha256(&api_key("writer")))]),
        ("another issuer's signature", &anonymous, bearer(&other.token("writer", json!({})))),
        ("an unknown signing key", &anonymous, bearer(&Issuer::new().token("writer", json!({})))),
        ("expired", &anonymous, bearer(&token("writer", json!({"exp": issuers::now() - 60})))),
        (
            "not yet valid",
            &anonymous,
            bearer(&token("writer", json!({"nbf": issuers::now() + 600}))),
        ),
        ("wrong audience", &anonymous, bearer(&token("writer", json!({"aud": ["other"]})))),
        ("wrong issuer", &anonymous, bearer(&token("writer", json!({"iss": "https://x"})))),
        ("no caller", &anonymous, bearer(&token("writer", json!({"sub": 7})))),
        ("no token", &anonymous, vec![("authorization", "Basic d3JpdGVyOnB3".to_owned())]),
        ("garbage", &anonymous, bearer("a.b.c")),
        ("both", &anonymous, [bearer(&good), key("writer")].concat()),
        ("a token twice", &anonymous, [bearer(&good), bearer(&good)].concat()),
        ("a key twice", &anonymous, [key("writer"), key("writer")].concat()),
    ];
    let mut seen = 0;
    for (what, channel, metadata) in cases {
        let mut told = Vec::new();
        for (path, _) in methods() {
            for portal in [None, Some("zurich"), Some("nowhere")] {
                let mut metadata = metadata.clone();
                metadata.extend(portal.map(|portal| ("leadsd-portal", portal.to_owned())));
                let status = call(channel, &path, &metadata).await.unwrap_err();
                let what = format!("{what} at {path} in {portal:?}");
                told.push(refusal(status, Code::Unauthenticated, "UNAUTHENTICATED", &what));
                seen += 1;
            }
        }
        let first = told[0].clone();
        assert!(told.iter().all(|told| *told == first), "{what}: one answer for all\n{told:#?}");
        assert!(FOREIGN.iter().all(|name| !first.contains(name)), "{what}: {first}");
    }
    assert!(seen > 900, "{seen} calls");
    assert!(world.app.hubspot_calls().is_empty());
    // Probes are unauthenticated.
    call(&anonymous, "/grpc.health.v1.Health/Check", &vec![]).await.expect("health is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_credential_fails_the_call_beside_a_valid_one() {
    let world = World::start().await;
    let writer = world.connect_as("writer").await;
    let list = "/leadsd.v1.LeadsService/ListLeads";
    call(&writer, list, &vec![]).await.expect("the certificate alone is good");
    let expired = world.issuer.token("writer", json!({"exp": issuers::now() - 60}));
    for metadata in [bearer(&expired), vec![("x-api-key", "x".repeat(40))]] {
        let status = call(&writer, list, &metadata).await.unwrap_err();
        refusal(status, Code::Unauthenticated, "UNAUTHENTICATED", "beside a good certificate");
    }
    // A valid token takes precedence over the certificate.
    let status = call(&writer, list, &key("stranger")).await.unwrap_err();
    refusal(status, Code::PermissionDenied, "CALLER_FORBIDDEN", "the key of a stranger");
    let zurich = with(key("everywhere"), "leadsd-portal", "zurich");
    call(&writer, list, &zurich).await.expect("the key decides");
}

#[tokio::test(flavor = "multi_thread")]
async fn untrusted_client_certificates_are_rejected() {
    let world = World::start().await;
    let other = issuers::Authority::new("ca");
    let names = issuers::Names::uri("spiffe://test/writer");
    let expired = issuers::Names {
        not_after: issuers::now() - 60,
        ..issuers::Names::uri("spiffe://test/writer")
    };
    let early = issuers::Names {
        not_before: issuers::now() + 600,
        ..issuers::Names::uri("spiffe://test/writer")
    };
    for (what, certificate) in [
        ("of another CA", other.client(&names)),
        ("expired", world.ca.client(&expired)),
        ("not yet valid", world.ca.client(&early)),
        ("for servers", world.ca.server()),
    ] {
        let channel = issuers::connect(&world.app.grpc, &world.ca, Some(&certificate)).await;
        // In TLS 1.3 the client learns of the rejection after its handshake.
        if let Ok(channel) = channel {
            let path = "/leadsd.v1.LeadsService/ListLeads";
            let status = call(&channel, path, &vec![]).await.unwrap_err();
            assert!(status.metadata().get("x-request-id").is_none(), "{what}: {status:?}");
        }
    }
    assert!(world.app.hubspot_calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_permits_exactly_the_listed_calls() {
    let world = World::start().await;
    let anonymous = world.connect().await;
    // Permissions of the portals default and zurich: (read, write, quota, export, import).
    let none = [false; 5];
    let all = [true; 5];
    for (caller, in_default, in_zurich) in [
        ("writer", [true, true, true, false, false], none),
        ("reader", [true, false, false, true, false], none),
        ("watcher", none, [false, false, true, false, false]),
        ("everywhere", all, all),
        ("blocked", none, none),
        ("stranger", none, none),
    ] {
        let certificate = world.connect_as(caller).await;
        let proofs = [
            ("certificate", &certificate, vec![]),
            ("token", &anonymous, bearer(&world.issuer.token(caller, json!({})))),
            ("key", &anonymous, key(caller)),
        ];
        for (proof, channel, metadata) in proofs {
            for (path, need) in methods() {
                for (portal, rights) in [("default", in_default), ("zurich", in_zurich)] {
                    let what = format!("{caller} by {proof} at {path} in {portal}");
                    let may = match need {
                        "read" => rights[0],
                        "write" => rights[1],
                        "quota" => rights[2],
                        "export" => rights[3],
                        "import" => rights[4],
                        _ => in_default != none || in_zurich != none,
                    };
                    let metadata = with(metadata.clone(), "leadsd-portal", portal);
                    let answer = call(channel, &path, &metadata).await;
                    if may {
                        // The message is empty, so most calls fail validation.
                        let code = answer.err().map_or(Code::Ok, |status| status.code());
                        // The search limit may be exhausted, but the call was authorized.
                        let fine = [
                            Code::Ok,
                            Code::InvalidArgument,
                            Code::Unimplemented,
                            Code::ResourceExhausted,
                        ];
                        assert!(fine.contains(&code), "{what}: {code}");
                        continue;
                    }
                    let status = answer.expect_err(&what);
                    let told = refusal(status, Code::PermissionDenied, "CALLER_FORBIDDEN", &what);
                    // A caller may name its portal; other portals and other caller names are
                    // rejected.
                    let own = |name: &&&str| **name == "zurich" && in_zurich != none;
                    let foreign = FOREIGN.iter().filter(|name| !own(name));
                    for name in foreign {
                        assert!(!told.contains(name), "{what}: {told}");
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_and_unknown_portals_are_indistinguishable() {
    let world = World::start().await;
    let channel = world.connect().await;
    for caller in ["writer", "reader", "watcher", "blocked", "stranger"] {
        let foreign = if caller == "watcher" { "default" } else { "zurich" };
        for (path, need) in methods() {
            if need == "anything" {
                continue;
            }
            let mut told = Vec::new();
            // Names of equal length, so that response sizes are equal.
            for portal in [foreign, &"x".repeat(foreign.len())] {
                let metadata = with(key(caller), "leadsd-portal", portal);
                let status = call(&channel, &path, &metadata).await.unwrap_err();
                let what = format!("{caller} at {path} in {portal}");
                told.push(refusal(status, Code::PermissionDenied, "CALLER_FORBIDDEN", &what));
            }
            assert_eq!(told[0], told[1], "{caller} at {path}");
            let twice = with(with(key(caller), "leadsd-portal", foreign), "leadsd-portal", foreign);
            let status = call(&channel, &path, &twice).await.unwrap_err();
            assert!(!status.message().contains(foreign), "{caller}: {status:?}");
        }
    }
    // A call without a portal uses the only permitted one.
    let quota = "/leadsd.v1.QuotaService/GetQuota";
    call(&channel, quota, &key("watcher")).await.expect("zurich is the watcher's only portal");
    let nowhere = with(key("everywhere"), "leadsd-portal", "nowhere");
    let (code, reason, _) = failure(call(&channel, quota, &nowhere).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "UNKNOWN_PORTAL"));
    assert!(world.app.hubspot_calls().is_empty());
}

/// Calls with valid messages, so that leads are read and written.
async fn work(world: &World, channel: Channel, metadata: &Metadata) {
    let request = |app: &TestApp| {
        let mut request = Request::new(app.create_request("Jane"));
        for (key, value) in metadata {
            request.metadata_mut().append(*key, value.parse().unwrap());
        }
        request
    };
    let mut leads = LeadsServiceClient::new(channel);
    let created = leads.create_lead(request(&world.app)).await.unwrap().into_inner();
    let id = created.lead.unwrap().id;
    let (metadata, extensions, _) = request(&world.app).into_parts();
    let get = pb::GetLeadRequest { id: id.clone(), ..Default::default() };
    let got = leads.get_lead(Request::from_parts(metadata, extensions, get)).await.unwrap();
    assert_eq!(got.into_inner().lead.unwrap().id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_authentication_method_yields_identity_and_weight() {
    let world = World::start().await;
    let channel = world.connect().await;
    let spoof = ("leadsd-caller", "other-caller".to_owned());
    let token = world.issuer.token("writer", json!({}));
    world.app.logs.forbid(&token);
    work(&world, world.connect_as("writer").await, &vec![spoof.clone()]).await;
    work(&world, channel.clone(), &[bearer(&token), vec![spoof.clone()]].concat()).await;
    work(&world, channel.clone(), &[key("writer"), vec![spoof]].concat()).await;

    let mut request = Request::new(pb::GetQuotaRequest {});
    request.metadata_mut().insert("x-api-key", api_key("writer").parse().unwrap());
    let quota = QuotaServiceClient::new(channel).get_quota(request).await.unwrap().into_inner();
    let burst = quota.quota.unwrap().buckets.into_iter().find(|bucket| bucket.name == "burst");
    let callers: Vec<(String, i32)> =
        burst.unwrap().callers.into_iter().map(|caller| (caller.caller, caller.weight)).collect();
    let mut wanted = ["writer", "spiffe://test/writer", "system:serviceaccount:shop:writer"]
        .map(|name| (name.to_owned(), 5))
        .to_vec();
    // leadsd has checked its token.
    wanted.push(("leadsd".to_owned(), 1));
    wanted.sort();
    assert_eq!(callers, wanted);
}

#[tokio::test]
async fn only_a_caller_with_the_right_creates_contacts_with_leads() {
    let may = |builder: Builder| builder.set("POLICY__everywhere__CREATE_CONTACTS", "true");
    let world = World::start_with(may).await;
    let channel = world.connect().await;
    let mut leads = LeadsServiceClient::new(channel);
    let contact = |creates: bool, email: &str| {
        Some(pb::ContactReference {
            key: Some(pb::contact_reference::Key::Email(email.to_owned())),
            create_if_missing: creates.then(pb::NewContact::default),
        })
    };
    let input = |creates, email| pb::LeadCreate {
        properties: [("hs_lead_name".to_owned(), "a".to_owned())].into(),
        contact: contact(creates, email),
        ..Default::default()
    };
    let batch = || {
        vec![
            input(true, "new@example.com"),
            input(false, "ada@example.com"),
            input(true, "ada@example.com"),
        ]
    };
    let before = world.app.hubspot.contacts().len();
    for (caller, codes, created) in [("writer", [7, 0, 7], 0), ("everywhere", [0, 0, 0], 1)] {
        for validate_only in [true, false] {
            let mut request = Request::new(pb::BatchCreateLeadsRequest {
                inputs: batch(),
                validate_only,
                ..Default::default()
            });
            for (name, value) in with(key(caller), "leadsd-portal", "default") {
                request.metadata_mut().insert(name, value.parse().unwrap());
            }
            let results = leads.batch_create_leads(request).await.unwrap().into_inner().results;
            let code = |result: &pb::LeadWriteResult| match &result.outcome {
                Some(pb::lead_write_result::Outcome::Error(error)) => error.code,
                Some(pb::lead_write_result::Outcome::Lead(_)) | None => 0,
            };
            let found: Vec<i32> = results.iter().map(code).collect();
            assert_eq!(found, codes, "{caller} {validate_only}: {results:?}");
        }
        assert_eq!(world.app.hubspot.contacts().len() - before, created, "{caller}");
    }
    let mut single = Request::new(pb::CreateLeadRequest {
        properties: [("hs_lead_name".to_owned(), "a".to_owned())].into(),
        contact: contact(true, "other@example.com"),
        ..Default::default()
    });
    for (name, value) in with(key("writer"), "leadsd-portal", "default") {
        single.metadata_mut().insert(name, value.parse().unwrap());
    }
    let (code, reason, _) = failure(leads.create_lead(single).await);
    assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "CALLER_FORBIDDEN"));
}
