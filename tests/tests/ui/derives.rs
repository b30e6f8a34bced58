//! Wrong uses of the derives.

use cacheio::{AsyncCache, AsyncCacheable, Cache, CacheKey, Cacheable};

#[derive(Cacheable)]
struct NoField {
    users: Cache,
}

#[derive(AsyncCacheable)]
struct Unmarked(AsyncCache);

#[derive(Cacheable)]
struct TwoMarked {
    #[cache]
    one: Cache,
    #[cache]
    two: Cache,
}

#[derive(Cacheable)]
struct MarkedWithValue {
    #[cache(yes)]
    one: Cache,
}

#[derive(Cacheable)]
struct OtherWorld {
    cache: std::sync::Arc<AsyncCache>,
}

#[derive(AsyncCacheable)]
struct OtherWorldForTasks {
    #[async_cache]
    users: Cache,
}

#[derive(Cacheable)]
#[cacheio(path = cacheio)]
struct UnknownOption {
    cache: Cache,
}

#[derive(CacheKey)]
union Union {
    a: u8,
    b: u8,
}

#[derive(CacheKey)]
#[cache_key(name = "x")]
struct UnknownKeyOption(u8);

#[derive(CacheKey)]
struct UnknownFieldOption(#[cache_key(ignore)] u8);

fn main() {}
