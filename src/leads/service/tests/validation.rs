//! Writes that are validated before they are sent, over a HubSpot whose schema changes.

use parking_lot::Mutex;
use tokio::{task::yield_now, time::advance};

use super::*;
use crate::leads::{
    AssociationCategory, AssociationChange, AssociationType, Portal, PortalName, PortalSettings,
    SideEffect, ValidationMode, ValidationOutcome,
    error::FieldFault,
    schema::{
        AssociationTypeDefinition, PropertyDefinition, PropertyOption, SchemaPage, SchemaRead,
    },
};

const LABEL: &str = "hs_lead_label";

/// HubSpot with one enumeration, whose options change.
#[derive(Clone)]
struct Hubspot {
    options: Arc<Mutex<Vec<String>>>,
    is_down: Arc<Mutex<bool>>,
    upstream: Arc<RecordingUpstream>,
}

struct World {
    hubspot: Hubspot,
    service: Service,
}

// === impl Hubspot ===

impl Hubspot {
    fn new(options: &[&str]) -> Self {
        let options: Arc<Mutex<Vec<String>>> =
            Arc::new(Mutex::new(options.iter().map(|own| (*own).to_owned()).collect()));
        let is_down = Arc::new(Mutex::new(false));
        let (own, down) = (Arc::clone(&options), Arc::clone(&is_down));
        let upstream = RecordingUpstream::new(move |_, request| {
            if *down.lock() {
                return Err(Error::new(Reason::UpstreamUnavailable, "HubSpot is unavailable"));
            }
            respond(&own.lock(), request)
        });
        Self { options, is_down, upstream }
    }

    fn add(&self, option: &str) {
        self.options.lock().push(option.to_owned());
    }

    /// Number of writes and of reads of the schema so far.
    fn counts(&self) -> (usize, usize) {
        let requests = self.upstream.requests();
        let reads = requests.iter().filter(|own| matches!(own, Request::ReadSchema(_))).count();
        (requests.len() - reads, reads)
    }
}

fn respond(options: &[String], request: &Request) -> Result<Response, Error> {
    let write = |properties: &BTreeMap<String, String>| match properties.get(LABEL) {
        Some(value) if !options.contains(value) => {
            let text = "was not one of the allowed options";
            let fault = FieldFault::for_property(LABEL, text);
            Err(Error::new(Reason::ValidationFailed, text).with_fields(vec![fault]))
        }
        Some(_) | None => Ok(named("1")),
    };
    let item = |lead: Lead| Some(BatchItem { lead, trace_id: None, created: None });
    match request {
        Request::ReadSchema(SchemaRead::AssociationTypes { .. }) => {
            let association_type =
                AssociationType { category: AssociationCategory::UserDefined, type_id: 21 };
            let label = String::new();
            let own = AssociationTypeDefinition { association_type, label, inverse_type_id: None };
            Ok(Response::Schema(SchemaPage::AssociationTypes(vec![own])))
        }
        Request::ReadSchema(_) => {
            let option = |value: &String| PropertyOption {
                value: value.clone(),
                ..PropertyOption::default()
            };
            let label = PropertyDefinition {
                name: LABEL.to_owned(),
                type_name: "enumeration".to_owned(),
                options: options.iter().map(option).collect(),
                ..PropertyDefinition::default()
            };
            let text = |name: &str| PropertyDefinition {
                name: name.to_owned(),
                type_name: "string".to_owned(),
                has_unique_values: name == "email",
                ..PropertyDefinition::default()
            };
            let all = vec![label, text("hs_lead_name"), text("email")];
            Ok(Response::Schema(SchemaPage::Properties(all)))
        }
        Request::Create(request) => {
            write(&request.properties).map(|lead| Response::Lead(lead.into()))
        }
        Request::Update(request) => {
            write(&request.properties).map(|lead| Response::Lead(lead.into()))
        }
        Request::BatchCreate(inputs) => {
            outcomes(inputs.iter().map(|own| write(&own.input.properties).map(item)).collect())
        }
        Request::BatchUpdate(inputs) => {
            outcomes(inputs.iter().map(|own| write(&own.input.properties).map(item)).collect())
        }
        Request::Upsert { inputs, .. } => {
            let upserted = |lead| Some(BatchItem { lead, trace_id: None, created: Some(true) });
            outcomes(inputs.iter().map(|own| write(&own.input.properties).map(upserted)).collect())
        }
        Request::ChangeAssociations(changes) => {
            outcomes(changes.changes.iter().map(|_| Ok(None)).collect())
        }
        other => panic!("no script for {other:?}"),
    }
}

