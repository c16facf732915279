//! Reloads on request, in paused time: no poll interval passes.

use std::path::Path;

use leadsd_base::time::SystemClock;

use super::*;

fn write(folder: &Path) {
    let pair = rcgen::generate_simple_self_signed(["leadsd".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), pair.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
}

async fn loaded(folder: &Path) -> Arc<ServerTls> {
    write(folder);
    let files =
        TlsFiles { cert: folder.join("tls.crt"), key: folder.join("tls.key"), client_ca: None };
    Arc::new(ServerTls::load(files, Arc::new(SystemClock)).await.unwrap())
}

/// Waits until the status is as expected, without time passing.
async fn until(tls: &ServerTls, is_expected: impl Fn(&TlsStatus) -> bool) {
    let before = Instant::now();
    while !is_expected(&tls.status()) {
        tokio::task::yield_now().await;
        assert!(before.elapsed() < POLL_INTERVAL, "a poll came first: {:?}", tls.status());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_reloads_the_files_before_the_next_poll() {
    let folder = tempfile::tempdir().unwrap();
    let tls = loaded(folder.path()).await;
    let _task = Arc::clone(&tls).watch();
    for reloads in 1..=3 {
        write(folder.path());
        tls.reload_now();
        until(&tls, |status| status.reloads == reloads).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_reports_invalid_files_at_once_and_counts_them_once() {
    let folder = tempfile::tempdir().unwrap();
    let tls = loaded(folder.path()).await;
    let _task = Arc::clone(&tls).watch();
    std::fs::write(folder.path().join("tls.crt"), "nonsense").unwrap();
    tls.reload_now();
    until(&tls, |status| status.reload_failed).await;
    tls.reload_now();
    // The request after it finds the same content.
    tokio::time::sleep(POLL_INTERVAL * 3).await;
    assert_eq!((tls.status().failures, tls.status().reloads), (1, 0));
    write(folder.path());
    tls.reload_now();
    until(&tls, |status| status.reloads == 1 && !status.reload_failed).await;
}
