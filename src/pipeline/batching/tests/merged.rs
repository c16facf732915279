//! Leads that were merged into others, among the leads of a batch. HubSpot returns the surviving lead
//! under its own id, once for all of its ids.

use super::*;

/// The lead that an id is of: `1xx` was merged into `9xx`, or all of these into `900`.
fn survivor(id: &str, into_one: bool) -> String {
    match id.strip_prefix('1') {
        Some(_) if into_one => "900".to_owned(),
        Some(rest) => format!("9{rest}"),
        None => id.to_owned(),
    }
}

/// HubSpot without trace ids.
fn merging(into_one: bool) -> Fixture {
    let batch = move |ids: &mut dyn Iterator<Item = &LeadId>| {
        let mut ids: Vec<String> = ids.map(|id| survivor(id.as_str(), into_one)).collect();
        ids.sort();
        ids.dedup();
        let item = |id: &String| BatchItem { lead: lead(id), trace_id: None, created: None };
        let results = ids.iter().rev().map(item).collect();
        Ok(Response::Batch(BatchResponse { results, errors: Vec::new() }))
    };
    Fixture::new(move |sent| {
        Scripted::now(match &*sent.request {
            Request::Get(get) => {
                Ok(Response::Lead(lead(&survivor(get.id.as_str(), into_one)).into()))
            }
            Request::Update(update) => {
                Ok(Response::Lead(lead(&survivor(update.id.as_str(), into_one)).into()))
            }
            Request::BatchRead(read) => batch(&mut read.ids.iter()),
            Request::BatchUpdate(inputs) => batch(&mut inputs.iter().map(|it| &it.input.id)),
            other => panic!("no test sends {other:?}"),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn each_caller_of_a_merged_id_gets_its_lead_whatever_else_is_in_the_batch() {
    let many: Vec<String> = (0..50).map(|number| format!("1{number:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["900", "7", "8"]).collect();
    for ids in [
        &["101", "7", "8"][..],
        &["101", "102", "7"],
        &["101", "901", "7"],
        &["101", "101", "901"],
        &["101", "102", "103", "104", "105", "106", "900"],
        &many,
    ] {
        for into_one in [false, true] {
            for make in [|id: &str| get(id), |id: &str| update(id, "Ada")] {
                let fixture = merging(into_one);
                let found = fixture.queued(ids.iter().map(|id| make(id))).await;
                let found: Vec<_> =
                    found.into_iter().map(|lead| lead_in(lead).unwrap().id).collect();
                let expected: Vec<_> = ids.iter().map(|id| survivor(id, into_one)).collect();
                assert_eq!(found, expected, "{ids:?} {into_one}");
                let sent = fixture.upstream.count();
                assert!(sent <= ids.len() + 4, "{sent} requests for {ids:?}");
            }
        }
    }
}
