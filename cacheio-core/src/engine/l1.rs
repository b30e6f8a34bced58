//! L1 before a server: what is looked up there, and what becomes a copy there.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::lookup::{CachedValue, Lookup};
use super::tags::{Versions, tags_of};
use crate::config::options::DEFAULT_OPTIONS;
use crate::entry::expiry::Expiry;
use crate::entry::tags::Stamps;
use crate::key::Key;
use crate::l1::{CopyGuard, CopyTerms, L1, Ticket};
use crate::value::downcast;
use crate::{Entry, KeyRule, Object, Options, Payload, RefreshAhead, Result, Value};

/// What was read under a key.
#[derive(Default)]
pub(super) struct Read {
    pub(super) entry: Option<Entry>,
    copy: Option<ReadCopy>,
}

/// What is needed to copy an entry that was read.
struct ReadCopy {
    ticket: Ticket,
    left: Option<Duration>,
    is_watched: bool,
    stamps: Stamps,
}

/// An entry that is not copied.
impl From<Option<Entry>> for Read {
    fn from(entry: Option<Entry>) -> Self {
        Self { entry, copy: None }
    }
}

/// A value of a load that becomes a copy.
pub(super) struct LoadedCopy {
    /// The position of its key in the publication.
    pub(super) index: usize,
    pub(super) expiry: Option<Expiry>,
    pub(super) ttl: Option<Duration>,
    pub(super) object: Arc<dyn Object>,
    pub(super) stamps: Stamps,
    pub(super) refresh_ahead: RefreshAhead,
    /// How long ago the load began, if the server does not tell that the value is right.
    pub(super) unconfirmed_for: Duration,
}

impl LoadedCopy {
    /// Does not rely on a store that failed: the copy is as old as the load, which began so long ago.
    pub(super) fn unconfirmed(self, since_load: Duration) -> Self {
        Self {
            unconfirmed_for: since_load,
            ..self
        }
    }
}

impl Engine {
    /// Returns the L1 of this cache, if a call uses it.
    fn l1(&self, skip_l1: bool) -> Option<&Arc<L1>> {
        self.driver.l1().filter(|_| !skip_l1)
    }

    /// Returns whether there is an L1.
    pub fn has_l1(&self) -> bool {
        self.driver.l1().is_some()
    }

    /// Removes all copies of this cache.
    pub fn clear_l1(&self) {
        if let Some(l1) = self.driver.l1() {
            self.shared.l1s.clear_one(l1);
        }
    }

