//! The one cache behind both faces.
//!
//! Everything that a cache does stands here once, as `async` functions over a [`Driver`]. The
//! face for tasks awaits them. The face for threads polls them once with [`now`]: its backend
//! blocks inside the poll and is never pending. What can be answered at once from memory
//! ([`Engine::get_fast`]) goes past all that, in a plain function.

// Reached by the crates on top alone, where each method is documented.
#![allow(missing_docs)]

pub(crate) mod driver;
mod idle;
mod load;
mod many;
mod stale;

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::config::policies::check_jitter;
use crate::config::settings::{Checked, Settings};
use crate::config::ttl::{Lifetime, lifetime, random_fraction};
use crate::engine::driver::Driver;
use crate::entry::tags::{Stamps, Tags};
use crate::entry::wire::{self, Body};
use crate::error::overflow;
use crate::flight::sync::EventListener;
use crate::flight::{Flights, WriteGuard, WriteGuards};
use crate::key::{Key, KeyBuffer};
use crate::stats::{Count, Counters};
use crate::value::downcast;
use crate::{
    CacheKey, Clock, Encode, Entry, Error, ErrorKind, Form, Json, LoadError, Meta, Object,
    Operation, Options, RefreshAhead, Result, Stats, Ttl, Value,
};

/// Polls a future that is never pending, because whatever it waits for blocks the thread.
///
/// # Panics
///
/// When it is pending: a store for threads gave out a future that suspends.
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a cache for threads never suspends"),
    }
}

/// A future on the heap, without its weight in the stack of whoever waits for it: loads may be
/// nested deeply.
#[inline(never)]
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}

/// The cache behind `Cache` and `AsyncCache`.
pub struct Engine {
    driver: Driver,
    settings: Checked,
    shared_state: Arc<SharedState>,
    counters: Counters,
    clock: Arc<dyn Clock>,
    /// Whether entries that outlive their TTL have been met: then a server alone cannot say which
    /// are live.
    headers_in_use: AtomicBool,
    touches: Touches,
}

/// What the caches on one store have to agree on. A store that several caches of a process can
/// share keeps it for them.
#[derive(Default)]
pub struct SharedState {
    flights: Flights,
    tags: Tags,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("store", self.driver.store())
            .field("namespace", &self.settings.namespace)
            .field("default_ttl", &self.settings.default_ttl)
            .field("codec", &self.settings.codec)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState").finish_non_exhaustive()
    }
}

use self::idle::Touches;
pub use self::load::{Loaded, Manner, Sharing};

/// An entry, and for how long it is stored.
type Prepared = (Entry, Option<Duration>);

/// How a load failed.
#[derive(Debug)]
pub enum Failure<E> {
    /// With an error that others may share.
    Load(Arc<E>),
    /// With an error that is this caller's alone.
    Own(E),
    /// It would have waited for itself.
    Reentrant(Error),
    /// It took too long.
    TimedOut(Error),
}

/// What is noted about a value besides itself.
#[derive(Clone, Copy, Debug)]
struct Making {
    stale_for: Duration,
    ahead: RefreshAhead,
    load_time: Duration,
    /// Whether its age is to be known in any case.
    dated: bool,
    idle: Option<Duration>,
}

/// A key that was no plain hit, for the load that follows.
#[derive(Debug)]
pub struct Missed(Box<str>);

impl Engine {
    /// Builds it on a backend.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when a setting makes no sense.
    pub fn new(mut driver: Driver, settings: Settings) -> Result<Self> {
        let checked = || {
            driver.check()?;
            settings.check(driver.form() == Form::Bytes, driver.key_rule())
        };
        let settings = checked().map_err(|error| error.during(Operation::Build))?;
        let metrics = driver.report_as(&settings.namespace);
        Ok(Self {
            shared_state: driver.shared_state().unwrap_or_default(),
            clock: driver.clock(),
            headers_in_use: AtomicBool::new(settings.policies.writes_headers()),
            touches: Touches::default(),
            driver,
            settings,
            counters: Counters::new(metrics),
        })
    }

