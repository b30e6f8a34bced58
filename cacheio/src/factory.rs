//! Caches in one line.

#[cfg(feature = "async")]
use crate::AsyncCache;
#[cfg(feature = "sync")]
use crate::Cache;

/// Makes caches in one line, with the defaults of [`config`](crate::config()).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CacheFactory;

impl CacheFactory {
    /// A cache for threads in this process's memory.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// let cache = cacheio::CacheFactory::memory_cache();
    /// cache.set("my_key", "my_value")?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "sync")]
    pub fn memory_cache() -> Cache {
        cacheio_sync::CacheFactory::memory_cache()
    }

    /// A cache for tasks in this process's memory.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio::Result<()> {
    /// let cache = cacheio::CacheFactory::async_memory_cache();
    /// cache.set("my_key", "my_value").await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "async")]
    pub fn async_memory_cache() -> AsyncCache {
        cacheio_async::CacheFactory::async_memory_cache()
    }
}
