//! The caches under test.

use std::sync::Arc;
use std::time::Duration;

use cacheio::{AsyncCache, Cache, L1, Memory};
use tokio::runtime::Runtime;

use crate::Workload;

const TTL: Duration = Duration::from_secs(300);

/// A cache under test. Values are `Arc<u64>`, or shared as such.
///
/// Each method is the cache's own loop over many keys, so that an async one enters its runtime
/// once a pass.
pub trait Subject: Sync {
    /// Its name in the tables.
    const NAME: &'static str;

    /// Makes an empty cache for this number of entries, with a TTL if it supports one.
    fn new(capacity: u64) -> Self;

    /// Stores a value under each key.
    fn set<'a>(&self, keys: impl Iterator<Item = &'a str>);

    /// Looks each key up; returns the number of hits.
    fn get<'a>(&self, keys: impl Iterator<Item = &'a str>) -> usize;

    /// Looks each key up, with a loader for missing ones; returns the sum of the values.
    fn get_or_set<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64;
}

/// `quick_cache` itself: no TTL, one type of values, no statistics.
pub struct RawQuickCache<V = Arc<u64>>(quick_cache::sync::Cache<Arc<str>, V>);

/// A value that raw `quick_cache` holds in these benchmarks.
pub trait RawValue: Clone + Send + Sync + 'static {
    /// Makes a value.
    fn one() -> Self;

    /// Reads it.
    fn number(&self) -> u64;
}

impl RawValue for u64 {
    fn one() -> Self {
        1
    }

    fn number(&self) -> u64 {
        *self
    }
}

impl RawValue for Arc<u64> {
    fn one() -> Self {
        Arc::new(1)
    }

    fn number(&self) -> u64 {
        **self
    }
}

impl<V: RawValue> Subject for RawQuickCache<V> {
    const NAME: &'static str = "quick_cache, raw";

    fn new(capacity: u64) -> Self {
        Self(quick_cache::sync::Cache::new(
            usize::try_from(capacity).expect("64 bits"),
        ))
    }

    fn set<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        for key in keys {
            self.0.insert(key.into(), V::one());
        }
    }

    fn get<'a>(&self, keys: impl Iterator<Item = &'a str>) -> usize {
        keys.filter(|key| self.0.get(*key).is_some()).count()
    }

    fn get_or_set<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        // `get_or_insert_with` wants keys that can be borrowed as owned ones: not `Arc<str>`.
        keys.map(|key| match self.0.get(key) {
            Some(value) => value.number(),
            None => {
                self.0.insert(key.into(), V::one());
                1
            }
        })
        .sum()
    }
}

/// cacheio for threads.
pub struct CacheioSync(Cache);

impl CacheioSync {
    /// Makes an empty cache whose removals are reported to a listener.
    pub fn with_listener(capacity: u64) -> Self {
        let memory = Memory::builder().capacity(capacity).on_removal(drop);
        let cache = Cache::builder().store(memory.build()).default_ttl(TTL);
        Self(cache.build().expect("valid settings"))
    }

    /// Makes an empty cache in a namespace.
    pub fn in_namespace(capacity: u64, namespace: &str) -> Self {
        let memory = Memory::builder().capacity(capacity).build();
        let cache = Cache::builder().store(memory).default_ttl(TTL);
        let cache = cache.namespace(namespace).build();
        Self(cache.expect("valid settings"))
    }

    /// Makes an empty cache with L1 before a store that keeps bytes, as a server does.
    pub fn with_l1(capacity: u64) -> Self {
        let server = Memory::builder().capacity(capacity).through_codec(true);
        let cache = Cache::builder().store(server.build()).default_ttl(TTL);
        let l1 = L1::new(Memory::builder().capacity(capacity).build());
        let cache = cache.namespace("shop").l1(l1.max_staleness(TTL)).build();
        Self(cache.expect("valid settings"))
    }

    /// Looks each key up; returns the sum of the values.
    pub fn get_u64<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        let get = |key| self.0.get::<u64>(key).expect("memory does not fail");
        keys.map(|key| get(key).unwrap_or_default()).sum()
    }

    /// Looks the keys up, 100 in a call; returns the sum of the values.
    pub fn get_many<'a>(&self, mut keys: impl Iterator<Item = &'a str>) -> u64 {
        let mut sum = 0;
        for _ in 0..Workload::ACCESSES / 100 {
            let values = self.0.get_many::<u64>(keys.by_ref().take(100));
            let values = values.expect("memory does not fail");
            sum += values.into_iter().flatten().sum::<u64>();
        }
        sum
    }
}

impl Subject for CacheioSync {
    const NAME: &'static str = "cacheio, sync";

    fn new(capacity: u64) -> Self {
        Self::in_namespace(capacity, "")
    }

    fn set<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        for key in keys {
            self.0.set(key, 1_u64).expect("memory does not fail");
        }
    }

    fn get<'a>(&self, keys: impl Iterator<Item = &'a str>) -> usize {
        keys.filter(|key| matches!(self.0.get_arc::<u64>(key), Ok(Some(_))))
            .count()
    }

    fn get_or_set<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        keys.map(|key| self.0.get_or_set(key, || 1_u64)).sum()
    }
}

