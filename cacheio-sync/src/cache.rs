//! The cache for threads.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::{
    CacheUrl, DEFAULT_OPTIONS, Driver, Engine, Failure, LoadMode, Loaded, Settings, poll_ready,
};
use cacheio_core::{
    CacheKey, Codec, Encode, Fetched, LoadContext, LoadError, Options, RefreshAhead, Result, Stats,
    Store, Ttl, Value,
};

#[cfg(feature = "memcached")]
use crate::Memcached;
#[cfg(feature = "memory")]
use crate::Memory;
#[cfg(feature = "redis")]
use crate::Redis;
use crate::pool::Pool;

/// A cache for threads, whatever stands behind it.
///
/// Cloning it is cheap and gives the same cache. It holds values of different types under its
/// keys; what is asked for as another type than was stored goes through the codec.
///
/// ```
/// # fn main() -> cacheio_sync::Result<()> {
/// use cacheio_sync::{Cache, Memory, Options};
/// use std::time::Duration;
///
/// let cache = Cache::builder().store(Memory::with_capacity(10_000)).build()?;
/// cache.set("greeting", "hello")?;
/// assert_eq!(cache.get::<String>("greeting")?.as_deref(), Some("hello"));
///
/// // However many threads miss at once: one loads, the others wait for its result.
/// let square: u64 = cache.get_or_set(("square", 7), || 7 * 7);
/// assert_eq!(square, 49);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Cache {
    engine: Arc<Engine>,
}

impl Cache {
    /// A builder; without a [`store`](CacheBuilder::store) it builds a cache in memory.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// The cache that a URL names. No server is asked: connections are made when they are needed.
    ///
    /// | URL | feature | parameters of its own |
    /// | --- | --- | --- |
    /// | `memory://` | `memory` | `capacity` (entries) |
    /// | `memcache://[user:password@]host[:11211],…` | `memcached` | `timeout`, `connections` (to each server) |
    /// | `memcache:///path/to/socket` | `memcached` | the same |
    /// | `memcache+tls://host[:11211],…` | `memcached-tls` | the same, `ca` (a file) |
    /// | `redis://[[user]:password@]host[:6379][/db]` | `redis` | `timeout`, `connections`, `db`, `protocol` (`resp3`, `resp2`) |
    /// | `redis+unix:///path/to/socket` | `redis` | the same |
    /// | `rediss://…` (TLS) | `redis-tls` | the same |
    /// | `redis-cluster://host:port,…` | `redis` | the same, but `db` |
    /// | `redis-sentinel://host:port,…/master-name[/db]` | `redis` | the same |
    ///
    /// Parameters of every URL: `namespace`, `ttl` (`"300"`, `"5m"`, `"never"`), `jitter`
    /// (0 to 1), `stale_for`, `retry_after`, `soft_timeout`, `hard_timeout`, `max_load`, `ttl_none` and
    /// `ttl_idle` (`"1h"`, `"30s"`), `refresh_ahead` (`0.8`, `xfetch`), and `codec` (`json`; `msgpack` and
    /// `postcard`; each with `+zstd` or `+lz4`; as far as their features are on). A `timeout`
    /// (`"500ms"`, 1 s by default) bounds each operation.
    ///
    /// ```
    /// # fn main() -> cacheio_sync::Result<()> {
    /// let cache = cacheio_sync::Cache::from_url("memory://?capacity=10000&ttl=5m")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with what is allowed instead. The URL itself, which may hold a
    /// password, is never shown.
    pub fn from_url(url: &str) -> Result<Self> {
        let url = CacheUrl::parse(url)?;
        match url.scheme() {
            #[cfg(feature = "memory")]
            "memory" => {
                let (memory, settings) = Memory::__from_url(url)?;
                Self::new(Arc::new(memory), settings)
            }
            #[cfg(feature = "memcached")]
            scheme if Memcached::SCHEMES.contains(&scheme) => Self::on_memcached(url),
            #[cfg(feature = "redis")]
            scheme if Redis::SCHEMES.contains(&scheme) => Self::on_redis(url),
            _ => Err(url.unknown_scheme(&[
                #[cfg(feature = "memory")]
                &["memory"],
                #[cfg(feature = "memcached")]
                Memcached::SCHEMES,
                #[cfg(feature = "redis")]
                Redis::SCHEMES,
            ])),
        }
    }

