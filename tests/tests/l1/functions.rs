//! Functions with `#[cached]` whose cache has an L1.

use cacheio::{AsyncCache, Cache, Memory, async_cached, cached};
use cacheio_tests::api::block_on;
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores;

/// Returns a cache on a server, and one on memory.
fn caches() -> [Cache; 2] {
    let server = stores::bytes(&TestEnv::new(Time::manual()));
    let l1 = Memory::with_capacity(100);
    let cache = Cache::builder().store(server).l1(l1).build().unwrap();
    [cache, Cache::builder().build().unwrap()]
}

#[cached(cache = cache, key = "{n}")]
fn copied(cache: &Cache, n: u64) -> u64 {
    n + 1
}

#[cached(cache = cache, key = "past:{n}", skip_l1)]
fn past_l1(cache: &Cache, n: u64) -> u64 {
    n + 1
}

#[async_cached(cache = cache, key = "past:{n}", skip_l1)]
async fn async_past_l1(cache: &AsyncCache, n: u64) -> u64 {
    n + 1
}

#[test]
fn a_function_with_skip_l1_passes_l1_by() {
    for cache in caches() {
        for _ in 0..3 {
            assert_eq!(past_l1(&cache, 1), 2);
        }
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.hits, stats.misses), (1, 2, 1));
        assert_eq!(stats.l1_hits, 0);
        // It was not put there either.
        assert_eq!(cache.get::<u64>("past:1").unwrap(), Some(2));
        assert_eq!(cache.stats().l1_hits, 0);
    }
    let [cache, _] = caches();
    for _ in 0..3 {
        assert_eq!(copied(&cache, 1), 2);
    }
    assert_eq!(cache.stats().l1_hits, 2);
}

#[test]
fn an_async_function_with_skip_l1_passes_l1_by() {
    let server = stores::yielding_bytes(&TestEnv::new(Time::manual()));
    let cache = AsyncCache::builder().store(server);
    let cache = cache.l1(Memory::with_capacity(100)).build().unwrap();
    block_on(async {
        for _ in 0..3 {
            assert_eq!(async_past_l1(&cache, 1).await, 2);
        }
    });
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.hits, stats.l1_hits), (1, 2, 0));
}
