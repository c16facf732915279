//! Calls that could be batched while no token is available.

use futures_util::future::join_all;
use leadsd::grpc::pb;
use tonic::{Code, Request};

use crate::{
    admission::buckets,
    harness::{TestApp, failure},
};

/// More calls than the limit of one second.
const CALLS: usize = 12;

#[tokio::test]
async fn missing_token_fails_each_call_and_keeps_no_permit() {
    for together in ["true", "false"] {
        let other = TestApp::start().await;
        other.vault.set_sealed(true);
        let app = other.replica().unready().set("QUOTA__BATCHING", together);
        let app = app.set("QUOTA__BURST", "50").set("GRPC__MAX_DEADLINE", "1s").start().await;
        let id = app.lead("Jane");
        let short = (0..CALLS).map(|number| {
            let mut leads = app.leads.clone();
            let request = Request::new(pb::GetLeadRequest {
                id: id.clone(),
                // Different reads.
                properties: vec![format!("p{number}")],
                ..Default::default()
            });
            async move { leads.get_lead(request).await }
        });
        for answer in join_all(short).await {
            let (code, reason, _) = failure(answer);
            let expected = (Code::Unavailable, "CREDENTIAL_UNAVAILABLE");
            assert_eq!((code, &*reason), expected, "together: {together}");
        }
        assert_eq!(buckets(&app, "default").await[0].used, 0, "together: {together}");
        other.vault.set_sealed(false);
    }
}
