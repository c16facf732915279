//! Names that are part of metrics and responses.

use super::*;

#[test]
fn names_are_those_of_metrics_and_responses() {
    let names = [BucketName::Burst, BucketName::Search, BucketName::Daily].map(BucketName::as_str);
    assert_eq!(names, ["burst", "search", "daily"]);
}