    /// The cache on the Memcached servers that a URL names.
    #[cfg(feature = "memcached")]
    pub(crate) fn on_memcached(mut url: CacheUrl<'_>) -> Result<Self> {
        url.expect(Memcached::SCHEMES)?;
        let store = Memcached::from_cache_url(&mut url)?;
        Self::new(
            Arc::new(store),
            Settings::from_url(url, Memcached::PARAMETERS)?,
        )
    }

    /// The cache on the Redis server, or servers, that a URL names.
    #[cfg(feature = "redis")]
    pub(crate) fn on_redis(mut url: CacheUrl<'_>) -> Result<Self> {
        url.expect(Redis::SCHEMES)?;
        let store = Redis::from_cache_url(&mut url)?;
        Self::new(Arc::new(store), Settings::from_url(url, Redis::PARAMETERS)?)
    }

    fn new(store: Arc<dyn Store>, settings: Settings) -> Result<Self> {
        let engine = Engine::new(
            Driver::for_threads(store, Arc::new(Pool::default())),
            settings,
        )?;
        Ok(Self {
            engine: Arc::new(engine),
        })
    }

    /// Whether [`get`](Self::get) would find a live entry. Moves no value.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set("k", 1)?;
    /// assert!(cache.has("k")? && !cache.has("other")?);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails.
    #[doc(alias = "exists")]
    #[doc(alias = "contains_key")]
    pub fn has(&self, key: impl CacheKey) -> Result<bool> {
        poll_ready(self.engine.has(key))
    }

    /// The value of a live entry.
    ///
    /// `None` that was stored is a value: `get::<Option<T>>` gives `Some(None)`.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set(("user", 42), "Ada")?;
    /// assert_eq!(cache.get::<String>(("user", 42))?.as_deref(), Some("Ada"));
    /// assert_eq!(cache.get::<String>(("user", 43))?, None);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode) when what is stored cannot be read as `V`, and when the store fails.
    pub fn get<V: Value>(&self, key: impl CacheKey) -> Result<Option<V>> {
        match self.engine.probe::<V>(&key) {
            Ok(stored) => Ok(stored.as_ref().map(V::from_shared)),
            Err(missed) => Ok(poll_ready(self.engine.get::<V>(missed))?.map(V::from_stored)),
        }
    }

    /// As [`get`](Self::get), without copying the value in memory: the same `Arc` to all.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set("page", String::from("<html>…"))?;
    /// let page = cache.get_arc::<String>("page")?.unwrap();
    /// # assert_eq!(*page, "<html>…");
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_arc<V: Value>(&self, key: impl CacheKey) -> Result<Option<Arc<V>>> {
        let stored = match self.engine.probe::<V>(&key) {
            Ok(stored) => stored,
            Err(missed) => poll_ready(self.engine.get::<V>(missed))?,
        };
        Ok(stored.map(V::shared))
    }

    /// The values of some keys, in the order asked; one round trip a server.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set_many([("a", 1), ("b", 2)])?;
    /// assert_eq!(cache.get_many::<i32>(["b", "c", "a"])?, [Some(2), None, Some(1)]);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), for any of the keys.
    #[doc(alias = "multi_get")]
    pub fn get_many<V: Value>(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
    ) -> Result<Vec<Option<V>>> {
        poll_ready(self.engine.get_many(keys))
    }

    /// Replaces what is under a key: value, TTL (the cache's default) and tags (none).
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set("answer", 42)?;
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the value cannot be encoded or is too large, and when the store fails.
    #[doc(alias = "insert")]
    #[doc(alias = "put")]
    pub fn set(&self, key: impl CacheKey, value: impl Encode) -> Result<()> {
        self.set_with(key, value, Options::new())
    }

