//! Caches in one line.

use crate::{Cache, Memory};

/// Makes caches in one line, with the defaults of [`config`](crate::config()).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CacheFactory;

impl CacheFactory {
    /// A cache in this process's memory.
    ///
    /// ```
    /// # fn main() -> cacheio_sync::Result<()> {
    /// let cache = cacheio_sync::CacheFactory::memory_cache();
    /// cache.set("my_key", "my_value")?;
    /// # Ok(()) }
    /// ```
    pub fn memory_cache() -> Cache {
        match Cache::builder().store(Memory::new()).build() {
            Ok(cache) => cache,
            Err(error) => unreachable!("the configuration was checked: {error}"),
        }
    }
}
