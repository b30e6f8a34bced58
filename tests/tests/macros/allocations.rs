//! A hit of a decorated function allocates nothing.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cacheio::{
    AsyncCache, AsyncCacheable, Cache, CacheFactory, Cacheable, Local, async_cached, cached,
};

#[derive(Cacheable)]
struct Shop {
    cache: Cache,
}

impl Shop {
    #[cached(key = "price:{region}:{id}")]
    fn price(&self, region: &str, id: u64) -> u64 {
        region.len() as u64 + id
    }

    #[cached]
    fn by_all_arguments(&self, region: &str, id: u64) -> u64 {
        region.len() as u64 + id
    }

    #[cached(key = (region, id))]
    fn page(&self, region: &str, id: u64) -> Local<String> {
        Local::new(format!("{region}: {id}"))
    }
}

#[derive(AsyncCacheable)]
struct AsyncShop {
    cache: AsyncCache,
}

impl AsyncShop {
    #[async_cached(key = "price:{region}:{id}")]
    async fn price(&self, region: &str, id: u64) -> u64 {
        region.len() as u64 + id
    }

    #[async_cached]
    async fn by_all_arguments(&self, region: &str, id: u64) -> u64 {
        region.len() as u64 + id
    }

    #[async_cached(key = (region, id))]
    async fn page(&self, region: &str, id: u64) -> Local<String> {
        Local::new(format!("{region}: {id}"))
    }
}

#[cached]
fn free(region: &str, id: u64) -> Arc<String> {
    Arc::new(format!("{region}: {id}"))
}

#[cached]
async fn async_free(region: &str, id: u64) -> Arc<String> {
    Arc::new(format!("{region}: {id}"))
}

/// How often the second of two calls allocates.
fn allocations<T>(call: impl Fn() -> T) -> u64 {
    drop(call());
    let mut result = None;
    let counted = allocation_counter::measure(|| result = Some(call()));
    drop(result);
    counted.count_total
}

/// Polls a future that is ready at once, where it stands.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a hit on memory suspends"),
    }
}

#[test]
fn a_hit_allocates_nothing_in_threads() {
    let shop = Shop {
        cache: CacheFactory::memory_cache(),
    };
    assert_eq!(allocations(|| shop.price("eu-west", 42)), 0);
    assert_eq!(allocations(|| shop.by_all_arguments("eu-west", 42)), 0);
    assert_eq!(allocations(|| shop.page("eu-west", 42)), 0);
    assert_eq!(allocations(|| free("eu-west", 42)), 0);
}

#[test]
fn a_hit_allocates_nothing_in_tasks() {
    let shop = AsyncShop {
        cache: CacheFactory::async_memory_cache(),
    };
    assert_eq!(allocations(|| ready(shop.price("eu-west", 42))), 0);
    assert_eq!(
        allocations(|| ready(shop.by_all_arguments("eu-west", 42))),
        0
    );
    assert_eq!(allocations(|| ready(shop.page("eu-west", 42))), 0);
    assert_eq!(allocations(|| ready(async_free("eu-west", 42))), 0);
}
