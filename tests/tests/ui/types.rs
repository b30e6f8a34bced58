//! Types that lack a trait.

use cacheio::{AsyncCache, AsyncCacheable, Cache, CacheKey, Cacheable, cached};

struct Context;

#[cached]
fn no_key(id: u64, context: &Context) -> u64 {
    let _ = context;
    id
}

#[cached(key = context)]
fn no_key_by_expression(context: &Context) -> u64 {
    let _ = context;
    1
}

#[cached(key = "{context}")]
fn no_key_in_template(context: &Context) -> u64 {
    let _ = context;
    1
}

#[derive(CacheKey)]
struct NoKeyInside {
    context: Context,
}

impl Context {
    #[cached]
    fn no_cache(&self, id: u64) -> u64 {
        id
    }

    #[cached]
    async fn no_async_cache(&self, id: u64) -> u64 {
        id
    }
}

type Alias = AsyncCache;

#[derive(Cacheable)]
struct WrongField {
    cache: Alias,
}

#[derive(Cacheable, AsyncCacheable)]
struct Service {
    cache: Cache,
    #[async_cache]
    tasks: AsyncCache,
}

impl Service {
    #[cached(cache = self.tasks)]
    fn wrong_cache(&self, id: u64) -> u64 {
        id
    }

    #[cached(cache_none = false)]
    fn no_option(&self, id: u64) -> u64 {
        id
    }

    #[cached]
    fn shared(&self, id: u64) -> std::sync::Arc<u64> {
        std::sync::Arc::new(id)
    }

    #[cached(ttl = 60 + 1)]
    fn no_ttl(&self, id: u64) -> u64 {
        id
    }
}

#[cached]
fn no_clone(id: u64) -> Context {
    let _ = id;
    Context
}

#[cached]
fn wrong_body(id: u64) -> u64 {
    "text"
}

#[cached(refresh_ahead = 0.5)]
fn error_in_the_background(id: u64) -> Result<u64, Box<dyn std::error::Error>> {
    Ok(id)
}

fn main() {
    // The tests turn on the feature `rc` of serde for no crate.
    let cache = Cache::default();
    cache.set("k", std::sync::Arc::new(1)).unwrap();
    cache.set("k", Context).unwrap();
}
