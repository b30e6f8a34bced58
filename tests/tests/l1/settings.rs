//! Which settings are refused, and with which advice.

use std::time::Duration;

use cacheio::{AsyncCache, Cache, CacheFactory, Error, ErrorKind, L1, Memory, Redis};

const REDIS: &str = "redis://127.0.0.1:1";

fn redis() -> Redis {
    Redis::new(REDIS).unwrap()
}

fn assert_refused<T>(built: Result<T, Error>, advice: &str) {
    let error = built.err().expect("it is refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(advice), "{error}");
}

#[test]
fn memory_before_memory_is_refused() {
    let l1 = || Memory::with_capacity(10);
    assert_refused(Cache::builder().l1(l1()).build(), "remove `l1`");
    assert_refused(AsyncCache::builder().l1(l1()).build(), "remove `l1`");
    assert_refused(Cache::from_url("memory://?l1=10"), "remove it");
    assert_refused(AsyncCache::from_url("memory://?l1=10"), "remove it");
}

#[test]
fn l1_is_memory_that_keeps_values() {
    let encoded = Memory::builder().through_codec(true).build();
    let built = Cache::builder().store(redis()).l1(encoded).build();
    assert_refused(built, "without `through_codec`");
    let empty = Memory::with_capacity(0);
    let built = Cache::builder().store(redis()).l1(empty).build();
    assert_refused(built, "capacity of 0");
}

#[test]
fn the_bound_has_a_least_value() {
    let bound = |millis| {
        let l1 = L1::new(Memory::new()).max_staleness(Duration::from_millis(millis));
        Cache::builder().store(redis()).l1(l1).build()
    };
    assert_refused(bound(199), "at least 200 ms");
    bound(200).unwrap();
    let l1 = L1::new(Memory::new()).ttl(Duration::ZERO);
    let built = Cache::builder().store(redis()).l1(l1).build();
    assert_refused(built, "greater than zero");
}

#[test]
fn urls_have_l1_and_its_bound() {
    for url in [
        "redis://127.0.0.1:1?l1=1000",
        "redis://127.0.0.1:1?l1=1000&max_staleness=500ms&ttl=5m",
        "redis-cluster://127.0.0.1:1?l1=1000",
        "memcache://127.0.0.1:1?max_staleness=1&l1=1000",
    ] {
        let cache = Cache::from_url(url).unwrap();
        assert!(format!("{cache:?}").contains("l1: Some"), "{cache:?}");
        AsyncCache::from_url(url).unwrap();
    }
    CacheFactory::redis_cache("redis://127.0.0.1:1?l1=1000").unwrap();
    CacheFactory::async_memcached_cache("memcache://127.0.0.1:1?l1=1000").unwrap();
    for (parameters, advice) in [
        ("l1=many", "a number of entries"),
        ("l1=0", "capacity of 0"),
        ("l1=10&max_staleness=soon", "a duration"),
        ("l1=10&max_staleness=100ms", "at least 200 ms"),
        ("max_staleness=2s", "add `l1=10000`"),
        ("l1=10&l1=20", "twice"),
    ] {
        assert_refused(Cache::from_url(&format!("{REDIS}?{parameters}")), advice);
    }
}
