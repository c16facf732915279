//! Writes and searches with labels, over a HubSpot whose schema changes.

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::advance;

use super::*;
use crate::leads::{
    AssociationAction, AssociationCategory, AssociationChange, AssociationLabel, AssociationType,
    Filter, FilterGroup, FilterOperator, FilterPosition, Labels, Portal, PortalName,
    PortalSettings, SideEffect, Upstream, Validated,
    schema::{
        AssociationTypeDefinition, Owner, Pipeline, PipelineStage, PropertyDefinition,
        PropertyOption, SchemaPage, SchemaRead,
    },
};

const STAGE: &str = "hs_pipeline_stage";
const OWNER: &str = "hubspot_owner_id";
const LABEL: &str = "hs_lead_label";

/// HubSpot with one pipeline, whose stages change.
struct World {
    /// Labels of the stages; the id is the position.
    stages: Arc<Mutex<Vec<String>>>,
    is_down: Arc<Mutex<bool>>,
    upstream: Arc<RecordingUpstream>,
    service: Service,
}

fn respond(stages: &[String], request: &Request) -> Result<Response, Error> {
    let item = Ok(Some(BatchItem { lead: named("1"), trace_id: None, created: Some(true) }));
    Ok(match request {
        Request::ReadSchema(SchemaRead::Pipelines) => {
            let stage = |(position, label): (usize, &String)| PipelineStage {
                id: position.to_string(),
                label: label.clone(),
                ..PipelineStage::default()
            };
            let stages = stages.iter().enumerate().map(stage).collect();
            let (id, label) = ("p".to_owned(), "Sales".to_owned());
            let own = Pipeline { id, label, stages, ..Pipeline::default() };
            Response::Schema(SchemaPage::Pipelines(vec![own]))
        }
        Request::ReadSchema(SchemaRead::Owners { .. }) => {
            let (id, email) = ("9".to_owned(), "ada@example.com".to_owned());
            let owners = vec![Owner { id, email, is_active: true, ..Owner::default() }];
            Response::Schema(SchemaPage::Owners { owners, after: None })
        }
        Request::ReadSchema(SchemaRead::AssociationTypes { .. }) => {
            let association_type =
                AssociationType { category: AssociationCategory::UserDefined, type_id: 21 };
            let label = "Decision maker".to_owned();
            let own = AssociationTypeDefinition { association_type, label, inverse_type_id: None };
            Response::Schema(SchemaPage::AssociationTypes(vec![own]))
        }
        Request::ReadSchema(SchemaRead::Properties) => {
            let (value, label) = ("HOT".to_owned(), "Hot lead".to_owned());
            let option = PropertyOption { value, label, ..PropertyOption::default() };
            let property = |name: &str, options: Vec<PropertyOption>| PropertyDefinition {
                name: name.to_owned(),
                type_name: "enumeration".to_owned(),
                options,
                ..PropertyDefinition::default()
            };
            let all = vec![property(LABEL, vec![option]), property(STAGE, Vec::new())];
            Response::Schema(SchemaPage::Properties(all))
        }
        Request::Create(_) | Request::Update(_) => Response::Lead(named("1").into()),
        Request::BatchCreate(inputs) => return outcomes(vec![item; inputs.len()]),
        Request::BatchUpdate(inputs) => return outcomes(vec![item; inputs.len()]),
        Request::Upsert { inputs, .. } => return outcomes(vec![item; inputs.len()]),
        Request::ChangeAssociations(changes) => {
            return outcomes(changes.changes.iter().map(|_| Ok(None)).collect());
        }
        Request::Search(_) => Response::SearchPage(Arc::default()),
        other => panic!("no script for {other:?}"),
    })
}

// === impl World ===

impl World {
    fn new() -> Self {
        Self::validating(ValidationSettings::default())
    }

    fn validating(validation: ValidationSettings) -> Self {
        let labels = ["New", "Connected"].map(str::to_owned).to_vec();
        let (stages, is_down) = (Arc::new(Mutex::new(labels)), Arc::new(Mutex::new(false)));
        let (own, down) = (Arc::clone(&stages), Arc::clone(&is_down));
        let upstream = RecordingUpstream::new(move |_, request| {
            if *down.lock() {
                return Err(Error::new(Reason::UpstreamUnavailable, "HubSpot is unavailable"));
            }
            respond(&own.lock(), request)
        });
        Self { stages, is_down, upstream, service: validating_service(1 << 20, validation) }
    }

