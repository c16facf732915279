//! Calls that could leave together while there is no token.

use futures_util::future::join_all;
use leadsd::grpc::pb;
use tonic::{Code, Request};

use crate::{
    admission::buckets,
    harness::{TestApp, failure},
};

/// More calls than may go in a second.
const CALLS: usize = 12;

#[tokio::test]
async fn without_a_token_each_is_told_so_and_no_permit_is_kept_alone_and_together() {
    for together in ["true", "false"] {
        let other = TestApp::start().await;
        other.vault.set_sealed(true);
        let app = other.replica().unready().set("QUOTA__GROUP_COMMIT", together);
        let app = app.set("QUOTA__BURST", "50").set("GRPC__MAX_DEADLINE", "1s").start().await;
        let id = app.lead("Jane");
        let short = (0..CALLS).map(|number| {
            let mut leads = app.leads.clone();
            let request = Request::new(pb::GetLeadRequest {
                id: id.clone(),
                // Not the same read for two of them.
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
