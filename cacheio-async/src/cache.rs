//! The cache for tasks.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::{
    CacheUrl, DEFAULT_OPTIONS, Driver, Engine, Failure, LoadMode, Loaded, Settings, boxed,
};
use cacheio_core::{
    AsyncStore, CacheKey, Codec, Encode, Fetched, LoadContext, LoadError, Options, RefreshAhead,
    Result, Stats, Ttl, Value,
};

#[cfg(feature = "memcached")]
use crate::Memcached;
#[cfg(feature = "memory")]
use crate::Memory;
#[cfg(feature = "redis")]
use crate::Redis;
use crate::runtime::Runtime;

/// A cache for tasks, whatever stands behind it.
///
/// Cloning it is cheap and gives the same cache. It holds values of different types under its
/// keys; what is asked for as another type than was stored goes through the codec.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio_async::Result<()> {
/// use cacheio_async::{AsyncCache, Memory, Options};
/// use std::time::Duration;
///
/// let cache = AsyncCache::builder().store(Memory::with_capacity(10_000)).build()?;
/// cache.set("greeting", "hello").await?;
/// assert_eq!(cache.get::<String>("greeting").await?.as_deref(), Some("hello"));
///
/// // However many tasks miss at once: one loads, the others wait for its result.
/// let square: u64 = cache.get_or_set(("square", 7), || async { 7 * 7 }).await;
/// assert_eq!(square, 49);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncCache {
    engine: Arc<Engine>,
}

impl AsyncCache {
    /// A builder; without a [`store`](AsyncCacheBuilder::store) it builds a cache in memory.
    pub fn builder() -> AsyncCacheBuilder {
        AsyncCacheBuilder::default()
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
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio_async::Result<()> {
    /// let cache = cacheio_async::AsyncCache::from_url("memory://?capacity=10000&ttl=5m")?;
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

    fn new(store: Arc<dyn AsyncStore>, settings: Settings) -> Result<Self> {
        let engine = Engine::new(Driver::for_tasks(store, Arc::new(Runtime)), settings)?;
        Ok(Self {
            engine: Arc::new(engine),
        })
    }

    /// Whether [`get`](Self::get) would find a live entry. Moves no value.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set("k", 1).await?;
    /// assert!(cache.has("k").await? && !cache.has("other").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails.
    #[doc(alias = "exists")]
    #[doc(alias = "contains_key")]
    pub async fn has(&self, key: impl CacheKey) -> Result<bool> {
        self.engine.has(key).await
    }

    /// The value of a live entry.
    ///
    /// `None` that was stored is a value: `get::<Option<T>>` gives `Some(None)`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set(("user", 42), "Ada").await?;
    /// assert_eq!(cache.get::<String>(("user", 42)).await?.as_deref(), Some("Ada"));
    /// assert_eq!(cache.get::<String>(("user", 43)).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode) when what is stored cannot be read as `V`, and when the store fails.
    pub async fn get<V: Value>(&self, key: impl CacheKey) -> Result<Option<V>> {
        match self.engine.probe::<V>(&key) {
            Ok(stored) => Ok(stored.as_ref().map(V::from_shared)),
            Err(missed) => {
                let stored = boxed(|| self.engine.get::<V>(missed)).await?;
                Ok(stored.map(V::from_stored))
            }
        }
    }

    /// As [`get`](Self::get), without copying the value in memory: the same `Arc` to all.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set("page", String::from("<html>…")).await?;
    /// let page = cache.get_arc::<String>("page").await?.unwrap();
    /// # assert_eq!(*page, "<html>…");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_arc<V: Value>(&self, key: impl CacheKey) -> Result<Option<Arc<V>>> {
        let stored = match self.engine.probe::<V>(&key) {
            Ok(stored) => stored,
            Err(missed) => boxed(|| self.engine.get::<V>(missed)).await?,
        };
        Ok(stored.map(V::shared))
    }

    /// The values of some keys, in the order asked; one round trip a server.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set_many([("a", 1), ("b", 2)]).await?;
    /// assert_eq!(cache.get_many::<i32>(["b", "c", "a"]).await?, [Some(2), None, Some(1)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), for any of the keys.
    #[doc(alias = "multi_get")]
    pub async fn get_many<V: Value>(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
    ) -> Result<Vec<Option<V>>> {
        self.engine.get_many(keys).await
    }

    /// Replaces what is under a key: value, TTL (the cache's default) and tags (none).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set("answer", 42).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the value cannot be encoded or is too large, and when the store fails.
    #[doc(alias = "insert")]
    #[doc(alias = "put")]
    pub async fn set(&self, key: impl CacheKey, value: impl Encode) -> Result<()> {
        self.set_with(key, value, Options::new()).await
    }

    /// As [`set`](Self::set), with options; a `Duration` is a TTL.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// cache.set_with("answer", 42, Duration::from_secs(60)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), and [`ErrorKind::Config`](crate::ErrorKind::Config) for a TTL of more than 290 years.
    pub async fn set_with(
        &self,
        key: impl CacheKey,
        value: impl Encode,
        options: impl Into<Options>,
    ) -> Result<()> {
        self.engine.set(key, value, options.into()).await
    }

    /// As [`set`](Self::set) for each of some entries; one round trip a server. Of one key that
    /// stands twice, the later value stays.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set_many([("a", 1), ("b", 2)]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set). Nothing is stored when a value cannot be encoded; some entries may
    /// be when the store fails.
    #[doc(alias = "multi_set")]
    pub async fn set_many(
        &self,
        entries: impl IntoIterator<Item = (impl CacheKey, impl Encode)>,
    ) -> Result<()> {
        self.set_many_with(entries, Options::new()).await
    }

    /// As [`set_many`](Self::set_many), with options for all.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// cache.set_many_with([("a", 1), ("b", 2)], Duration::from_secs(60)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set_many`](Self::set_many), and [`ErrorKind::Config`](crate::ErrorKind::Config) for a TTL of more than 290 years.
    pub async fn set_many_with(
        &self,
        entries: impl IntoIterator<Item = (impl CacheKey, impl Encode)>,
        options: impl Into<Options>,
    ) -> Result<()> {
        self.engine.set_many(entries, options.into()).await
    }

    /// Stores only if there is no live entry; whether it did. Atomic against all other writers.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// assert!(cache.add("once", 1).await?);
    /// assert!(!cache.add("once", 2).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn add(&self, key: impl CacheKey, value: impl Encode) -> Result<bool> {
        self.add_with(key, value, Options::new()).await
    }

