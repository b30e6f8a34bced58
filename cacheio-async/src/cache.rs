//! The cache for tasks: construction, reads and writes.

mod batch;
mod builder;
mod counter;
mod entries;
mod l1;
mod load;
mod snapshot;
mod typed;
mod update;

use std::borrow::Cow;
use std::sync::Arc;

use cacheio_core::__private::{
    BuilderSettings, ByArc, ByValue, CacheUrl, DEFAULT_OPTIONS, Driver, Engine, UrlMemory, boxed,
};
use cacheio_core::{
    AsyncStore, CacheKey, Encode, Null, Options, Result, Settings, Stats, Ttl, Value,
};

#[cfg(any(feature = "memcached", feature = "redis"))]
use self::l1::L1_OF_URLS;
#[cfg(feature = "memcached")]
use crate::Memcached;
#[cfg(feature = "memory")]
use crate::Memory;
#[cfg(feature = "redis")]
use crate::Redis;
use crate::executor::AnyRuntime;

pub use builder::AsyncCacheBuilder;
pub use load::AsyncLoad;
pub use typed::{AsyncLoadingCache, AsyncTypedCache};

/// A cache for tasks, over memory, Memcached, Redis or a store of your own.
///
/// It holds values of different types under its keys. A value that is read as another type than it
/// was stored as is converted by the cache's codec. Clones are cheap and use the same cache.
///
/// ```
/// # #[tokio::main] async fn main() -> cacheio::Result<()> {
/// use cacheio::{AsyncCache, Memory};
///
/// let cache = AsyncCache::builder().store(Memory::with_capacity(10_000)).build()?;
/// cache.set("greeting", "hello").await?;
/// assert_eq!(cache.get::<String>("greeting").await?.as_deref(), Some("hello"));
///
/// // When many tasks miss the key at once, one runs its load and the others wait.
/// let square: u64 = cache.get_or_set(("square", 7), || async { 7 * 7 }).await;
/// assert_eq!(square, 49);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncCache {
    engine: Arc<Engine>,
}

#[cfg(feature = "memory")]
impl Default for AsyncCache {
    /// Returns a cache in this process's memory, with the defaults of [`config`](crate::config()).
    fn default() -> Self {
        match Self::builder().build() {
            Ok(cache) => cache,
            Err(error) => unreachable!("the configuration was checked: {error}"),
        }
    }
}

impl AsyncCache {
    /// Returns a cache in this process's memory with room for `capacity` entries, and the defaults of
    /// [`config`](crate::config()). [`builder`](Self::builder) sets anything else.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::AsyncCache;
    ///
    /// let cache = AsyncCache::new(10_000);
    /// cache.set("k", 1).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `capacity` is 0.
    #[cfg(feature = "memory")]
    pub fn new(capacity: usize) -> Self {
        match Self::builder().capacity(capacity).build() {
            Ok(cache) => cache,
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns a builder; without a [`store`](AsyncCacheBuilder::store) it builds a cache in
    /// memory.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::AsyncCache;
    ///
    /// let cache = AsyncCache::builder().namespace("shop").jitter(0.1).build()?;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> AsyncCacheBuilder {
        AsyncCacheBuilder::default()
    }

    /// Builds the cache that a URL describes. Connects to a server only when an operation needs it.
    ///
    /// | URL | feature | its own parameters |
    /// | --- | --- | --- |
    /// | `memory://` | `memory` | `capacity` (entries), `snapshot` ([a file](AsyncCacheBuilder::snapshot)), `through_codec` |
    /// | `null://` ([keeps nothing](crate::Null)) | | |
    /// | `memcache://[user:password@]host[:11211],…` | `memcached` | `timeout`, `connections` (to each server) |
    /// | `memcache:///path/to/socket`, `memcache+unix://…` | `memcached` | the same |
    /// | `memcache+tls://host[:11211],…` | `memcached-tls` | the same, `ca`, `cert`, `key` (files) |
    /// | `redis://[[user]:password@]host[:6379][/db]` | `redis` | `timeout`, `connections`, `db`, `protocol` (`resp3`, `resp2`) |
    /// | `redis+unix:///path/to/socket` | `redis` | the same |
    /// | `rediss://…` (TLS) | `redis-tls` | the same |
    /// | `redis-cluster://host:port,…` | `redis` | the same, except `db` |
    /// | `redis-sentinel://host:port,…/master-name[/db]` | `redis` | the same |
    ///
    /// Every URL takes these parameters:
    ///
    /// - `namespace`
    /// - `ttl`: `300` (seconds), `5m`, `never`
    /// - `stale_for`, `retry_after`, `soft_timeout`, `hard_timeout`, `max_load`, `ttl_none` and
    ///   `ttl_idle`: `30s`, `1h`
    /// - `jitter`: 0 to 1
    /// - `refresh_ahead`: `0.8`, `xfetch`, `never`
    /// - `max_decompressed`: the limit of a codec that compresses, such as `64MiB`; 16 MiB by default
    /// - `shared_loads`: `true` or `false`; on Redis `true` by default
    /// - on a server: `l1` (entries in memory before it; needs the feature `memory`), and `max_staleness` (`2s` by
    ///   default; at least `200ms`)
    /// - `codec`: `json`, `msgpack`, `postcard`, each also with `+zstd` or `+lz4`; each needs its
    ///   feature
    ///
    /// A `timeout` (`500ms`; 1 s by default) limits each operation on a server.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::AsyncCache;
    ///
    /// let cache = AsyncCache::from_url("memory://?capacity=10000&ttl=5m")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) for a URL that cannot be used, with
    /// a message that names what is allowed. The message never contains the URL, which may hold a
    /// password.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::from_cache_url(CacheUrl::parse(url)?)
    }