// === impl World ===

impl World {
    fn new(mode: ValidationMode) -> Self {
        let settings = ValidationSettings { others: mode, ..ValidationSettings::default() };
        let hubspot = Hubspot::new(&["HOT", "WARM"]);
        Self { hubspot, service: validating_service(1 << 20, settings) }
    }

    /// A portal whose schema was read.
    async fn warm(mode: ValidationMode) -> Self {
        let world = Self::new(mode);
        world.read().await;
        world
    }

    fn context(&self) -> CallContext {
        self.hubspot.upstream.context(None)
    }

    async fn read(&self) {
        let ctx = self.context();
        self.service.schemas().properties(&ctx, Duration::from_secs(600)).await.unwrap();
    }

    async fn create(&self, label: &str) -> Result<Arc<Lead>, Error> {
        self.service.create(&self.context(), None, labelled(label)).await
    }

    /// Number of writes by outcome: valid, warned, refused, unconfirmed, unchecked.
    fn outcomes(&self) -> [u64; 5] {
        self.service.validation().outcomes.map(|(_, number)| number)
    }
}

fn labelled(label: &str) -> CreateLead {
    let mut create = create("Ada");
    create.properties.insert(LABEL.to_owned(), label.to_owned());
    create
}

/// Lets tasks in the background run.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest, "{error}");
    assert_eq!(error.side_effect(), SideEffect::None);
    assert_eq!(error.fields()[0].property(), Some(LABEL));
    assert!(!error.message().contains("BOILING"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_checked_and_no_schema_is_read_by_default() {
    let world = World::new(ValidationMode::default());
    assert_eq!(world.create("BOILING").await.unwrap_err().reason(), Reason::ValidationFailed);
    settle().await;
    assert_eq!(world.hubspot.counts(), (1, 0));
    assert_eq!(world.outcomes(), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_write_of_each_kind_is_refused_without_a_call() {
    let world = World::warm(ValidationMode::Enforce).await;
    advance(Duration::from_secs(1)).await;
    // The first refusal reads the copy again.
    assert_refused(world.create("BOILING").await);
    assert_eq!(world.hubspot.counts(), (0, 2));
    let ctx = world.context();
    let mut changed = update("1");
    changed.properties.insert(LABEL.to_owned(), "BOILING".to_owned());
    assert_refused(world.service.update(&ctx, None, changed.clone()).await);
    let mut upserted = upsert("a");
    upserted.properties.clone_from(&changed.properties);
    assert_refused(world.service.upsert(&ctx, None, traced("a", upserted.clone())).await);
    let mixed = vec![traced("a", labelled("BOILING")), traced("b", labelled("HOT"))];
    let mut results = world.service.batch_create(&ctx, None, mixed).await.unwrap();
    assert!(results.pop().unwrap().is_ok());
    assert_refused(results.pop().unwrap());
    assert_eq!(world.hubspot.counts(), (1, 2), "the valid input was sent");
    let all = vec![traced("a", changed)];
    let results = world.service.batch_update(&ctx, None, all).await.unwrap();
    results.into_iter().for_each(assert_refused);
    let all = vec![traced("a", upserted)];
    let results = world.service.batch_upsert(&ctx, None, all).await.unwrap();
    results.into_iter().for_each(|result| assert_refused(result.map(drop)));
    assert_eq!(world.hubspot.counts(), (1, 2));
    assert_eq!(world.outcomes(), [1, 0, 6, 0, 0]);
    assert!((ctx.cost.requests() - 1.0).abs() < 1e-9, "{}", ctx.cost.requests());
}

#[tokio::test(start_paused = true)]
async fn a_missing_or_old_copy_refuses_nothing_and_is_read_in_the_background() {
    let world = World::new(ValidationMode::Enforce);
    assert_eq!(world.create("BOILING").await.unwrap_err().reason(), Reason::ValidationFailed);
    settle().await;
    assert_eq!(world.hubspot.counts(), (1, 1));
    advance(Duration::from_secs(601)).await;
    world.hubspot.add("BOILING");
    world.create("BOILING").await.unwrap();
    settle().await;
    assert_eq!(world.hubspot.counts(), (2, 2));
    assert_eq!(world.outcomes(), [0, 0, 0, 0, 2]);
    world.create("BOILING").await.unwrap();
    assert_eq!(world.outcomes(), [1, 0, 0, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_changes_under_way_gets_the_right_answer_each_time() {
    let world = World::warm(ValidationMode::Enforce).await;
    for change in 0..6 {
        advance(Duration::from_millis(10)).await;
        let option = format!("NEW-{change}");
        world.hubspot.add(&option);
        // One read is left. After it, HubSpot decides.
        world.create(&option).await.unwrap();
    }
    let (writes, reads) = world.hubspot.counts();
    assert_eq!(writes, 6);
    assert!(reads <= 4, "{reads}");
    assert_eq!(world.outcomes()[ValidationOutcome::Refused as usize], 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_in_a_loop_costs_one_call_a_minute_at_most() {
    let world = World::warm(ValidationMode::Enforce).await;
    for _ in 0..600 {
        advance(Duration::from_secs(1)).await;
        let error = world.create("BOILING").await.unwrap_err();
        assert_eq!(error.fields()[0].property(), Some(LABEL));
    }
    let (writes, reads) = world.hubspot.counts();
    assert!(writes <= 10, "{writes}");
    assert!(reads <= 4, "{reads}");
    // An option of another name is not affected.
    world.hubspot.add("COLD");
    world.create("COLD").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_hubspot_neither_refuses_nor_delays_writes_for_long() {
    let world = World::warm(ValidationMode::Enforce).await;
    advance(Duration::from_secs(1)).await;
    *world.hubspot.is_down.lock() = true;
    for _ in 0..20 {
        let error = world.create("BOILING").await.unwrap_err();
        assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    }
    assert_eq!(world.outcomes(), [0, 0, 0, 20, 0]);
}

#[tokio::test(start_paused = true)]
async fn warnings_are_counted_and_the_write_is_sent() {
    let world = World::warm(ValidationMode::Warn).await;
    assert_eq!(world.create("BOILING").await.unwrap_err().reason(), Reason::ValidationFailed);
    world.create("HOT").await.unwrap();
    assert_eq!(world.outcomes(), [1, 1, 0, 0, 0]);
    let violations = world.service.validation().violations;
    let options = violations.iter().find(|(kind, _)| kind.as_str() == "option").unwrap();
    assert_eq!(options.1, 1);
    assert_eq!(world.hubspot.counts(), (2, 1), "no read for a warning");
}

#[tokio::test(start_paused = true)]
async fn a_mode_is_that_of_the_portal() {
    let name = PortalName::parse("default").unwrap();
    let settings = ValidationSettings {
        portals: [(name, ValidationMode::Off)].into(),
        others: ValidationMode::Enforce,
        ..ValidationSettings::default()
    };
    let hubspot = Hubspot::new(&["HOT"]);
    let world = World { hubspot, service: validating_service(1 << 20, settings) };
    let _ = world.create("BOILING").await;
    assert_eq!(world.outcomes(), [0; 5]);
    let mut other = world.context();
    other.portal = Arc::new(Portal {
        name: PortalName::parse("other").unwrap(),
        upstream: Arc::clone(&other.portal.upstream),
        settings: PortalSettings::default(),
    });
    let _ = world.service.create(&other, None, labelled("BOILING")).await;
    assert_eq!(world.outcomes(), [0, 0, 0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_a_write_that_may_exist_is_not_refused() {
    let world = World::warm(ValidationMode::Enforce).await;
    world.create("HOT").await.unwrap();
    let inputs = || vec![traced("a", labelled("HOT")), traced("b", labelled("WARM"))];
    let ctx = world.context();
    let first = world.service.batch_create(&ctx, request_id("r"), inputs()).await.unwrap();
    assert!(first.iter().all(Result::is_ok));
    // The option is removed. The repeat returns the first results.
    world.hubspot.options.lock().retain(|own| own != "HOT");
    let again = world.service.batch_create(&ctx, request_id("r"), inputs()).await.unwrap();
    assert!(again.iter().all(Result::is_ok));
    assert_eq!(world.hubspot.counts().0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_validation_sends_nothing_in_every_mode_and_reads_a_missing_schema() {
    for mode in [ValidationMode::Off, ValidationMode::Warn, ValidationMode::Enforce] {
        let world = World::new(mode);
        let ctx = world.context();
        let valid = Validated::Create(labelled("HOT").into());
        assert_eq!(world.service.validate_one(&ctx, valid).await, Ok(()));
        advance(Duration::from_millis(1)).await;
        let inputs = [traced("a", labelled("BOILING")), traced("b", labelled("HOT"))];
        let inputs = Validated::Creates(inputs.map(Into::into).to_vec());
        let results = world.service.validate(&ctx, inputs).await.unwrap();
        let [invalid, valid] = <[_; 2]>::try_from(results).unwrap();
        assert_refused(invalid);
        assert_eq!(valid, Ok(()));
        assert_eq!(world.hubspot.counts(), (0, 2));
        assert_eq!(world.outcomes(), [0; 5], "only writes that may be sent are counted");
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_validations_cost_four_calls_in_ten_minutes() {
    let world = World::new(ValidationMode::Off);
    for number in 0..500 {
        let ctx = world.context();
        let invalid = labelled(&format!("BOILING-{number}"));
        let invalid = Validated::Create(invalid.into());
        assert_refused(world.service.validate_one(&ctx, invalid).await);
        advance(Duration::from_secs(1)).await;
    }
    let (writes, reads) = world.hubspot.counts();
    assert_eq!(writes, 0);
    assert!(reads <= 4, "{reads}");
}

#[tokio::test(start_paused = true)]
async fn a_validation_without_any_schema_fails_with_the_cause() {
    let world = World::new(ValidationMode::Off);
    *world.hubspot.is_down.lock() = true;
    let ctx = world.context();
    let own = Validated::Create(labelled("HOT").into());
    let error = world.service.validate_one(&ctx, own).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
}

#[tokio::test(start_paused = true)]
async fn association_types_are_checked_with_the_labels_of_the_portal() {
    let world = World::new(ValidationMode::Enforce);
    let change = |category, type_id| AssociationChange {
        lead: id("1"),
        to_id: id("2"),
        types: vec![AssociationType { category, type_id }],
    };
    let (user, defined) = (AssociationCategory::UserDefined, AssociationCategory::HubspotDefined);
    let ctx = world.context();
    let validated = async |change: AssociationChange| {
        let changes = vec![change.into()];
        let writes = Validated::Associations { to: "contacts".to_owned(), changes };
        world.service.validate_one(&ctx, writes).await
    };
    assert_eq!(validated(change(user, 21)).await, Ok(()));
    advance(Duration::from_millis(1)).await;
    let error = validated(change(user, 22)).await.unwrap_err();
    assert_eq!(error.fields()[0].field, "types[0].type_id");
    // What HubSpot defines for every portal is refused without a copy.
    let send = |to: &str, change| {
        let action = AssociationAction::Associate;
        world.service.change_association(&ctx, None, action, to.to_owned(), change)
    };
    let error = send("companies", change(defined, 578)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
    assert_eq!(world.hubspot.counts().0, 0);
}