    /// As [`add`](Self::add), with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// assert!(cache.add_with("lock", "me", Duration::from_secs(10)).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`set_with`](Self::set_with).
    pub async fn add_with(
        &self,
        key: impl CacheKey,
        value: impl Encode,
        options: impl Into<Options>,
    ) -> Result<bool> {
        self.engine.add(key, value, options.into()).await
    }

    /// Removes an entry; whether there was a live one.
    ///
    /// After it returns, nothing that was loaded before is read or stored any more, also when the
    /// load is still under way.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set("k", 1).await?;
    /// assert!(cache.delete("k").await?);
    /// assert!(!cache.delete("k").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails.
    #[doc(alias = "remove")]
    #[doc(alias = "invalidate")]
    pub async fn delete(&self, key: impl CacheKey) -> Result<bool> {
        self.engine.delete(key).await
    }

    /// Removes some entries; how many live ones went. One round trip a server.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set_many([("a", 1), ("b", 2)]).await?;
    /// assert_eq!(cache.delete_many(["a", "b", "c"]).await?, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails; some of the entries may be gone then.
    #[doc(alias = "multi_delete")]
    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
    ) -> Result<usize> {
        self.engine.delete_many(keys).await
    }

    /// Adds to an integer, atomically; what it is then. A missing one counts from 0 and takes the
    /// default TTL; a live one keeps its TTL.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// assert_eq!(cache.increment("visits", 1).await?, 1);
    /// assert_eq!(cache.increment("visits", 10).await?, 11);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) when the entry is no integer, [`ErrorKind::Overflow`](crate::ErrorKind::Overflow) when it
    /// would leave the range of `i64`, and when the store fails. Nothing is changed then.
    #[doc(alias = "incr")]
    pub async fn increment(&self, key: impl CacheKey, by: i64) -> Result<i64> {
        self.increment_with(key, by, Options::new()).await
    }

    /// As [`increment`](Self::increment), with the TTL of a counter that begins now.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// // At most 100 a minute.
    /// let calls = cache.increment_with(("calls", "10.0.0.1"), 1, Duration::from_secs(60)).await?;
    /// assert!(calls <= 100);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    pub async fn increment_with(
        &self,
        key: impl CacheKey,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        self.engine.increment(key, Some(by), options.into()).await
    }

    /// As [`increment`](Self::increment) downwards; below zero too.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// assert_eq!(cache.decrement("stock", 3).await?, -3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    #[doc(alias = "decr")]
    pub async fn decrement(&self, key: impl CacheKey, by: i64) -> Result<i64> {
        self.decrement_with(key, by, Options::new()).await
    }

    /// As [`decrement`](Self::decrement), with the TTL of a counter that begins now.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// assert_eq!(cache.decrement_with("tickets", 1, Duration::from_secs(60)).await?, -1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    pub async fn decrement_with(
        &self,
        key: impl CacheKey,
        by: i64,
        options: impl Into<Options>,
    ) -> Result<i64> {
        self.engine
            .increment(key, by.checked_neg(), options.into())
            .await
    }

    /// Gives a live entry a new TTL; whether there was one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// cache.set("session", "…").await?;
    /// assert!(cache.touch("session", Duration::from_secs(3600)).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a TTL of more than 290 years, and when the store fails.
    #[doc(alias = "expire")]
    pub async fn touch(&self, key: impl CacheKey, ttl: impl Into<Ttl>) -> Result<bool> {
        self.engine.touch(key, ttl.into()).await
    }

    /// Empties this cache's namespace, and nothing else.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set("k", 1).await?;
    /// cache.clear().await?;
    /// assert!(!cache.has("k").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails.
    #[doc(alias = "invalidate_all")]
    pub async fn clear(&self) -> Result<()> {
        self.engine.clear().await
    }

    /// The value of a live entry, or what `load` makes, which is then stored.
    ///
    /// However many tasks miss a key at once, one runs its `load`; the others wait for its
    /// result. What is deleted or set meanwhile is not overwritten by it. A store that fails is
    /// counted and traced, and `load` runs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// let user: String = cache.get_or_set(("user", 42), || async { String::from("Ada") }).await;
    /// # assert_eq!(user, "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// When `load` panics: in its own caller only, and one of those who wait takes over. When
    /// `load` waits for its own key.
    #[doc(alias = "get_with")]
    pub async fn get_or_set<V: Value, F: Future<Output = V>>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce() -> F,
    ) -> V {
        let loaded = self.load(key, &DEFAULT_OPTIONS, LoadMode::INFALLIBLE, || async {
            Ok::<_, Infallible>(load().await)
        });
        loaded.await.unwrap_or_else(|failure| failure.panic())
    }

    /// As [`get_or_set`](Self::get_or_set), with options for what is stored.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// let rate: u32 = cache.get_or_set_with(("rate", "EUR"), Duration::from_secs(60), || async { 108 }).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get_or_set`](Self::get_or_set).
    pub async fn get_or_set_with<V: Value, F: Future<Output = V>>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce() -> F,
    ) -> V {
        let options = options.into();
        let loaded = self.load(key, &options, LoadMode::INFALLIBLE, || async {
            Ok::<_, Infallible>(load().await)
        });
        loaded.await.unwrap_or_else(|failure| failure.panic())
    }

    /// As [`get_or_set`](Self::get_or_set), for a `load` that may fail.
    ///
    /// A failed load stores nothing. All who waited for it get its one error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// let port = cache.get_or_try_set("port", || async { "80x".parse::<u16>() }).await;
    /// assert_eq!(port.unwrap_err().to_string(), "invalid digit found in string");
    /// # Ok(()) }
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
    pub async fn get_or_try_set<
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    >(
        &self,
        key: impl CacheKey,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>> {
        let loaded = self.load(key, &DEFAULT_OPTIONS, LoadMode::FALLIBLE, load);
        loaded.await.map_err(LoadError::from)
    }

    /// As [`get_or_try_set`](Self::get_or_try_set), with options for what is stored.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use cacheio_async::Options;
    /// use std::time::Duration;
    ///
    /// let options = Options::ttl(Duration::from_secs(60)).tags(["ports"]);
    /// let port: u16 = cache.get_or_try_set_with("port", options, || async { "80".parse::<u16>() }).await?;
    /// # assert_eq!(port, 80);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_try_set`](Self::get_or_try_set).
    ///
    /// # Panics
    ///
    /// As [`get_or_try_set`](Self::get_or_try_set).
    pub async fn get_or_try_set_with<
        V: Value,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    >(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>> {
        let options = options.into();
        let loaded = self.load(key, &options, LoadMode::FALLIBLE, load);
        loaded.await.map_err(LoadError::from)
    }

    #[inline]
    async fn load<V: Value, E: Send + Sync + 'static, F: Future<Output = Result<V, E>>>(
        &self,
        key: impl CacheKey,
        options: &Options,
        mode: LoadMode,
        load: impl FnOnce() -> F,
    ) -> Result<V, Failure<E>> {
        match self.engine.probe_to_load::<V>(&key, options) {
            Ok(stored) => Ok(V::from_shared(&stored)),
            Err(missed) => {
                let loader = || async { load().await.map(Loaded::from) };
                // On the heap, so that the futures of callers stay small.
                boxed(|| self.engine.load(missed, options, mode, loader)).await
            }
        }
    }

    /// As [`get_or_try_set`](Self::get_or_try_set), for what users must never wait for: `load` can
    /// go on behind its caller, is told what it replaces, and may say how long its value lives.
    ///
    /// That takes a `load` that owns what it uses. With it, all that the cache or the
    /// [`Options`] of the call say about slow origins holds for every caller: `soft_timeout`,
    /// `hard_timeout`, `max_load` and `refresh_ahead`. In `get_or_set` and its kin, whose `load` may
    /// borrow, the one caller that runs it waits for it (`get_or_try_set` until `hard_timeout`, which
    /// drops it); all others are served as here.
    ///
    /// `load` runs as a task of its own, on the runtime of the caller: it goes on when the caller is
    /// dropped or waits no longer, and is dropped itself after [`max_load`](crate::Options::max_load),
    /// 60 s unless told otherwise. The runtime needs its timer (`enable_time`), as `#[tokio::main]`
    /// has it. Outside of tokio, `load` runs in its caller, without timeouts; a thread of tokio's that
    /// blocks on this future by other means than tokio's may wait for ever.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// let port: u16 = cache.fetch("port", |_| async move { "80".parse() }).await?;
    /// assert_eq!(port, 80);
    /// # Ok(()) }
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
    pub async fn fetch<V: Value, E: Send + Sync + 'static, F>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.fetch_with(key, Options::new(), load).await
    }

    /// As [`fetch`](Self::fetch), with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use cacheio_async::Options;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let options = Options::ttl(minute)
    ///     .refresh_ahead(0.8)
    ///     .stale_for(60 * minute)
    ///     .soft_timeout(Duration::from_millis(100))
    ///     .hard_timeout(Duration::from_secs(2));
    /// let user = cache.fetch_with(("user", 42), options, |context| async move {
    ///     // Users who are new may change soon.
    ///     context.ttl(Duration::from_secs(10));
    ///     Ok::<_, std::io::Error>(String::from("Ada"))
    /// }).await?;
    /// # assert_eq!(user, "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    ///
    /// # Panics
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_with<V: Value, E: Send + Sync + 'static, F>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let options = options.into();
        match self.engine.probe_to_load::<V>(&key, &options) {
            Ok(stored) => Ok(V::from_shared(&stored)),
            Err(missed) => {
                let mode = LoadMode::FALLIBLE;
                let fetched = boxed(|| self.engine.fetch(missed, &options, mode, || load));
                Ok(fetched.await?.value)
            }
        }
    }

    /// As [`fetch`](Self::fetch), with where the value came from and how old it is. A hit in memory
    /// takes about twice as long.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use cacheio_async::Source;
    ///
    /// let port = cache.fetch_entry("port", |_| async move { "80".parse::<u16>() }).await?;
    /// assert_eq!((port.value, port.source), (80, Source::Loaded));
    ///
    /// let port = cache.fetch_entry("port", |_| async move { "80".parse::<u16>() }).await?;
    /// assert_eq!((port.value, port.source), (80, Source::Hit));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    ///
    /// # Panics
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_entry<V: Value, E: Send + Sync + 'static, F>(
        &self,
        key: impl CacheKey,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.fetch_entry_with(key, Options::new(), load).await
    }

    /// As [`fetch_entry`](Self::fetch_entry), with options.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let page = cache.fetch_entry_with("page", minute, |_| async move {
    ///     Ok::<_, std::io::Error>(String::from("<html>…"))
    /// }).await?;
    /// let header = page.age.map(|age| format!("Age: {}", age.as_secs()));
    /// # assert_eq!(header.as_deref(), Some("Age: 0"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    ///
    /// # Panics
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_entry_with<V: Value, E: Send + Sync + 'static, F>(
        &self,
        key: impl CacheKey,
        options: impl Into<Options>,
        load: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<Fetched<V>, LoadError<E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let options = options.into();
        match self.engine.probe_to_fetch::<V>(&key, &options) {
            Ok(fetched) => Ok(fetched),
            Err(missed) => {
                let mode = LoadMode::DATED;
                let fetched = boxed(|| self.engine.fetch(missed, &options, mode, || load));
                fetched.await.map_err(LoadError::from)
            }
        }
    }

    /// Gets the values of many keys, and loads all that are missing at once.
    ///
    /// The answers stand in the order of the keys; there is none where `load` gave none. One
    /// reading of the store (a round trip a server), one `load` of all keys that miss, one
    /// writing; a key that another task is loading already, alone or in a batch, is waited for
    /// and not loaded again. `load` is run once more only for keys whose loads by others came to
    /// nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set(("user", 1), "Ada").await?;
    /// let users: Vec<Option<String>> = cache.get_or_set_many(
    ///     [("user", 1), ("user", 2), ("user", 3)],
    ///     // One query for all that are missing: here 2 and 3, of which only 2 exists.
    ///     |missing| async {
    ///         missing.into_iter().filter(|key| key.1 < 3).map(|key| (key, String::from("Eve")))
    ///     },
    /// ).await;
    /// assert_eq!(users, [Some("Ada".into()), Some("Eve".into()), None]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get_or_set`](Self::get_or_set).
    pub async fn get_or_set_many<K, V, L, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: impl FnMut(Vec<K>) -> F,
    ) -> Vec<Option<V>>
    where
        K: CacheKey,
        V: Value,
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = L>,
    {
        self.get_or_set_many_with(keys, Options::new(), load).await
    }

    /// As [`get_or_set_many`](Self::get_or_set_many), with options for what is stored.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// let rates: Vec<Option<u32>> = cache.get_or_set_many_with(
    ///     ["EUR", "USD"],
    ///     Duration::from_secs(60),
    ///     |missing| async { missing.into_iter().map(|currency| (currency, 108)).collect::<Vec<_>>() },
    /// ).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get_or_set`](Self::get_or_set).
    pub async fn get_or_set_many_with<K, V, L, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: impl Into<Options>,
        mut load: impl FnMut(Vec<K>) -> F,
    ) -> Vec<Option<V>>
    where
        K: CacheKey,
        V: Value,
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = L>,
    {
        let load = |missing| {
            let loading = load(missing);
            async { Ok::<_, Infallible>(loading.await) }
        };
        let mode = LoadMode::INFALLIBLE;
        Box::pin(self.engine.load_many(keys, &options.into(), mode, load))
            .await
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
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.set("a", 1).await?;
    /// let answers = cache.get_or_try_set_many(["a", "b"], |missing| async move {
    ///     Err::<Vec<(&str, i32)>, String>(format!("cannot load {missing:?}"))
    /// }).await;
    /// assert_eq!(answers[0].as_ref().unwrap(), &Some(1));
    /// assert_eq!(answers[1].as_ref().unwrap_err().to_string(), r#"cannot load ["b"]"#);
    ///
    /// let all: Result<Vec<Option<i32>>, _> = answers.into_iter().collect();
    /// assert!(all.is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// When `load` panics: in its own caller only, and others take over.
    pub async fn get_or_try_set_many<K, V, E, L, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: impl FnMut(Vec<K>) -> F,
    ) -> Vec<Result<Option<V>, LoadError<E>>>
    where
        K: CacheKey,
        V: Value,
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = Result<L, E>>,
    {
        self.get_or_try_set_many_with(keys, Options::new(), load)
            .await
    }

    /// As [`get_or_try_set_many`](Self::get_or_try_set_many), with options for what is stored.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use std::time::Duration;
    ///
    /// let ports: Vec<Option<u16>> = cache
    ///     .get_or_try_set_many_with(["80", "443"], Duration::from_secs(60), |missing| async {
    ///         let parse = |text: &'static str| text.parse::<u16>().map(|port| (text, port));
    ///         missing.into_iter().map(parse).collect::<Result<Vec<_>, _>>()
    ///     })
    ///     .await
    ///     .into_iter()
    ///     .collect::<Result<_, _>>()?;
    /// assert_eq!(ports, [Some(80), Some(443)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get_or_try_set_many`](Self::get_or_try_set_many).
    pub async fn get_or_try_set_many_with<K, V, E, L, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: impl Into<Options>,
        load: impl FnMut(Vec<K>) -> F,
    ) -> Vec<Result<Option<V>, LoadError<E>>>
    where
        K: CacheKey,
        V: Value,
        E: Send + Sync + 'static,
        L: IntoIterator<Item = (K, V)>,
        F: Future<Output = Result<L, E>>,
    {
        let mode = LoadMode::FALLIBLE;
        Box::pin(self.engine.load_many(keys, &options.into(), mode, load))
            .await
            .into_iter()
            .map(|answer| answer.map_err(LoadError::from))
            .collect()
    }

    /// Makes every entry that has one of these tags a miss, at once and in O(1).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// use cacheio_async::Options;
    ///
    /// cache.set_with(("user", 42), "Ada", Options::new().tags(["users"])).await?;
    /// cache.invalidate_tags(["users"]).await?;
    /// assert!(!cache.has(("user", 42)).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the cache is not in memory.
    pub async fn invalidate_tags<T: Into<Cow<'static, str>>>(
        &self,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        self.engine.invalidate_tags(tags).await
    }

    /// Asks whether the store is there: for health checks. No other call needs it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.ping().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not.
    pub async fn ping(&self) -> Result<()> {
        self.engine.ping().await
    }

    /// What the cache has done since it was built; all its clones together.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// cache.get::<u32>("missing").await?;
    /// assert_eq!(cache.stats().misses, 1);
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// The namespace that its keys stand in; empty in memory unless told otherwise.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = cacheio_async::AsyncCache::builder().build()?;
    /// assert_eq!(cache.namespace(), "");
    /// # Ok(()) }
    /// ```
    pub fn namespace(&self) -> &str {
        self.engine.namespace()
    }

    #[doc(hidden)]
    pub fn __engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// Builds a [`AsyncCache`].
