//! Removal listeners: functions of the user that are told of entries which memory removes.
//!
//! A change of a shard collects what it removes as [`Reports`] while it holds the lock. The listener is called after
//! the lock was released, on the thread that made the change; if that was the publication of a load, after the flight
//! has completed. Each report is made where the shard gives up the entry, so there is one for each entry.
//!
//! Expired entries and those of invalidated tags remain in their shards until something removes them. With a
//! listener, each shard gets its *turn* once in [`PERIOD`], in which they are removed. The turns that have become
//! due are taken by the next use of the memory. A hit notices this without any further check: from the time of
//! the next turn on, [`FastUntil`](super::l1::FastUntil) lets it look more closely.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cacheio_core::__private::{
    after_publication, is_unreported, outside_of_steps, percent_decode, value_of_object,
};
use cacheio_core::{CLOCK_LAG, ListedKey, Object, Timestamp, Value};

use super::Memory;
use super::key::StoredKey;
use super::namespaces::Namespaces;
use super::slot::Slot;

/// An entry that was removed from memory, for [`MemoryBuilder::on_removal`](crate::MemoryBuilder::on_removal).
///
/// It owns the key and shares the value, so it can be sent to another thread or task.
#[derive(Clone)]
pub struct Removal {
    namespace: Arc<str>,
    key: ListedKey,
    object: Arc<dyn Object>,
    cause: RemovalCause,
}

impl Removal {
    /// Returns the key, without the namespace, as [`key_text`](crate::key_text) writes it: `user:42` for
    /// `("user", 42)`.
    ///
    /// ```
    /// use cacheio::{Cache, Memory, key_text};
    ///
    /// let memory = Memory::builder()
    ///     .on_removal(|removal| assert_eq!(removal.key(), key_text(("user", 42))))
    ///     .build();
    /// let cache = Cache::builder().store(memory).namespace("shop").build()?;
    /// cache.set(("user", 42), "Ada")?;
    /// cache.delete(("user", 42))?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the key as a key for the methods of the cache: it names just this entry.
    ///
    /// ```
    /// use cacheio::{Cache, Memory};
    /// use std::sync::mpsc;
    ///
    /// let (sender, removals) = mpsc::channel();
    /// let memory = Memory::builder().on_removal(move |removal| {
    ///     let _ = sender.send(removal);
    /// });
    /// let cache = Cache::builder().store(memory.build()).build()?;
    /// let users = cache.typed::<u64, String>("user");
    /// users.set(42, "Ada")?;
    /// users.delete(42)?;
    /// let removal = removals.recv().unwrap();
    /// cache.set(removal.listed_key(), "Eve")?;
    /// assert_eq!(users.get(42)?.as_deref(), Some("Eve"));
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn listed_key(&self) -> &ListedKey {
        &self.key
    }

    /// Returns the namespace of the cache that stored the entry; an empty text if it has none. Caches of several
    /// namespaces may share the memory.
    ///
    /// ```
    /// use cacheio::{Cache, Memory};
    ///
    /// let memory = Memory::builder()
    ///     .on_removal(|removal| assert_eq!((removal.namespace(), removal.key()), ("shop", "logo")))
    ///     .build();
    /// let cache = Cache::builder().store(memory).namespace("shop").build()?;
    /// cache.set("logo", "<svg/>")?;
    /// cache.clear()?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the value, if it was stored as this type; `None` otherwise. The value is shared, not copied, as by
    /// [`get_arc`](crate::Cache::get_arc).
    ///
    /// A `&str` was stored as a `String`, and the count of `increment` as an `i64`.
    ///
    /// ```
    /// use cacheio::{Cache, Memory};
    ///
    /// let memory = Memory::builder()
    ///     .on_removal(|removal| {
    ///         assert_eq!(removal.value::<String>().unwrap().as_str(), "Ada");
    ///         assert!(removal.value::<u64>().is_none());
    ///     })
    ///     .build();
    /// let cache = Cache::builder().store(memory).build()?;
    /// cache.set("name", "Ada")?;
    /// cache.delete("name")?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn value<V: Value>(&self) -> Option<Arc<V>> {
        value_of_object::<V>(&self.object)
    }

    /// Returns why the entry was removed.
    ///
    /// ```
    /// use cacheio::{Cache, Memory, RemovalCause};
    ///
    /// let memory = Memory::builder()
    ///     .on_removal(|removal| assert_eq!(removal.cause(), RemovalCause::Replaced))
    ///     .build();
    /// let cache = Cache::builder().store(memory).build()?;
    /// cache.set("k", 1)?;
    /// cache.set("k", 2)?;
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn cause(&self) -> RemovalCause {
        self.cause
    }

    fn new(report: Report, namespaces: &Namespaces) -> Self {
        let (code, text) = report.key.parts();
        let prefix = namespaces.prefix(code);
        let namespace = percent_decode(prefix.strip_suffix(b":").unwrap_or(prefix));
        Self {
            namespace: namespace.unwrap_or_default().into(),
            key: ListedKey::new(&String::from_utf8_lossy(text)),
            // No other reference to the value is left: it is dropped by the listener, or after it.
            object: report.slot.into_object(),
            cause: report.cause,
        }
    }
}

