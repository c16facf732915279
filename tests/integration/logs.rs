//! Log lines contain no secret: each test checks its lines at its end.

use leadsd_base::secret::SECRET_MARKER;
use tracing::{dispatcher, info};

use crate::harness::TestApp;

#[tokio::test]
async fn log_lines_are_captured_and_contain_no_secret() {
    let app = TestApp::builder().oauth().start().await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    app.hubspot.expire_tokens();
    app.get(&id).await.unwrap();
    assert!(app.logs.lines() > 10, "the capture sees the lines of the service");
    app.logs.assert_clean();
}

#[tokio::test]
async fn a_secret_in_the_log_fails_the_test_of_its_app_and_no_other() {
    let (leaky, clean) = (TestApp::start().await, TestApp::start().await);
    let dispatch = leaky.logs.dispatch(tracing_subscriber::EnvFilter::new("info"));
    dispatcher::with_default(&dispatch, || info!("token={SECRET_MARKER}-1"));
    clean.logs.assert_clean();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(leaky)));
    let message = panic.expect_err("the leak fails the test");
    let message = message.downcast_ref::<String>().expect("a message");
    assert!(message.contains("secrets in the log"), "{message}");
}

#[tokio::test]
async fn an_unused_script_fails_the_test() {
    let app = TestApp::start().await;
    app.hubspot.script("GET", "/nowhere", leadsd_hubspot_fake::ScriptedResponse::empty(500));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(app)));
    let message = panic.expect_err("the script fails the test");
    let message = message.downcast_ref::<String>().expect("a message");
    assert!(message.contains("1 scripted responses"), "{message}");
}
