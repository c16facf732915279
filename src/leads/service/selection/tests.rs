//! Reads that select no properties, or all.

use std::sync::Arc;

use leadsd_base::time::SystemClock;

use super::*;
use crate::leads::{
    BatchGet, BatchItem, BatchRead, ChunkOutcomes, GetLead, LeadId, ListLeads, Page,
    PortalSettings, ResponseLimit, SearchLeads, SearchPage, Selection, Settings,
    schema::{PropertyDefinition, SchemaPage, SchemaRead},
    testing::RecordingUpstream,
};

const DEFAULT: [&str; 2] = ["hs_lead_name", "hs_pipeline_stage"];

/// Properties of the portal. Only `hs_lead_name` has a value.
const ALL: [&str; 3] = ["hs_lead_name", "region", "size"];

fn service() -> Service {
    Service::new(&Settings {
        batch_concurrency: 1,
        response: ResponseLimit { max_bytes: 1 << 20, lead_size: |_| 100 },
        validation: crate::leads::ValidationSettings::default(),
        clock: Arc::new(SystemClock),
    })
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn lead(selected: &[String]) -> Lead {
    let unset = selected.iter().filter(|name| ALL.contains(&name.as_str()));
    Lead {
        id: "1".to_owned(),
        properties: [("hs_lead_name".to_owned(), "Ada".to_owned())].into(),
        unset_properties: unset.filter(|name| *name != "hs_lead_name").cloned().collect(),
        ..Lead::default()
    }
}

/// Responds as a portal with the properties [`ALL`].
#[expect(clippy::wildcard_enum_match_arm, reason = "these reads send five of the requests")]
fn respond(request: &Request) -> Result<Response, Error> {
    Ok(match request {
        Request::ReadSchema(SchemaRead::Properties) => {
            let property =
                |&name: &&str| PropertyDefinition { name: name.to_owned(), ..Default::default() };
            Response::Schema(SchemaPage::Properties(ALL.iter().map(property).collect()))
        }
        Request::Get(get) => Response::Lead(lead(&get.selection.properties).into()),
        Request::List(list) => {
            let leads = vec![lead(&list.selection.properties)];
            Response::Page(Page { leads, after: None }.into())
        }
        Request::Search(search) => {
            let leads = vec![lead(&search.properties)];
            Response::SearchPage(SearchPage { leads, after: None, total: 1 }.into())
        }
        Request::BatchRead(read) => {
            let item = BatchItem { lead: lead(&read.properties), trace_id: None, created: None };
            Response::Outcomes(ChunkOutcomes { outcomes: vec![Ok(Some(item))], evaluated: true })
        }
        other => panic!("unexpected request {other:?}"),
    })
}

/// The context of a call in a portal with the default properties [`DEFAULT`].
fn context(upstream: &Arc<RecordingUpstream>) -> CallContext {
    let ctx = upstream.context(None);
    let Portal { name, upstream, .. } = &*ctx.portal;
    let settings =
        PortalSettings { default_properties: names(&DEFAULT).into(), ..PortalSettings::default() };
    let portal = Portal { name: name.clone(), upstream: Arc::clone(upstream), settings };
    CallContext { portal: Arc::new(portal), ..ctx }
}

/// The leads of one read by each of the four methods.
async fn read_all_ways(ctx: &CallContext, properties: &[&str]) -> Vec<Result<Lead, Error>> {
    let service = service();
    let selection = Selection { properties: names(properties), ..Selection::default() };
    let id = LeadId::parse("1").expect("an id");
    let get = GetLead {
        id: id.clone(),
        id_property: None,
        selection: selection.clone(),
        archived: false,
    };
    let list = ListLeads { limit: 1, after: None, selection, archived: false };
    let search = SearchLeads {
        query: String::new(),
        filter_groups: Vec::new(),
        sort: None,
        properties: names(properties),
        limit: 1,
        after: None,
    };
    let batch = BatchGet {
        ids: vec![id],
        id_property: None,
        properties: names(properties),
        properties_with_history: Vec::new(),
        associations: Vec::new(),
        archived: false,
    };
    vec![
        service.get(ctx, get).await.map(Arc::unwrap_or_clone),
        service.list(ctx, list).await.map(|page| page.leads[0].clone()),
        service.search(ctx, search).await.map(|page| page.leads[0].clone()),
        service.batch_get(ctx, batch).await.and_then(|leads| Ok((*leads[0].clone()?).clone())),
    ]
}

/// The properties of the requests for leads.
#[expect(clippy::wildcard_enum_match_arm, reason = "four of the requests select properties")]
fn requested(upstream: &RecordingUpstream) -> Vec<Vec<String>> {
    let properties = |request| match request {
        Request::Get(GetLead { selection, .. }) | Request::List(ListLeads { selection, .. }) => {
            Some(selection.properties)
        }
        Request::Search(SearchLeads { properties, .. })
        | Request::BatchRead(BatchRead { properties, .. }) => Some(properties),
        _ => None,
    };
    upstream.requests().into_iter().filter_map(properties).collect()
}

#[tokio::test(start_paused = true)]
async fn a_read_that_selects_none_asks_for_the_default_properties_of_the_portal() {
    let upstream = RecordingUpstream::new(|_, request| respond(request));
    for lead in read_all_ways(&context(&upstream), &[]).await {
        lead.expect("a lead");
    }
    assert_eq!(requested(&upstream), vec![names(&DEFAULT); 4]);
    assert_eq!(upstream.requests().len(), 4, "no read of the schema");
}

#[tokio::test(start_paused = true)]
async fn a_portal_without_default_properties_leaves_them_to_hubspot() {
    let upstream = RecordingUpstream::new(|_, request| respond(request));
    for lead in read_all_ways(&upstream.context(None), &[]).await {
        lead.expect("a lead");
    }
    assert_eq!(requested(&upstream), vec![Vec::<String>::new(); 4]);
}

#[tokio::test(start_paused = true)]
async fn a_star_selects_every_property_and_returns_those_with_a_value() {
    let upstream = RecordingUpstream::new(|_, request| respond(request));
    for lead in read_all_ways(&context(&upstream), &["*"]).await {
        let lead = lead.expect("a lead");
        assert_eq!(lead.properties.keys().collect::<Vec<_>>(), ["hs_lead_name"]);
        assert_eq!(lead.unset_properties, Vec::<String>::new());
    }
    assert_eq!(requested(&upstream), vec![names(&ALL); 4]);
}

#[tokio::test(start_paused = true)]
async fn names_beside_a_star_are_asked_for_once_and_reported_if_unset() {
    let upstream = RecordingUpstream::new(|_, request| respond(request));
    for lead in read_all_ways(&context(&upstream), &["size", "*", "of_another_portal"]).await {
        assert_eq!(lead.expect("a lead").unset_properties, ["size"]);
    }
    let expected = names(&["hs_lead_name", "region", "of_another_portal", "size"]);
    assert_eq!(requested(&upstream), vec![expected; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_star_without_a_known_schema_is_an_error_that_says_what_to_do() {
    let upstream = RecordingUpstream::new(|_, request| {
        if matches!(request, Request::ReadSchema(_)) {
            return Err(Error::new(Reason::MissingScopes, "the token lacks the scope x"));
        }
        respond(request)
    });
    for lead in read_all_ways(&context(&upstream), &["*"]).await {
        let error = lead.expect_err("no names");
        assert_eq!(error.reason(), Reason::MissingScopes);
        assert_eq!(
            error.message(),
            "properties: `*` needs the names of the portal's lead properties, which are not known: the \
             token lacks the scope x; select properties by name instead"
        );
    }
    assert_eq!(requested(&upstream), Vec::<Vec<String>>::new());
}

#[tokio::test(start_paused = true)]
async fn a_star_fails_if_the_copy_of_the_schema_has_gaps() {
    let upstream = RecordingUpstream::new(|_, request| {
        if matches!(request, Request::ReadSchema(_)) {
            let property = |number: u32| PropertyDefinition {
                name: format!("property_{number}"),
                description: "x".repeat(1 << 20),
                ..PropertyDefinition::default()
            };
            return Ok(Response::Schema(SchemaPage::Properties((0..8).map(property).collect())));
        }
        respond(request)
    });
    for lead in read_all_ways(&context(&upstream), &["*"]).await {
        let error = lead.expect_err("incomplete");
        assert_eq!(error.reason(), Reason::ResponseTooLarge);
        assert!(error.message().ends_with("select properties by name instead"), "{error:?}");
    }
}
