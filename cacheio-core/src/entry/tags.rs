//! Tags: invalidation of a group of entries in O(1).
//!
//! A tag is a counter. An entry records the counters of its tags from before its value was read or
//! loaded. To invalidate a tag increments its counter: entries with an older count are invalid. This
//! needs no clock and no list of keys.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The tags of all caches of one store.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// The counters of the tags of each namespace, by its prefix.
    counters: HashMap<Box<str>, HashMap<Box<str>, Arc<AtomicU64>>>,
    len: usize,
    /// The size at which counters without entries are dropped.
    prune_at: usize,
}

impl Tags {
    /// Returns the current counts of `tags`.
    ///
    /// Call it before the value is read or loaded: later counts would hide an invalidation in between
    /// (`FusionCache` #628).
    pub(crate) fn stamp(&self, prefix: &str, tags: &[Cow<'static, str>]) -> Stamps {
        if tags.is_empty() {
            return Stamps::default();
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = tags
            .iter()
            .map(|tag| {
                let counter = match table.get(prefix, tag) {
                    Some(counter) => Arc::clone(counter),
                    None => table.insert(prefix, tag),
                };
                let seen = counter.load(Ordering::Acquire);
                Stamp { counter, seen }
            })
            .collect();
        Stamps(stamps)
    }

    /// Invalidates all entries with one of `tags`.
    pub(crate) fn invalidate(&self, prefix: &str, tags: &[Cow<'static, str>]) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for tag in tags {
            // If a tag has no counter, no entry has the tag.
            if let Some(counter) = table.get(prefix, tag) {
                counter.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

impl Table {
    fn get(&self, prefix: &str, tag: &str) -> Option<&Arc<AtomicU64>> {
        self.counters.get(prefix)?.get(tag)
    }

    fn insert(&mut self, prefix: &str, tag: &str) -> Arc<AtomicU64> {
        if self.len >= self.prune_at {
            self.prune();
        }
        let counter = Arc::new(AtomicU64::new(0));
        let counters = self.counters.entry(prefix.into()).or_default();
        counters.insert(tag.into(), Arc::clone(&counter));
        self.len += 1;
        counter
    }

    fn prune(&mut self) {
        self.counters.retain(|_, counters| {
            counters.retain(|_, counter| Arc::strong_count(counter) > 1);
            !counters.is_empty()
        });
        self.len = self.counters.values().map(HashMap::len).sum();
        self.prune_at = (self.len * 2).max(64);
    }
}

/// The counts of an entry's tags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamps(Vec<Stamp>);

#[derive(Clone, Debug)]
struct Stamp {
    counter: Arc<AtomicU64>,
    seen: u64,
}

impl Stamps {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn are_current(&self) -> bool {
        self.0
            .iter()
            .all(|stamp| stamp.counter.load(Ordering::Acquire) == stamp.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tags: &[&'static str]) -> Vec<Cow<'static, str>> {
        tags.iter().map(|tag| Cow::Borrowed(*tag)).collect()
    }

    #[test]
    fn an_entry_is_invalid_if_one_of_its_tags_is() {
        let tags = Tags::default();
        let both = tags.stamp("", &names(&["a", "b"]));
        let other = tags.stamp("", &names(&["c"]));
        assert!(both.are_current() && other.are_current());
        tags.invalidate("", &names(&["b", "unknown"]));
        assert!(!both.are_current());
        assert!(other.are_current());
        assert!(tags.stamp("", &names(&["a", "b"])).are_current());
    }

    #[test]
    fn a_tag_belongs_to_its_namespace() {
        let tags = Tags::default();
        let none = tags.stamp("", &names(&["shop:a"]));
        let shop = tags.stamp("shop:", &names(&["a"]));
        tags.invalidate("", &names(&["shop:a"]));
        assert!(!none.are_current() && shop.are_current());
        tags.invalidate("shop:", &names(&["a"]));
        assert!(!shop.are_current());
    }

    #[test]
    fn tags_without_entries_are_dropped() {
        let tags = Tags::default();
        let kept = tags.stamp("", &names(&["kept"]));
        for i in 0..10_000 {
            tags.stamp("", &[Cow::Owned(format!("tag {i}"))]);
        }
        assert!(tags.table.lock().unwrap().counters[""].len() <= 129);
        tags.invalidate("", &names(&["kept"]));
        assert!(!kept.are_current());
    }
}
