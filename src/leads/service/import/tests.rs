//! Imports in simulated time, over a portal in memory.

mod portal;

use std::collections::{BTreeMap, BTreeSet};

use leadsd_testkit::LogCapture;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::advance;
use tracing_subscriber::EnvFilter;

use self::portal::{Fault, TestPortal};
use super::*;
use crate::leads::{
    LeadId, MemoryAccount, ResponseLimit,
    import::{RowWrite, StopRule},
    lead::Lead,
    service::Settings,
    testing::TestAccount,
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};

fn service() -> Service {
    let lead_size = |lead: &Lead| lead.properties.values().map(String::len).sum::<usize>() + 100;
    Service::new(&Settings {
        batch_concurrency: 2,
        response: ResponseLimit { max_bytes: 1 << 20, lead_size },
        validation: crate::leads::ValidationSettings::default(),
        clock: Arc::new(leadsd_base::time::SystemClock),
    })
}

fn settings(id: &str) -> ImportSettings {
    ImportSettings { id: RequestId::parse(id).unwrap(), stop: None, validate_only: false }
}

fn properties(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())])
}

/// A row that creates the lead of its key.
fn create(key: &str) -> ImportRow {
    let properties = properties(key);
    let create = CreateLead { properties, associations: Vec::new(), contact: None, trace_id: None };
    row(key, RowWrite::Create(create.into()))
}

fn row(key: &str, write: RowWrite) -> ImportRow {
    ImportRow { key: key.to_owned(), write: Ok(write), bytes: 100 }
}

/// The next result.
async fn next(import: &mut Import) -> ImportResult {
    assert!(import.has_rows());
    import.next().await.expect("memory").expect("a result")
}

/// The results of all rows, by key.
async fn rest(import: &mut Import) -> BTreeMap<String, Result<RowOutcome, Error>> {
    let mut results = BTreeMap::new();
    while import.has_rows() {
        if let Some(ImportResult { key, outcome }) = import.next().await.expect("memory") {
            assert!(results.insert(key, outcome).is_none(), "one result for each row");
        }
    }
    results
}

fn reason(outcome: &Result<RowOutcome, Error>) -> Option<Reason> {
    outcome.as_ref().err().map(Error::reason)
}

