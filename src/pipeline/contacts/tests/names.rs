//! Counted HubSpot calls of creates by labels and by e-mail address.

use leadsd_base::time::SystemClock;

use super::*;
use crate::leads::{
    Labelled, Labels, Portal, ResponseLimit, Service, Settings, Upstream, ValidationSettings,
    schema::{Owner, Pipeline, PipelineStage, SchemaPage, SchemaRead},
};

/// The layer as the upstream of a portal.
#[derive(Debug)]
struct Port(World);

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl Upstream for Port {
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error> {
        self.0.layer.call(ctx, Arc::new(request), Dispatch::new(ctx)).await
    }
}

/// The parts of the schema that the labels need.
fn schema(sent: &Recorded) -> Option<Result<Response, Error>> {
    let Request::ReadSchema(read) = &*sent.request else { return None };
    let page = match read {
        SchemaRead::Pipelines => {
            let stage = PipelineStage {
                id: "s-1".to_owned(),
                label: "Connected".to_owned(),
                ..PipelineStage::default()
            };
            SchemaPage::Pipelines(vec![Pipeline {
                id: "p-1".to_owned(),
                label: "Sales".to_owned(),
                stages: vec![stage],
                ..Pipeline::default()
            }])
        }
        SchemaRead::Owners { .. } => {
            let (id, email) = ("9".to_owned(), "ada@example.com".to_owned());
            let owners = vec![Owner { id, email, is_active: true, ..Owner::default() }];
            SchemaPage::Owners { owners, after: None }
        }
        SchemaRead::Properties
        | SchemaRead::ValidationRules
        | SchemaRead::AssociationTypes { .. } => panic!("not needed: {read:?}"),
    };
    Some(Ok(Response::Schema(page)))
}

#[tokio::test(start_paused = true)]
async fn five_hundred_creators_by_names_take_a_fortieth_of_a_call_each_under_backlog() {
    let world = World::over(Hubspot::default(), (0..500).map(address), |_, sent| schema(sent));
    let port = Arc::new(Port(world));
    let service = Service::new(&Settings {
        batch_concurrency: 2,
        response: ResponseLimit { max_bytes: 1 << 20, lead_size: |lead| lead.id.len() },
        validation: ValidationSettings::default(),
        clock: Arc::new(SystemClock),
    });
    let write = |number: usize| {
        let base = context_of(&format!("caller-{}", number % 50), Priority::Interactive, HOUR);
        let portal = Portal {
            name: base.portal.name.clone(),
            upstream: Arc::<Port>::clone(&port),
            settings: base.portal.settings.clone(),
        };
        let ctx = CallContext { portal: Arc::new(portal), ..base };
        let names = [("hs_pipeline_stage", "connected"), ("hubspot_owner_id", "Ada@example.com")];
        let names = names.map(|(name, label)| (name.to_owned(), label.to_owned()));
        let labels = Labels { properties: names.into(), ..Labels::default() };
        let input = create(&number.to_string(), Some(&address(number)));
        let service = &service;
        async move {
            service.create(&ctx, None, Labelled { input, labels }).await.unwrap();
            ctx.cost.requests()
        }
    };
    let is_schema = |sent: &Recorded| matches!(&*sent.request, Request::ReadSchema(_));
    let count = || {
        let sent = port.0.upstream.requests();
        let schema = sent.iter().filter(|own| is_schema(own)).count();
        (schema, sent.len() - schema)
    };
    // The schema is read once, whether the callers come before or after that.
    for round in 1..=2 {
        // Until then, the permits of the first round count.
        tokio::time::sleep(MINUTE).await;
        port.0.use_permit();
        let before = count();
        let costs = join_all((0..500).map(write)).await;
        let (schema, others) = count();
        assert_eq!(schema, 2, "round {round}");
        let own = others - before.1;
        assert!(own <= 12, "round {round}: {own} calls for 500 leads");
        let total: f64 = costs.iter().sum();
        let sent = f64::from(u32::try_from(schema - before.0 + own).unwrap());
        assert!((total - sent).abs() < 0.01, "every call is paid for once: {total} of {sent}");
        let leads = port.0.hubspot.leads.lock();
        for number in 0..500 {
            assert_eq!(leads[&number.to_string()], (900_001 + number).to_string());
        }
    }
    let creates = port.0.upstream.requests().into_iter().filter_map(|own| match &*own.request {
        Request::BatchCreate(inputs) => Some(inputs.clone()),
        _ => None,
    });
    for input in creates.flatten() {
        let values = &input.input.properties;
        assert_eq!(
            (values["hs_pipeline_stage"].as_str(), values["hubspot_owner_id"].as_str()),
            ("s-1", "9")
        );
    }
}