    /// As [`set`](Self::set), with options; a `Duration` is a TTL.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// cache.set_with("answer", 42, Duration::from_secs(60))?;
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), and [`ErrorKind::Config`](crate::ErrorKind::Config) for a TTL of more than 290 years.
    pub fn set_with(
        &self,
        key: impl CacheKey,
        value: impl Encode,
        options: impl Into<Options>,
    ) -> Result<()> {
        poll_ready(self.engine.set(key, value, options.into()))
    }

    /// As [`set`](Self::set) for each of some entries; one round trip a server. Of one key that
    /// stands twice, the later value stays.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set_many([("a", 1), ("b", 2)])?;
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set). Nothing is stored when a value cannot be encoded; some entries may
    /// be when the store fails.
    #[doc(alias = "multi_set")]
    pub fn set_many(
        &self,
        entries: impl IntoIterator<Item = (impl CacheKey, impl Encode)>,
    ) -> Result<()> {
        self.set_many_with(entries, Options::new())
    }

    /// As [`set_many`](Self::set_many), with options for all.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// cache.set_many_with([("a", 1), ("b", 2)], Duration::from_secs(60))?;
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set_many`](Self::set_many), and [`ErrorKind::Config`](crate::ErrorKind::Config) for a TTL of more than 290 years.
    pub fn set_many_with(
        &self,
        entries: impl IntoIterator<Item = (impl CacheKey, impl Encode)>,
        options: impl Into<Options>,
    ) -> Result<()> {
        poll_ready(self.engine.set_many(entries, options.into()))
    }

    /// Stores only if there is no live entry; whether it did. Atomic against all other writers.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// assert!(cache.add("once", 1)?);
    /// assert!(!cache.add("once", 2)?);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn add(&self, key: impl CacheKey, value: impl Encode) -> Result<bool> {
        self.add_with(key, value, Options::new())
    }

    /// As [`add`](Self::add), with options.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// assert!(cache.add_with("lock", "me", Duration::from_secs(10))?);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set_with`](Self::set_with).
    pub fn add_with(
        &self,
        key: impl CacheKey,
        value: impl Encode,
        options: impl Into<Options>,
    ) -> Result<bool> {
        poll_ready(self.engine.add(key, value, options.into()))
    }

    /// Removes an entry; whether there was a live one.
    ///
    /// After it returns, nothing that was loaded before is read or stored any more, also when the
    /// load is still under way.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set("k", 1)?;
    /// assert!(cache.delete("k")?);
    /// assert!(!cache.delete("k")?);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails.
    #[doc(alias = "remove")]
    #[doc(alias = "invalidate")]
    pub fn delete(&self, key: impl CacheKey) -> Result<bool> {
        poll_ready(self.engine.delete(key))
    }

    /// Removes some entries; how many live ones went. One round trip a server.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set_many([("a", 1), ("b", 2)])?;
    /// assert_eq!(cache.delete_many(["a", "b", "c"])?, 2);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails; some of the entries may be gone then.
    #[doc(alias = "multi_delete")]
    pub fn delete_many(&self, keys: impl IntoIterator<Item = impl CacheKey>) -> Result<usize> {
        poll_ready(self.engine.delete_many(keys))
    }

    /// Adds to an integer, atomically; what it is then. A missing one counts from 0 and takes the
    /// default TTL; a live one keeps its TTL.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// assert_eq!(cache.increment("visits", 1)?, 1);
    /// assert_eq!(cache.increment("visits", 10)?, 11);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) when the entry is no integer, [`ErrorKind::Overflow`](crate::ErrorKind::Overflow) when it
    /// would leave the range of `i64`, and when the store fails. Nothing is changed then.
    #[doc(alias = "incr")]
    pub fn increment(&self, key: impl CacheKey, by: i64) -> Result<i64> {
        self.increment_with(key, by, Options::new())
    }

    /// As [`increment`](Self::increment), with the TTL of a counter that begins now.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// // At most 100 a minute.
    /// let calls = cache.increment_with(("calls", "10.0.0.1"), 1, Duration::from_secs(60))?;
    /// assert!(calls <= 100);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    pub fn increment_with(
        &self,
        key: impl CacheKey,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        poll_ready(self.engine.increment(key, Some(by), options.into()))
    }

    /// As [`increment`](Self::increment) downwards; below zero too.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// assert_eq!(cache.decrement("stock", 3)?, -3);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    #[doc(alias = "decr")]
    pub fn decrement(&self, key: impl CacheKey, by: i64) -> Result<i64> {
        self.decrement_with(key, by, Options::new())
    }

    /// As [`decrement`](Self::decrement), with the TTL of a counter that begins now.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// assert_eq!(cache.decrement_with("tickets", 1, Duration::from_secs(60))?, -1);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    pub fn decrement_with(
        &self,
        key: impl CacheKey,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        poll_ready(self.engine.increment(key, by.checked_neg(), options.into()))
    }

    /// Gives a live entry a new TTL; whether there was one.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// cache.set("session", "…")?;
    /// assert!(cache.touch("session", Duration::from_secs(3600))?);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a TTL of more than 290 years, and when the store fails.
    #[doc(alias = "expire")]
    pub fn touch(&self, key: impl CacheKey, ttl: impl Into<Ttl>) -> Result<bool> {
        poll_ready(self.engine.touch(key, ttl.into()))
    }

    /// Empties this cache's namespace, and nothing else.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set("k", 1)?;
    /// cache.clear()?;
    /// assert!(!cache.has("k")?);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails.
    #[doc(alias = "invalidate_all")]
    pub fn clear(&self) -> Result<()> {
        poll_ready(self.engine.clear())
    }

    /// The value of a live entry, or what `load` makes, which is then stored.
    ///
    /// However many threads miss a key at once, one runs its `load`; the others wait for its
    /// result. What is deleted or set meanwhile is not overwritten by it. A store that fails is
    /// counted and traced, and `load` runs.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// let user: String = cache.get_or_set(("user", 42), || String::from("Ada"));
    /// # assert_eq!(user, "Ada");
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When `load` panics: in its own caller only, and one of those who wait takes over. When
    /// `load` waits for its own key.
    #[doc(alias = "get_with")]
    pub fn get_or_set<V: Value>(&self, key: impl CacheKey, load: impl FnOnce() -> V) -> V {
        self.load_infallible(key, &DEFAULT_OPTIONS, load)
    }

    /// As [`get_or_set`](Self::get_or_set), with options for what is stored.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// let rate: u32 = cache.get_or_set_with(("rate", "EUR"), Duration::from_secs(60), || 108);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get_or_set`](Self::get_or_set).
    pub fn get_or_set_with<V: Value>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce() -> V,
    ) -> V {
        self.load_infallible(key, &options.into(), load)
    }

    #[inline]
    fn load_infallible<V: Value>(
        &self,
        key: impl CacheKey,
        options: &Options,
        load: impl FnOnce() -> V,
    ) -> V {
        let load = || Ok::<_, Infallible>(load());
        match self.load(key, options, LoadMode::INFALLIBLE, load) {
            Ok(value) => value,
            Err(failure) => failure.panic(),
        }
    }

    /// As [`get_or_set`](Self::get_or_set), for a `load` that may fail.
    ///
    /// A failed load stores nothing. All who waited for it get its one error.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// let port = cache.get_or_try_set("port", || "80x".parse::<u16>());
    /// assert_eq!(port.unwrap_err().to_string(), "invalid digit found in string");
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `load`, shared; [`LoadError::Timeout`] when the cache or another caller sets a timeout
    /// which the load does not keep; [`LoadError::Reentrant`] when `load` waits for its own key.
    ///
    /// # Panics
    ///
    /// When `load` panics: in its own caller only, and one of those who wait takes over.
    #[doc(alias = "try_get_with")]
    pub fn get_or_try_set<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        self.load(key, &DEFAULT_OPTIONS, LoadMode::FALLIBLE, load)
            .map_err(LoadError::from)
    }

    /// As [`get_or_try_set`](Self::get_or_try_set), with options for what is stored.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use cacheio_sync::Options;
    /// use std::time::Duration;
    ///
    /// let options = Options::ttl(Duration::from_secs(60)).tags(["ports"]);
    /// let port: u16 = cache.get_or_try_set_with("port", options, || "80".parse::<u16>())?;
    /// # assert_eq!(port, 80);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_try_set`](Self::get_or_try_set).
    ///
    /// # Panics
    ///
    /// As [`get_or_try_set`](Self::get_or_try_set).
    pub fn get_or_try_set_with<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        self.load(key, &options.into(), LoadMode::FALLIBLE, load)
            .map_err(LoadError::from)
    }

    #[inline]
    fn load<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        options: &Options,
        mode: LoadMode,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, Failure<E>> {
        match self.engine.probe_to_load::<V>(&key, options) {
            Ok(stored) => Ok(V::from_shared(&stored)),
            Err(missed) => {
                let loader = || async { load().map(Loaded::from) };
                poll_ready(self.engine.load(missed, options, mode, loader))
            }
        }
    }

    /// As [`get_or_try_set`](Self::get_or_try_set), for what users must never wait for: `load` can
    /// go on behind its caller, is told what it replaces, and may say how long its value lives.
    ///
    /// That takes a `load` that owns what it uses. With it, all that the cache or the
    /// [`Options`] of the call say about slow origins holds for every caller: `soft_timeout`,
    /// `hard_timeout`, `max_load` and `refresh_ahead`. In `get_or_set` and its kin, whose `load` may
    /// borrow, the one caller that runs it waits for it; all others are served as here.
    ///
    /// Where a timeout may leave it or nobody waits for it, `load` runs on a thread of the cache's
    /// own: at most 16, made when they are needed, gone after 10 s without work. Elsewhere it runs
    /// in its caller. A closure cannot be stopped: one that hangs keeps its thread, but after
    /// [`max_load`](crate::Options::max_load) (for ever, unless told otherwise) not its key.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// let port: u16 = cache.fetch("port", |_| { "80".parse() })?;
    /// assert_eq!(port, 80);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `load`, shared; [`LoadError::Timeout`] after `hard_timeout` or `max_load`, when there
    /// is nothing older to serve; [`LoadError::Reentrant`] when `load` waits for its own key.
    ///
    /// # Panics
    ///
    /// When `load` panics: in its own caller only, if that still waits, and one of those who wait
    /// takes over.
    pub fn fetch<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<V, LoadError<E>> {
        self.fetch_with(key, Options::new(), load)
    }

    /// As [`fetch`](Self::fetch), with options.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use cacheio_sync::Options;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let options = Options::ttl(minute)
    ///     .refresh_ahead(0.8)
    ///     .stale_for(60 * minute)
    ///     .soft_timeout(Duration::from_millis(100))
    ///     .hard_timeout(Duration::from_secs(2));
    /// let user = cache.fetch_with(("user", 42), options, |context| {
    ///     // Users who are new may change soon.
    ///     context.ttl(Duration::from_secs(10));
    ///     Ok::<_, std::io::Error>(String::from("Ada"))
    /// })?;
    /// # assert_eq!(user, "Ada");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    ///
    /// # Panics
    ///
    /// As [`fetch`](Self::fetch).
    pub fn fetch_with<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<V, LoadError<E>> {
        let options = options.into();
        match self.engine.probe_to_load::<V>(&key, &options) {
            Ok(stored) => Ok(V::from_shared(&stored)),
            Err(missed) => {
                let load = || |context| async { load(context) };
                let fetched = self
                    .engine
                    .fetch(missed, &options, LoadMode::FALLIBLE, load);
                Ok(poll_ready(fetched)?.value)
            }
        }
    }

    /// As [`fetch`](Self::fetch), with where the value came from and how old it is. A hit in memory
    /// takes about twice as long.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use cacheio_sync::Source;
    ///
    /// let port = cache.fetch_entry("port", |_| { "80".parse::<u16>() })?;
    /// assert_eq!((port.value, port.source), (80, Source::Loaded));
    ///
    /// let port = cache.fetch_entry("port", |_| { "80".parse::<u16>() })?;
    /// assert_eq!((port.value, port.source), (80, Source::Hit));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    ///
    /// # Panics
    ///
    /// As [`fetch`](Self::fetch).
    pub fn fetch_entry<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>> {
        self.fetch_entry_with(key, Options::new(), load)
    }

    /// As [`fetch_entry`](Self::fetch_entry), with options.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let page = cache.fetch_entry_with("page", minute, |_| {
    ///     Ok::<_, std::io::Error>(String::from("<html>…"))
    /// })?;
    /// let header = page.age.map(|age| format!("Age: {}", age.as_secs()));
    /// # assert_eq!(header.as_deref(), Some("Age: 0"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    ///
    /// # Panics
    ///
    /// As [`fetch`](Self::fetch).
    pub fn fetch_entry_with<V: Value, E: Send + Sync + 'static>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> Result<V, E> + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>> {
        let options = options.into();
        match self.engine.probe_to_fetch::<V>(&key, &options) {
            Ok(fetched) => Ok(fetched),
            Err(missed) => {
                let load = || |context| async { load(context) };
                let fetched = self.engine.fetch(missed, &options, LoadMode::DATED, load);
                poll_ready(fetched).map_err(LoadError::from)
            }
        }
    }

    /// Gets the values of many keys, and loads all that are missing at once.
    ///
    /// The answers stand in the order of the keys; there is none where `load` gave none. One
    /// reading of the store (a round trip a server), one `load` of all keys that miss, one
    /// writing; a key that another thread is loading already, alone or in a batch, is waited for
    /// and not loaded again. `load` is run once more only for keys whose loads by others came to
    /// nothing.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set(("user", 1), "Ada")?;
    /// let users: Vec<Option<String>> = cache.get_or_set_many(
    ///     [("user", 1), ("user", 2), ("user", 3)],
    ///     // One query for all that are missing: here 2 and 3, of which only 2 exists.
    ///     |missing| missing.into_iter().filter(|key| key.1 < 3).map(|key| (key, String::from("Eve"))),
    /// );
    /// assert_eq!(users, [Some("Ada".into()), Some("Eve".into()), None]);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get_or_set`](Self::get_or_set).
    pub fn get_or_set_many<K: CacheKey, V: Value, L: IntoIterator<Item = (K, V)>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: impl FnMut(Vec<K>) -> L,
    ) -> Vec<Option<V>> {
        self.get_or_set_many_with(keys, Options::new(), load)
    }

    /// As [`get_or_set_many`](Self::get_or_set_many), with options for what is stored.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// let rates: Vec<Option<u32>> = cache.get_or_set_many_with(
    ///     ["EUR", "USD"],
    ///     Duration::from_secs(60),
    ///     |missing| missing.into_iter().map(|currency| (currency, 108)).collect::<Vec<_>>(),
    /// );
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get_or_set`](Self::get_or_set).
    pub fn get_or_set_many_with<K: CacheKey, V: Value, L: IntoIterator<Item = (K, V)>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: impl Into<Options>,
        mut load: impl FnMut(Vec<K>) -> L,
    ) -> Vec<Option<V>> {
        let load = |missing| ready(Ok::<_, Infallible>(load(missing)));
        let mode = LoadMode::INFALLIBLE;
        poll_ready(self.engine.load_many(keys, &options.into(), mode, load))
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|failure| failure.panic()))
            .collect()
    }

    /// As [`get_or_set_many`](Self::get_or_set_many), for a `load` that may fail.
    ///
    /// What was found stays found: the error is the answer for those keys alone that were to be
    /// loaded. Collect into a `Result` to have all or nothing.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.set("a", 1)?;
    /// let answers = cache.get_or_try_set_many(["a", "b"], |missing| -> Result<Vec<(&str, i32)>, String> {
    ///     Err(format!("cannot load {missing:?}"))
    /// });
    /// assert_eq!(answers[0].as_ref().unwrap(), &Some(1));
    /// assert_eq!(answers[1].as_ref().unwrap_err().to_string(), r#"cannot load ["b"]"#);
    ///
    /// let all: Result<Vec<Option<i32>>, _> = answers.into_iter().collect();
    /// assert!(all.is_err());
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When `load` panics: in its own caller only, and others take over.
    pub fn get_or_try_set_many<K, V, E, L>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: impl FnMut(Vec<K>) -> Result<L, E>,
    ) -> Vec<Result<Option<V>, LoadError<E>>>
    where
        K: CacheKey,
        V: Value,
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
    {
        self.get_or_try_set_many_with(keys, Options::new(), load)
    }

    /// As [`get_or_try_set_many`](Self::get_or_try_set_many), with options for what is stored.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// let ports: Vec<Option<u16>> = cache
    ///     .get_or_try_set_many_with(["80", "443"], Duration::from_secs(60), |missing| {
    ///         let parse = |text: &'static str| text.parse::<u16>().map(|port| (text, port));
    ///         missing.into_iter().map(parse).collect::<Result<Vec<_>, _>>()
    ///     })
    ///     .into_iter()
    ///     .collect::<Result<_, _>>()?;
    /// assert_eq!(ports, [Some(80), Some(443)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get_or_try_set_many`](Self::get_or_try_set_many).
    pub fn get_or_try_set_many_with<K, V, E, L>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: impl Into<Options>,
        mut load: impl FnMut(Vec<K>) -> Result<L, E>,
    ) -> Vec<Result<Option<V>, LoadError<E>>>
    where
        K: CacheKey,
        V: Value,
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
    {
        let load = |missing| ready(load(missing));
        let mode = LoadMode::FALLIBLE;
        poll_ready(self.engine.load_many(keys, &options.into(), mode, load))
            .into_iter()
            .map(|answer| answer.map_err(LoadError::from))
            .collect()
    }

    /// Makes every entry that has one of these tags a miss, at once and in O(1).
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// use cacheio_sync::Options;
    ///
    /// cache.set_with(("user", 42), "Ada", Options::new().tags(["users"]))?;
    /// cache.invalidate_tags(["users"])?;
    /// assert!(!cache.has(("user", 42))?);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the cache is not in memory.
    pub fn invalidate_tags<T: Into<Cow<'static, str>>>(
        &self,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        poll_ready(self.engine.invalidate_tags(tags))
    }

    /// Asks whether the store is there: for health checks. No other call needs it.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.ping()?;
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn ping(&self) -> Result<()> {
        poll_ready(self.engine.ping())
    }

    /// What the cache has done since it was built; all its clones together.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// cache.get::<u32>("missing")?;
    /// assert_eq!(cache.stats().misses, 1);
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// The namespace that its keys stand in; empty in memory unless told otherwise.
    ///
    /// ```
    /// # let cache = cacheio_sync::Cache::builder().build()?;
    /// assert_eq!(cache.namespace(), "");
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    pub fn namespace(&self) -> &str {
        self.engine.namespace()
    }

    #[doc(hidden)]
    pub fn __engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// Builds a [`Cache`].
