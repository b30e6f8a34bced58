//! Entries that expire when nobody reads them: sliding expiry.
//!
//! In memory an entry's meta knows when it was last read. A server knows only a TTL, which those
//! who read the entry move: not at every reading, but when an eighth of the time that it may be
//! idle has passed since this process did; for that it stays so much longer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::stale::Kept;
use super::{Engine, Making, about};
use crate::entry::expiry::Expiry;
use crate::key::Key;
use crate::{Form, Operation, Timestamp, Ttl, Value};

/// When this process last moved the TTL of which key.
#[derive(Debug, Default)]
pub(super) struct Touches(Mutex<HashMap<u64, Timestamp>>);

/// So many are remembered: then all are forgotten, which costs round trips and nothing else.
const MOST: usize = 4_096;

impl Touches {
    /// Whether it was longer ago than this; if so, it is noted as done now.
    fn is_due(&self, key: u64, now: Timestamp, every: Duration) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&key).is_some_and(|last| now < last.after(every)) {
            return false;
        }
        if last.len() >= MOST {
            last.clear();
        }
        last.insert(key, now);
        true
    }
}

impl Engine {
    /// Notes that an entry has been read, if anybody is to know.
    pub(super) async fn used<V: Value>(&self, key: &Key<'_>, kept: &Kept<V>) {
        let Some((expiry, idle)) = self.used_here(kept) else {
            return;
        };
        let now = self.clock.now();
        if !self.touches.is_due(key.hash(), now, idle / 8) {
            return;
        }
        let ttl = stays(idle).min(expiry.stale_until.since(now));
        if let Err(error) = self.driver.touch(key, Some(ttl)).await {
            self.store_failed(&about(error, Operation::Touch, key));
        }
    }

    /// The same as far as memory is to know; what a server is still to be told.
    pub(super) fn used_here<V: Value>(&self, kept: &Kept<V>) -> Option<(Expiry, Duration)> {
        let expiry = kept.expiry?;
        let idle = expiry.idle?;
        let Some(meta) = &kept.meta else {
            return Some((expiry, idle));
        };
        meta.used(self.clock.now(), idle);
        None
    }

    /// How long the store keeps what is made so.
    pub(super) fn physical(&self, ttl: Option<Duration>, making: Making) -> Option<Duration> {
        let idle = making.idle.filter(|_| self.driver.form() == Form::Bytes);
        physical(ttl, making.stale_for, idle)
    }
}

/// How long a server keeps an entry: after its TTL as long as it is served then, but no longer than
/// it may be idle.
pub(super) fn physical(
    ttl: Option<Duration>,
    stale_for: Duration,
    idle: Option<Duration>,
) -> Option<Duration> {
    let whole = ttl.map(|ttl| ttl.saturating_add(stale_for));
    match idle.map(stays) {
        Some(idle) => Some(whole.map_or(idle, |whole| whole.min(idle))),
        None => whole,
    }
}

/// How long a server keeps what nobody reads.
fn stays(idle: Duration) -> Duration {
    idle.saturating_add(idle / 8).min(Ttl::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    #[test]
    fn a_ttl_is_moved_now_and_then() {
        let touches = Touches::default();
        assert!(touches.is_due(1, NOW, SECOND));
        assert!(!touches.is_due(1, NOW, SECOND));
        assert!(touches.is_due(2, NOW, SECOND));
        assert!(touches.is_due(1, NOW.after(SECOND), SECOND));
    }

    #[test]
    fn no_more_is_remembered_than_fits() {
        let touches = Touches::default();
        for key in 0..10_000 {
            assert!(touches.is_due(key, NOW, SECOND));
        }
        assert!(touches.0.lock().unwrap().len() <= MOST);
    }
}
