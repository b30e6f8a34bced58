//! The engine of `Cache` and `AsyncCache`.
//!
//! The operations of a cache are `async` functions over a [`Driver`], written once. `AsyncCache`
//! awaits them. `Cache` polls them once with [`poll_ready`]: its driver blocks inside the poll and
//! is never pending. A hit in memory is a plain function: [`Engine::probe`].

// The crates above document each method on their caches.
#![allow(missing_docs)]

mod attempts;
pub(crate) mod driver;
mod entries;
mod l1;
mod load;
mod lookup;
mod probe;
mod replace;
mod snapshot;
mod stale;
mod tags;
mod throttle;
mod touch;
mod update;
mod warnings;
mod write;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

use self::attempts::Attempts;
use self::driver::Driver;
pub use self::load::{ErrorSharing, Failure, LoadMode, Loaded};
use self::lookup::{CachedValue, Lookup};
use self::probe::Probe;
pub use self::probe::{ByArc, ByValue, FromHit};
use self::throttle::UnrecordedFailures;
use self::warnings::Warnings;
use crate::config::policies::Policies;
use crate::config::settings::{BuilderSettings, Checked};
use crate::config::ttl::Lifetime;
use crate::error::{overflow, shortened};
use crate::flight::sync::EventListener;
use crate::flight::{Flights, SharedState};
use crate::key::{Key, KeyBuffer, MissedKey};
use crate::l1::L1;
use crate::snapshot::Snapshot;
use crate::stats::{Count, Counters, StoreStats};
use crate::store::store_time::StoreTime;
use crate::{
    CacheKey, Clock, Encode, Entry, Error, ErrorKind, KeyRule, Operation, Options, Result, Stats,
    Store, Ttl, Value, config,
};

/// Polls a future that is ready at once, because everything it waits for blocks the thread.
///
/// # Panics
///
/// When the future is pending: a store for threads returned a future that suspends.
// Polled where it is made, a future is not copied.
#[allow(clippy::inline_always)]
#[inline(always)]
pub fn poll_ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the futures of a blocking cache never suspend"),
    }
}

/// Puts a future on the heap. Loads may nest deeply, and the stack of each caller stays small.
#[inline(never)]
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}

/// The engine of `Cache` and `AsyncCache`.
pub struct Engine {
    driver: Driver,
    settings: Checked,
    /// The prefix of the keys that the store gets: empty if it keeps namespaces apart itself.
    key_prefix: String,
    /// The same for look-ups without I/O: in a store in memory, or in L1.
    memory_key_prefix: String,
    memory_key_rule: KeyRule,
    /// What such a look-up counts if it finds a value.
    memory_hit: Count,
    shared: Arc<SharedState>,
    counters: Counters,
    clock: Arc<dyn Clock>,
    /// Whether entries with a header have been seen: then a server alone cannot say which entries
    /// are live.
    headers_in_use: AtomicBool,
    /// To record reads on a server. Keys are forgotten when that has succeeded: from then on the entry
    /// itself tells.
    unrecorded_reads: Attempts,
    unrecorded_failures: UnrecordedFailures,
    /// Whether loads are claimed, so that one process at a time loads a key.
    shares_loads: bool,
    /// To renew the versions of tags on a server.
    version_renewals: Attempts,
    /// The warnings that are not repeated.
    warnings: Warnings,
    snapshot: Option<Snapshot>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("store", self.driver.store())
            .field("namespace", &self.settings.namespace)
            .field("default_ttl", &self.settings.default_ttl)
            .field("codec", &self.settings.codec)
            .field("l1", &self.driver.l1())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Creates an engine.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when a setting is invalid.
    pub fn new(mut driver: Driver, settings: BuilderSettings) -> Result<Self> {
        let checked = || {
            driver.store().check()?;
            settings.check(driver.form(), driver.key_rule())
        };
        let mut settings = checked().map_err(|error| error.during(Operation::Build))?;
        let is_off = !config().enabled;
        let snapshot = Snapshot::new(settings.snapshot.take(), &driver, is_off)?;
        if is_off {
            driver.turn_off();
            settings.l1 = None;
        }
        let key_prefix = match driver.enter_namespace(&settings.prefix) {
            true => String::new(),
            false => settings.prefix.clone(),
        };
        let shared = driver.store().shared_state().unwrap_or_default();
        let (memory_key_prefix, memory_key_rule, memory_hit) = match settings.l1.take() {
            Some(l1) => {
                let l1 = Arc::new(L1::new(l1, &key_prefix));
                shared.l1s.register(&l1);
                driver.set_l1(l1);
                (String::new(), KeyRule::Any, Count::L1Hit)
            }
            None => (key_prefix.clone(), driver.key_rule(), Count::Hit),
        };
        let metrics = driver.report_as(&settings.namespace);
        let engine = Self {
            key_prefix,
            memory_key_prefix,
            memory_key_rule,
            memory_hit,
            shared,
            clock: driver.store().clock(),
            headers_in_use: AtomicBool::new(settings.policies.writes_headers()),
            unrecorded_reads: Attempts::default(),
            unrecorded_failures: UnrecordedFailures::default(),
            shares_loads: driver
                .store()
                .shared_loads()
                .are_shared(settings.shared_loads),
            version_renewals: Attempts::default(),
            warnings: Warnings::default(),
            driver,
            settings,
            counters: Counters::new(metrics),
            snapshot,
        };
        engine.load_snapshot();
        Ok(engine)
    }