///
/// # Defaults
///
/// - `store`: memory for [`Config::default_threshold`](crate::Config::default_threshold) entries
/// - `namespace`: none in memory, `cacheio` on a server
/// - `default_ttl`: [`Config::default_ttl`](crate::Config::default_ttl)
/// - `jitter`: 0
/// - `stale_for`: 0; `retry_after`: 30 s
/// - `refresh_ahead`: never
/// - `soft_timeout`, `hard_timeout`: none; `max_load`: none
/// - `ttl_none`: as of any other value; `ttl_idle`: none
/// - `codec`: [`Json`](crate::Json)
///
/// ```
/// use cacheio_sync::{Cache, Memory, Ttl};
///
/// let cache = Cache::builder()
///     .store(Memory::with_capacity(10_000))
///     .namespace("shop")
///     .default_ttl(Ttl::Never)
///     .jitter(0.1)
///     .build()?;
/// # Ok::<(), cacheio_sync::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct CacheBuilder {
    store: Option<Arc<dyn Store>>,
    settings: Settings,
}

impl CacheBuilder {
    /// What keeps the entries: `Memory`, or a [`Store`] of your own.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// What stands before every key, with a `:`. [`Cache::clear`] empties just that.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings.set_namespace(namespace.into());
        self
    }

    /// How long entries live that are stored without a TTL.
    pub fn default_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.settings.set_default_ttl(ttl.into());
        self
    }

    /// Lets entries expire earlier, each by another part of this fraction (0 to 1) of its TTL, so
    /// that what was stored together does not expire together.
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.settings.policies().jitter = Some(fraction);
        self
    }

    /// For how long after its TTL what was loaded is served when the load that is to replace it
    /// fails; zero, as it is unless told otherwise: not at all.
    ///
    /// It is never served later than its TTL and this together, counted from the load that made
    /// it. Only [`get_or_set`](Cache::get_or_set) and its kin serve it: to `get` and `has` it is
    /// gone. On a server such entries carry a header: `add`, `delete` and `increment` find them
    /// there until this time is over, `has` and `touch` have to read them and know of them only in
    /// caches that are told so here, and the clocks of all clients have to agree.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = cacheio_sync::Cache::builder()
    ///     .default_ttl(Duration::from_secs(60))
    ///     .stale_for(Duration::from_secs(3600))
    ///     .build()?;
    /// # Ok::<(), cacheio_sync::Error>(())
    /// ```
    pub fn stale_for(mut self, duration: Duration) -> Self {
        self.settings.policies().stale_for = Some(duration);
        self
    }

    /// How long after a failed load, for which something stale was served, none is tried again:
    /// 30 s, unless told otherwise. On a server, that holds for all its clients.
    pub fn retry_after(mut self, duration: Duration) -> Self {
        self.settings.policies().retry_after = Some(duration);
        self
    }

    /// When what is still live is loaded anew, so that nobody waits for it: after a fraction of its
    /// TTL (a number), or by [`RefreshAhead::XFETCH`]; never, unless told otherwise.
    ///
    /// One caller of [`fetch`](Cache::fetch) starts the load behind the scenes, and all go on
    /// reading; of [`get_or_set`](Cache::get_or_set), that one caller waits. A load that fails
    /// changes nothing: it is tried again after `retry_after`.
    pub fn refresh_ahead(mut self, ahead: impl Into<RefreshAhead>) -> Self {
        self.settings.policies().refresh_ahead = Some(ahead.into());
        self
    }

    /// How long a caller waits for a load when there is something stale to serve instead, counted
    /// from the beginning of the load; zero serves it at once. Needs `stale_for`.
    ///
    /// The load goes on behind the scenes, and what it makes is stored. In
    /// [`get_or_set`](Cache::get_or_set) and its kin, the caller that runs it waits.
    pub fn soft_timeout(mut self, duration: Duration) -> Self {
        self.settings.policies().soft_timeout = Some(duration);
        self
    }

    /// How long a caller waits for a load in any case; then it gets something stale, or
    /// [`LoadError::Timeout`]. It does not hold where there is no error to return, as in
    /// [`get_or_set`](Cache::get_or_set), nor for the caller that itself runs the load of a `get_or_try_set`.
    ///
    /// It frees the caller, not the key: a load that hangs is waited for by the next callers too,
    /// until `max_load` is over.
    pub fn hard_timeout(mut self, duration: Duration) -> Self {
        self.settings.policies().hard_timeout = Some(duration);
        self
    }

    /// How long a load may take until its key is free again for another: for ever, unless told
    /// otherwise. Those who wait for it get something stale, or [`LoadError::Timeout`]; the load of
    /// a [`fetch`](Cache::fetch) is left to itself: a thread cannot be stopped.
    pub fn max_load(mut self, duration: Duration) -> Self {
        self.settings.policies().max_load = Some(duration);
        self
    }

    /// Another TTL for a loaded `None`, which may be something that does not exist yet; zero does
    /// not store it.
    pub fn ttl_none(mut self, ttl: impl Into<Ttl>) -> Self {
        self.settings.policies().ttl_none = Some(ttl.into());
        self
    }

    /// Lets what is loaded expire when nobody has read it for so long: see
    /// [`Options::ttl_idle`], by which a `set` asks for it.
    pub fn ttl_idle(mut self, duration: Duration) -> Self {
        self.settings.policies().ttl_idle = Some(duration);
        self
    }

    /// How values become bytes, where they have to.
    pub fn codec(mut self, codec: impl Codec) -> Self {
        self.settings.set_codec(Arc::new(codec));
        self
    }

    /// The cache.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when a setting makes no sense. No server is asked.
    pub fn build(self) -> Result<Cache> {
        let store = match self.store {
            Some(store) => store,
            None => default_store()?,
        };
        Cache::new(store, self.settings)
    }
}

#[cfg(feature = "memory")]
#[allow(clippy::unnecessary_wraps)]
fn default_store() -> Result<Arc<dyn Store>> {
    Ok(Arc::new(Memory::new()))
}

#[cfg(not(feature = "memory"))]
fn default_store() -> Result<Arc<dyn Store>> {
    Err(cacheio_core::Error::new(
        cacheio_core::ErrorKind::Config,
        "a cache needs a store: give the builder one, or turn on the feature `memory`",
    )
    .during(cacheio_core::Operation::Build))
}
