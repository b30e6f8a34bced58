//! What `#[cached]`, `#[async_cached]` and the derives promise.

#![cfg(not(shuttle))]

mod behind;
mod bodies;
mod caches;
mod companions;
mod derives;
mod generics;
mod keys;
mod options;
mod results;
mod tasks;
mod traits;

/// For the test of names that are as long as others.
trait Lab {
    fn type_name() -> String;
}

/// What the tests use.
mod prelude {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use std::time::Duration;

    pub(crate) use cacheio::{
        AsyncCache, AsyncCacheable, Cache, CacheFactory, CacheKey, Cacheable, ManualClock, Memory,
        Ttl, async_cached, cached, key_text,
    };

    /// How often a body ran.
    #[derive(Debug, Default)]
    pub(crate) struct Runs(AtomicUsize);

    impl Runs {
        pub(crate) const fn new() -> Self {
            Self(AtomicUsize::new(0))
        }

        /// Counts one, and says how many there are now.
        pub(crate) fn count(&self) -> usize {
            self.0.fetch_add(1, Ordering::Relaxed) + 1
        }

        pub(crate) fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A type with a cache for each world.
    #[derive(Cacheable, AsyncCacheable)]
    pub(crate) struct Service {
        pub(crate) cache: Cache,
        #[async_cache]
        pub(crate) tasks: AsyncCache,
        pub(crate) tenant: String,
        pub(crate) runs: Runs,
    }

    impl Service {
        pub(crate) fn new() -> Self {
            Self::of("shop")
        }

        pub(crate) fn of(tenant: &str) -> Self {
            Self {
                cache: CacheFactory::memory_cache(),
                tasks: CacheFactory::async_memory_cache(),
                tenant: tenant.into(),
                runs: Runs::new(),
            }
        }
    }
}
