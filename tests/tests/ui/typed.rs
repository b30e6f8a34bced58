//! Typed handles that are used with other types than their own, or without a loader.

use cacheio::{AsyncCache, Cache, CacheFactory};

fn other_types(cache: &Cache) {
    let users = cache.typed::<u64, String>("user");
    let _ = users.get("Ada");
    let _ = users.set(42, 7_u8);
    let _ = users.increment(42, 1);
    let _: cacheio::Result<Option<u64>> = users.get(42);
}

fn no_loader(cache: &Cache, tasks: &AsyncCache) {
    let users = cache.typed::<u64, String>("user");
    let _ = users.refresh(42);
    let users = users.batch_loader(|ids: Vec<u64>| ids.into_iter().map(|id| (id, id.to_string())));
    let users = tasks.typed::<u64, String>("user");
    let _ = users.invalidate(42);
}

fn other_loaders(cache: &Cache, tasks: &AsyncCache) {
    let _ = cache.typed::<u64, String>("user").loader(|id| id + 1);
    let _ = tasks.typed::<u64, String>("user").loader(|id| id.to_string());
    let users = cache.typed::<u64, String>("user").loader(|id| id.to_string());
    let _ = users.batch_loader(|ids| ids.len());
}

fn main() {
    let _ = CacheFactory::memory_cache();
}