    fn context(&self) -> CallContext {
        self.upstream.context(None)
    }

    async fn create(&self, labels: &[(&str, &str)]) -> Result<Arc<Lead>, Error> {
        self.service.create(&self.context(), None, labelled(create("Ada"), labels)).await
    }

    /// Reads of the schema so far.
    fn reads(&self) -> Vec<SchemaRead> {
        let requests = self.upstream.requests().into_iter();
        requests
            .filter_map(|own| if let Request::ReadSchema(read) = own { Some(read) } else { None })
            .collect()
    }

    /// Other requests so far.
    fn sent(&self) -> Vec<Request> {
        let requests = self.upstream.requests().into_iter();
        requests.filter(|own| !matches!(own, Request::ReadSchema(_))).collect()
    }

    /// Values of the properties of the last create.
    fn created(&self) -> BTreeMap<String, String> {
        match self.sent().pop() {
            Some(Request::Create(create)) => create.properties,
            other => panic!("no create: {other:?}"),
        }
    }
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    let properties = labels.iter().map(|(name, label)| ((*name).to_owned(), (*label).to_owned()));
    Labels { properties: properties.collect(), ..Labels::default() }
}

fn labelled<T>(input: T, own: &[(&str, &str)]) -> Labelled<T> {
    Labelled { input, labels: labels(own) }
}

fn change(types: &[i32], label: Option<&str>) -> Labelled<AssociationChange> {
    let kind = |type_id: &i32| AssociationType {
        category: AssociationCategory::HubspotDefined,
        type_id: *type_id,
    };
    let types = types.iter().map(kind).collect();
    let input = AssociationChange { lead: id("1"), to_id: id("2"), types };
    let (association, index, to) = (None, 0, "contacts".to_owned());
    let own = |label: &str| AssociationLabel { association, index, to, label: label.to_owned() };
    let associations = label.map(own).into_iter().collect();
    Labelled { input, labels: Labels { associations, ..Labels::default() } }
}

const ALL: [(&str, &str); 4] = [
    ("hs_pipeline", "sales"),
    (STAGE, "connected"),
    (OWNER, "Ada@example.com"),
    (LABEL, "Hot lead"),
];