    pub fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    pub fn stats(&self) -> Stats {
        Stats {
            evictions: self.driver.evictions(),
            circuit_opens: self.driver.circuit_opens(),
            ..self.counters.snapshot()
        }
    }

    // What memory answers at once.

    /// The value under a key, if it is a plain hit in memory; none says nothing.
    #[inline]
    pub fn get_fast<V: Value>(&self, key: &impl CacheKey) -> Option<Arc<V::Stored>> {
        let store = self.driver.immediate()?;
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, key);
        let value = downcast(store.get_fast(&key)?)?;
        self.counters.add(Count::Hit);
        Some(value)
    }

    /// What [`load`](Self::load) needs for a key that is no plain hit.
    #[cold]
    pub fn missed(&self, key: &impl CacheKey) -> Missed {
        Missed(self.text(key))
    }

    /// An entry, if there is a live one, as the type asked for.
    async fn read<V: Value>(
        &self,
        key: &Key<'_>,
        entry: Option<Entry>,
    ) -> Result<Option<Arc<V::Stored>>> {
        let Some(kept) = self.look::<V>(entry, Duration::ZERO)?.live() else {
            return Ok(None);
        };
        self.used(key, &kept).await;
        Ok(Some(kept.value))
    }

    /// What is stored, as the type asked for.
    fn decode<V: Value>(&self, body: Body<'_>) -> Result<Arc<V::Stored>> {
        match body {
            Body::Integer(digits) => V::decode(digits, &Json),
            Body::Encoded(encoded) => V::decode(encoded, &*self.settings.codec),
        }
    }

    fn count_lookup<T>(&self, found: Option<&T>) {
        self.counters.add(match found {
            Some(_) => Count::Hit,
            None => Count::Miss,
        });
    }

    /// An object as the type asked for: by way of the codec, where it is of another.
    fn object_as<V: Value>(&self, object: &Arc<dyn Object>) -> Result<Arc<V::Stored>> {
        if let Some(value) = downcast(Arc::clone(object)) {
            return Ok(value);
        }
        let codec = &*self.settings.codec;
        // As on a server, where integers are digits whatever the codec.
        if let Some(digits) = object.digits() {
            return V::decode(digits.as_bytes(), &Json);
        }
        let bytes = object.encode(codec).map_err(|error| {
            Error::new(
                ErrorKind::Decode,
                format!(
                    "what is stored is a `{}`, which cannot be read as `{}`; get_or_set and set \
                     replace it",
                    Object::type_name(&**object),
                    std::any::type_name::<V>()
                ),
            )
            .with_source(error)
        })?;
        V::decode(&bytes, codec)
    }

    // The operations.

    pub async fn has(&self, key: impl CacheKey) -> Result<bool> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let live = self.is_live(&key).await;
        live.map_err(|error| about(error, Operation::Has, &key))
    }

    pub async fn get<V: Value>(&self, key: impl CacheKey) -> Result<Option<Arc<V::Stored>>> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let value = match self.driver.get(&key).await {
            Ok(entry) => self.read::<V>(&key, entry).await,
            Err(error) => Err(error),
        };
        if let Ok(value) = &value {
            self.count_lookup(value.as_ref());
        }
        value.map_err(|error| about(error, Operation::Get, &key))
    }

    pub async fn get_many<V: Value>(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
    ) -> Result<Vec<Option<V>>> {
        let texts = self.texts(keys);
        let keys: Vec<Key<'_>> = texts.iter().map(|text| Key::new(text)).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let entries = self.driver.get_many(&keys).await;
        let entries = entries.map_err(|error| error.during(Operation::GetMany))?;
        let mut values = Vec::with_capacity(entries.len());
        for (entry, key) in entries.into_iter().zip(&keys) {
            let value = self.read::<V>(key, entry).await;
            let value = value.map_err(|error| about(error, Operation::GetMany, key))?;
            self.count_lookup(value.as_ref());
            values.push(value.map(V::from_stored));
        }
        Ok(values)
    }

    pub async fn set(
        &self,
        key: impl CacheKey,
        value: impl Encode,
        options: Options,
    ) -> Result<()> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let prepared = self
            .prepare_write(value.into_object(), &options)
            .map_err(|error| about(error, Operation::Set, &key))?;
        let _write = self.write(key).await;
        let set = match prepared {
            Some((entry, ttl)) => self.driver.set(&key, entry, ttl).await,
            None => self.driver.delete(&key).await.map(drop),
        };
        set.map_err(|error| about(error, Operation::Set, &key))
    }

    pub async fn set_many(
        &self,
        entries: impl IntoIterator<Item = (impl CacheKey, impl Encode)>,
        options: Options,
    ) -> Result<()> {
        let mut texts = Vec::new();
        let mut values = Vec::new();
        for (key, value) in entries {
            texts.push(self.text(&key));
            values.push(value);
        }
        let failed = |error: Error| error.during(Operation::SetMany);
        let keys: Vec<Key<'_>> = texts.iter().map(|text| Key::new(text)).collect();
        let lifetime = self.lifetime(options.ttl, &options).map_err(failed)?;
        if keys.is_empty() {
            return Ok(());
        }
        let Lifetime::Live(ttl) = lifetime else {
            let _writes = self.write_many(&keys).await;
            return self
                .driver
                .delete_many(&keys)
                .await
                .map(drop)
                .map_err(failed);
        };
        self.can_tag(&options.tags).map_err(failed)?;
        let stamps = self.stamp(&options);
        let making = Making::of_write(&options);
        let mut prepared = Vec::with_capacity(keys.len());
        for (key, value) in keys.iter().zip(values) {
            let entry = self.entry(value.into_object(), &stamps, ttl, making);
            prepared.push((
                *key,
                entry.map_err(|error| about(error, Operation::SetMany, key))?,
            ));
        }
        let _writes = self.write_many(&keys).await;
        let ttl = self.physical(ttl, making);
        self.driver.set_many(prepared, ttl).await.map_err(failed)
    }

    pub async fn add(
        &self,
        key: impl CacheKey,
        value: impl Encode,
        options: Options,
    ) -> Result<bool> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let prepared = self
            .prepare_write(value.into_object(), &options)
            .map_err(|error| about(error, Operation::Add, &key))?;
        let _write = self.write(key).await;
        let added = match prepared {
            Some((entry, ttl)) => self.driver.add(&key, entry, ttl).await,
            // Would have been added and gone at once.
            None => self.is_live(&key).await.map(|live| !live),
        };
        added.map_err(|error| about(error, Operation::Add, &key))
    }

    pub async fn delete(&self, key: impl CacheKey) -> Result<bool> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let _write = self.write(key).await;
        let deleted = self.driver.delete(&key).await;
        deleted.map_err(|error| about(error, Operation::Delete, &key))
    }

    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
    ) -> Result<usize> {
        let texts = self.texts(keys);
        let keys: Vec<Key<'_>> = texts.iter().map(|text| Key::new(text)).collect();
        if keys.is_empty() {
            return Ok(0);
        }
        let _writes = self.write_many(&keys).await;
        let deleted = self.driver.delete_many(&keys).await;
        deleted.map_err(|error| error.during(Operation::DeleteMany))
    }

    pub async fn increment(
        &self,
        key: impl CacheKey,
        by: Option<i64>,
        options: Options,
    ) -> Result<i64> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let increment = async {
            // The negation of a decrement that does not fit.
            let by = by.ok_or_else(overflow)?;
            self.untagged(&options)?;
            let Lifetime::Live(ttl) = self.lifetime(options.ttl, &options)? else {
                return Err(Error::new(
                    ErrorKind::Config,
                    "a counter with a TTL of zero would be gone at once",
                ));
            };
            let _write = self.write(key).await;
            self.driver.increment(&key, by, ttl).await
        };
        increment
            .await
            .map_err(|error| about(error, Operation::Increment, &key))
    }

    pub async fn touch(&self, key: impl CacheKey, ttl: Ttl) -> Result<bool> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let touch = async {
            match self.lifetime(ttl, &Options::new())? {
                Lifetime::Live(ttl) if self.reads_headers() => self.retime(&key, ttl).await,
                Lifetime::Live(ttl) => self.driver.touch(&key, ttl).await,
                Lifetime::Zero => {
                    let _write = self.write(key).await;
                    self.driver.delete(&key).await
                }
            }
        };
        touch
            .await
            .map_err(|error| about(error, Operation::Touch, &key))
    }

    pub async fn clear(&self) -> Result<()> {
        let mut writes = self.flights().write_all(&self.settings.prefix);
        for publishing in writes.take_publishing() {
            self.wait(publishing).await;
        }
        let cleared = self.driver.clear(&self.settings.prefix).await;
        cleared.map_err(|error| error.during(Operation::Clear))
    }

    pub async fn invalidate_tags<T: Into<Cow<'static, str>>>(
        &self,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        let tags: Vec<_> = tags.into_iter().map(Into::into).collect();
        self.can_tag(&tags)
            .map_err(|error| error.during(Operation::InvalidateTags))?;
        self.shared_state
            .tags
            .invalidate(&self.settings.prefix, &tags);
        Ok(())
    }

    pub async fn ping(&self) -> Result<()> {
        self.driver
            .ping()
            .await
            .map_err(|error| error.during(Operation::Ping))
    }

    // The parts.

    fn flights(&self) -> &Flights {
        &self.shared_state.flights
    }

    /// What the counters of the tags say now; in a cache that can have none, nothing.
    fn stamp(&self, options: &Options) -> Stamps {
        match self.driver.form() {
            Form::Objects => self
                .shared_state
                .tags
                .stamp(&self.settings.prefix, &options.tags),
            Form::Bytes => Stamps::default(),
        }
    }

    #[inline]
    fn key<'a>(&self, buffer: &'a mut KeyBuffer, key: &'a impl CacheKey) -> Key<'a> {
        buffer.key(&self.settings.prefix, self.driver.key_rule(), key)
    }

    fn text(&self, key: &impl CacheKey) -> Box<str> {
        self.key(&mut KeyBuffer::new(), key).text().into()
    }

    fn texts(&self, keys: impl IntoIterator<Item = impl CacheKey>) -> Vec<Box<str>> {
        keys.into_iter().map(|key| self.text(&key)).collect()
    }

    fn lifetime(&self, ttl: Ttl, options: &Options) -> Result<Lifetime> {
        let jitter = self.policy(options, |policies| policies.jitter);
        let jitter = jitter.unwrap_or_default();
        let random = if jitter > 0.0 { random_fraction() } else { 0.0 };
        lifetime(
            ttl,
            self.settings.default_ttl,
            check_jitter(jitter)?,
            random,
        )
    }

    /// What the store gets for what a caller writes; none for a TTL of zero.
    fn prepare_write(
        &self,
        object: Arc<dyn Object>,
        options: &Options,
    ) -> Result<Option<Prepared>> {
        let making = Making::of_write(options);
        self.prepare(object, options.ttl, options, &self.stamp(options), making)
    }

    fn prepare(
        &self,
        object: Arc<dyn Object>,
        ttl: Ttl,
        options: &Options,
        stamps: &Stamps,
        making: Making,
    ) -> Result<Option<Prepared>> {
        let Lifetime::Live(ttl) = self.lifetime(ttl, options)? else {
            return Ok(None);
        };
        self.can_tag(&options.tags)?;
        let entry = self.entry(object, stamps, ttl, making)?;
        Ok(Some((entry, self.physical(ttl, making))))
    }

    /// What is noted about a value that was loaded.
    fn making(&self, options: &Options, load_time: Duration, dated: bool) -> Making {
        Making {
            stale_for: self.stale_for(options),
            ahead: self.refresh_ahead(options),
            load_time,
            dated,
            idle: self.policy(options, |policies| policies.ttl_idle),
        }
    }

    /// The TTL of a value that was loaded: as its loader says, or as a `None`, or as the call.
    fn ttl_of(&self, object: &dyn Object, said: Option<Ttl>, options: &Options) -> Ttl {
        let of_none = || {
            let ttl = self.policy(options, |policies| policies.ttl_none)?;
            object.is_none().then_some(ttl)
        };
        said.or_else(of_none).unwrap_or(options.ttl)
    }

    /// A value in the form that the store keeps.
    fn entry(
        &self,
        object: Arc<dyn Object>,
        stamps: &Stamps,
        ttl: Option<Duration>,
        making: Making,
    ) -> Result<Entry> {
        let codec = &*self.settings.codec;
        let expiry = self.expiry(ttl, making);
        if self.driver.form() == Form::Bytes {
            return Ok(Entry::bytes(match (expiry, object.digits()) {
                (Some(expiry), _) => wire::seal_with(expiry, &object.encode(codec)?),
                (None, Some(digits)) => digits.into_bytes(),
                (None, None) => wire::seal(object.encode(codec)?),
            }));
        }
        let mut entry = Entry::object(object);
        if !stamps.is_empty() || expiry.is_some() {
            entry.meta = Some(Arc::new(Meta::new(stamps.clone(), expiry, making.ahead)));
        }
        Ok(entry)
    }

    fn can_tag(&self, tags: &[Cow<'static, str>]) -> Result<()> {
        if tags.is_empty() || self.driver.form() == Form::Objects {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "tags need a cache in memory",
        ))
    }

    fn untagged(&self, options: &Options) -> Result<()> {
        if options.tags.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, "a counter has no tags"))
    }

    /// Registers a write and waits until it may go to the store.
    async fn write<'a>(&'a self, key: Key<'a>) -> WriteGuard<'a> {
        let mut write = self.flights().write(key);
        if let Some(publishing) = write.take_publishing() {
            self.wait(publishing).await;
        }
        write
    }

    async fn write_many<'a>(&'a self, keys: &[Key<'a>]) -> WriteGuards<'a> {
        let mut writes = WriteGuards(keys.iter().map(|key| self.flights().write(*key)).collect());
        for write in &mut writes.0 {
            if let Some(publishing) = write.take_publishing() {
                self.wait(publishing).await;
            }
        }
        writes
    }

    async fn wait(&self, listener: EventListener) {
        self.driver.wait(listener, None).await;
    }

    #[cold]
    fn store_failed(&self, error: &Error) {
        self.counters.add(Count::StoreError);
        tracing::warn!(
            target: "cacheio",
            kind = ?error.kind(),
            operation = error.operation().map(tracing::field::display),
            reason = std::error::Error::source(error).map(tracing::field::display),
            "the store failed; the caller gets its value all the same",
        );
    }
}