impl fmt::Debug for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removal")
            .field("namespace", &self.namespace)
            .field("key", &self.key)
            .field("value", &self.object)
            .field("cause", &self.cause)
            .finish()
    }
}

/// Why an entry was removed from memory.
///
/// An entry that has already expired, or one of whose tags has been invalidated, is reported as
/// [`Expired`](Self::Expired) or [`Invalidated`](Self::Invalidated), whatever removes it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Its TTL, and the time for which `stale_for` keeps it after that, was over; or it was not read for `ttl_idle`.
    Expired,
    /// It made room for another entry.
    Evicted,
    /// Its key has got another value, by any call that stores one, which may be the same object again; or one that was
    /// too large to be stored: then there is no entry.
    Replaced,
    /// `delete`, `take`, `update` or a TTL of zero removed it.
    Deleted,
    /// `clear` removed it.
    Cleared,
    /// One of its tags was invalidated.
    Invalidated,
}

/// What a change of a shard has removed, for a listener.
#[derive(Default)]
pub(super) struct Reports(Vec<Report>);

struct Report {
    key: StoredKey,
    slot: Slot,
    cause: RemovalCause,
}

impl Reports {
    pub(super) fn push(&mut self, key: StoredKey, slot: Slot, cause: RemovalCause) {
        self.0.push(Report { key, slot, cause });
    }
}

/// A listener, and the turns of the shards.
pub(super) struct Listener {
    call: Box<dyn Fn(Removal) + Send + Sync>,
    start: Timestamp,
    /// The time from one turn to the next, in nanoseconds.
    step: u64,
    /// The number of turns that were taken.
    turns: AtomicU64,
    /// The number of invalidations of tags when each shard had its last turn.
    invalidations: Box<[AtomicU64]>,
}

/// The time between two turns of a shard. Together with the lag of the clock, it is less than the second within
/// which entries are reported.
const PERIOD: Duration = Duration::from_millis(800);

