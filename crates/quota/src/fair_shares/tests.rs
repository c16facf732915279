//! Positions of callers.

use super::*;
use crate::requester::Priority::{Bulk, Interactive};

fn shares(weights: &[(&str, u32)]) -> FairShares {
    let weights = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight));
    FairShares::new(Arc::new(weights.collect()))
}

/// Names in the order in which requests are served, if each caller queues this many.
fn order(mut shares: FairShares, callers: &[(&Caller, usize)]) -> Vec<String> {
    let mut queue = Vec::new();
    for (caller, requests) in callers {
        for _ in 0..*requests {
            let key = shares.next_key(caller, Interactive);
            shares.enqueue(key, caller, shares.cost(caller));
            queue.push((key, caller.as_str().to_owned()));
        }
    }
    queue.sort();
    queue.into_iter().map(|(_, name)| name).collect()
}

#[test]
fn callers_take_turns_however_many_requests_one_queues_first() {
    let (a, b) = (Caller::new("a"), Caller::new("b"));
    assert_eq!(order(shares(&[]), &[(&a, 4), (&b, 2)]), ["a", "b", "a", "b", "a", "a"]);
}

#[test]
fn weights_come_from_the_identity_before_the_name_and_are_at_least_one() {
    let shares = shares(&[("a", 3), ("zero", 0)]);
    assert_eq!(shares.weight(&Caller::new("a")), 3);
    assert_eq!(shares.weight(&Caller::authenticated("a", 7)), 7);
    assert_eq!(shares.weight(&Caller::new("zero")), 1);
    assert_eq!(shares.weight(&Caller::new("other")), 1);
    assert_eq!(shares.cost(&Caller::new("a")), shares.cost(&Caller::new("other")) / 3);
}

#[test]
fn a_weight_of_two_is_served_twice_as_often() {
    let (a, b) = (Caller::authenticated("a", 2), Caller::new("b"));
    let served = order(shares(&[]), &[(&a, 6), (&b, 3)]);
    for round in served.chunks(3) {
        assert_eq!(round.iter().filter(|name| *name == "a").count(), 2, "{served:?}");
    }
}

#[test]
fn a_newcomer_begins_at_the_tag_that_is_served() {
    let (old, new) = (Caller::new("old"), Caller::new("new"));
    let mut shares = shares(&[]);
    for _ in 0..10 {
        shares.serve_now(&old, Interactive);
    }
    let (next_old, next_new) =
        (shares.next_key(&old, Interactive), shares.next_key(&new, Interactive));
    assert!(next_new < next_old);
    assert!(next_new.tag > 0, "what was served before does not count");
    assert_eq!(next_new.tag + shares.cost(&old), next_old.tag);
}

#[test]
fn priorities_have_separate_tags_and_interactive_is_first() {
    let caller = Caller::new("a");
    let mut shares = shares(&[]);
    for _ in 0..10 {
        shares.serve_now(&caller, Interactive);
    }
    assert_eq!(shares.next_key(&caller, Bulk).tag, 0);
    assert!(shares.next_key(&caller, Interactive) < shares.next_key(&caller, Bulk));
    assert!(shares.next_key(&caller, Bulk) >= QueueKey::first_of(Bulk));
}

#[test]
fn a_refund_undoes_a_charge_but_does_not_overtake_queued_requests() {
    let caller = Caller::new("a");
    let mut shares = shares(&[]);
    let cost = shares.cost(&caller);
    let keys = [(); 2].map(|()| {
        let key = shares.next_key(&caller, Interactive);
        shares.enqueue(key, &caller, cost);
        key
    });
    assert_eq!(shares.queued(&caller), 2);
    shares.dequeue(keys[0], &caller);
    shares.refund(keys[0], &caller, cost);
    assert_eq!(shares.next_key(&caller, Interactive).tag, keys[1].tag);
    shares.refund(keys[0], &caller, cost);
    assert_eq!(shares.next_key(&caller, Interactive).tag, keys[1].tag, "one is queued there");
    shares.dequeue(keys[1], &caller);
    shares.refund(keys[1], &caller, cost);
    assert_eq!((shares.queued(&caller), shares.next_key(&caller, Interactive).tag), (0, 0));
}

#[test]
fn more_can_be_charged_later() {
    let caller = Caller::new("a");
    let mut shares = shares(&[]);
    shares.charge_more(&caller, Interactive, 5);
    assert_eq!(shares.remembered(), 0, "an unknown caller owes nothing");
    shares.enqueue(shares.next_key(&caller, Interactive), &caller, 3);
    shares.charge_more(&caller, Interactive, 5);
    assert_eq!(shares.next_key(&caller, Interactive).tag, 8);
    assert_eq!(shares.next_key(&caller, Bulk).tag, 0);
}

#[test]
fn callers_whose_tags_are_served_are_forgotten_and_others_are_not() {
    let (ahead, queued) = (Caller::new("ahead"), Caller::new("queued"));
    let mut shares = shares(&[]);
    shares.enqueue(shares.next_key(&queued, Bulk), &queued, 0);
    let key = shares.next_key(&ahead, Interactive);
    shares.enqueue(key, &ahead, u64::MAX / 2);
    shares.dequeue(key, &ahead);
    for number in 0..PRUNE_INTERVAL * 2 {
        shares.serve_now(&Caller::new(&number.to_string()), Interactive);
    }
    let names: Vec<&str> = shares.queued_callers().map(|(caller, _)| caller.as_str()).collect();
    assert_eq!(names, ["queued"]);
    assert!(shares.next_key(&ahead, Interactive).tag > 0, "it is remembered");
    shares.clear();
    assert_eq!(shares.remembered(), 0);
}