/// cacheio for tasks.
pub struct CacheioAsync(AsyncCache);

impl CacheioAsync {
    /// Makes an empty cache whose removals are reported to a listener.
    pub fn with_listener(capacity: u64) -> Self {
        let memory = Memory::builder().capacity(capacity).on_removal(drop);
        let cache = AsyncCache::builder().store(memory.build()).default_ttl(TTL);
        Self(cache.build().expect("valid settings"))
    }

    /// Makes an empty cache in a namespace.
    pub fn in_namespace(capacity: u64, namespace: &str) -> Self {
        let memory = Memory::builder().capacity(capacity).build();
        let cache = AsyncCache::builder().store(memory).default_ttl(TTL);
        let cache = cache.namespace(namespace).build();
        Self(cache.expect("valid settings"))
    }

    /// Makes an empty cache with L1 before a store that keeps bytes, as a server does.
    pub fn with_l1(capacity: u64) -> Self {
        let server = Memory::builder().capacity(capacity).through_codec(true);
        let cache = AsyncCache::builder().store(server.build()).default_ttl(TTL);
        let l1 = L1::new(Memory::builder().capacity(capacity).build());
        let cache = cache.namespace("shop").l1(l1.max_staleness(TTL)).build();
        Self(cache.expect("valid settings"))
    }

    /// Looks each key up; returns the sum of the values.
    pub fn get_u64<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        runtime().block_on(async {
            let mut sum = 0;
            for key in keys {
                let value = self.0.get::<u64>(key).await.expect("memory does not fail");
                sum += value.unwrap_or_default();
            }
            sum
        })
    }

    /// Looks the keys up, 100 in a call; returns the sum of the values.
    pub fn get_many<'a>(&self, mut keys: impl Iterator<Item = &'a str>) -> u64 {
        runtime().block_on(async {
            let mut sum = 0;
            for _ in 0..Workload::ACCESSES / 100 {
                let values = self.0.get_many::<u64>(keys.by_ref().take(100)).await;
                let values = values.expect("memory does not fail");
                sum += values.into_iter().flatten().sum::<u64>();
            }
            sum
        })
    }
}

impl Subject for CacheioAsync {
    const NAME: &'static str = "cacheio, async";

    fn new(capacity: u64) -> Self {
        Self::in_namespace(capacity, "")
    }

    fn set<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        runtime().block_on(async {
            for key in keys {
                self.0.set(key, 1_u64).await.expect("memory does not fail");
            }
        });
    }

    fn get<'a>(&self, keys: impl Iterator<Item = &'a str>) -> usize {
        runtime().block_on(async {
            let mut hits = 0;
            for key in keys {
                hits += usize::from(matches!(self.0.get_arc::<u64>(key).await, Ok(Some(_))));
            }
            hits
        })
    }

    fn get_or_set<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        runtime().block_on(async {
            let mut sum = 0;
            for key in keys {
                sum += self.0.get_or_set(key, || async { 1_u64 }).await;
            }
            sum
        })
    }
}

/// cacheio with every policy or with none, filled by loads.
pub struct Policies<const ALL: bool>(Cache, AsyncCache);

impl<const ALL: bool> Policies<ALL> {
    /// Makes caches that have loaded a value for each key.
    pub fn new<'a>(capacity: u64, keys: impl Iterator<Item = &'a str>) -> Self {
        let memory = || Memory::builder().capacity(capacity).build();
        let (threads, tasks) = (Cache::builder(), AsyncCache::builder());
        let (threads, tasks) = (threads.default_ttl(TTL), tasks.default_ttl(TTL));
        let (threads, tasks) = (threads.store(memory()), tasks.store(memory()));
        macro_rules! all {
            ($builder:expr) => {
                match ALL {
                    true => $builder
                        .jitter(0.1)
                        .stale_for(TTL)
                        .retry_after(TTL)
                        .refresh_ahead(0.8)
                        .soft_timeout(TTL / 100)
                        .hard_timeout(TTL / 10)
                        .max_load(TTL)
                        .ttl_none(TTL),
                    false => $builder,
                }
                .build()
                .expect("valid settings")
            };
        }
        let this = Self(all!(threads), all!(tasks));
        runtime().block_on(async {
            for key in keys {
                this.0.get_or_set(key, || 1_u64);
                this.1.get_or_set(key, || async { 1_u64 }).await;
            }
        });
        this
    }

    /// `get_or_set` for threads.
    pub fn get_or_set<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        keys.map(|key| self.0.get_or_set(key, || 1_u64)).sum()
    }

    /// `fetch` for threads.
    pub fn fetch<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        let fetch = |key| self.0.fetch(key, |_| Ok::<u64, ()>(1));
        keys.map(|key| fetch(key).unwrap_or_default()).sum()
    }

    /// `get_or_set` for tasks.
    pub fn async_get_or_set<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        runtime().block_on(async {
            let mut sum = 0;
            for key in keys {
                sum += self.1.get_or_set(key, || async { 1_u64 }).await;
            }
            sum
        })
    }

    /// `fetch` for tasks.
    pub fn async_fetch<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        runtime().block_on(async {
            let mut sum = 0;
            for key in keys {
                let fetched = self.1.fetch(key, |_| async { Ok::<u64, ()>(1) }).await;
                sum += fetched.unwrap_or_default();
            }
            sum
        })
    }
}

