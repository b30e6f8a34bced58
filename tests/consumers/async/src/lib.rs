//! The macros in a crate that depends only on `cacheio-async`.

#![cfg(test)]

use cacheio_async::{AsyncCache, AsyncCacheable, CacheFactory, CacheKey, async_cached, cached};

#[derive(CacheKey)]
struct Id(u32);

#[derive(AsyncCacheable)]
struct Service {
    cache: AsyncCache,
}

impl Service {
    #[async_cached(key = "user:{id}", ttl = "1m", companions)]
    async fn find(&self, id: Id) -> u32 {
        id.0
    }
}

#[cached(ttl = 60, capacity = 10)]
async fn square(n: u64) -> u64 {
    n * n
}

#[tokio::test]
async fn methods_and_derives() {
    let service = Service {
        cache: CacheFactory::async_memory_cache(),
    };
    assert_eq!(service.find(Id(7)).await, 7);
    assert_eq!(service.find_key(Id(7)), "user:7");
    assert!(service.find_invalidate(Id(7)).await.unwrap());
    assert_eq!(service.find_refresh(Id(7)).await, 7);
    assert!(service.cache.has("user:7").await.unwrap());
}

#[tokio::test]
async fn functions() {
    assert_eq!((square(3).await, square(3).await), (9, 9));
}
