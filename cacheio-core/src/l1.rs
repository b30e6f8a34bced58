//! L1: copies of the entries of a server, in the memory of this process.
//!
//! A *copy* is served without a request to the server, for at most the *bound* (`max_staleness`) from the time when
//! the server was asked for the entry, and no longer than the server keeps the entry.
//!
//! Two rules keep the values from before a write of this process out:
//!
//! 1. A read takes a *ticket* before its request is sent. What it finds becomes a copy only if the ticket
//!    still holds, which is checked under the lock of memory.
//! 2. A write invalidates the tickets of its key and then removes the copies, both when it begins and when it
//!    ends. So a copy that was stored before the removal is removed, and one that is stored later has a newer
//!    ticket. This is done in each L1 before the same store.
//!
//! The copy of an entry with tags depends on their keys, too: a change of such a key ends it. So a copy is made
//! only if no key of a tag was changed since the ticket was taken.
//!
//! This module does no I/O.

mod admission;
mod changes;
mod store_writes;
mod watch;

use self::admission::Admission;
use self::changes::Changes;
use self::store_writes::has_one_writer;
pub use self::watch::RemovedCopies;

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use once_cell::sync::OnceCell;

use crate::config::policies::RefreshAhead;
use crate::entry::expiry::Expiry;
use crate::entry::tags::{Stamps, Tags};
use crate::flight::sync::EventListener;
use crate::{
    Clock, Entry, Error, ErrorKind, Form, Key, KeyRule, Meta, Object, Result, Store, Timestamp,
};

/// Memory that can be an L1.
#[doc(hidden)]
pub trait L1Memory: Store {
    /// Stores an entry that lives until a time of the memory's clock, if `may_store` returns `true`. No other
    /// operation on the key takes place between the two. An entry that is too large is not stored.
    fn store_copy(
        &self,
        key: &Key<'_>,
        entry: Entry,
        until: Timestamp,
        may_store: &dyn Fn() -> bool,
    );

    /// Returns the number of entries if another entry has to be evicted for one of this key.
    fn entries_if_full(&self, key: &Key<'_>) -> Option<usize>;

    /// Removes the entry of a key, and returns it, so that its value is dropped where code of the user may run.
    fn take_copy(&self, key: &Key<'_>) -> Option<Box<dyn Any + Send>>;

    /// Removes all entries, and returns their number and them.
    fn take_copies(&self) -> (u64, Box<dyn Any + Send>);

    /// Sets the time from which on no entry is served.
    fn serve_until(&self, until: Timestamp);

    /// Returns the time from which on no entry is served.
    fn serves_until(&self) -> Timestamp;

    /// Returns whether it has a removal listener.
    fn has_listener(&self) -> bool;
}

/// The settings of an L1.
#[doc(hidden)]
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct L1Settings {
    pub memory: Arc<dyn L1Memory>,
    pub max_staleness: Duration,
    pub ttl: Option<Duration>,
}

impl L1Settings {
    /// The default of `max_staleness`.
    pub const MAX_STALENESS: Duration = Duration::from_secs(2);
    /// The least `max_staleness`: twice the lag of the clock by which copies are served.
    const MIN_STALENESS: Duration = Duration::from_millis(200);

    /// Creates the settings with the defaults.
    pub fn new(memory: Arc<dyn L1Memory>) -> Self {
        Self {
            memory,
            max_staleness: Self::MAX_STALENESS,
            ttl: None,
        }
    }

    /// Checks the settings, for a cache on a store of this form.
    pub(crate) fn check(&self, form: Form) -> Result<()> {
        let invalid = |message| Err(Error::new(ErrorKind::Config, message));
        if form == Form::Objects {
            return invalid(
                "`l1` is memory before a server, but the store of this cache is no server; remove `l1`",
            );
        }
        if self.memory.form() != Form::Objects {
            return invalid(
                "the memory of `l1` must keep values; build it without `through_codec`",
            );
        }
        if self.memory.has_listener() {
            return invalid(
                "the memory of `l1` must have no `on_removal`: an entry whose copy is removed remains on the server",
            );
        }
        if self.max_staleness < Self::MIN_STALENESS {
            return invalid("`max_staleness` must be at least 200 ms");
        }
        if self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return invalid("the TTL of `l1` must be greater than zero");
        }
        self.memory.check()
    }
}

/// The L1 of one cache.
pub(crate) struct L1 {
    memory: Arc<dyn L1Memory>,
    clock: Arc<dyn Clock>,
    /// The prefix of the keys on the server, which the keys in L1 do not have.
    prefix: Arc<str>,
    /// How long a copy is served at most after the server was asked, unless the server tells of changes.
    max_staleness: Duration,
    /// How long a copy is served at most in any case.
    ttl: Option<Duration>,
    admission: Admission,
    /// Whether the server tells of changes, and the memory knows until when its copies may be served.
    is_watched: AtomicBool,
    /// The number of copies that were removed because the server told of a change.
    invalidations: AtomicU64,
}

/// How long a copy may be served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyTerms<'a> {
    /// How long the server keeps the entry, from the request on, where that is known.
    pub(crate) left: Option<Duration>,
    pub(crate) expiry: Option<&'a Expiry>,
    /// The time by the clock of the expiry.
    pub(crate) now: Timestamp,
    pub(crate) refresh_ahead: RefreshAhead,
    /// Whether the server tells of changes.
    pub(crate) is_watched: bool,
    /// How old the value is that the server did not confirm: a load that could not be stored.
    pub(crate) unconfirmed_for: Duration,
}