    /// Builds the cache that the settings of a configuration file describe, as
    /// [`from_url`](Self::from_url) does for a URL.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::{AsyncCache, Settings};
    ///
    /// let settings = Settings::new("memory://").with("ttl", "5m");
    /// let cache = AsyncCache::from_settings(&settings)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`from_url`](Self::from_url).
    pub fn from_settings(settings: &Settings) -> Result<Self> {
        Self::from_cache_url(settings.__url()?)
    }

    fn from_cache_url(url: CacheUrl<'_>) -> Result<Self> {
        match url.scheme() {
            #[cfg(feature = "memory")]
            "memory" => {
                let (memory, settings) = Memory::__from_url(url)?;
                Self::with_store(Arc::new(memory), settings)
            }
            "null" => {
                let settings = BuilderSettings::from_url(url, &[], UrlMemory::NoServer)?;
                Self::with_store(Arc::new(Null), settings)
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
                &["null"],
            ])),
        }
    }

    #[cfg(feature = "memcached")]
    pub(crate) fn on_memcached(mut url: CacheUrl<'_>) -> Result<Self> {
        url.expect(Memcached::SCHEMES)?;
        let store = Memcached::from_cache_url(&mut url)?;
        Self::with_store(
            Arc::new(store),
            BuilderSettings::from_url(url, Memcached::PARAMETERS, L1_OF_URLS)?,
        )
    }

    #[cfg(feature = "redis")]
    pub(crate) fn on_redis(mut url: CacheUrl<'_>) -> Result<Self> {
        url.expect(Redis::SCHEMES)?;
        let store = Redis::from_cache_url(&mut url)?;
        Self::with_store(
            Arc::new(store),
            BuilderSettings::from_url(url, Redis::PARAMETERS, L1_OF_URLS)?,
        )
    }

    fn with_store(store: Arc<dyn AsyncStore>, settings: BuilderSettings) -> Result<Self> {
        let engine = Engine::new(Driver::for_tasks(store, Arc::new(AnyRuntime)), settings)?;
        Ok(Self {
            engine: Arc::new(engine),
        })
    }

    /// Returns whether [`get`](Self::get) would find a live entry, without transferring its value.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("k", 1).await?;
    /// assert!(cache.has("k").await?);
    /// assert!(!cache.has("other").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    #[doc(alias = "exists")]
    #[doc(alias = "contains_key")]
    pub async fn has(&self, key: impl CacheKey) -> Result<bool> {
        self.engine.has(key, false).await
    }

    /// Returns the value of a live entry.
    ///
    /// A missing or expired entry is `None`. A stored `None` is a value: `get::<Option<T>>` returns
    /// `Some(None)` for it.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set(("user", 42), "Ada").await?;
    /// assert_eq!(cache.get::<String>(("user", 42)).await?.as_deref(), Some("Ada"));
    /// assert_eq!(cache.get::<String>(("user", 43)).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Decode`](crate::ErrorKind::Decode) when the stored value cannot be read
    /// as a `V`, and an error when the store fails.
    pub async fn get<V: Value>(&self, key: impl CacheKey) -> Result<Option<V>> {
        match self.engine.probe::<ByValue<V>>(&key, false) {
            Ok(value) => Ok(value),
            Err(missed) => {
                let stored = boxed(|| self.engine.get::<V>(missed, false)).await?;
                Ok(stored.map(V::from_stored))
            }
        }
    }

    /// Returns the value of a live entry like [`get`](Self::get), without copying it in memory: all
    /// callers get the same `Arc`.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("page", String::from("<html>…")).await?;
    /// let page = cache.get_arc::<String>("page").await?;
    /// assert_eq!(page.unwrap().as_str(), "<html>…");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub async fn get_arc<V: Value>(&self, key: impl CacheKey) -> Result<Option<Arc<V>>> {
        match self.engine.probe::<ByArc<V>>(&key, false) {
            Ok(value) => Ok(value),
            Err(missed) => {
                let stored = boxed(|| self.engine.get::<V>(missed, false)).await?;
                Ok(stored.map(V::shared))
            }
        }
    }

    /// Returns the values of several keys, in the order of the keys, in one round trip to each
    /// server.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set_many([("a", 1), ("b", 2)]).await?;
    /// assert_eq!(cache.get_many::<i32>(["b", "c", "a"]).await?, [Some(2), None, Some(1)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get), for any of the keys. [`get_each`](Self::get_each) returns
    /// what can be read.
    #[doc(alias = "multi_get")]
    pub async fn get_many<V: Value>(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
    ) -> Result<Vec<Option<V>>> {
        self.engine.get_many(keys, false).await
    }

    /// Returns what [`get`](Self::get) returns for each of several keys, in one round trip to each server.
    ///
    /// An entry that cannot be read as a `V`, for instance because it was written by another version of the
    /// program, is an error in its place, and the others are returned. With
    /// [`get_many`](Self::get_many) it is the error of the call.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::{CacheFactory, ErrorKind};
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("a", 1).await?;
    /// cache.set("b", "text").await?;
    /// let [a, b, c] = &cache.get_each::<i32>(["a", "b", "c"]).await?[..] else { panic!() };
    /// assert_eq!(a.as_ref().unwrap(), &Some(1));
    /// assert_eq!(b.as_ref().unwrap_err().kind(), ErrorKind::Decode);
    /// assert_eq!(c.as_ref().unwrap(), &None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    pub async fn get_each<V: Value>(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
    ) -> Result<Vec<Result<Option<V>>>> {
        self.engine.get_each(keys, false).await
    }

    /// Stores a value, with the cache's default TTL and without tags. Replaces the value, the TTL
    /// and the tags of an existing entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("answer", 42).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the value cannot be encoded or is too large, and when the store fails.
    #[doc(alias = "insert")]
    #[doc(alias = "put")]
    pub async fn set<By>(&self, key: impl CacheKey, value: impl Encode<By>) -> Result<()> {
        self.engine.set(key, value, &DEFAULT_OPTIONS).await
    }

    /// Stores a value like [`set`](Self::set), with options; a `Duration` is a TTL.
    ///
    /// A TTL of zero stores nothing and removes an existing entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set_with("answer", 42, Duration::from_secs(60)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set`](Self::set), and
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an invalid option.
    pub async fn set_with<By>(
        &self,
        key: impl CacheKey,
        value: impl Encode<By>,
        options: impl Into<Options>,
    ) -> Result<()> {
        self.engine.set(key, value, &options.into()).await
    }

    /// Stores several values like [`set`](Self::set), in one round trip to each server. For a key
    /// that is given twice, the later value is stored.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set_many([("a", 1), ("b", 2)]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set`](Self::set). Nothing is stored when a value cannot be encoded;
    /// some of the entries may be stored when the store fails.
    #[doc(alias = "multi_set")]
    pub async fn set_many<By>(
        &self,
        entries: impl IntoIterator<Item = (impl CacheKey, impl Encode<By>)>,
    ) -> Result<()> {
        self.engine.set_many(entries, &DEFAULT_OPTIONS).await
    }

    /// Stores several values like [`set_many`](Self::set_many), with options for all of them.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set_many_with([("a", 1), ("b", 2)], Duration::from_secs(60)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set_many`](Self::set_many), and
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an invalid option.
    pub async fn set_many_with<By>(
        &self,
        entries: impl IntoIterator<Item = (impl CacheKey, impl Encode<By>)>,
        options: impl Into<Options>,
    ) -> Result<()> {
        self.engine.set_many(entries, &options.into()).await
    }

    /// Stores a value if the key has no live entry, and returns whether it did.
    ///
    /// It is atomic: of several concurrent writers, in any process, one adds the entry.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// assert!(cache.add("once", 1).await?);
    /// assert!(!cache.add("once", 2).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set`](Self::set).
    pub async fn add<By>(&self, key: impl CacheKey, value: impl Encode<By>) -> Result<bool> {
        self.engine.add(key, value, &DEFAULT_OPTIONS).await
    }

    /// Stores a value like [`add`](Self::add), with options.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// assert!(cache.add_with("lock", "worker-7", Duration::from_secs(10)).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set_with`](Self::set_with).
    pub async fn add_with<By>(
        &self,
        key: impl CacheKey,
        value: impl Encode<By>,
        options: impl Into<Options>,
    ) -> Result<bool> {
        self.engine.add(key, value, &options.into()).await
    }

    /// Removes an entry, and returns whether there was a live one.
    ///
    /// After it returns, no later read in this process returns a value that was loaded before. The
    /// result of a load that is still in progress goes to its waiters and is not stored.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("k", 1).await?;
    /// assert!(cache.delete("k").await?);
    /// assert!(!cache.delete("k").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    #[doc(alias = "remove")]
    #[doc(alias = "invalidate")]
    pub async fn delete(&self, key: impl CacheKey) -> Result<bool> {
        self.engine.delete(key).await
    }

    /// Removes several entries like [`delete`](Self::delete), in one round trip to each server, and
    /// returns how many of them were live.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set_many([("a", 1), ("b", 2)]).await?;
    /// assert_eq!(cache.delete_many(["a", "b", "c"]).await?, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails; some of the entries may have been removed.
    #[doc(alias = "multi_delete")]
    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl CacheKey>,
    ) -> Result<usize> {
        self.engine.delete_many(keys).await
    }

    /// Gives a live entry a new TTL, counted from now, and returns whether there was one.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("session", "…").await?;
    /// assert!(cache.touch("session", Duration::from_secs(3600)).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) for an invalid option,
    /// and an error when the store fails.
    #[doc(alias = "expire")]
    pub async fn touch(&self, key: impl CacheKey, ttl: impl Into<Ttl>) -> Result<bool> {
        self.engine.touch(key, ttl.into()).await
    }

    /// Returns what is left of the TTL of a live entry; [`Ttl::Never`] if it does not expire.
    ///
    /// An entry that is kept for [`stale_for`](Options::stale_for) has none when its TTL is over. With
    /// [`ttl_idle`](Options::ttl_idle), it is the time until it expires if it is not read. It is no look-up, and L1 is
    /// not asked.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::{CacheFactory, Ttl};
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set_with("session", "…", Duration::from_secs(60)).await?;
    /// let Some(Ttl::After(left)) = cache.ttl("session").await? else { panic!() };
    /// assert!(left <= Duration::from_secs(60));
    /// cache.set_with("settings", "…", Ttl::Never).await?;
    /// assert_eq!(cache.ttl("settings").await?, Some(Ttl::Never));
    /// assert_eq!(cache.ttl("missing").await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// On a server it takes one round trip, and one more for an entry with tags. It transfers the value: the
    /// TTL may be in its header. On Memcached it is in whole seconds, rounded down.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    pub async fn ttl(&self, key: impl CacheKey) -> Result<Option<Ttl>> {
        self.engine.ttl(key).await
    }

    /// Removes all entries of this cache's namespace, and no others.
    ///
    /// On a server, it goes through all keys of the server to find those of the namespace.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("k", 1).await?;
    /// cache.clear().await?;
    /// assert!(!cache.has("k").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) on a server when the namespace is
    /// empty, because other programs may use the server, and an error when the store fails.
    #[doc(alias = "invalidate_all")]
    pub async fn clear(&self) -> Result<()> {
        self.engine.clear().await
    }

    /// Makes every entry that has one of these tags a miss, at once and in O(1).
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::{CacheFactory, Options};
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set_with(("user", 42), "Ada", Options::new().tags(["users"])).await?;
    /// cache.invalidate_tags(["users"]).await?;
    /// assert!(!cache.has(("user", 42)).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// On a server it takes one round trip, and holds for all processes.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails. Then the tags may or may not have been invalidated.
    pub async fn invalidate_tags<T: Into<Cow<'static, str>>>(
        &self,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        self.engine.invalidate_tags(tags).await
    }

    /// Checks that the store responds. It is meant for health checks: no other method needs it.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.ping().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the store does not respond.
    pub async fn ping(&self) -> Result<()> {
        self.engine.ping().await
    }

    /// Returns what the cache and all its clones have counted since it was built.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.get::<u32>("missing").await?;
    /// assert_eq!(cache.stats().misses, 1);
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Returns the namespace of the cache's keys. By default, it is empty in memory and `cacheio`
    /// on a server.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::AsyncCache;
    ///
    /// let cache = AsyncCache::builder().namespace("shop").build()?;
    /// assert_eq!(cache.namespace(), "shop");
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