/// moka for threads.
pub struct MokaSync(moka::sync::Cache<String, Arc<u64>>);

impl Subject for MokaSync {
    const NAME: &'static str = "moka, sync";

    fn new(capacity: u64) -> Self {
        Self(
            moka::sync::Cache::builder()
                .max_capacity(capacity)
                .time_to_live(TTL)
                .build(),
        )
    }

    fn set<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        for key in keys {
            self.0.insert(key.to_owned(), Arc::new(1));
        }
    }

    fn get<'a>(&self, keys: impl Iterator<Item = &'a str>) -> usize {
        keys.filter(|key| self.0.get(*key).is_some()).count()
    }

    fn get_or_set<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        keys.map(|key| *self.0.get_with_by_ref(key, || Arc::new(1)))
            .sum()
    }
}

/// moka for tasks.
pub struct MokaFuture(moka::future::Cache<String, Arc<u64>>);

impl Subject for MokaFuture {
    const NAME: &'static str = "moka, future";

    fn new(capacity: u64) -> Self {
        Self(
            moka::future::Cache::builder()
                .max_capacity(capacity)
                .time_to_live(TTL)
                .build(),
        )
    }

    fn set<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        runtime().block_on(async {
            for key in keys {
                self.0.insert(key.to_owned(), Arc::new(1)).await;
            }
        });
    }

    fn get<'a>(&self, keys: impl Iterator<Item = &'a str>) -> usize {
        runtime().block_on(async {
            let mut hits = 0;
            for key in keys {
                hits += usize::from(self.0.get(key).await.is_some());
            }
            hits
        })
    }

    fn get_or_set<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        runtime().block_on(async {
            let mut sum = 0;
            for key in keys {
                sum += *self.0.get_with_by_ref(key, async { Arc::new(1) }).await;
            }
            sum
        })
    }
}

/// mini-moka for threads.
pub struct MiniMoka(mini_moka::sync::Cache<String, Arc<u64>>);

impl Subject for MiniMoka {
    const NAME: &'static str = "mini-moka";

    fn new(capacity: u64) -> Self {
        Self(
            mini_moka::sync::Cache::builder()
                .max_capacity(capacity)
                .time_to_live(TTL)
                .build(),
        )
    }

    fn set<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        for key in keys {
            self.0.insert(key.to_owned(), Arc::new(1));
        }
    }

    fn get<'a>(&self, keys: impl Iterator<Item = &'a str>) -> usize {
        keys.filter(|key| self.0.get(&(*key).to_owned()).is_some())
            .count()
    }

    fn get_or_set<'a>(&self, keys: impl Iterator<Item = &'a str>) -> u64 {
        keys.map(|key| match self.0.get(&key.to_owned()) {
            Some(value) => *value,
            None => {
                self.0.insert(key.to_owned(), Arc::new(1));
                1
            }
        })
        .sum()
    }
}

/// Returns the runtime of this thread: each has its own, as a server's worker has.
pub fn runtime() -> &'static Runtime {
    thread_local! {
        static RUNTIME: &'static Runtime = Box::leak(Box::new(
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime"),
        ));
    }
    RUNTIME.with(|runtime| *runtime)
}

/// Decorated functions of one `&str` argument, with memory for 200,000 entries and a TTL.
pub mod macros {
    use std::sync::Arc;

    /// cacheio for threads.
    #[cacheio::cached(ttl = 300, capacity = 200_000)]
    pub fn cacheio(name: &str) -> Arc<u64> {
        Arc::new(name.len() as u64)
    }

    /// cacheio for tasks.
    #[cacheio::async_cached(ttl = 300, capacity = 200_000)]
    pub async fn cacheio_async(name: &str) -> Arc<u64> {
        Arc::new(name.len() as u64)
    }

    /// `cached` with sharded locks.
    #[cached::macros::concurrent_cached(
        max_size = 200_000,
        ttl_secs = 300,
        key = "String",
        convert = r#"{ name.to_owned() }"#
    )]
    pub fn concurrent_cached(name: &str) -> Arc<u64> {
        Arc::new(name.len() as u64)
    }

    /// `cached` with one lock.
    #[cached::macros::cached(
        max_size = 200_000,
        ttl_secs = 300,
        key = "String",
        convert = r#"{ name.to_owned() }"#
    )]
    pub fn cached(name: &str) -> Arc<u64> {
        Arc::new(name.len() as u64)
    }
}