#[tokio::test(start_paused = true)]
async fn labels_cost_one_read_of_each_part_in_ten_minutes_and_ids_none() {
    let world = World::new();
    let ids = labelled(create("Ada"), &[]);
    world.service.create(&world.context(), None, ids).await.unwrap();
    assert_eq!(world.reads(), []);
    for round in 0..50 {
        world.create(&ALL).await.unwrap();
        let sent = world.created();
        let values = ["hs_pipeline", STAGE, OWNER, LABEL].map(|name| sent[name].as_str());
        assert_eq!(values, ["p", "1", "9", "HOT"], "{round}");
        advance(Duration::from_secs(10)).await;
    }
    assert_eq!(world.reads().len(), 3);
    let ctx = world.context();
    world.service.update(&ctx, None, labelled(update("1"), &ALL)).await.unwrap();
    let input = labelled(traced("a", upsert("k")), &ALL);
    world.service.upsert(&ctx, None, input).await.unwrap();
    let inputs = (0..150).map(|number| labelled(traced(&number.to_string(), create("Ada")), &ALL));
    let results = world.service.batch_create(&ctx, None, inputs.collect()).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(world.reads().len(), 3);
    assert_eq!(ctx.cost.requests(), 4.0, "an update, an upsert and two batches");
    for request in world.sent().into_iter().rev().take(4) {
        let properties = match request {
            Request::Update(update) => vec![update.properties],
            Request::Upsert { inputs, .. } => {
                inputs.into_iter().map(|own| own.input.properties).collect()
            }
            Request::BatchCreate(inputs) => {
                inputs.into_iter().map(|own| own.input.properties).collect()
            }
            other => panic!("{other:?}"),
        };
        assert!(properties.iter().all(|own| own[STAGE] == "1" && own[OWNER] == "9"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_label_reads_the_schema_once_and_callers_share_the_read() {
    let world = World::new();
    world.create(&ALL).await.unwrap();
    advance(Duration::from_secs(60)).await;
    world.stages.lock().push("Signed".to_owned());
    let calls = (0..100).map(|_| world.create(&[(STAGE, "Signed")]));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(world.created()[STAGE], "2");
    assert_eq!(world.reads().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_label_that_stays_unknown_is_an_error_with_path_and_candidates_and_nothing_is_sent() {
    let world = World::new();
    for _ in 0..500 {
        let error = world.create(&[(STAGE, "Conected"), (OWNER, "x@example.com")]).await;
        let error = error.unwrap_err();
        assert_eq!(
            (error.reason(), error.side_effect()),
            (Reason::InvalidRequest, SideEffect::None)
        );
        let fields: Vec<&str> = error.fields().iter().map(|own| own.field.as_str()).collect();
        assert_eq!(fields, [r#"labels["hs_pipeline_stage"]"#, r#"labels["hubspot_owner_id"]"#]);
        let text = &error.fields()[0].description;
        assert!(text.contains("did you mean Connected (1)?; allowed: New, Connected"), "{text}");
        assert!(!error.message().contains("Conected"), "{error}");
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(world.sent(), []);
    assert!(world.reads().len() <= 4, "{:?}", world.reads());
    let error = world.create(&[(STAGE, "Conected")]).await.unwrap_err();
    assert!(error.message().contains("cannot be asked again now"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_a_copy_a_label_fails_with_the_cause_and_with_one_it_survives_an_outage() {
    let world = World::new();
    *world.is_down.lock() = true;
    let error = world.create(&[(STAGE, "New")]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    assert!(error.message().starts_with(r#"labels["hs_pipeline_stage"] needs"#), "{error}");
    *world.is_down.lock() = false;
    advance(Duration::from_secs(60)).await;
    world.create(&[(STAGE, "New")]).await.unwrap();
    advance(Duration::from_secs(3_600)).await;
    *world.is_down.lock() = true;
    let error = world.create(&[(STAGE, "New")]).await.unwrap_err();
    assert!(!error.message().contains("labels"), "only the create fails: {error}");
    assert_eq!(world.created()[STAGE], "0");
}

#[tokio::test(start_paused = true)]
async fn an_input_with_an_unknown_label_fails_alone() {
    let world = World::new();
    let ctx = world.context();
    let inputs = vec![
        labelled(traced("a", create("a")), &[(STAGE, "New")]),
        labelled(traced("b", create("b")), &[(STAGE, "Old")]),
        labelled(traced("c", create("c")), &[]),
    ];
    let results = world.service.batch_create(&ctx, None, inputs).await.unwrap();
    let reasons: Vec<Option<Reason>> =
        results.iter().map(|own| own.as_ref().err().map(Error::reason)).collect();
    assert_eq!(reasons, [None, Some(Reason::InvalidRequest), None]);
    let [Request::BatchCreate(sent)] = &*world.sent() else { panic!("one batch") };
    assert_eq!(sent.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_has_the_first_result_after_its_label_is_renamed() {
    let world = World::new();
    let ctx = world.context();
    let input = || labelled(create("Ada"), &[(STAGE, "New")]);
    world.service.create(&ctx, request_id("r"), input()).await.unwrap();
    *world.stages.lock() = vec!["Fresh".to_owned()];
    advance(Duration::from_secs(60)).await;
    world.service.create(&ctx, request_id("r"), input()).await.unwrap();
    assert_eq!(world.sent().len(), 1);
    let other = labelled(create("Ada"), &[(STAGE, "Fresh")]);
    let error = world.service.create(&ctx, request_id("r"), other).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RequestIdReused);
}

#[tokio::test(start_paused = true)]
async fn labels_are_resolved_before_a_write_is_validated() {
    let mode = crate::leads::ValidationMode::Enforce;
    let world = World::validating(ValidationSettings { others: mode, ..Default::default() });
    let ctx = world.context();
    let validate = async |labels: &[(&str, &str)]| {
        let write = Validated::Create(labelled(create("Ada"), labels));
        world.service.validate_one(&ctx, write).await
    };
    let fields = |result: Result<(), Error>| -> Vec<String> {
        let error = result.unwrap_err();
        error.fields().iter().map(|own| own.field.clone()).collect()
    };
    // The double has no `hs_lead_name`.
    assert_eq!(fields(validate(&[(LABEL, "hot LEAD")]).await), [r#"properties["hs_lead_name"]"#]);
    assert_eq!(fields(validate(&[(LABEL, "cold")]).await), [r#"labels["hs_lead_label"]"#]);
    assert_eq!(world.sent(), []);
}

#[tokio::test(start_paused = true)]
async fn association_types_are_named_by_label_and_an_unknown_label_removes_nothing() {
    let world = World::new();
    let ctx = world.context();
    let send = |action, own: Labelled<AssociationChange>| {
        world.service.change_association(&ctx, None, action, "contacts".to_owned(), own)
    };
    let (associate, dissociate) = (AssociationAction::Associate, AssociationAction::Dissociate);
    send(associate, change(&[608], Some("decision maker"))).await.unwrap();
    let error = send(dissociate, change(&[], Some("Seller"))).await.unwrap_err();
    assert_eq!(error.fields()[0].field, "type_labels[0]");
    let all = vec![change(&[], Some("Seller")), change(&[], Some("Decision maker"))];
    let to = "contacts".to_owned();
    let results = world.service.change_associations(&ctx, None, dissociate, to, all).await.unwrap();
    assert!(results[0].is_err() && results[1].is_ok(), "{results:?}");
    let types: Vec<Vec<i32>> = world
        .sent()
        .into_iter()
        .map(|request| match request {
            Request::ChangeAssociations(own) => {
                own.changes[0].types.iter().map(|kind| kind.type_id).collect()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(types, [vec![608, 21], vec![21]]);
    assert_eq!(world.reads().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn filters_by_label_are_sent_with_ids() {
    let world = World::new();
    let ctx = world.context();
    let filter = |name: &str, operator, value: Option<&str>, values: &[&str]| Filter {
        property_name: name.to_owned(),
        operator,
        value: value.map(str::to_owned),
        high_value: None,
        values: values.iter().map(|own| (*own).to_owned()).collect(),
    };
    let filters = vec![
        filter(STAGE, FilterOperator::In, None, &["connected", "New"]),
        filter("hs_pipeline", FilterOperator::Eq, Some("Sales"), &[]),
        filter(LABEL, FilterOperator::Eq, Some("HOT"), &[]),
    ];
    let input = SearchLeads {
        query: String::new(),
        filter_groups: vec![FilterGroup { filters }],
        sort: None,
        properties: Vec::new(),
        limit: 10,
        after: None,
    };
    let at = |filter| FilterPosition { group: 0, filter };
    let input = PagedSearch::new(input, SearchPosition::Offset(None)).unwrap();
    let search = |filters: Vec<FilterPosition>| Labelled {
        input: input.clone(),
        labels: Labels { filters, ..Labels::default() },
    };
    world.service.search_page(&ctx, search(vec![at(0), at(1)]), Vec::new()).await.unwrap();
    let Some(Request::Search(sent)) = world.sent().pop() else { panic!("a search") };
    let sent = &sent.filter_groups[0].filters;
    assert_eq!(sent[0].values, ["1", "0"]);
    assert_eq!(sent[1].value.as_deref(), Some("p"));
    assert_eq!(sent[2].value.as_deref(), Some("HOT"));
    let error = world.service.search_page(&ctx, search(vec![at(2)]), Vec::new()).await.unwrap_err();
    assert_eq!(error.fields()[0].field, "filter_groups[0].filters[2].value");
    assert_eq!(world.sent().len(), 1);
}

/// HubSpot that does not respond.
#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl Upstream for Silent {
    async fn call(&self, _: &CallContext, _: Request) -> Result<Response, Error> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_three_seconds_for_labels_and_old_ones_serve_while_hubspot_is_down() {
    let lead = Lead {
        properties: BTreeMap::from([
            (STAGE.to_owned(), "1".to_owned()),
            (OWNER.to_owned(), "9".to_owned()),
        ]),
        ..named("1")
    };
    let world = World::new();
    let base = world.context();
    let silent = Portal {
        name: PortalName::parse("silent").unwrap(),
        upstream: Arc::new(Silent),
        settings: PortalSettings::default(),
    };
    let ctx = CallContext { portal: Arc::new(silent), ..base };
    let start = tokio::time::Instant::now();
    let labels = world.service.labels(&ctx, std::iter::once(&lead)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    assert_eq!(labels.error().unwrap().reason(), Reason::DeadlineExceeded);
    assert!(labels.add_to(lead.clone().into()).labels.is_empty());

    let names = |own: Arc<Lead>| own.labels.values().cloned().collect::<Vec<_>>();
    let labels = world.service.labels(&world.context(), std::iter::once(&lead)).await;
    assert_eq!(names(labels.add_to(lead.clone().into())), ["Connected", "ada@example.com"]);
    *world.is_down.lock() = true;
    advance(Duration::from_secs(3_600)).await;
    let labels = world.service.labels(&world.context(), std::iter::once(&lead)).await;
    assert!(labels.error().is_none());
    assert_eq!(names(labels.add_to(lead.clone().into())), ["Connected", "ada@example.com"]);
}
