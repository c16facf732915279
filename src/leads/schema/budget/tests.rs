//! The call budget in simulated time.

use super::*;

fn types(to: &str) -> PartKey {
    PartKey::AssociationTypes(to.to_owned())
}

/// Acquires a slot and returns it as used at once.
fn spend(budget: &mut CallBudget, part: &PartKey, now: Instant) -> Result<Slot, Duration> {
    let slot = budget.acquire(part, Purpose::Read, now)?;
    budget.release(slot, true, now);
    Ok(slot)
}

#[tokio::test(start_paused = true)]
async fn no_window_has_a_fifth_call_whatever_is_asked() {
    let parts =
        [PartKey::Properties, PartKey::Owners, types("contacts"), types("2-1"), PartKey::Pipelines];
    let mut budget = CallBudget::default();
    let mut sent: Vec<Instant> = Vec::new();
    let start = Instant::now();
    for second in 0..7_200 {
        let now = start + Duration::from_secs(second);
        for part in &parts {
            if spend(&mut budget, part, now).is_ok() {
                sent.push(now);
            }
        }
    }
    assert!(sent.len() >= 4 * 11, "{}", sent.len());
    for window in sent.windows(5) {
        assert!(window[4] - window[0] >= WINDOW, "{window:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_counts_from_the_end_of_its_call_and_not_without_one() {
    let mut budget = CallBudget::default();
    let start = Instant::now();
    let slot = budget.acquire(&PartKey::Owners, Purpose::LastingFailure, start).unwrap();
    assert!(budget.acquire(&PartKey::Owners, Purpose::LastingFailure, start).is_err());
    let end = start + Duration::from_secs(20);
    budget.release(slot, true, end);
    let wait = budget.acquire(&PartKey::Owners, Purpose::LastingFailure, end).unwrap_err();
    assert_eq!(wait, WINDOW);
    let slot = budget.acquire(&PartKey::Owners, Purpose::LastingFailure, end + WINDOW).unwrap();
    budget.release(slot, false, end + WINDOW);
    assert!(budget.acquire(&PartKey::Owners, Purpose::LastingFailure, end + WINDOW).is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_part_cannot_take_the_first_read_of_another() {
    let mut budget = CallBudget::default();
    let now = Instant::now();
    assert_eq!(spend(&mut budget, &PartKey::Properties, now), Ok(Slot::Own(0)));
    assert_eq!(spend(&mut budget, &PartKey::Properties, now), Ok(Slot::Spare));
    assert!(spend(&mut budget, &PartKey::Properties, now).is_err());
    assert_eq!(spend(&mut budget, &PartKey::Pipelines, now), Ok(Slot::Own(1)));
    assert_eq!(spend(&mut budget, &PartKey::Owners, now), Ok(Slot::Own(2)));
}

#[tokio::test(start_paused = true)]
async fn parts_take_turns_for_the_spare_slot_and_invented_object_types_share_one() {
    let mut budget = CallBudget::default();
    let mut now = Instant::now();
    spend(&mut budget, &types("contacts"), now).unwrap();
    for part in ["2-1", "2-2", "2-3", "companies", "contacts"] {
        assert!(spend(&mut budget, &types(part), now).is_err());
    }
    assert_eq!(budget.waiting.len(), 3, "{:?}", budget.waiting);
    let mut order = Vec::new();
    for _ in 0..60 {
        now += Duration::from_secs(30);
        // All ask all the time.
        for part in ["contacts", "companies", "2-1", "contacts", "companies", "2-1"] {
            if spend(&mut budget, &types(part), now).is_ok() {
                order.push(part);
            }
        }
    }
    let mut served = order.clone();
    served.sort_unstable();
    assert_eq!(served, ["2-1", "companies", "contacts"], "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_lost_if_no_caller_asks_any_more() {
    let mut budget = CallBudget::default();
    let start = Instant::now();
    spend(&mut budget, &types("contacts"), start).unwrap();
    assert!(spend(&mut budget, &types("companies"), start).is_err());
    assert_eq!(spend(&mut budget, &types("contacts"), start + WINDOW), Ok(Slot::Spare));
}
