//! Contacts that are created because HubSpot has none.

use super::*;
use crate::leads::FieldFault;

/// A lead whose contact is created.
fn creating(name: &str, email: &str) -> CreateLead {
    let mut create = create(name, Some(email));
    if let Some(contact) = &mut create.contact {
        contact.create_if_missing = Some(ContactProperties::default());
    }
    create
}

fn outcome_unknown() -> Error {
    let error = Error::new(Reason::WriteOutcomeUnknown, "the response was lost");
    error.with_side_effect(SideEffect::Possible)
}

#[tokio::test(start_paused = true)]
async fn a_missing_contact_is_created_once_and_one_that_exists_is_not() {
    let world = World::new([address(1)]);
    let ctx = context(MINUTE);
    world.send(&ctx, creating("a", &address(1))).await.unwrap();
    assert_eq!(world.sent(), ["find 1", "create"]);
    world.send(&ctx, creating("b", &address(2))).await.unwrap();
    assert_eq!(world.sent()[2..], ["find 1", "contacts 1", "create"]);
    world.send(&ctx, creating("c", &address(2))).await.unwrap();
    assert_eq!(world.sent()[5..], ["find 1", "create"]);
    let leads = world.hubspot.leads.lock();
    assert_eq!(leads["b"], leads["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_creates_all_missing_contacts_with_one_request() {
    let world = World::new((0..50).map(address));
    let mut inputs: Vec<CreateLead> =
        (0..98).map(|number| creating(&number.to_string(), &address(number))).collect();
    inputs.push(creating("same", &address(97)));
    inputs.push(create("off", Some(&address(99))));
    let outcomes = world.create_many(inputs).await.outcomes;
    assert!(outcomes[..99].iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(fields(&outcomes[99]), ["contact.email"]);
    assert_eq!(world.sent(), ["find 99", "contacts 48", "create 99"]);
    let leads = world.hubspot.leads.lock();
    assert_eq!(leads["97"], leads["same"]);
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_for_one_address_create_one_contact() {
    let world = World::new([]);
    let creates = (0..30).map(|number| {
        let world = &world;
        async move {
            let ctx = context_of(&format!("caller-{number}"), Priority::Interactive, HOUR);
            world.send(&ctx, creating(&number.to_string(), "Ada@example.com")).await
        }
    });
    let results = join_all(creates).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let created = world.sent().iter().filter(|own| own.starts_with("contacts")).count();
    assert_eq!(created, 1, "{:?}", world.sent());
    let lookups = world.sent().iter().filter(|own| own.starts_with("find")).count();
    assert_eq!(lookups, 1, "the calls that wait get the id: {:?}", world.sent());
    assert_eq!(world.hubspot.ids.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_another_client_creates_first_is_used() {
    for is_named in [false, true] {
        let world = World::over(Hubspot::default(), [], move |hubspot, sent| {
            let Request::CreateContacts(_) = &*sent.request else { return None };
            hubspot.ids.lock().insert(address(1), "920001".to_owned());
            let facts = UpstreamFacts {
                existing_id: is_named.then(|| "920001".to_owned()),
                ..UpstreamFacts::default()
            };
            let error = Error::new(Reason::AlreadyExists, "the contact exists");
            Some(Err(error.with_upstream(facts)))
        });
        world.send(&context(MINUTE), creating("a", &address(1))).await.unwrap();
        assert_eq!(world.hubspot.leads.lock()["a"], "920001");
        let again: &[&str] = if is_named { &["create"] } else { &["find 1", "create"] };
        assert_eq!(world.sent()[2..], *again);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_is_looked_up_before_another_try() {
    for has_effect in [false, true] {
        let world = World::over(Hubspot::default(), [], move |hubspot, sent| {
            let Request::CreateContacts(contacts) = &*sent.request else { return None };
            if sent.number > 1 {
                return None;
            }
            if has_effect {
                hubspot.create_contacts(contacts).unwrap();
            }
            Some(Err(outcome_unknown()))
        });
        world.send(&context(MINUTE), creating("a", &address(1))).await.unwrap();
        let rest: &[&str] = match has_effect {
            true => &["find 1", "create"],
            false => &["find 1", "contacts 1", "create"],
        };
        assert_eq!(world.sent()[2..], *rest, "{has_effect}");
        assert_eq!(world.hubspot.ids.lock().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_stays_unknown_is_the_error_of_a_lead_that_is_not_created() {
    let world = World::over(Hubspot::default(), [], |_, sent| {
        let Request::CreateContacts(_) = &*sent.request else { return None };
        Some(Err(outcome_unknown()))
    });
    let error = world.send(&context(MINUTE), creating("a", &address(1))).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.side_effect()),
        (Reason::UpstreamUnavailable, SideEffect::None)
    );
    assert_eq!(world.sent(), ["find 1", "contacts 1", "find 1", "contacts 1", "find 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_contact_and_a_missing_scope_name_the_field_and_the_scope() {
    let rejected = Error::new(Reason::ValidationFailed, "invalid")
        .with_fields(vec![FieldFault::for_property("firstname", "is too long")]);
    let denied = Error::new(Reason::MissingScopes, "denied");
    for (error, expected) in [
        (rejected, r#"contact.create_if_missing.properties["firstname"]"#),
        (denied, "crm.objects.contacts.write"),
    ] {
        let own = error.clone();
        let world = World::over(Hubspot::default(), [], move |_, sent| {
            let Request::CreateContacts(_) = &*sent.request else { return None };
            Some(Err(own.clone()))
        });
        let found = world.send(&context(MINUTE), creating("a", &address(1))).await.unwrap_err();
        assert_eq!(found.reason(), error.reason());
        let named = found.fields().iter().map(|own| own.field.as_str());
        let named: Vec<&str> =
            named.chain(found.upstream().required_scopes.iter().map(String::as_str)).collect();
        assert_eq!(named, [expected]);
        assert_eq!(world.sent(), ["find 1", "contacts 1"], "no second try");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_leaves_gives_its_address_free() {
    let world = World::new([]);
    let ctx = context(MINUTE);
    let leaves = timeout(LATENCY * 3 / 2, world.send(&ctx, creating("a", &address(1)))).await;
    assert!(leaves.is_err(), "it leaves while the contact is created");
    world.send(&ctx, creating("b", &address(1))).await.unwrap();
    assert_eq!(world.hubspot.ids.lock().len(), 1);
}