impl CopyTerms<'_> {
    /// Returns how long a copy may be served, from the request to the server on; `None` for an entry of which
    /// there must be no copy.
    fn life(&self, max_staleness: Duration, ttl: Option<Duration>) -> Option<Duration> {
        let bound = max_staleness.saturating_sub(self.unconfirmed_for);
        let mut life = match self.is_watched {
            true => Duration::MAX,
            false => bound,
        };
        life = life.min(ttl.unwrap_or(Duration::MAX));
        life = life.min(self.left.unwrap_or(Duration::MAX));
        if let Some(expiry) = self.expiry {
            // The server has to hear of each read.
            if expiry.idle.is_some() {
                return None;
            }
            life = life.min(expiry.expires_at.since(self.now));
            // Others may have a refresh_ahead by which the entry is due earlier.
            if self.refresh_ahead == RefreshAhead::Never && expiry.expires_at != Timestamp::MAX {
                life = life.min(bound);
            }
            // From then on, the server is asked once in the life of a copy whether a refresh is due.
            let due_in = expiry.due_from(self.refresh_ahead).since(self.now);
            life = life.min(if due_in.is_zero() { bound } else { due_in });
        }
        (!life.is_zero()).then_some(life)
    }
}

impl L1 {
    pub(crate) fn new(settings: L1Settings, prefix: &str) -> Self {
        let L1Settings {
            memory,
            max_staleness,
            ttl,
        } = settings;
        Self {
            clock: memory.clock(),
            memory,
            prefix: prefix.into(),
            max_staleness,
            ttl,
            admission: Admission::default(),
            is_watched: AtomicBool::new(false),
            invalidations: AtomicU64::new(0),
        }
    }

    /// Returns whether the server is known to have told of all changes within the bound.
    pub(crate) fn is_trusted(&self) -> bool {
        self.is_watched.load(Ordering::SeqCst) && self.clock.now() < self.memory.serves_until()
    }

    pub(crate) fn invalidations(&self) -> u64 {
        self.invalidations.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn memory(&self) -> &dyn Store {
        &*self.memory
    }

    /// Returns the key in L1 of a key of the server. Keys of other caches have none.
    pub(crate) fn key<'a>(&self, key: &Key<'a>) -> Option<Key<'a>> {
        key.text().strip_prefix(&*self.prefix).map(Key::new)
    }

    /// Returns whether a read of a key makes a copy: there is room for it, or the key was read not long ago.
    pub(crate) fn admits(&self, key: &Key<'_>) -> bool {
        let entries = self
            .key(key)
            .and_then(|copied| self.memory.entries_if_full(&copied));
        entries.is_none_or(|entries| self.admission.was_read(key, entries))
    }

    /// Stores a copy if the ticket of its read still holds.
    pub(crate) fn store(
        &self,
        l1s: &L1s,
        key: &Key<'_>,
        ticket: &Ticket,
        object: Arc<dyn Object>,
        stamps: Stamps,
        terms: &CopyTerms<'_>,
    ) {
        let terms = CopyTerms {
            is_watched: terms.is_watched && ticket.is_watched,
            ..*terms
        };
        let life = terms.life(self.max_staleness, self.ttl);
        let (Some(life), Some(copied)) = (life, self.key(key)) else {
            return;
        };
        let mut entry = Entry::object(object);
        let expiry = terms.expiry.copied();
        // Other texts may be the text of this key in L1.
        let has_replaced_key = KeyRule::looks_replaced(copied.text());
        if !stamps.is_empty() || expiry.is_some() || has_replaced_key {
            let meta = Meta::of_copy(stamps, expiry, has_replaced_key);
            entry.meta = Some(Arc::new(meta));
        }
        let until = ticket.asked_at.after(life);
        let holds = || l1s.holds(key, ticket);
        self.memory.store_copy(&copied, entry, until, &holds);
    }
}

