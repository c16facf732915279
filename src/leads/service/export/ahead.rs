//! Requests of an export that run side by side. Each runs in a task, so that it goes on while the client reads.

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use leadsd_base::task;
use tokio::sync::oneshot;

use super::reader::PageReader;
use crate::leads::{
    charge::MemoryCharge,
    error::{Error, Reason},
    export::{FetchedPage, Pages, ReadAhead},
    memory::memory_of,
};

/// Maximum memory of the leads that are read ahead, and of the responses while they are decoded, in bytes. A
/// message that is sent takes more, so that a stream takes less than 8 MiB.
const MAX_BYTES: usize = 5 << 20;

/// Result of a request, with the number of its segment.
type PageResult = (u64, Result<FetchedPage, Error>);

/// Requests in progress, and the plan that they belong to.
pub(super) struct AheadReads {
    reader: PageReader,
    plan: ReadAhead,
    in_progress: FuturesUnordered<BoxFuture<'static, PageResult>>,
    /// Memory of the leads that wait to be sent, in bytes.
    waiting_bytes: usize,
    /// First error. The leads before it are sent first.
    error: Option<Error>,
}

/// Outcome of reading ahead.
#[derive(Debug)]
pub(super) enum AheadOutcome {
    /// The export has leads to send, or is complete.
    Ready,
    /// The next page has to be requested alone, for example since a lead is large.
    Paused,
    /// Pages have to be requested one after the other from here on, since a response did not fit.
    Stopped,
    /// The export fails.
    Failed(Error),
}

// === impl AheadOutcome ===

impl AheadOutcome {
    fn from_error(error: Error) -> Self {
        let reason = error.reason();
        if matches!(reason, Reason::ResponseTooLarge | Reason::Overloaded) {
            return Self::Paused;
        }
        match reason == Reason::UpstreamInvalidResponse || reason == Reason::Conflict {
            true => Self::Stopped,
            false => Self::Failed(error),
        }
    }
}

// === impl AheadReads ===

impl AheadReads {
    /// Starts to read ahead. `None` if it is of no use.
    pub(super) fn start(
        pages: &Pages,
        reader: PageReader,
        left: Option<u64>,
        lead_bytes: usize,
    ) -> Option<Self> {
        let plan = pages.read_ahead(left?, lead_bytes, MAX_BYTES)?;
        let in_progress = FuturesUnordered::new();
        Some(Self { reader, plan, in_progress, waiting_bytes: 0, error: None })
    }

    /// Takes the responses that have arrived, and sends further requests. Does not wait.
    pub(super) fn advance(&mut self, pages: &Pages, charge: &mut MemoryCharge) {
        while let Some(Some(result)) = self.in_progress.next().now_or_never() {
            self.accept(result, charge);
        }
        self.send(pages);
    }

    /// Waits for the next leads. Cancel-safe.
    pub(super) async fn read(
        &mut self,
        pages: &mut Pages,
        charge: &mut MemoryCharge,
    ) -> AheadOutcome {
        self.waiting_bytes = 0;
        loop {
            if let Some(ready) = self.plan.pop() {
                self.waiting_bytes = ready.bytes;
                charge.set(ready.bytes + self.plan.buffered_bytes());
                pages.accept_ready(ready, &self.plan);
                self.send(pages);
                return AheadOutcome::Ready;
            }
            if let Some(error) = self.error.take() {
                return AheadOutcome::from_error(error);
            }
            self.send(pages);
            let Some(result) = self.in_progress.next().await else {
                return AheadOutcome::Stopped;
            };
            self.accept(result, charge);
        }
    }

    fn accept(&mut self, (number, page): PageResult, charge: &mut MemoryCharge) {
        let accepted = page.and_then(|page| {
            let bytes = page.leads.iter().map(memory_of).sum();
            charge.try_set(self.waiting_bytes + self.plan.buffered_bytes() + bytes)?;
            self.plan.accept(number, page, bytes)
        });
        if let Err(error) = accepted {
            self.error.get_or_insert(error);
        }
    }

    fn send(&mut self, pages: &Pages) {
        if self.error.is_some() {
            return;
        }
        for (number, page) in self.plan.requests(self.waiting_bytes) {
            let (sender, receiver) = oneshot::channel();
            let read = self.reader.clone().read_again(pages.planned_request(&page));
            let portal = self.reader.ctx.portal.name.as_str();
            let task = task::spawn("export_page", portal, async move {
                // The export may have ended.
                let _ = sender.send(read.await);
            });
            self.in_progress.push(Box::pin(async move {
                let _task = task;
                let lost = |_| Err(Error::new(Reason::Internal, "internal error: a page was lost"));
                (number, receiver.await.unwrap_or_else(lost))
            }));
        }
    }
}

impl std::fmt::Debug for AheadReads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AheadReads")
            .field("in_progress", &self.in_progress.len())
            .finish_non_exhaustive()
    }
}
