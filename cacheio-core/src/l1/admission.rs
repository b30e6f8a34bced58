//! Which reads make copies while memory is full.
//!
//! Then a copy takes the place of another one, which is a loss if its key is not read again. So the first read of a
//! key is only remembered, and the next one makes the copy: the doorkeeper of `TinyLFU` (Einziger, Friedman and Manes,
//! 2017), with fingerprints in place of a Bloom filter. A read that makes no copy is a plain one, without the TTL of
//! the entry, and the server need not tell of changes of its key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::Key;

/// The keys that were read last, as fingerprints: about twice as many as memory has entries.
#[derive(Default)]
pub(crate) struct Admission {
    /// Each has the fingerprints of [`PER_BUCKET`] keys, the latest one in its lowest bits.
    buckets: RwLock<Box<[AtomicU64]>>,
}

const PER_BUCKET: usize = 4;
const MIN_BUCKETS: usize = 64;
/// 8 MB.
const MAX_BUCKETS: usize = 1 << 20;

impl Admission {
    /// Returns whether a key was read not long ago, and remembers it. Memory has about this number of `entries`.
    ///
    /// Of two reads at the same time, one may be forgotten. A key is taken for another one in 4 of 65,536 cases.
    pub(crate) fn was_read(&self, key: &Key<'_>, entries: usize) -> bool {
        let wanted = (2 * entries / PER_BUCKET).clamp(MIN_BUCKETS, MAX_BUCKETS);
        let mut buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        if 2 * buckets.len() < wanted {
            drop(buckets);
            self.grow(wanted.next_power_of_two());
            buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        }
        let hash = key.hash();
        let bucket = &buckets[hash as usize & (buckets.len() - 1)];
        // Zero is no key.
        let fingerprint = (hash >> 48).max(1);
        let remembered = bucket.load(Ordering::Relaxed);
        let was_read = (0..PER_BUCKET).any(|at| remembered >> (16 * at) & 0xffff == fingerprint);
        if !was_read {
            bucket.store(remembered << 16 | fingerprint, Ordering::Relaxed);
        }
        was_read
    }

    /// Forgets all keys, and makes room for more: entries of a limited weight together may become lighter and more.
    fn grow(&self, count: usize) {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() < count {
            *buckets = (0..count).map(|_| AtomicU64::new(0)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(admission: &Admission, text: &str) -> bool {
        admission.was_read(&Key::new(text), 1_000)
    }

    #[test]
    fn a_key_that_was_read_is_remembered() {
        let admission = Admission::default();
        assert!(!read(&admission, "a"));
        assert!(read(&admission, "a") && read(&admission, "a"));
    }

    #[test]
    fn keys_that_take_turns_are_remembered() {
        let admission = Admission::default();
        let keys: Vec<_> = (0..100).map(|key| format!("key {key}")).collect();
        let first = keys.iter().filter(|key| read(&admission, key)).count();
        let second = keys.iter().filter(|key| read(&admission, key)).count();
        assert!(first < 5 && second > 95, "{first}, {second}");
    }

    #[test]
    fn keys_that_are_read_once_are_forgotten() {
        let admission = Admission::default();
        read(&admission, "a");
        let others = (0..100_000).map(|key| format!("key {key}"));
        let taken_for_others = others.filter(|key| read(&admission, key)).count();
        assert!(taken_for_others < 100, "{taken_for_others}");
        assert!(!read(&admission, "a"));
    }

    #[test]
    fn more_entries_need_more_fingerprints() {
        let admission = Admission::default();
        admission.was_read(&Key::new("a"), 1);
        let keys: Vec<_> = (0..1_000).map(|key| format!("key {key}")).collect();
        let read = |key: &&String| admission.was_read(&Key::new(key), 10_000);
        keys.iter().filter(read).count();
        assert!(keys.iter().filter(read).count() > 950);
    }
}
