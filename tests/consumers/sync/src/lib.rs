//! The macros in a crate that depends only on `cacheio-sync`.

#![cfg(test)]

use cacheio_sync::{Cache, CacheFactory, CacheKey, Cacheable, cached, key_text};

#[derive(CacheKey)]
struct Id(u32);

#[derive(Cacheable)]
struct Service {
    cache: Cache,
}

impl Service {
    #[cached(key = "user:{id}", ttl = 60, companions)]
    fn find(&self, id: Id) -> u32 {
        id.0
    }
}

#[cached(ttl = "5m", capacity = 10)]
fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn methods_and_derives() {
    let service = Service {
        cache: CacheFactory::memory_cache(),
    };
    assert_eq!(service.find(Id(7)), 7);
    assert_eq!(service.find_key(Id(7)), "user:7");
    assert!(service.find_invalidate(Id(7)).unwrap());
    assert_eq!(service.find_refresh(Id(7)), 7);
    assert!(service.cache.has("user:7").unwrap());
    assert_eq!(key_text(Id(7)), "7");
}

#[test]
fn functions() {
    assert_eq!((square(3), square(3)), (9, 9));
}
