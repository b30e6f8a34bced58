//! What a server that tells of changes does to the L1s before it.
//!
//! While such a server is *heard*, copies of what was read on its connection live as long as their entries. They
//! are removed when the server tells of a change, and served only until the bound after the latest time at
//! which the server was known to have told everything.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::store_writes::TOLD;
use super::{L1, L1s};
use crate::flight::SharedState;
use crate::{Key, Timestamp};

/// Copies and L1s that were removed. Dropping their values may run code of the user, so the connection that the
/// server told of changes must not do that.
#[doc(hidden)]
pub type RemovedCopies = Vec<Box<dyn Any + Send>>;

#[doc(hidden)]
#[allow(missing_docs)]
impl SharedState {
    /// Returns the prefix of the keys of an L1, if there is an L1.
    pub fn l1_prefix(&self) -> Option<Arc<str>> {
        let l1s = self.l1s.list();
        let l1 = l1s.iter().find(|l1| l1.is_alive())?;
        Some(Arc::clone(&l1.prefix))
    }

    /// Returns the least bound of the L1s.
    pub fn max_staleness(&self) -> Option<Duration> {
        let l1s = self.l1s.list();
        let alive = l1s.iter().filter(|l1| l1.is_alive());
        alive.map(|l1| l1.max_staleness).min()
    }

    /// The server has told that a key was changed.
    pub fn changed(&self, key: &str) -> RemovedCopies {
        let key = Key::new(key);
        self.l1s.add_change(&key, TOLD);
        let removed = self.l1s.for_each(|l1, removed| {
            let copied = l1.key(&key);
            if let Some(copy) = copied.and_then(|key| l1.memory.take_copy(&key)) {
                l1.invalidations.fetch_add(1, Ordering::Relaxed);
                removed.push(copy);
            }
        });
        self.l1s.end_tagged(&key);
        removed
    }

    /// The server has told that the claim on a key was changed.
    pub fn claim_changed(&self, key: &str) {
        self.l1s.changes.notify(&Key::new(key));
    }

    /// The server has told that any key may have been changed.
    pub fn changed_all(&self) -> RemovedCopies {
        self.l1s.invalidate_all();
        self.l1s.for_each(|l1, removed| {
            let (count, copies) = l1.memory.take_copies();
            l1.invalidations.fetch_add(count, Ordering::Relaxed);
            removed.push(copies);
        })
    }

    /// The server has told of all changes that were made before `heard`.
    pub fn heard(&self, heard: Instant) -> RemovedCopies {
        self.l1s.for_each(|l1, _| {
            // In this order: if the thread pauses in between, the copies end too early, not too late.
            let now = l1.clock.now();
            let until = now.after(l1.max_staleness).before(heard.elapsed());
            l1.memory.serve_until(until);
            l1.is_watched.store(true, Ordering::SeqCst);
        })
    }

    /// The server tells of changes no longer, or may have lost some.
    pub fn unheard(&self) -> RemovedCopies {
        let mut removed = self
            .l1s
            .for_each(|l1, _| l1.is_watched.store(false, Ordering::SeqCst));
        removed.extend(self.moved());
        // From now on there are only copies that end by themselves.
        let serve = |l1: &L1, _: &mut _| l1.memory.serve_until(Timestamp::MAX);
        removed.extend(self.l1s.for_each(serve));
        removed
    }

    /// What was read may be on another server now.
    pub fn moved(&self) -> RemovedCopies {
        self.l1s.invalidate_all();
        self.l1s
            .for_each(|l1, removed| removed.push(l1.memory.take_copies().1))
    }
}

impl L1s {
    /// Calls a function for each L1. Returns what it removed, and the L1s whose caches were dropped meanwhile.
    fn for_each(&self, mut call: impl FnMut(&L1, &mut RemovedCopies)) -> RemovedCopies {
        let mut removed = RemovedCopies::new();
        for l1 in self.list().iter().filter_map(|l1| l1.l1.upgrade()) {
            call(&l1, &mut removed);
            if let Some(last) = Arc::into_inner(l1) {
                removed.push(Box::new(last));
            }
        }
        removed
    }
}