#[tokio::test(start_paused = true)]
async fn results_come_as_they_are_known() {
    let portal = TestPortal::new(|key, _| match key {
        "slow" => Fault::Delay(Duration::from_secs(9)),
        "bad" => Fault::Reject,
        _ => Fault::Delay(Duration::from_secs(1)),
    });
    let mut import = service().import(portal.context(), settings("i")).unwrap();
    for key in ["slow", "a", "bad", "b"] {
        import.add(create(key));
    }
    let mut keys = Vec::new();
    while import.has_rows() {
        let result = next(&mut import).await;
        let is_created = matches!(&result.outcome, Ok(RowOutcome::Written { created: Some(true), lead })
            if lead.properties["hs_lead_name"] == result.key);
        assert_eq!(is_created, result.key != "bad", "one bad row costs only itself: {result:?}");
        keys.push(result.key);
    }
    assert_eq!((keys[0].as_str(), keys[3].as_str()), ("bad", "slow"), "{keys:?}");
    let summary = ImportSummary { rows: 4, created: 3, failed: 1, ..ImportSummary::default() };
    assert_eq!((import.summary(), import.cost()), (summary, 4.0));
    assert!(!import.is_halted());
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_write_has_its_outcome() {
    let portal = TestPortal::new(|_, _| Fault::None);
    let mut import = service().import(portal.context(), settings("i")).unwrap();
    let id = |text: &str| LeadId::parse(text).unwrap();
    let update = UpdateLead {
        id: id("7"),
        id_property: None,
        properties: properties("update"),
        trace_id: None,
    };
    let upsert = |value: &str| {
        let input = UpsertLead {
            id: id(value),
            id_property: Some("crm_key".to_owned()),
            properties: properties(value),
            associations: Vec::new(),
            contact: None,
        };
        RowWrite::Upsert(Traced { trace_id: value.to_owned(), input }.into())
    };
    import.add(row("update", RowWrite::Update(update.into())));
    import.add(row("new", upsert("new")));
    import.add(row("known", upsert("known")));
    import.add(row("archive", RowWrite::Archive(id("7"))));
    let invalid = Error::invalid(vec![FieldFault::new("id", "must not be empty")]);
    import.add(ImportRow { key: "invalid".to_owned(), write: Err(invalid), bytes: 9 });
    let results = rest(&mut import).await;
    let kinds = results.iter().map(|(key, outcome)| {
        let kind = outcome.as_ref().map(RowOutcome::kind).map_err(Error::reason);
        (key.as_str(), kind)
    });
    use crate::leads::import::RowKind;
    let expected = [
        ("archive", Ok(RowKind::Archived)),
        ("invalid", Err(Reason::InvalidRequest)),
        ("known", Ok(RowKind::Updated)),
        ("new", Ok(RowKind::Created)),
        ("update", Ok(RowKind::Updated)),
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn rows_are_bounded_by_number_and_by_bytes_until_their_results_are_taken() {
    let portal = TestPortal::new(|_, _| Fault::None);
    for (bytes, max) in [(100, MAX_ROWS), (1 << 20, MAX_BYTES / (COPIES << 20))] {
        let account = TestAccount::new(usize::MAX);
        let memory: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(&account);
        let context = CallContext { memory, ..portal.context() };
        let mut import = service().import(context, settings(&format!("i{bytes}"))).unwrap();
        let mut rows = 0;
        while import.has_room() {
            import.add(ImportRow { bytes, ..create(&rows.to_string()) });
            rows += 1;
        }
        assert_eq!(rows, max);
        // All writes have ended, and no result was taken.
        advance(Duration::from_secs(60)).await;
        assert!(!import.has_room());
        next(&mut import).await;
        assert!(import.has_room());
        assert_eq!(rest(&mut import).await.len(), rows - 1);
        assert_eq!(import.bytes, 0);
        // The results that are kept for repeats are charged further.
        drop(import);
        assert!(account.used() <= rows * (2 << 10), "{}", account.used());
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_waits_for_the_memory_of_its_caller() {
    let portal = TestPortal::new(|_, _| Fault::Delay(Duration::from_secs(5)));
    let account = TestAccount::new(RecentKeys::BYTES + 3 * ROW_OVERHEAD);
    let memory: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(&account);
    let context = CallContext { memory, ..portal.context() };
    let mut import = service().import(context.clone(), settings("i")).unwrap();
    let mut added = 0;
    while import.has_room() {
        import.add(create(&added.to_string()));
        added += 1;
    }
    assert_eq!(added, 3, "the third waits");
    assert_eq!(rest(&mut import).await.len(), 3);
    drop(import);
    // Without memory for the keys, an import does not start; without memory for one row, it fails.
    let mut hold = MemoryCharge::new(&context.memory);
    hold.set(account.free());
    let error = service().import(context.clone(), settings("j")).unwrap_err();
    assert_eq!(error.reason(), Reason::Overloaded);
    hold.set(hold.bytes() - RecentKeys::BYTES);
    let mut import = service().import(context, settings("j")).unwrap();
    import.add(create("a"));
    let start = Instant::now();
    let error = import.next().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Overloaded);
    assert!(error.message().starts_with("row 1: "), "{error}");
    assert!(start.elapsed() >= MEMORY_TIMEOUT && start.elapsed() < 2 * MEMORY_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn too_many_errors_stop_the_stream() {
    let portal = TestPortal::new(|key, _| match key.starts_with("bad") {
        true => Fault::Reject,
        false => Fault::None,
    });
    let stop = Some(StopRule { error_ratio: 0.5, min_rows: 4 });
    let service = service();
    let mut import =
        service.import(portal.context(), ImportSettings { stop, ..settings("i") }).unwrap();
    for key in ["bad 1", "bad 2", "bad 3"] {
        import.add(create(key));
        next(&mut import).await;
        assert!(!import.is_halted(), "{key}");
    }
    for key in ["good", "bad 4"] {
        import.add(create(key));
    }
    assert_eq!(rest(&mut import).await.len(), 2, "rows that were read have results");
    assert!(import.is_halted() && import.halted().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_concerns_all_rows_halts_the_stream_and_is_no_result() {
    let portal = TestPortal::new(|key, _| match key {
        "first" => Fault::None,
        _ => Fault::Fail(Reason::DailyLimitReached),
    });
    let mut import = service().import(portal.context(), settings("i")).unwrap();
    for key in ["first", "second", "third"] {
        import.add(create(key));
    }
    let results = rest(&mut import).await;
    assert_eq!(results.into_keys().collect::<Vec<_>>(), ["first"]);
    assert!(import.is_halted());
    let error = import.halted().unwrap_err();
    assert_eq!(error.reason(), Reason::DailyLimitReached);
    assert!(error.message().starts_with("row "), "{error}");
    assert_eq!((import.summary().rows, import.summary().answered()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_transient_error_is_repeated_until_the_outage_is_too_long() {
    let start = Instant::now();
    for (outage, is_written) in [(300, true), (900, false)] {
        let began = Instant::now();
        let portal = TestPortal::new(move |_, _| match began.elapsed().as_secs() < outage {
            true => Fault::Fail(Reason::UpstreamUnavailable),
            false => Fault::None,
        });
        let mut import = service().import(portal.context(), settings("i")).unwrap();
        import.add(create("a"));
        let outcome = next(&mut import).await.outcome;
        assert_eq!(outcome.is_ok(), is_written, "{outcome:?} after {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_outcome_is_unknown_is_repeated_if_it_can_be_looked_up_later() {
    // The lookup of the lead fails for longer than an attempt.
    let portal = TestPortal::new(|_, _| Fault::Lose);
    portal.fail_lookups_for(Duration::from_secs(100));
    let mut import = service().import(portal.context(), settings("i")).unwrap();
    import.add(create("a"));
    next(&mut import).await.outcome.unwrap();
    assert_eq!(portal.names().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_row_without_time_for_a_repeat_has_no_result() {
    let portal = TestPortal::new(|_, _| Fault::Fail(Reason::RateLimited));
    let deadline = Instant::now() + Duration::from_secs(20);
    let context = CallContext { deadline, ..portal.context() };
    let mut import = service().import(context, settings("i")).unwrap();
    import.add(create("a"));
    assert!(import.next().await.unwrap().is_none());
    assert!(Instant::now() <= deadline && !import.has_rows());
    assert_eq!((import.summary().rows, import.summary().answered()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_key_occurs_once_in_a_stream() {
    let portal = TestPortal::new(|_, _| Fault::None);
    let service = service();
    let mut import = service.import(portal.context(), settings("i")).unwrap();
    import.add(create("a"));
    let first = next(&mut import).await.outcome.unwrap();
    import.add(create("a"));
    let error = next(&mut import).await.outcome.unwrap_err();
    assert_eq!((error.reason(), error.fields()[0].field.as_str()), (Reason::InvalidRequest, "key"));
    // In another stream of the import it is a repeat, which must be equal.
    let mut import = service.import(portal.context(), settings("i")).unwrap();
    import.add(create("a"));
    assert_eq!(next(&mut import).await.outcome.unwrap(), first);
    let mut import = service.import(portal.context(), settings("i")).unwrap();
    import.add(ImportRow { key: "a".to_owned(), ..create("b") });
    assert_eq!(reason(&next(&mut import).await.outcome), Some(Reason::RequestIdReused));
    // Another import has its own keys.
    let mut import = service.import(portal.context(), settings("j")).unwrap();
    import.add(create("a"));
    assert_ne!(next(&mut import).await.outcome.unwrap(), first);
    assert_eq!(portal.names().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn validated_rows_are_not_written() {
    let portal = TestPortal::new(|_, _| Fault::None);
    let settings = ImportSettings { validate_only: true, ..settings("i") };
    let mut import = service().import(portal.context(), settings).unwrap();
    import.add(row("archive", RowWrite::Archive(LeadId::parse("7").unwrap())));
    assert_eq!(next(&mut import).await.outcome, Ok(RowOutcome::Valid));
    assert!(portal.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_stream_has_one_event_with_its_counts_and_rows_are_for_debugging() {
    for (level, rows) in [("info", 0), ("debug", 3)] {
        let logs = LogCapture::default();
        let filter = EnvFilter::new(format!("leadsd::audit={level}"));
        let _guard = tracing::dispatcher::set_default(&logs.dispatch(filter));
        let portal =
            TestPortal::new(|key, _| if key == "bad" { Fault::Reject } else { Fault::None });
        let service = service();
        let mut import = service.import(portal.context(), settings("i")).unwrap();
        for key in ["a", "b", "bad"] {
            import.add(create(key));
        }
        rest(&mut import).await;
        import.end(ImportEnd::Complete);
        drop(import);
        let events = logs.events("leadsd::audit", "call-1");
        assert_eq!(events.len(), rows + 1, "{events:#?}");
        let last = events.last().unwrap();
        for part in ["ImportLeads", "\"OK\"", "audit.inputs=3", "created=2", "VALIDATION_FAILED=1"]
        {
            assert!(last.contains(part), "no {part} in {last}");
        }
        let ended = service.import_counts().ended;
        assert!(ended.contains(&(ImportEnd::Complete, 1)), "{ended:?}");
    }
}

/// Sends all rows, cuts the stream at random points, and repeats what has no result. Returns the results.
async fn import_with_cuts(
    service: &Service,
    portal: &TestPortal,
    rows: &[String],
    random: &mut StdRng,
) -> BTreeMap<String, Result<RowOutcome, Error>> {
    let mut results = BTreeMap::new();
    let mut cuts = 0;
    while results.len() < rows.len() {
        let mut import = service.import(portal.context(), settings("i")).unwrap();
        let mut open = rows.iter().filter(|key| !results.contains_key(*key)).collect::<Vec<_>>();
        open.reverse();
        let mut left = if cuts < 20 { random.random_range(1..2 * rows.len()) } else { usize::MAX };
        cuts += 1;
        while left > 0 && (import.has_rows() || !open.is_empty()) {
            left -= 1;
            if import.has_room()
                && random.random_bool(0.6)
                && let Some(key) = open.pop()
            {
                import.add(create(key));
                continue;
            }
            // Cut while the client waits.
            let patience = Duration::from_millis(random.random_range(1..5_000));
            if !import.has_rows() {
                continue;
            }
            if let Ok(result) = timeout(patience, import.next()).await
                && let Some(ImportResult { key, outcome }) = result.expect("memory")
            {
                assert!(results.insert(key, outcome).is_none(), "one result");
            }
        }
    }
    results
}

#[tokio::test(start_paused = true)]
async fn cut_streams_are_repeated_and_nothing_is_doubled() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let rows: Vec<String> = (0..random.random_range(1..400)).map(|n| n.to_string()).collect();
        let bad: BTreeSet<String> =
            rows.iter().filter(|_| random.random_bool(0.01)).cloned().collect();
        let faulty = bad.clone();
        let portal = TestPortal::new(move |key, number| match number % 17 {
            _ if faulty.contains(key) => Fault::Reject,
            3 => Fault::Fail(Reason::RateLimited),
            5 => Fault::Lose,
            _ => Fault::Delay(Duration::from_millis(number as u64 * 7919 % 3_000)),
        });
        let service = service();
        let results = import_with_cuts(&service, &portal, &rows, &mut random).await;
        for (key, outcome) in &results {
            assert_eq!(outcome.is_err(), bad.contains(key), "seed {seed}, {key}: {outcome:?}");
        }
        let names = portal.names();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len(), "seed {seed}: doubled");
        assert_eq!(names.len(), rows.len() - bad.len(), "seed {seed}");
        // The client saw the leads that exist.
        let ids: BTreeSet<_> = results
            .values()
            .flatten()
            .filter_map(|outcome| match outcome {
                RowOutcome::Written { lead, .. } => Some(lead.id.clone()),
                RowOutcome::Archived | RowOutcome::Valid => None,
            })
            .collect();
        assert_eq!(ids.len(), names.len(), "seed {seed}");
    }
}
