//! Writes by a store itself: for a cache, or for a program that uses the store without one.

use std::sync::atomic::Ordering;

use super::{ClearCopiesGuard, CopyGuard, L1s};
use crate::Key;
use crate::flight::SharedState;

/// What a write by a store adds to the version of its key. A write of a cache adds one.
const STORE_WRITE: u64 = 1 << 32;
/// What a change adds that the server has told of.
pub(super) const TOLD: u64 = 1 << 48;

/// Returns whether no other write has taken a version to this one since a cache began to store a loaded value. The
/// store that was asked to store it adds a write of its own, and the server may tell of that.
pub(super) fn has_one_writer(version: u64, since: u64) -> bool {
    let changes = version.wrapping_sub(since);
    changes / TOLD <= 1 && matches!(changes % TOLD, 0 | STORE_WRITE)
}

#[doc(hidden)]
#[allow(missing_docs)]
impl SharedState {
    /// Begins a write by a store. When it ends, in whatever way, the copies of the keys are removed: the server tells of
    /// it only what was read on the same connection.
    pub fn store_writes<'a>(&'a self, keys: &'a [Key<'a>]) -> StoreWrite<'a> {
        StoreWrite {
            l1s: &self.l1s,
            keys,
        }
    }

    /// Does the same for all keys that begin with `prefix`.
    pub fn store_clears<'a>(&'a self, prefix: &'a str) -> StoreClear<'a> {
        StoreClear {
            _copies: self.l1s.clear(prefix),
        }
    }
}

#[doc(hidden)]
#[allow(missing_docs)]
#[derive(Debug)]
pub struct StoreWrite<'a> {
    l1s: &'a L1s,
    keys: &'a [Key<'a>],
}

impl Drop for StoreWrite<'_> {
    fn drop(&mut self) {
        if self.l1s.is_unused() {
            return;
        }
        for key in self.keys {
            let version = self.l1s.version(key);
            version.fetch_add(STORE_WRITE, Ordering::SeqCst);
        }
        let mut copies = CopyGuard {
            l1s: self.l1s,
            keys: self.keys,
        };
        copies.remove_stored();
        copies.keys = &[];
    }
}

#[doc(hidden)]
#[allow(missing_docs)]
#[derive(Debug)]
pub struct StoreClear<'a> {
    _copies: ClearCopiesGuard<'a>,
}