impl Listener {
    pub(super) fn new(
        call: Box<dyn Fn(Removal) + Send + Sync>,
        start: Timestamp,
        shards: usize,
    ) -> Self {
        Self {
            call,
            start,
            step: (nanos(PERIOD) / shards as u64).max(1),
            turns: AtomicU64::new(0),
            invalidations: (0..shards).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Takes the turns that have become due, at most one of each shard. No other caller gets them.
    fn take_turns(&self, now: Timestamp) -> Range<u64> {
        let due = self.due(now);
        let taken = self.turns.fetch_max(due, Ordering::AcqRel);
        taken.max(due.saturating_sub(self.invalidations.len() as u64))..due
    }

    /// Returns when a turn becomes due that is not due yet.
    fn next_turn(&self, now: Timestamp) -> Timestamp {
        let nanos = self.step.saturating_mul(self.due(now) + 1);
        self.start.after(Duration::from_nanos(nanos))
    }

    fn due(&self, now: Timestamp) -> u64 {
        nanos(now.since(self.start)) / self.step
    }

    fn call(&self, removal: Removal) {
        let namespace = Arc::clone(&removal.namespace);
        // The value is dropped in there, too: that is code of the user.
        let called = catch_unwind(AssertUnwindSafe(|| {
            outside_of_steps(|| (self.call)(removal));
        }));
        if let Err(panic) = called {
            // Its `Drop` is code of the user, too.
            mem::forget(panic);
            tracing::error!(target: "cacheio", namespace = &*namespace, "removal listener panicked");
        }
    }
}

impl Memory {
    /// Calls the listener for what was removed from a shard. No lock is held.
    #[cold]
    pub(super) fn report(&self, Reports(reports): Reports) {
        let Some(listener) = &self.shared.listener else {
            return;
        };
        let is_reported = |report: &Report| {
            !is_unreported(
                &**report.slot.object(),
                report.cause == RemovalCause::Replaced,
            )
        };
        let reports: Vec<_> = reports.into_iter().filter(is_reported).collect();
        if reports.is_empty() {
            return;
        }
        let namespaces = self.shared.namespaces.lock();
        let namespaces = namespaces.unwrap_or_else(PoisonError::into_inner);
        let removals = reports.into_iter();
        let removals = removals.map(|report| Removal::new(report, &namespaces));
        let removals: Vec<_> = removals.collect();
        drop(namespaces);
        let listener = Arc::clone(listener);
        after_publication(move || deliver(&listener, removals));
    }

    /// Removes and reports what has expired in the shards whose turn has come, if there is a listener. No lock is
    /// held. Each operation calls this, except `Store::get`: a cache calls that while it leads a load, which a
    /// listener that loads the same key would wait for.
    #[inline]
    pub(super) fn take_turns(&self) {
        if let Some(listener) = &self.shared.listener {
            self.take_turns_of(listener);
        }
    }

    /// Does the same for a look-up that has found nothing.
    #[inline]
    pub(super) fn take_turns_after_miss(&self) {
        // Without a listener this is so, except in an L1.
        if self.fast_until.get() != Timestamp::MAX {
            self.take_turns();
        }
    }

    #[cold]
    fn take_turns_of(&self, listener: &Listener) {
        let now = self.clock.recent();
        if now.after(CLOCK_LAG) < self.fast_until.get() {
            return;
        }
        // Hits compare the time with the lag added to it.
        let next = listener.next_turn(now).after(CLOCK_LAG);
        self.fast_until.set(next);
        let invalidations = self.shared_state.tag_invalidations();
        for turn in listener.take_turns(now) {
            let index = (turn % self.shards.len() as u64) as usize;
            let seen = listener.invalidations[index].swap(invalidations, Ordering::AcqRel);
            let shard = &self.shards[index];
            if seen != invalidations || shard.read().next_expiry() <= now {
                self.apply(shard, |shard, removed| shard.sweep(now, removed));
            }
        }
    }
}

type Queue = VecDeque<(Arc<Listener>, Removal)>;

thread_local! {
    /// What this thread still has to report, while it calls a listener.
    static QUEUE: RefCell<Option<Queue>> = const { RefCell::new(None) };
}

/// Calls the listener for each removal. What the listener itself removes is reported after that, so that the calls
/// do not nest: each could evict the next entry.
fn deliver(listener: &Arc<Listener>, removals: Vec<Removal>) {
    let mut removals = removals.into_iter();
    let is_queued = QUEUE.try_with(|queue| match &mut *queue.borrow_mut() {
        Some(queue) => {
            let removals = removals.by_ref();
            queue.extend(removals.map(|removal| (Arc::clone(listener), removal)));
            true
        }
        queue => {
            *queue = Some(VecDeque::new());
            false
        }
    });
    // While a thread exits, its thread-locals may be destroyed.
    let _emptied = match is_queued {
        Ok(true) => return,
        Ok(false) => Some(EndOfDelivery),
        Err(_) => None,
    };
    removals.for_each(|removal| listener.call(removal));
    let next = || {
        let next = QUEUE.try_with(|queue| queue.borrow_mut().as_mut()?.pop_front());
        next.ok().flatten()
    };
    while let Some((listener, removal)) = next() {
        listener.call(removal);
    }
}

/// Ends the delivery of a thread, also if the subscriber of the log panics.
struct EndOfDelivery;

impl Drop for EndOfDelivery {
    fn drop(&mut self) {
        // What is left is dropped outside of the borrow: values are the user's.
        let _rest = QUEUE.try_with(RefCell::take);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
