//! Distribution of permits and rejections among waiting requests.

use std::{sync::Weak, time::Duration};

use parking_lot::Mutex;

use super::*;
use crate::{
    bucket_name::BucketName,
    observation::{Baseline, Observation},
    permit::Issuer,
    rejected::Reason,
};

const REJECTED: Rejected = Rejected {
    bucket: BucketName::Burst,
    reason: Reason::QueueFull,
    retry_after: Duration::from_secs(1),
};

/// Counts permits that are released unused.
#[derive(Debug, Default)]
struct Released(Mutex<usize>);

impl Issuer for Released {
    fn mark_sent(&self, _: BucketName, _: u64, _: usize) -> Baseline {
        Baseline { in_ledger: false, oldest: 0 }
    }

    fn finish(&self, _: BucketName, _: u64, _: Option<(Observation, Baseline)>) {}

    fn release_unused(&self, _: BucketName, _: u64) {
        *self.0.lock() += 1;
    }
}

/// Records members.
#[derive(Debug, Default)]
struct Recorder {
    max_size: usize,
    dispatched: Mutex<Vec<u64>>,
    rejected: Mutex<Vec<(u64, Rejected)>>,
}

impl Group for Recorder {
    fn id(&self) -> u64 {
        9
    }

    fn max_size(&self) -> usize {
        self.max_size
    }

    fn dispatch(&self, permit: Permit, members: Vec<u64>) {
        drop(permit);
        self.dispatched.lock().extend(members);
    }

    fn reject(&self, member: u64, rejected: Rejected) {
        self.rejected.lock().push((member, rejected));
    }
}

fn permit(issuer: &Arc<Released>) -> Permit {
    Permit::new(Arc::clone(issuer) as _, BucketName::Burst, 0)
}

#[test]
fn a_single_request_gets_its_permit_or_its_rejection() {
    let issuer = Arc::default();
    let (sender, mut receiver) = oneshot::channel();
    dispatch(permit(&issuer), vec![Waiting::Single(sender)]);
    assert!(receiver.try_recv().expect("a result").is_ok());
    let (sender, mut receiver) = oneshot::channel();
    Waiting::Single(sender).reject(REJECTED);
    assert_eq!(receiver.try_recv().expect("a result").unwrap_err(), REJECTED);
}

#[test]
fn a_permit_for_a_cancelled_request_is_released() {
    let issuer = Arc::default();
    let (sender, receiver) = oneshot::channel();
    drop(receiver);
    dispatch(permit(&issuer), vec![Waiting::Single(sender)]);
    assert_eq!(*issuer.0.lock(), 1);
    let (sender, receiver) = oneshot::channel();
    drop(receiver);
    Waiting::Single(sender).reject(REJECTED);
}

#[test]
fn a_permit_without_requests_is_released() {
    let issuer = Arc::default();
    dispatch(permit(&issuer), Vec::new());
    assert_eq!(*issuer.0.lock(), 1);
}

#[test]
fn members_are_dispatched_in_order_and_rejected_by_number() {
    let issuer = Arc::default();
    let group = Arc::new(Recorder { max_size: 3, ..Recorder::default() });
    let member = |number| Waiting::Member(Arc::clone(&group) as _, number);
    dispatch(permit(&issuer), vec![member(4), member(2), member(8)]);
    assert_eq!(*group.dispatched.lock(), [4, 2, 8]);
    member(5).reject(REJECTED);
    assert_eq!(*group.rejected.lock(), [(5, REJECTED)]);
    assert_eq!((member(1).group_id(), member(1).max_batch()), (Some(9), 3));
    assert_eq!(Group::min_size(&*group), 2);
}

#[test]
fn a_single_request_and_a_group_of_nothing_take_a_permit_each() {
    let empty = Waiting::Member(Arc::new(Recorder::default()), 0);
    assert_eq!(empty.max_batch(), 1);
    let single = Waiting::Single(oneshot::channel().0);
    assert_eq!((single.group_id(), single.max_batch()), (None, 1));
}

#[test]
fn a_permit_keeps_its_issuer_until_it_is_released() {
    let issuer = Arc::<Released>::default();
    let weak: Weak<Released> = Arc::downgrade(&issuer);
    let permit = permit(&issuer);
    drop(issuer);
    assert!(weak.upgrade().is_some());
    drop(permit);
    assert!(weak.upgrade().is_none());
}