impl fmt::Debug for L1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L1")
            .field("memory", &self.memory)
            .field("max_staleness", &self.max_staleness)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// What a read was told before its request was sent. It holds until the key is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    epoch: u64,
    version: u64,
    /// The number of changes of the keys of tags.
    tag_changes: u64,
    /// By the clock of the L1.
    asked_at: Timestamp,
    /// Whether the server told of changes. If that ends, the epoch moves.
    pub(crate) is_watched: bool,
}

/// The number of versions. Two keys with the same version at worst prevent each other's copies.
const VERSIONS: usize = 4096;

/// The L1 of a cache, and those of its settings that are read without keeping it alive.
#[derive(Clone)]
struct RegisteredL1 {
    l1: Weak<L1>,
    prefix: Arc<str>,
    max_staleness: Duration,
}

impl RegisteredL1 {
    fn is_alive(&self) -> bool {
        self.l1.strong_count() > 0
    }
}

/// The L1s of all caches on one store, and what tells whether tickets hold.
///
/// The primitives are those of the standard library also under the model checker, because they are used under
/// the lock of memory, which it does not know.
#[derive(Default)]
pub(crate) struct L1s {
    /// Whether there was ever an L1.
    is_used: AtomicBool,
    l1s: RwLock<Arc<[RegisteredL1]>>,
    /// The number of writes of the keys with the same hash.
    versions: OnceCell<Box<[AtomicU64]>>,
    /// The number of times that all copies were removed.
    epoch: AtomicU64,
    changes: Changes,
    /// The changes of the keys of tags.
    tag_keys: Tags,
}

impl L1s {
    /// Adds the L1 of a new cache.
    pub(crate) fn register(&self, l1: &Arc<L1>) {
        let mut l1s = self.l1s.write().unwrap_or_else(PoisonError::into_inner);
        let alive = l1s.iter().filter(|l1| l1.is_alive()).cloned();
        let registered = RegisteredL1 {
            l1: Arc::downgrade(l1),
            prefix: Arc::clone(&l1.prefix),
            max_staleness: l1.max_staleness,
        };
        *l1s = alive.chain([registered]).collect();
        self.is_used.store(true, Ordering::SeqCst);
    }

    /// Returns a ticket for a read that is about to ask the server.
    pub(crate) fn ticket(&self, key: &Key<'_>, l1: &L1) -> Ticket {
        Ticket {
            epoch: self.epoch.load(Ordering::SeqCst),
            version: self.version(key).load(Ordering::SeqCst),
            tag_changes: self.tag_keys.invalidations(),
            asked_at: l1.clock.now(),
            is_watched: l1.is_watched.load(Ordering::SeqCst),
        }
    }

    /// Returns the stamps of a copy whose tags have these keys; `None` if one of them was changed since the ticket
    /// was taken.
    pub(crate) fn stamp(&self, ticket: &Ticket, tag_keys: &[String]) -> Option<Stamps> {
        self.tag_keys.stamp_as_of(ticket.tag_changes, "", tag_keys)
    }

    /// Ends the copies of entries with a tag, if this is its key. Its version must have been removed before: else a
    /// read with a new ticket could find it.
    fn end_tagged(&self, key: &Key<'_>) {
        if KeyRule::looks_replaced(key.text()) {
            self.tag_keys.invalidate("", &[key.text()]);
        }
    }

    fn holds(&self, key: &Key<'_>, ticket: &Ticket) -> bool {
        self.epoch.load(Ordering::SeqCst) == ticket.epoch
            && self.version(key).load(Ordering::SeqCst) == ticket.version
    }

    fn version(&self, key: &Key<'_>) -> &AtomicU64 {
        let versions = || (0..VERSIONS).map(|_| AtomicU64::new(0)).collect();
        &self.versions.get_or_init(versions)[(key.hash() >> 20) as usize % VERSIONS]
    }