    /// Removes the copies of keys that are written, from all L1s before the store, now and when the guard is
    /// dropped.
    pub(super) fn remove_copies<'a>(&'a self, keys: &'a [Key<'a>]) -> CopyGuard<'a> {
        self.shared.l1s.remove(keys)
    }

    /// Returns the live copy of a key, if it has the type that is asked for.
    pub(super) fn copy<V: Value>(&self, key: &Key<'_>, skip_l1: bool) -> Option<CachedValue<V>> {
        let l1 = self.l1(skip_l1)?;
        typed(l1.memory().get(&l1.key(key)?))
    }

    /// Returns the copies of keys, and the keys that have none.
    pub(super) fn copies<'k, V: Value>(
        &self,
        keys: &[Key<'k>],
        skip_l1: bool,
    ) -> (Vec<Option<CachedValue<V>>>, Vec<Key<'k>>) {
        let copies: Vec<_> = keys.iter().map(|key| self.copy(key, skip_l1)).collect();
        let missing = keys.iter().zip(&copies).filter(|(_, copy)| copy.is_none());
        let missing = missing.map(|(key, _)| *key).collect();
        (copies, missing)
    }

    /// Returns the copy whose key in L1 has this text, which is that of the caller's key.
    pub(super) fn copy_of_text<V: Value>(&self, text: &Key<'_>) -> Option<CachedValue<V>> {
        match KeyRule::looks_replaced(text.text()) {
            true => None,
            false => typed(self.driver.l1()?.memory().get(text)),
        }
    }

    /// Returns the copy of a key that the server cannot hold: the [probe](Self::probe) does not know its key
    /// in L1.
    pub(super) fn copy_of_replaced<V: Value>(
        &self,
        key: &Key<'_>,
        skip_l1: bool,
    ) -> Option<CachedValue<V>> {
        match KeyRule::looks_replaced(key.text()) {
            true => self.copy(key, skip_l1),
            false => None,
        }
    }

    /// Whether there is a live copy of a key, of whatever type.
    pub(super) fn has_copy(&self, key: &Key<'_>, skip_l1: bool) -> bool {
        let copy = self.l1(skip_l1).and_then(|l1| {
            let key = l1.key(key)?;
            l1.memory().has(&key).ok()
        });
        copy.unwrap_or_default()
    }

    /// Returns tickets for a read of keys that is about to begin; none if nothing is copied.
    pub(super) fn tickets(&self, keys: &[Key<'_>], skip_l1: bool) -> Option<Vec<Ticket>> {
        let l1 = self.l1(skip_l1)?;
        let l1s = &self.shared.l1s;
        Some(keys.iter().map(|key| l1s.ticket(key, l1)).collect())
    }

    /// Returns tickets for a read, for those keys whose entries become copies: while memory is full, those that
    /// were read not long ago.
    pub(super) fn tickets_to_read(
        &self,
        keys: &[Key<'_>],
        skip_l1: bool,
    ) -> Option<Vec<Option<Ticket>>> {
        let l1 = self.l1(skip_l1)?;
        let l1s = &self.shared.l1s;
        let ticket = |key| l1.admits(key).then(|| l1s.ticket(key, l1));
        Some(keys.iter().map(ticket).collect())
    }

    /// Gets entries, with what is left of their TTLs if they may be copied.
    pub(super) async fn get_entries(
        &self,
        keys: &[Key<'_>],
        are_copied: bool,
    ) -> Result<Vec<Option<Entry>>> {
        match are_copied {
            true => self.driver.get_with_ttls(keys).await,
            false => self.driver.get_many(keys).await,
        }
    }

    /// Adds to entries what copies of them need. `versions` has those of their tags. A store that returns too few
    /// entries has none of the others.
    pub(super) fn reads(
        &self,
        entries: Vec<Option<Entry>>,
        tickets: Option<Vec<Option<Ticket>>>,
        versions: &Versions,
    ) -> Vec<Read> {
        let Some(tickets) = tickets else {
            return entries.into_iter().map(Read::from).collect();
        };
        let reads = entries.into_iter().zip(tickets);
        reads
            .map(|(entry, ticket)| Read {
                copy: entry
                    .as_ref()
                    .zip(ticket)
                    .and_then(|(entry, ticket)| self.read_copy(entry, ticket, versions)),
                entry,
            })
            .collect()
    }

    fn read_copy(&self, entry: &Entry, ticket: Ticket, versions: &Versions) -> Option<ReadCopy> {
        if !entry.may_be_copied {
            return None;
        }
        let tags = tags_of(entry);
        let names: Vec<_> = tags.iter().map(|tag| &*tag.tag).collect();
        let stamps = (self.shared.l1s).stamp(&ticket, &self.tag_keys(&names))?;
        Some(ReadCopy {
            ticket,
            left: entry.ends_in(),
            is_watched: entry.is_watched && versions.are_watched(&names),
            stamps,
        })
    }

    /// Decodes what was read, and copies a live entry into L1.
    pub(super) fn decode_read<V: Value>(
        &self,
        key: &Key<'_>,
        read: Read,
        options: Option<&Options>,
    ) -> Result<Lookup<V>> {
        let lookup = match options {
            Some(options) => {
                let stale_for = self.stale_for(options);
                self.decode_entry::<V>(read.entry, stale_for, self.refresh_ahead(options))
            }
            None => self.decode_live::<V>(read.entry),
        }?;
        if let (Some(copy), Lookup::Live(cached)) = (read.copy, &lookup)
            && let Some(l1) = self.driver.l1()
        {
            let terms = CopyTerms {
                left: copy.left,
                is_watched: copy.is_watched,
                expiry: cached.expiry.as_ref(),
                now: self.clock.now(),
                refresh_ahead: self.refresh_ahead(options.unwrap_or(&DEFAULT_OPTIONS)),
                unconfirmed_for: Duration::ZERO,
            };
            let object = Arc::clone(&cached.value) as _;
            let l1s = &self.shared.l1s;
            l1.store(l1s, key, &copy.ticket, object, copy.stamps, &terms);
        }
        Ok(lookup)
    }

    /// Copies values that were loaded, at the end of their publication.
    pub(super) fn copy_loaded(
        &self,
        keys: &[Key<'_>],
        tickets: &[Option<Ticket>],
        loaded: Vec<LoadedCopy>,
    ) {
        let Some(l1) = self.driver.l1() else {
            return;
        };
        for copy in loaded {
            let Some(ticket) = tickets.get(copy.index).and_then(Option::as_ref) else {
                continue;
            };
            let terms = CopyTerms {
                left: copy.ttl,
                // The server forgets to tell of a key that its own connection writes.
                is_watched: false,
                expiry: copy.expiry.as_ref(),
                now: self.clock.now(),
                refresh_ahead: copy.refresh_ahead,
                unconfirmed_for: copy.unconfirmed_for,
            };
            let (l1s, key) = (&self.shared.l1s, &keys[copy.index]);
            l1.store(l1s, key, ticket, copy.object, copy.stamps, &terms);
        }
    }
}

/// Returns the value of a copy, if it has this type. The value of another type is not converted: that type may
/// have dropped a part of what the server has.
fn typed<V: Value>(copy: Result<Option<Entry>>) -> Option<CachedValue<V>> {
    let Entry { payload, meta, .. } = copy.ok()??;
    let Payload::Object(object) = payload else {
        return None;
    };
    Some(CachedValue {
        is_copy: true,
        expiry: meta.and_then(|meta| meta.expiry),
        ..CachedValue::uncached(downcast(object)?)
    })
}
