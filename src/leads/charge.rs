//! Memory accounts: the port by which the domain and the pipeline charge what a call holds in memory.
//!
//! Admission control implements the port. A [`MemoryCharge`] releases its bytes when it is dropped.

use std::{fmt, sync::Arc};

use super::error::Error;

/// Name of the limit of memory accounts in errors and metrics.
pub const MEMORY_LIMIT: &str = "memory";

/// Account of one caller, to which the memory of its calls and its stored results is charged.
pub trait MemoryAccount: fmt::Debug + Send + Sync + 'static {
    /// Checks that the part of one request of a charge may grow from `before` to `after` bytes. Errors if it
    /// never fits in the account, or if memory is short and it is large.
    fn check_growth(&self, before: usize, after: usize) -> Result<(), Error>;

    /// Charges bytes that are about to be used. Errors if they exceed a limit.
    fn try_charge(&self, bytes: usize) -> Result<(), Error>;

    /// Charges bytes that must be used whatever the limits, such as the outcome of a write.
    fn charge(&self, bytes: usize);

    /// Releases bytes that were charged.
    fn release(&self, bytes: usize);

    /// Account of what several callers share, which is charged to none of them.
    fn shared(self: Arc<Self>) -> Arc<dyn MemoryAccount>;
}

/// Bytes charged to an account until they are dropped.
#[derive(Debug)]
pub struct MemoryCharge {
    account: Arc<dyn MemoryAccount>,
    bytes: usize,
    /// Number of requests for which the bytes are used.
    requests: usize,
}

/// Account without limits, for calls that no caller of the service makes.
#[derive(Debug, Default)]
pub struct Unlimited;

// === impl MemoryCharge ===

impl MemoryCharge {
    /// Creates a charge of no bytes.
    pub fn new(account: &Arc<dyn MemoryAccount>) -> Self {
        Self::for_requests(account, 1)
    }

    /// Creates a charge of no bytes for several requests. It is large if the part of each is large: a batch
    /// of single reads counts as single reads.
    pub fn for_requests(account: &Arc<dyn MemoryAccount>, requests: usize) -> Self {
        Self { account: Arc::clone(account), bytes: 0, requests: requests.max(1) }
    }

    /// Changes the charge to `bytes`. Errors if an increase exceeds a limit, or if it is large and memory is
    /// short; the charge is then unchanged.
    pub fn try_set(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes > self.bytes {
            self.account.check_growth(self.bytes / self.requests, bytes / self.requests)?;
            self.account.try_charge(bytes - self.bytes)?;
        } else {
            self.account.release(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Number of charged bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the bytes of another charge.
    pub fn absorb(&mut self, other: &Self) {
        self.account.charge(other.bytes);
        self.bytes += other.bytes;
    }

    /// Splits off at most `bytes` as a charge to the same account.
    #[must_use]
    pub fn split_off(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { account: Arc::clone(&self.account), bytes, requests: 1 }
    }

    /// Changes the charge to `bytes`, whatever the limits.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.account.charge(bytes - self.bytes);
        } else {
            self.account.release(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account.release(self.bytes);
        }
    }
}

// === impl MemoryAccount ===

impl MemoryAccount for Unlimited {
    fn check_growth(&self, _: usize, _: usize) -> Result<(), Error> {
        Ok(())
    }

    fn try_charge(&self, _: usize) -> Result<(), Error> {
        Ok(())
    }

    fn charge(&self, _: usize) {}

    fn release(&self, _: usize) {}

    fn shared(self: Arc<Self>) -> Arc<dyn MemoryAccount> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::testing::TestAccount;

    #[test]
    fn a_charge_changes_within_the_limit_and_is_released_on_drop() {
        let account = TestAccount::new(100);
        let port: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(&account);
        let mut charge = MemoryCharge::new(&port);
        charge.try_set(60).unwrap();
        charge.try_set(101).unwrap_err();
        assert_eq!(account.used(), 60);
        charge.try_set(40).unwrap();
        assert_eq!(account.used(), 40);
        charge.set(500);
        assert_eq!((account.used(), account.peak()), (500, 500));
        charge.set(10);
        assert_eq!((account.used(), charge.bytes()), (10, 10));
        let mut other = MemoryCharge::new(&port);
        other.set(5);
        other.absorb(&charge);
        assert_eq!(account.used(), 25);
        drop(charge);
        assert_eq!((account.used(), other.bytes()), (15, 15));
        drop(other);
        assert_eq!(account.used(), 0);
    }

    #[test]
    fn a_large_charge_is_rejected_and_a_batch_is_large_by_the_part_of_each_request() {
        let account = TestAccount::with_large(1_000, 50);
        let port: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(&account);
        for (requests, fits) in [(0, 50), (1, 50), (3, 152)] {
            let mut charge = MemoryCharge::for_requests(&port, requests);
            charge.try_set(fits).unwrap();
            charge.try_set(fits + 1).unwrap_err();
            assert_eq!(account.used(), fits, "{requests} requests");
            charge.set(fits + 1);
            assert_eq!(account.used(), fits + 1, "the outcome of a write is charged");
        }
    }
}