impl<E> From<Failure<E>> for LoadError<E> {
    fn from(failure: Failure<E>) -> Self {
        match failure {
            Failure::Load(error) => Self::Load(error),
            Failure::Own(error) => Self::Load(Arc::new(error)),
            Failure::Reentrant(error) => Self::Reentrant(error),
            Failure::TimedOut(error) => Self::Timeout(error),
        }
    }
}

impl Failure<Infallible> {
    /// Panics with what is wrong: a loader that cannot fail can only have waited for itself.
    pub fn panic(self) -> ! {
        match self {
            Self::Load(never) => match *never {},
            Self::Own(never) => match never {},
            Self::Reentrant(error) | Self::TimedOut(error) => panic!("cacheio: {error}"),
        }
    }
}

impl Making {
    /// Of what a caller writes: only what the call itself says, so that entries which are set stay
    /// what other programs read.
    fn of_write(options: &Options) -> Self {
        let policies = &options.policies;
        Self {
            stale_for: policies.stale_for.unwrap_or_default(),
            ahead: policies.refresh_ahead.unwrap_or(RefreshAhead::Never),
            load_time: Duration::ZERO,
            dated: false,
            idle: policies.ttl_idle,
        }
    }
}

fn about(error: Error, operation: Operation, key: &Key<'_>) -> Error {
    error.during(operation).with_key(key.text())
}