///
/// # Defaults
///
/// - `store`: memory for [`Config::default_threshold`](crate::Config::default_threshold) entries
/// - `namespace`: none in memory, `cacheio` on a server
/// - `default_ttl`: [`Config::default_ttl`](crate::Config::default_ttl)
/// - `jitter`: 0
/// - `stale_for`: 0; `retry_after`: 30 s
/// - `refresh_ahead`: never
/// - `soft_timeout`, `hard_timeout`: none; `max_load`: 60 s
/// - `ttl_none`: as of any other value; `ttl_idle`: none
/// - `codec`: [`Json`](crate::Json)
///
/// ```
/// use cacheio_async::{AsyncCache, Memory, Ttl};
///
/// let cache = AsyncCache::builder()
///     .store(Memory::with_capacity(10_000))
///     .namespace("shop")
///     .default_ttl(Ttl::Never)
///     .jitter(0.1)
///     .build()?;
/// # Ok::<(), cacheio_async::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct AsyncCacheBuilder {
    store: Option<Arc<dyn AsyncStore>>,
    settings: Settings,
}

impl AsyncCacheBuilder {
    /// What keeps the entries: `Memory`, or an [`AsyncStore`] of your own.
    pub fn store(mut self, store: impl AsyncStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// What stands before every key, with a `:`. [`AsyncCache::clear`] empties just that.
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
    /// it. Only [`get_or_set`](AsyncCache::get_or_set) and its kin serve it: to `get` and `has` it is
    /// gone. On a server such entries carry a header: `add`, `delete` and `increment` find them
    /// there until this time is over, `has` and `touch` have to read them and know of them only in
    /// caches that are told so here, and the clocks of all clients have to agree.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = cacheio_async::AsyncCache::builder()
    ///     .default_ttl(Duration::from_secs(60))
    ///     .stale_for(Duration::from_secs(3600))
    ///     .build()?;
    /// # Ok::<(), cacheio_async::Error>(())
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
    /// One caller of [`fetch`](AsyncCache::fetch) starts the load behind the scenes, and all go on
    /// reading; of [`get_or_set`](AsyncCache::get_or_set), that one caller waits. A load that fails
    /// changes nothing: it is tried again after `retry_after`.
    pub fn refresh_ahead(mut self, ahead: impl Into<RefreshAhead>) -> Self {
        self.settings.policies().refresh_ahead = Some(ahead.into());
        self
    }

    /// How long a caller waits for a load when there is something stale to serve instead, counted
    /// from the beginning of the load; zero serves it at once. Needs `stale_for`.
    ///
    /// The load goes on behind the scenes, and what it makes is stored. In
    /// [`get_or_set`](AsyncCache::get_or_set) and its kin, the caller that runs it waits.
    pub fn soft_timeout(mut self, duration: Duration) -> Self {
        self.settings.policies().soft_timeout = Some(duration);
        self
    }

    /// How long a caller waits for a load in any case; then it gets something stale, or
    /// [`LoadError::Timeout`]. It does not hold where there is no error to return, as in
    /// [`get_or_set`](AsyncCache::get_or_set), nor for what is not run on tokio.
    ///
    /// It frees the caller, not the key: a load that hangs is waited for by the next callers too,
    /// until `max_load` is over.
    pub fn hard_timeout(mut self, duration: Duration) -> Self {
        self.settings.policies().hard_timeout = Some(duration);
        self
    }

    /// How long a load may take until its key is free again for another: 60 s, unless told
    /// otherwise. `Duration::MAX` is for ever. Those who wait for it get something stale, or [`LoadError::Timeout`]; the load of
    /// a [`fetch`](AsyncCache::fetch) is dropped.
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
    pub fn build(self) -> Result<AsyncCache> {
        let store = match self.store {
            Some(store) => store,
            None => default_store()?,
        };
        AsyncCache::new(store, self.settings)
    }
}

#[cfg(feature = "memory")]
#[allow(clippy::unnecessary_wraps)]
fn default_store() -> Result<Arc<dyn AsyncStore>> {
    Ok(Arc::new(Memory::new()))
}

#[cfg(not(feature = "memory"))]
fn default_store() -> Result<Arc<dyn AsyncStore>> {
    Err(cacheio_core::Error::new(
        cacheio_core::ErrorKind::Config,
        "a cache needs a store: give the builder one, or turn on the feature `memory`",
    )
    .during(cacheio_core::Operation::Build))
}
