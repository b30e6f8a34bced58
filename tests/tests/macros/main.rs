//! `#[cached]`, `#[async_cached]` and the derives.

#![cfg(not(shuttle))]

mod async_functions;
mod background;
mod bodies;
mod caches;
mod companions;
mod derives;
mod generics;
mod identity;
mod keys;
mod options;
mod results;
mod traits;

/// A trait with a name of three letters, for a test in `generics`.
trait Lab {
    fn type_name() -> String;
}

/// The types and functions that several modules use.
mod prelude {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use std::time::Duration;

    pub(crate) use cacheio::{
        AsyncCache, AsyncCacheable, Cache, CacheFactory, CacheKey, Cacheable, ManualClock, Memory,
        Ttl, async_cached, cached, key_text,
    };

    /// Counts how often a body runs.
    #[derive(Debug, Default)]
    pub(crate) struct Runs(AtomicUsize);

    impl Runs {
        pub(crate) const fn new() -> Self {
            Self(AtomicUsize::new(0))
        }

        /// Adds one, and returns the new count.
        pub(crate) fn count(&self) -> usize {
            self.0.fetch_add(1, Ordering::Relaxed) + 1
        }

        pub(crate) fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A type with a sync and an async cache.
    #[derive(Cacheable, AsyncCacheable)]
    pub(crate) struct Service {
        pub(crate) cache: Cache,
        #[async_cache]
        pub(crate) async_cache: AsyncCache,
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
                async_cache: CacheFactory::async_memory_cache(),
                tenant: tenant.into(),
                runs: Runs::new(),
            }
        }
    }

    /// Builds a cache in memory with a clock.
    pub(crate) fn cache_with(clock: &Arc<ManualClock>) -> Cache {
        let memory = Memory::builder().clock(Arc::clone(clock)).build();
        Cache::builder().store(memory).build().unwrap()
    }

    /// Builds an async cache in memory with a clock.
    pub(crate) fn async_cache_with(clock: &Arc<ManualClock>) -> AsyncCache {
        let memory = Memory::builder().clock(Arc::clone(clock)).build();
        AsyncCache::builder().store(memory).build().unwrap()
    }

    /// Waits until a condition is true.
    pub(crate) fn until(condition: impl Fn() -> bool) {
        while !condition() {
            std::thread::yield_now();
        }
    }

    /// Waits until a condition is true, and lets other tasks run.
    pub(crate) async fn until_async(condition: impl AsyncFn() -> bool) {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    }
}
