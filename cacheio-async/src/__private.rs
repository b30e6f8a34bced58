//! What the macros' code stands on; no part of the public interface.

#![allow(missing_docs)]

pub use cacheio_core::__private::*;

use crate::AsyncCache;

/// The engine of what `cache = …` names.
#[inline]
pub fn async_engine(cache: &AsyncCache) -> &Engine {
    cache.__engine()
}

#[cfg(feature = "memory")]
pub use own::OwnAsyncCache;

#[cfg(feature = "memory")]
mod own {
    use std::sync::OnceLock;

    use crate::{AsyncCache, Memory};

    /// A function's own cache, made on first use.
    #[derive(Debug)]
    pub struct OwnAsyncCache(OnceLock<AsyncCache>);

    impl OwnAsyncCache {
        #[allow(clippy::new_without_default)]
        pub const fn new() -> Self {
            Self(OnceLock::new())
        }

        /// # Panics
        ///
        /// When the capacity is 0.
        #[inline]
        pub fn get(&self, capacity: impl FnOnce() -> Option<usize>) -> &AsyncCache {
            self.0.get_or_init(|| {
                let memory = capacity().map_or_else(Memory::new, Memory::with_capacity);
                match AsyncCache::builder().store(memory).build() {
                    Ok(cache) => cache,
                    Err(error) => panic!("#[cached]: {error}"),
                }
            })
        }
    }
}
