//! Builds caches in one line.

/// Builds caches in one line, with the defaults of [`config`](crate::config()).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CacheFactory;

impl CacheFactory {
    /// Builds a cache for threads in this process's memory.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set("my_key", "my_value")?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "sync")]
    pub fn memory_cache() -> crate::Cache {
        cacheio_sync::CacheFactory::memory_cache()
    }

    /// Builds a cache for threads in this process's memory, with a capacity in entries and a default TTL.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::memory_cache_with(10_000, Duration::from_secs(60))?;
    /// cache.set("my_key", "my_value")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) if the capacity or the TTL is zero.
    #[cfg(feature = "sync")]
    pub fn memory_cache_with(
        capacity: usize,
        ttl: impl Into<crate::Ttl>,
    ) -> crate::Result<crate::Cache> {
        cacheio_sync::CacheFactory::memory_cache_with(capacity, ttl)
    }

    /// Builds a cache for tasks in this process's memory.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memory_cache();
    /// cache.set("my_key", "my_value").await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "async")]
    pub fn async_memory_cache() -> crate::AsyncCache {
        cacheio_async::CacheFactory::async_memory_cache()
    }

    /// Builds a cache for tasks in this process's memory, with a capacity in entries and a default TTL.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    /// use std::time::Duration;
    ///
    /// let cache = CacheFactory::async_memory_cache_with(10_000, Duration::from_secs(60))?;
    /// cache.set("my_key", "my_value").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) if the capacity or the TTL is zero.
    #[cfg(feature = "async")]
    pub fn async_memory_cache_with(
        capacity: usize,
        ttl: impl Into<crate::Ttl>,
    ) -> crate::Result<crate::AsyncCache> {
        cacheio_async::CacheFactory::async_memory_cache_with(capacity, ttl)
    }

    /// Builds a cache for threads on Memcached. Connects to a server only when an operation
    /// needs it.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memcached_cache("memcache://127.0.0.1:11211")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::from_url`](crate::Cache::from_url), and one for a URL of
    /// another scheme than its `memcache` ones.
    #[cfg(all(feature = "sync", feature = "memcached"))]
    pub fn memcached_cache(url: &str) -> crate::Result<crate::Cache> {
        cacheio_sync::CacheFactory::memcached_cache(url)
    }

    /// Builds a cache for threads on Redis or Valkey. Connects to a server only when an
    /// operation needs it.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::redis_cache("redis://127.0.0.1:6379")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::from_url`](crate::Cache::from_url), and one for a URL of
    /// another scheme than its `redis` ones.
    #[cfg(all(feature = "sync", feature = "redis"))]
    pub fn redis_cache(url: &str) -> crate::Result<crate::Cache> {
        cacheio_sync::CacheFactory::redis_cache(url)
    }

    /// Builds a cache for tasks on Memcached. Connects to a server only when an operation
    /// needs it.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_memcached_cache("memcache://127.0.0.1:11211")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::from_url`](crate::AsyncCache::from_url), and one for a URL of
    /// another scheme than its `memcache` ones.
    #[cfg(all(feature = "async", feature = "memcached"))]
    pub fn async_memcached_cache(url: &str) -> crate::Result<crate::AsyncCache> {
        cacheio_async::CacheFactory::async_memcached_cache(url)
    }

    /// Builds a cache for tasks on Redis or Valkey. Connects to a server only when an
    /// operation needs it.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::async_redis_cache("redis://127.0.0.1:6379")?;
    /// assert_eq!(cache.namespace(), "cacheio");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AsyncCache::from_url`](crate::AsyncCache::from_url), and one for a URL of
    /// another scheme than its `redis` ones.
    #[cfg(all(feature = "async", feature = "redis"))]
    pub fn async_redis_cache(url: &str) -> crate::Result<crate::AsyncCache> {
        cacheio_async::CacheFactory::async_redis_cache(url)
    }
}

/// Defines constructors whose features are off. The compiler then shows the feature that is needed,
/// and not a constructor with a similar name.
macro_rules! without_features {
    ($($(#[$cfg:meta])* $name:ident($feature:ident);)*) => {$(
        $(#[$cfg])*
        impl CacheFactory {
            #[doc(hidden)]
            #[allow(clippy::must_use_candidate)]
            pub fn $name(_: &str, _: off::$feature) {}
        }
    )*};
}

without_features! {
    #[cfg(not(all(feature = "sync", feature = "memcached")))]
    memcached_cache(NeedsFeatureMemcached);
    #[cfg(not(all(feature = "sync", feature = "redis")))]
    redis_cache(NeedsFeatureRedis);
    #[cfg(not(all(feature = "async", feature = "memcached")))]
    async_memcached_cache(NeedsFeaturesAsyncAndMemcached);
    #[cfg(not(all(feature = "async", feature = "redis")))]
    async_redis_cache(NeedsFeaturesAsyncAndRedis);
}

#[cfg(not(feature = "async"))]
impl CacheFactory {
    #[doc(hidden)]
    pub fn async_memory_cache(_: off::NeedsFeatureAsync) {}

    #[doc(hidden)]
    pub fn async_memory_cache_with(_: usize, _: crate::Ttl, _: off::NeedsFeatureAsync) {}
}

/// The arguments of constructors whose features are off. They have no values.
#[allow(dead_code, unreachable_pub, missing_debug_implementations)]
mod off {
    pub enum NeedsFeatureAsync {}
    pub enum NeedsFeatureMemcached {}
    pub enum NeedsFeatureRedis {}
    pub enum NeedsFeaturesAsyncAndMemcached {}
    pub enum NeedsFeaturesAsyncAndRedis {}
}
