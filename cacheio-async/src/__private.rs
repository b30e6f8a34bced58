//! What the macros' code stands on; no part of the public interface.

#![allow(missing_docs)]

pub use cacheio_core::__private::*;

pub use crate::AsyncCache;

/// The engine of what `cache = …` names.
#[inline]
pub fn async_engine(cache: &AsyncCache) -> &Engine {
    cache.__engine()
}

#[cfg(feature = "memory")]
pub use own::OwnAsyncCache;

#[cfg(feature = "memory")]
mod own {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use crate::{AsyncCache, Memory};

    /// A function's own cache, made on first use.
    #[derive(Debug)]
    pub struct OwnAsyncCache {
        cache: OnceLock<AsyncCache>,
        name: Option<&'static str>,
    }

    /// The caches that a function shares with its companions. Each of them looks here once.
    static SHARED: Mutex<Option<HashMap<&'static str, AsyncCache>>> = Mutex::new(None);

    impl OwnAsyncCache {
        #[allow(clippy::new_without_default)]
        pub const fn new() -> Self {
            Self {
                cache: OnceLock::new(),
                name: None,
            }
        }

        /// The same cache wherever the name is the same.
        pub const fn shared(name: &'static str) -> Self {
            Self {
                cache: OnceLock::new(),
                name: Some(name),
            }
        }

        /// # Panics
        ///
        /// When the capacity is 0.
        #[inline]
        pub fn get(&self, capacity: impl FnOnce() -> Option<usize>) -> &AsyncCache {
            self.cache.get_or_init(|| match self.name {
                None => build(capacity()),
                Some(name) => {
                    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
                    let caches = shared.get_or_insert_default();
                    caches
                        .entry(name)
                        .or_insert_with(|| build(capacity()))
                        .clone()
                }
            })
        }
    }

    fn build(capacity: Option<usize>) -> AsyncCache {
        let memory = capacity.map_or_else(Memory::new, Memory::with_capacity);
        match AsyncCache::builder().store(memory).build() {
            Ok(cache) => cache,
            Err(error) => panic!("#[cached]: {error}"),
        }
    }
}
