//! Caches in one line.

use crate::{AsyncCache, Memory};

/// Makes caches in one line, with the defaults of [`config`](crate::config()).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CacheFactory;

impl CacheFactory {
    /// A cache in this process's memory.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> cacheio_async::Result<()> {
    /// let cache = cacheio_async::CacheFactory::async_memory_cache();
    /// cache.set("my_key", "my_value").await?;
    /// # Ok(()) }
    /// ```
    pub fn async_memory_cache() -> AsyncCache {
        match AsyncCache::builder().store(Memory::new()).build() {
            Ok(cache) => cache,
            Err(error) => unreachable!("the configuration was checked: {error}"),
        }
    }
}
