//! Memory accounts: the port by which the domain and the pipeline charge what a call holds in memory.
//!
//! Admission control implements the port. A [`MemoryCharge`] releases its bytes when it is dropped.

use std::{fmt, sync::Arc};

use super::error::Error;

/// Account of one caller, to which the memory of its calls and its stored results is charged.
pub trait MemoryAccount: fmt::Debug + Send + Sync + 'static {
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
}

/// Account without limits, for calls that no caller of the service makes.
#[derive(Debug, Default)]
pub struct Unlimited;

// === impl MemoryCharge ===

impl MemoryCharge {
    /// Creates a charge of no bytes.
    pub fn new(account: &Arc<dyn MemoryAccount>) -> Self {
        Self { account: Arc::clone(account), bytes: 0 }
    }

    /// Changes the charge to `bytes`. Errors if an increase exceeds a limit; the charge is then
    /// unchanged.
    pub fn try_set(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes > self.bytes {
            self.account.try_charge(bytes - self.bytes)?;
        } else {
            self.account.release(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
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
        assert_eq!(account.used(), 10);
        drop(charge);
        assert_eq!(account.used(), 0);
    }
}