    pub fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    pub fn stats(&self) -> Stats {
        let StoreStats {
            evictions,
            circuit_opens,
            invalidations,
            l1_trusted,
        } = self.driver.store_stats();
        Stats {
            evictions,
            circuit_opens,
            invalidations,
            l1_trusted: l1_trusted.unwrap_or_default(),
            ..self.counters.snapshot()
        }
    }

    /// Composes the key that the store gets.
    #[inline]
    fn key<'a>(&self, buffer: &'a mut KeyBuffer, key: &'a impl CacheKey) -> Key<'a> {
        buffer.key(&self.key_prefix, self.driver.key_rule(), key)
    }

    /// Composes the key of a look-up without I/O.
    #[inline]
    fn memory_key<'a>(&self, buffer: &'a mut KeyBuffer, key: &'a impl CacheKey) -> Key<'a> {
        buffer.key(&self.memory_key_prefix, self.memory_key_rule, key)
    }

    pub async fn has(&self, key: impl CacheKey, skip_l1: bool) -> Result<bool> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        if self.has_copy(&key, skip_l1) {
            return Ok(true);
        }
        let time = StoreTime::default();
        let live = pin!(self.is_live(&key));
        let live = self.driver.timed(&time, live).await;
        live.map_err(|error| self.in_operation(error, Operation::Has, &key))
    }

    /// Gets a value that the [probe](Self::probe) did not.
    pub async fn get<V: Value>(
        &self,
        missed: MissedKey,
        skip_l1: bool,
    ) -> Result<Option<Arc<V::Stored>>> {
        let key = missed.key();
        let value = match self.copy_of_replaced::<V>(&key, skip_l1) {
            Some(copy) => Ok(Some(copy)),
            None => {
                let time = StoreTime::default();
                let read = pin!(self.read::<V>(&key, skip_l1));
                self.driver.timed(&time, read).await
            }
        };
        if let Ok(value) = &value {
            self.count_lookup(value.as_ref());
        }
        let value = value.map_err(|error| self.in_operation(error, Operation::Get, &key))?;
        Ok(value.map(|cached| cached.value))
    }

    async fn read<V: Value>(&self, key: &Key<'_>, skip_l1: bool) -> Result<Option<CachedValue<V>>> {
        let read = self.read_entry(key, skip_l1).await?;
        let lookup = self.decode_read::<V>(key, read, None)?;
        let Some(cached) = lookup.live() else {
            return Ok(None);
        };
        self.record_reads([(*key, &cached)]).await;
        Ok(Some(cached))
    }

    pub async fn get_many<V: Value>(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
        skip_l1: bool,
    ) -> Result<Vec<Option<V>>> {
        self.get_many_as(keys, skip_l1, |value| value).await
    }

    pub async fn get_each<V: Value>(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
        skip_l1: bool,
    ) -> Result<Vec<Result<Option<V>>>> {
        self.get_many_as(keys, skip_l1, Ok).await
    }

    /// Gets values, up to the first error of `output`.
    async fn get_many_as<V: Value, T>(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
        skip_l1: bool,
        output: impl Fn(Result<Option<V>>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let texts = if let Some(store) = self.driver.immediate() {
            return self.get_many_in_memory(store, keys, output);
        } else {
            self.texts(keys)
        };
        let keys = keys_of(&texts);
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (copies, missing) = self.copies::<V>(&keys, skip_l1);
        let read = match missing.is_empty() {
            true => Ok(Vec::new()),
            false => self.read_entries(&missing, skip_l1).await,
        };
        let mut read = read
            .map_err(|error| error.during(Operation::GetMany))?
            .into_iter();
        let mut lookups = Vec::with_capacity(keys.len());
        for (copy, key) in copies.into_iter().zip(&keys) {
            let lookup = match copy {
                Some(copy) => Ok(Lookup::Live(copy)),
                None => self.decode_read::<V>(key, read.next().unwrap_or_default(), None),
            };
            lookups.push(
                lookup
                    .map(Lookup::live)
                    .map_err(|error| self.in_operation(error, Operation::GetMany, key)),
            );
            if let Some(Ok(cached)) = lookups.last() {
                self.count_lookup(cached.as_ref());
            }
        }
        let read = keys.iter().zip(&lookups);
        self.record_reads(
            read.filter_map(|(key, cached)| Some((*key, cached.as_ref().ok()?.as_ref()?))),
        )
        .await;
        lookups
            .into_iter()
            .map(|lookup| output(lookup.map(|cached| Some(V::from_stored(cached?.value)))))
            .collect()
    }

    /// Gets values from a store that never waits, where a batch saves nothing.
    fn get_many_in_memory<V: Value, T>(
        &self,
        store: &dyn Store,
        keys: impl IntoIterator<Item = impl CacheKey>,
        output: impl Fn(Result<Option<V>>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let keys = keys.into_iter();
        let mut values = Vec::with_capacity(keys.size_hint().0);
        for key in keys {
            let mut buffer = KeyBuffer::new();
            let key = self.key(&mut buffer, &key);
            let value = match self.look_up_fast::<ByValue<V>>(&key) {
                Probe::Hit(value) => Ok(Some(value)),
                Probe::Absent => {
                    self.counters.add(Count::Miss);
                    Ok(None)
                }
                Probe::Inspect => {
                    let entry = store.get(&key);
                    let entry = entry
                        .map_err(|error| self.in_operation(error, Operation::GetMany, &key))?;
                    self.read_one_of_many(entry, &key)
                }
            };
            values.push(output(value)?);
        }
        Ok(values)
    }

    /// Reads an entry of a store that never waits.
    #[cold]
    #[inline(never)]
    fn read_one_of_many<V: Value>(&self, entry: Option<Entry>, key: &Key<'_>) -> Result<Option<V>> {
        let cached = self
            .decode_live::<V>(entry)
            .map_err(|error| self.in_operation(error, Operation::GetMany, key))?
            .live();
        self.count_lookup(cached.as_ref());
        Ok(cached.map(|cached| {
            self.record_read_in_memory(&cached);
            self.keep_decoded(key, &cached);
            V::from_stored(cached.value)
        }))
    }

    pub async fn set<By>(
        &self,
        key: impl CacheKey,
        value: impl Encode<By>,
        options: &Options,
    ) -> Result<()> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let time = StoreTime::default();
        let begun = self.begin_one_write(value, options);
        let prepared = self
            .prepare_one_write(begun, options, &time)
            .await
            .map_err(|error| self.in_operation(error, Operation::Set, &key))?;
        let set = self.write(&time, key, async {
            match prepared {
                Some((entry, ttl)) => self.driver.set(&key, entry, ttl).await,
                None => self.driver.delete(&key).await.map(drop),
            }
        });
        set.await
            .map_err(|error| self.in_operation(error, Operation::Set, &key))
    }

    pub async fn set_many<By>(
        &self,
        entries: impl IntoIterator<Item = (impl CacheKey, impl Encode<By>)>,
        options: &Options,
    ) -> Result<()> {
        let mut texts = Vec::new();
        let mut values = Vec::new();
        for (key, value) in entries {
            texts.push(self.text(&key));
            values.push(value);
        }
        let failed = |error: Error| error.during(Operation::SetMany);
        let keys = keys_of(&texts);
        options.policies.check_values().map_err(failed)?;
        if keys.is_empty() {
            return Ok(());
        }
        if self.lifetime(options.ttl, options) == Lifetime::Zero {
            let _writes = self.begin_writes(&keys).await;
            let deleted = self.driver.delete_many(&keys).await;
            return deleted.map(drop).map_err(failed);
        }
        let stamps = self.stamp(options).await.map_err(failed)?;
        let mut prepared = Vec::with_capacity(keys.len());
        for (key, value) in keys.iter().zip(values) {
            let entry = self.prepare_one_of_many(value, &stamps, options);
            let entry = entry.map_err(|error| self.in_operation(error, Operation::SetMany, key))?;
            prepared.extend(entry.map(|(entry, ttl)| (*key, entry, ttl)));
        }
        let _writes = self.begin_writes(&keys).await;
        self.driver.set_many(prepared).await.map_err(failed)
    }

    pub async fn add<By>(
        &self,
        key: impl CacheKey,
        value: impl Encode<By>,
        options: &Options,
    ) -> Result<bool> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let time = StoreTime::default();
        let begun = self.begin_one_write(value, options);
        let prepared = self
            .prepare_one_write(begun, options, &time)
            .await
            .map_err(|error| self.in_operation(error, Operation::Add, &key))?;
        let added = self.write(&time, key, async {
            match prepared {
                Some((entry, ttl)) => self.add_to_store(&key, entry, ttl).await,
                // The entry would expire as soon as it is added.
                None => self.is_live(&key).await.map(|live| !live),
            }
        });
        added
            .await
            .map_err(|error| self.in_operation(error, Operation::Add, &key))
    }

    pub async fn delete(&self, key: impl CacheKey) -> Result<bool> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let time = StoreTime::default();
        let deleted = self.write(&time, key, self.delete_from_store(&key)).await;
        deleted.map_err(|error| self.in_operation(error, Operation::Delete, &key))
    }

    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
    ) -> Result<usize> {
        let texts = self.texts(keys);
        let keys = keys_of(&texts);
        if keys.is_empty() {
            return Ok(0);
        }
        let _writes = self.begin_writes(&keys).await;
        let deleted = self.delete_many_from_store(&keys).await;
        deleted.map_err(|error| error.during(Operation::DeleteMany))
    }

    /// Adds to a counter. `by` is `None` for a decrement by an amount that has no negation.
    pub async fn increment(
        &self,
        key: impl CacheKey,
        by: Option<i64>,
        options: &Options,
    ) -> Result<i64> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let increment = async {
            let by = by.ok_or_else(overflow)?;
            if !options.tags.is_empty() {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "counters cannot have tags",
                ));
            }
            options.policies.check_values()?;
            let Lifetime::Live(ttl) = self.lifetime(options.ttl, options) else {
                return Err(Error::new(
                    ErrorKind::Config,
                    "the TTL of a counter must be greater than zero",
                ));
            };
            let time = StoreTime::default();
            self.write(&time, key, self.increment_in_store(&key, by, ttl))
                .await
        };
        increment
            .await
            .map_err(|error| self.in_operation(error, Operation::Increment, &key))
    }

    pub async fn touch(&self, key: impl CacheKey, ttl: Ttl) -> Result<bool> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let touch = async {
            let time = StoreTime::default();
            match self.lifetime(ttl, &Options::new()) {
                Lifetime::Live(ttl) => {
                    let keys = [key];
                    let _copies = self.remove_copies(&keys);
                    let touch = self.touch_in_store(&key, ttl);
                    self.driver.timed(&time, pin!(touch)).await
                }
                Lifetime::Zero => self.write(&time, key, self.delete_from_store(&key)).await,
            }
        };
        touch
            .await
            .map_err(|error| self.in_operation(error, Operation::Touch, &key))
    }

    pub async fn clear(&self) -> Result<()> {
        let _copies = self.shared.l1s.clear(&self.key_prefix);
        let mut clear = self.flights().clear(&self.key_prefix);
        for publishing in clear.take_publishing() {
            self.wait(publishing).await;
        }
        let cleared = self.driver.clear(&self.key_prefix).await;
        cleared.map_err(|error| error.during(Operation::Clear))
    }

    pub async fn ping(&self) -> Result<()> {
        self.driver
            .ping()
            .await
            .map_err(|error| error.during(Operation::Ping))
    }

    fn flights(&self) -> &Flights {
        &self.shared.flights
    }

    /// Adds to an error what the caller did.
    fn in_operation(&self, error: Error, operation: Operation, key: &Key<'_>) -> Error {
        error.during(operation).with_key(&self.full_text(key))
    }

    /// Returns the text of a key with the namespace, for errors and logs.
    fn full_text<'a>(&self, key: &Key<'a>) -> Cow<'a, str> {
        match self.settings.prefix.len() > self.key_prefix.len() {
            true => Cow::Owned([&self.settings.prefix, key.text()].concat()),
            false => Cow::Borrowed(key.text()),
        }
    }

    fn text(&self, key: &impl CacheKey) -> Box<str> {
        self.key(&mut KeyBuffer::new(), key).text().into()
    }

    fn texts(&self, keys: impl IntoIterator<Item = impl CacheKey>) -> Vec<Box<str>> {
        keys.into_iter().map(|key| self.text(&key)).collect()
    }

    /// Returns a policy of the call, or else of the cache.
    fn policy<T>(&self, options: &Options, policy: impl Fn(&Policies) -> Option<T>) -> Option<T> {
        policy(&options.policies).or_else(|| policy(&self.settings.policies))
    }

    async fn wait(&self, listener: EventListener) {
        self.driver.wait(listener, None).await;
    }

    /// Counts and logs a failure of the store that the caller does not see. That values of a type
    /// cannot be stored or read is logged once.
    #[cold]
    fn on_store_error(&self, error: &Error) {
        self.counters.add(Count::StoreError);
        let is_of_type = matches!(error.kind(), ErrorKind::Encode | ErrorKind::Decode);
        if is_of_type && !self.warnings.is_first(error.message()) {
            return;
        }
        tracing::warn!(
            target: "cacheio",
            namespace = self.namespace(),
            kind = ?error.kind(),
            operation = error.operation().map(tracing::field::display),
            error = error.message(),
            reason = std::error::Error::source(error).map(tracing::field::display),
            "store operation failed; continuing without the cache",
        );
    }

    /// Emits the key of the event before. Keys are not shown above this level.
    #[cold]
    fn trace_key(&self, key: &Key<'_>) {
        tracing::trace!(
            target: "cacheio",
            key = %shortened(self.full_text(key), KEY_TRACED),
            "key of the event before",
        );
    }
}

/// The number of bytes to which events cut a key.
const KEY_TRACED: usize = 200;

fn keys_of(texts: &[Box<str>]) -> Vec<Key<'_>> {
    texts.iter().map(|text| Key::new(text)).collect()
}
