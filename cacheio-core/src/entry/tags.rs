//! Tags: invalidation of a group of entries in O(1).
//!
//! A tag has a version. An entry records the versions of its tags from before its value was read or
//! loaded. To invalidate a tag changes its version: entries with another one are invalid. This needs no
//! clock and no list of keys.
//!
//! In memory, a version is a count. On a server it is a random number under a key of its own
//! ([`KeyRule::of_tag`](crate::KeyRule::of_tag)), so that a tag whose version was lost never gets an old
//! version again. The counts then only tell which loads of this process began before an invalidation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The tags of all caches of one store.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    table: Mutex<Table>,
    /// The number of invalidations.
    invalidations: AtomicU64,
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
    pub(crate) fn stamp(&self, prefix: &str, tags: &[impl AsRef<str>]) -> Stamps {
        if tags.is_empty() {
            return Stamps::default();
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = tags
            .iter()
            .map(|tag| {
                let tag = tag.as_ref();
                let counter = match table.get(prefix, tag) {
                    Some(counter) => Arc::clone(counter),
                    None => table.insert(prefix, tag),
                };
                let seen = counter.load(Ordering::Acquire);
                Stamp { counter, seen }
            })
            .collect();
        Stamps {
            counts: stamps,
            on_server: ServerVersions::None,
        }
    }

    /// Invalidates all entries with one of `tags`.
    pub(crate) fn invalidate(&self, prefix: &str, tags: &[impl AsRef<str>]) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for tag in tags {
            // If a tag has no counter, no entry has the tag.
            if let Some(counter) = table.get(prefix, tag.as_ref()) {
                counter.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.invalidations.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the names of the tags of a namespace that entries have, by their counters.
    fn names(&self, prefix: &str) -> HashMap<*const AtomicU64, TagName> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = table.counters.get(prefix).into_iter().flatten();
        let names = counters.map(|(name, counter)| {
            let _counter = Arc::clone(counter);
            let name = name.clone();
            (Arc::as_ptr(counter), TagName { name, _counter })
        });
        names.collect()
    }

    /// Returns the number of invalidations up to now.
    pub(crate) fn invalidations(&self) -> u64 {
        self.invalidations.load(Ordering::Acquire)
    }

    /// Returns the counts that `tags` had when there were `invalidations`; `None` if there was another
    /// invalidation since. The tags of an entry on a server are not known before it is read.
    pub(crate) fn stamp_as_of(
        &self,
        invalidations: u64,
        prefix: &str,
        tags: &[impl AsRef<str>],
    ) -> Option<Stamps> {
        let stamps = self.stamp(prefix, tags);
        (tags.is_empty() || self.invalidations() == invalidations).then_some(stamps)
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

/// The names of tags, which entries in memory do not have.
#[derive(Debug)]
pub(crate) struct TagNames<'a> {
    tags: &'a Tags,
    prefix: &'a str,
    names: HashMap<*const AtomicU64, TagName>,
}

/// The name of a tag, and its counter, which keeps the address from being that of another one.
#[derive(Debug)]
struct TagName {
    name: Box<str>,
    _counter: Arc<AtomicU64>,
}

impl<'a> TagNames<'a> {
    pub(crate) fn new(tags: &'a Tags, prefix: &'a str) -> Self {
        Self {
            tags,
            prefix,
            names: HashMap::new(),
        }
    }

    /// Returns the names of the tags of an entry of the namespace; `None` for another one.
    pub(crate) fn of(&mut self, stamps: &Stamps) -> Option<Vec<&str>> {
        let is_known = |stamp: &Stamp| self.names.contains_key(&Arc::as_ptr(&stamp.counter));
        if !stamps.counts.iter().all(is_known) {
            self.names = self.tags.names(self.prefix);
        }
        let counters = stamps
            .counts
            .iter()
            .map(|stamp| Arc::as_ptr(&stamp.counter));
        counters
            .map(|counter| Some(&*self.names.get(&counter)?.name))
            .collect()
    }
}

/// The versions of the tags of an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamps {
    counts: Vec<Stamp>,
    on_server: ServerVersions,
}

/// The versions on the server, for a store of bytes.
#[derive(Clone, Debug, Default)]
pub(crate) enum ServerVersions {
    /// There are no tags, or no server.
    #[default]
    None,
    Known(Arc<[TagVersion]>),
    /// They could not be read: a loaded value is not stored.
    Unknown,
}

/// The version of a tag on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagVersion {
    pub(crate) tag: Box<str>,
    pub(crate) version: u64,
}