    /// Returns a listener that is notified of the next change of a key.
    pub(crate) fn listen(&self, key: &Key<'_>) -> EventListener {
        self.changes.listen(key)
    }

    /// Invalidates the tickets of a key, because it is written. Returns its version before.
    fn invalidate(&self, key: &Key<'_>) -> u64 {
        self.add_change(key, 1)
    }

    fn add_change(&self, key: &Key<'_>, change: u64) -> u64 {
        let before = self.version(key).fetch_add(change, Ordering::SeqCst);
        self.changes.notify(key);
        before
    }

    /// Invalidates the tickets of all keys.
    fn invalidate_all(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.changes.notify_all();
    }

    /// Removes the copies of keys that are written, now and when the guard is dropped.
    pub(crate) fn remove<'a>(&'a self, keys: &'a [Key<'a>]) -> CopyGuard<'a> {
        let guard = CopyGuard { l1s: self, keys };
        guard.remove();
        guard
    }

    /// Removes all copies of keys that begin with `prefix`, now and when the guard is dropped.
    pub(crate) fn clear<'a>(&'a self, prefix: &'a str) -> ClearCopiesGuard<'a> {
        let guard = ClearCopiesGuard { l1s: self, prefix };
        guard.clear();
        guard
    }

    /// Removes the copies in one L1.
    pub(crate) fn clear_one(&self, l1: &L1) {
        self.invalidate_all();
        clear(l1);
    }

    fn is_unused(&self) -> bool {
        !self.is_used.load(Ordering::SeqCst)
    }

    /// Returns the L1s. The list is not locked while they are used: the values that are removed from them run
    /// code of the user when they are dropped.
    fn list(&self) -> Arc<[RegisteredL1]> {
        let l1s = self.l1s.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&l1s)
    }
}

impl fmt::Debug for L1s {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L1s").finish_non_exhaustive()
    }
}

fn clear(l1: &L1) {
    // Memory without a namespace cannot fail.
    let _ = l1.memory.clear("");
}

/// A write of keys: their copies were removed, and are removed again when it ends.
#[derive(Debug)]
pub(crate) struct CopyGuard<'a> {
    l1s: &'a L1s,
    keys: &'a [Key<'a>],
}

impl CopyGuard<'_> {
    fn remove(&self) {
        if self.l1s.is_unused() {
            return;
        }
        for key in self.keys {
            self.l1s.invalidate(key);
        }
        self.remove_stored();
    }

    fn remove_stored(&self) {
        for l1 in self.l1s.list().iter().filter_map(|l1| l1.l1.upgrade()) {
            for key in self.keys.iter().filter_map(|key| l1.key(key)) {
                let _ = l1.memory.delete(&key);
            }
        }
        self.keys.iter().for_each(|key| self.l1s.end_tagged(key));
    }

    /// Removes the copies for the last time, and returns new tickets for those keys that were not written
    /// by others since the `tickets` were taken, after the guard was created. There are as many tickets as keys,
    /// or none, for a write whose value is not copied.
    pub(crate) fn renew(mut self, tickets: &[Ticket]) -> Vec<Option<Ticket>> {
        if tickets.is_empty() {
            return Vec::new();
        }
        let renew = |(key, ticket): (&Key<'_>, &Ticket)| {
            let before = self.l1s.invalidate(key);
            let renewed = Ticket {
                version: before + 1,
                ..*ticket
            };
            has_one_writer(before, ticket.version).then_some(renewed)
        };
        let renewed = self.keys.iter().zip(tickets).map(renew).collect();
        self.remove_stored();
        self.keys = &[];
        renewed
    }
}

impl Drop for CopyGuard<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A `clear` of all keys with a prefix.
#[derive(Debug)]
pub(crate) struct ClearCopiesGuard<'a> {
    l1s: &'a L1s,
    prefix: &'a str,
}

impl ClearCopiesGuard<'_> {
    fn clear(&self) {
        if self.l1s.is_unused() {
            return;
        }
        self.l1s.invalidate_all();
        let l1s = self.l1s.list();
        let l1s = l1s.iter().filter_map(|l1| l1.l1.upgrade());
        let overlaps = |l1: &Arc<L1>| {
            l1.prefix.starts_with(self.prefix) || self.prefix.starts_with(&*l1.prefix)
        };
        l1s.filter(overlaps).for_each(|l1| clear(&l1));
    }
}

impl Drop for ClearCopiesGuard<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}
