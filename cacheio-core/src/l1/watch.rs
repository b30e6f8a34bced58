//! What a server that tells of changes does to the L1s before it.
//!
//! While such a server is *heard*, copies of what was read on its connection live as long as their entries. They
//! are removed when the server tells of a change, and served only until the bound after the latest time at
//! which the server was known to have told everything.

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::{L1, L1s};
use crate::flight::SharedState;
use crate::{Key, Timestamp};

/// Copies that were removed. Dropping their values may run code of the user.
#[doc(hidden)]
pub type RemovedCopies = Vec<Box<dyn Any + Send>>;

#[doc(hidden)]
#[allow(missing_docs)]
impl SharedState {
    /// Returns the prefix of the keys of an L1, if there is an L1.
    pub fn l1_prefix(&self) -> Option<Box<str>> {
        let l1 = self.l1s.alive().next()?;
        Some(l1.prefix.clone())
    }

    /// Returns the least bound of the L1s.
    pub fn max_staleness(&self) -> Option<Duration> {
        self.l1s.alive().map(|l1| l1.max_staleness).min()
    }

    /// The server has told that a key was changed.
    pub fn changed(&self, key: &str) -> RemovedCopies {
        let key = Key::new(key);
        self.l1s.version(&key).fetch_add(1, Ordering::SeqCst);
        let take = |l1: Arc<L1>| l1.memory.take_copy(&l1.key(&key)?);
        self.l1s.alive().filter_map(take).collect()
    }

    /// The server has told that any key may have been changed.
    pub fn changed_all(&self) -> RemovedCopies {
        self.l1s.epoch.fetch_add(1, Ordering::SeqCst);
        self.l1s.alive().map(|l1| l1.memory.take_copies()).collect()
    }

    /// The server has told of all changes that were made before `heard`.
    pub fn heard(&self, heard: Instant) {
        for l1 in self.l1s.alive() {
            // In this order: if the thread pauses in between, the copies end too early, not too late.
            let now = l1.clock.now();
            let until = now.after(l1.max_staleness).before(heard.elapsed());
            l1.memory.serve_until(until);
            l1.is_watched.store(true, Ordering::SeqCst);
        }
    }

    /// The server tells of changes no longer, or may have lost some.
    pub fn unheard(&self) -> RemovedCopies {
        for l1 in self.l1s.alive() {
            l1.is_watched.store(false, Ordering::SeqCst);
        }
        let removed = self.changed_all();
        // From now on there are only copies that end by themselves.
        for l1 in self.l1s.alive() {
            l1.memory.serve_until(Timestamp::MAX);
        }
        removed
    }
}

impl L1s {
    fn alive(&self) -> impl Iterator<Item = Arc<L1>> {
        let l1s = self.list();
        (0..l1s.len()).filter_map(move |at| Weak::upgrade(&l1s[at]))
    }
}