#[derive(Clone, Debug)]
struct Stamp {
    counter: Arc<AtomicU64>,
    seen: u64,
}

impl Stamps {
    pub(crate) fn with_versions(self, on_server: ServerVersions) -> Self {
        Self { on_server, ..self }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Returns the same stamps without the versions on the server.
    pub(crate) fn in_process(&self) -> Self {
        Self {
            counts: self.counts.clone(),
            on_server: ServerVersions::None,
        }
    }

    /// Returns whether no tag was invalidated by this process since.
    pub(crate) fn are_current(&self) -> bool {
        self.counts
            .iter()
            .all(|stamp| stamp.counter.load(Ordering::Acquire) == stamp.seen)
    }

    /// Returns whether no tag was invalidated by another process between these stamps and `others`.
    pub(crate) fn agree_with(&self, others: &Self) -> bool {
        match (&self.on_server, &others.on_server) {
            (ServerVersions::Known(versions), ServerVersions::Known(others)) => {
                versions.iter().all(|version| {
                    let mut others = others.iter();
                    let other = others.find(|other| other.tag == version.tag);
                    other.is_none_or(|other| other.version == version.version)
                })
            }
            _ => true,
        }
    }

    /// Returns the versions on the server; `None` if they are not known.
    pub(crate) fn versions(&self) -> Option<&[TagVersion]> {
        match &self.on_server {
            ServerVersions::None => Some(&[]),
            ServerVersions::Known(versions) => Some(versions),
            ServerVersions::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

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
    fn a_counter_lives_as_long_as_its_address_stands_for_a_name() {
        let tags = Tags::default();
        let stamps = tags.stamp("", &names(&["a"]));
        let mut known = TagNames::new(&tags, "");
        assert_eq!(known.of(&stamps).unwrap(), ["a"]);
        let counter = Arc::downgrade(&stamps.counts[0].counter);
        drop(stamps);
        for number in 0..200 {
            tags.stamp("", &[Cow::Owned(number.to_string())]);
        }
        assert!(counter.upgrade().is_some());
    }

    #[test]
    fn stamps_of_an_earlier_time_are_refused_after_an_invalidation() {
        let tags = Tags::default();
        let before = tags.invalidations();
        assert!(tags.stamp_as_of(before, "", &["a"]).is_some());
        tags.invalidate("", &["b"]);
        assert!(tags.stamp_as_of(before, "", &["a"]).is_none());
        assert!(tags.stamp_as_of(before, "", &[""; 0]).is_some());
        let now = tags.invalidations();
        assert!(
            tags.stamp_as_of(now, "", &["a"])
                .is_some_and(|stamps| stamps.are_current())
        );
    }

    #[test]
    fn stamps_agree_unless_a_tag_has_two_versions() {
        let stamps = |versions: &[(&str, u64)]| {
            let versions = versions.iter().map(|(tag, version)| TagVersion {
                tag: (*tag).into(),
                version: *version,
            });
            Stamps::default().with_versions(ServerVersions::Known(versions.collect()))
        };
        let ab = stamps(&[("a", 1), ("b", 2)]);
        assert!(ab.agree_with(&ab) && ab.agree_with(&stamps(&[("c", 1)])));
        assert!(ab.agree_with(&stamps(&[("b", 2), ("a", 1)])));
        assert!(!ab.agree_with(&stamps(&[("b", 3)])));
        assert!(ab.agree_with(&Stamps::default()) && Stamps::default().agree_with(&ab));
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
