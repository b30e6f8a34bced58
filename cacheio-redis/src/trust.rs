//! Reports to the log whether the server of a store tells L1 of changes.

use std::borrow::Cow;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cacheio_core::__private::runtime;
use tokio::time::sleep;

/// Why a server does not tell of changes.
pub(crate) type Reason = Cow<'static, str>;

/// What was reported of one store.
pub(crate) struct TrustLog {
    server: String,
    /// Whether it was reported that the server cannot tell of changes.
    cannot_tell: AtomicBool,
    trust: Mutex<Trust>,
}

#[derive(Default)]
struct Trust {
    /// How often it was lost.
    losses: u64,
    is_lost: bool,
    /// Whether the current loss was reported.
    is_reported: bool,
}

impl TrustLog {
    pub(crate) fn new(server: String) -> Self {
        Self {
            server,
            cannot_tell: AtomicBool::new(false),
            trust: Mutex::default(),
        }
    }

    /// Reports once that the server cannot tell of changes.
    pub(crate) fn cannot_tell(&self, reason: &str) {
        if !self.cannot_tell.swap(true, Ordering::SeqCst) {
            tracing::info!(
                target: "cacheio",
                server = self.server,
                reason,
                "server does not tell L1 of changes; copies live for max_staleness",
            );
        }
    }

    /// The server is heard. Reports that if a loss was reported.
    pub(crate) fn heard(&self) {
        let mut trust = self.trust();
        trust.is_lost = false;
        let was_reported = mem::take(&mut trust.is_reported);
        drop(trust);
        if was_reported {
            tracing::info!(
                target: "cacheio",
                server = self.server,
                "server tells L1 of changes again",
            );
        }
    }

    /// The server is no longer heard. Reports that if it lasts for as long as the bound.
    pub(crate) fn lost(self: &Arc<Self>, bound: Duration) {
        let Ok(runtime) = runtime() else {
            return;
        };
        let mut trust = self.trust();
        if mem::replace(&mut trust.is_lost, true) {
            return;
        }
        trust.losses += 1;
        let (loss, log) = (trust.losses, Arc::downgrade(self));
        runtime.spawn(async move {
            sleep(bound).await;
            if let Some(log) = log.upgrade() {
                log.report(loss);
            }
        });
    }

    fn report(&self, loss: u64) {
        let mut trust = self.trust();
        if !trust.is_lost || trust.losses != loss {
            return;
        }
        trust.is_reported = true;
        drop(trust);
        tracing::warn!(
            target: "cacheio",
            server = self.server,
            "server has not told L1 of changes for longer than max_staleness; copies live no longer than that",
        );
    }

    fn trust(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
