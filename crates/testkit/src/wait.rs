//! Waiting for conditions: bounded, so that a test that hangs fails instead.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Maximum time for one step of a test. Generous, because a machine with other work is slow.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Interval between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
///
/// # Panics
///
/// If it does not hold within [`PATIENCE`]; `what` names it in the message.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            sleep(INTERVAL).await;
        }
    };
    let held = timeout(PATIENCE, wait).await;
    assert!(held.is_ok(), "{what}: not within {PATIENCE:?}");
}

/// Waits until `search` finds a value.
///
/// # Panics
///
/// If it finds none within [`PATIENCE`]; `what` names it in the message.
pub async fn found<T>(what: &str, mut search: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = search() {
                return value;
            }
            sleep(INTERVAL).await;
        }
    };
    let found = timeout(PATIENCE, wait).await;
    found.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits until `/ready` of the admin address succeeds.
pub async fn wait_ready(admin: &str) {
    eventually("the service is ready", async || {
        get(admin, "/ready").await.is_some_and(|page| page.starts_with("HTTP/1.1 200"))
    })
    .await;
}

/// The page of metrics; `None` if the admin address does not respond.
pub async fn metrics_page(admin: &str) -> Option<String> {
    let page = get(admin, "/metrics").await?;
    page.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// Head and body of a page over plain HTTP.
async fn get(admin: &str, path: &str) -> Option<String> {
    let address = admin.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await.ok()?;
    Some(page.replacen("HTTP/1.0", "HTTP/1.1", 1))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_is_awaited_until_it_holds() {
        let looks = AtomicU32::new(0);
        eventually("three looks", async || looks.fetch_add(1, Ordering::Relaxed) == 2).await;
        assert_eq!(looks.load(Ordering::Relaxed), 3);
        let mut values = vec![Some(7), None];
        assert_eq!(found("a value", || values.pop().flatten()).await, 7);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "pigs fly: not within")]
    async fn a_condition_that_never_holds_fails_the_test() {
        eventually("pigs fly", async || false).await;
    }
}
