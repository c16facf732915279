//! Pool of calls whose caller is not identified yet: those that wait for a source of keys.
//!
//! Most callers are identified without waiting. A stranger may make others wait, for example by tokens
//! that name unknown keys. These calls cost nothing else, so they have a limit and a short timeout.

use std::{future::Future, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::{admission::CallGuard, conn_info::ConnInfo};
use crate::leads::{Error, Reason};

/// Timeout for the identification of a caller: a few round trips to a source of keys.
const IDENTIFICATION_TIMEOUT: Duration = Duration::from_secs(5);

/// `RetryInfo` of a call whose caller was not identified in time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Waits for the identification of the caller of a call, in the pool of its address.
#[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
pub(crate) fn identified<T>(
    call: &CallGuard,
    connection: &ConnInfo,
    mut identification: impl Future<Output = Result<T, Error>> + Unpin,
) -> impl Future<Output = Result<T, Error>> {
    async move {
        if let Some(identified) = (&mut identification).now_or_never() {
            return identified;
        }
        let _slot = call.identify(connection)?;
        // Boxed, because calls whose caller is known at once would carry its size.
        let identified = Box::pin(timeout(IDENTIFICATION_TIMEOUT, identification)).await;
        identified.unwrap_or_else(|_elapsed| {
            let text = "the caller was not identified in time: a source of keys does not answer";
            let error = Error::new(Reason::AuthenticationUnavailable, text);
            Err(error.with_retry_after(RETRY_AFTER))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::grpc::transport::{admission::Admission, call_state::testing};

    fn used(admission: &Admission) -> usize {
        let limits = admission.snapshot().limits;
        limits.iter().find(|limit| limit.name == "identifying").expect("a limit").used
    }

    #[tokio::test(start_paused = true)]
    async fn an_identified_caller_takes_no_place_in_the_pool() {
        let admission = testing::admission(1_000);
        let connection = testing::connection();
        let call = admission.admit(&connection, false, 0).unwrap();
        let at_once = identified(&call, &connection, ready(Ok(7))).now_or_never();
        assert_eq!(at_once.unwrap(), Ok(7));
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(used(&admission), 1);
            Ok(8)
        };
        assert_eq!(identified(&call, &connection, Box::pin(later)).await, Ok(8));
        assert_eq!(used(&admission), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_wait_are_bounded_per_address_and_in_time() {
        let admission = testing::admission(1_000);
        let [stranger, other] = [1, 2].map(|host| testing::connection_from([10, 0, 0, host]));
        let wait = async |connection: &ConnInfo| {
            let call = admission.admit(connection, false, 0).unwrap();
            let error = identified(&call, connection, pending::<Result<(), _>>()).await;
            error.unwrap_err().reason()
        };
        let flood = futures_util::future::join_all((0..3_000).map(|_| wait(&stranger)));
        let (reasons, reason) = tokio::join!(flood, wait(&other));
        let late = |reason: &Reason| *reason == Reason::AuthenticationUnavailable;
        assert_eq!(reasons.iter().filter(|reason| late(reason)).count(), 512);
        assert!(late(&reason), "there is room for another address");
        assert_eq!(used(&admission), 0);
    }
}
