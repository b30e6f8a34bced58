//! Several caches on one memory, of one world or of both: a write of one affects the loads of all.

#![cfg(not(shuttle))]

use std::sync::Arc;
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::Options;
use cacheio_sync::{Cache, Memory};
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::watchdog::guarded;

fn threads(memory: &Arc<Memory>) -> CacheApi {
    CacheApi::Threads(Cache::builder().store(Arc::clone(memory)).build().unwrap())
}

fn tasks(memory: &Arc<Memory>) -> CacheApi {
    let cache = AsyncCache::builder().store(Arc::clone(memory));
    CacheApi::Tasks(cache.build().unwrap())
}

type NewCache = fn(&Arc<Memory>) -> CacheApi;

/// Runs a case with two caches on one memory.
fn run<F: Future<Output = ()> + 'static>(
    one: NewCache,
    other: NewCache,
    case: fn(CacheApi, CacheApi) -> F,
) {
    let memory = Arc::new(Memory::with_capacity(10));
    let (one, other) = (one(&memory), other(&memory));
    let world = match (one.world(), other.world()) {
        (World::Threads, World::Threads) => World::Threads,
        _ => World::Tasks,
    };
    guarded(move || world.run(case(one, other)));
}

/// Makes tests of a case: with every pair of worlds.
macro_rules! pairs {
    ($($case:ident)*) => {$(
        mod $case {
            use super::*;

            #[test]
            fn threads_and_threads() {
                run(threads, threads, super::$case);
            }

            #[test]
            fn tasks_and_tasks() {
                run(tasks, tasks, super::$case);
            }

            #[test]
            fn threads_and_tasks() {
                run(threads, tasks, super::$case);
            }

            #[test]
            fn tasks_and_threads() {
                run(tasks, threads, super::$case);
            }
        }
    )*};
}

pairs! {
    a_delete_of_another_cache_wins_over_a_load
    a_clear_of_another_cache_wins_over_a_load
    a_set_of_another_cache_wins_over_a_load
    a_touch_with_zero_of_another_cache_wins_over_a_load
    a_tag_invalidation_of_another_cache_wins_over_a_load
    an_invalidated_tag_is_invalid_in_all_caches
}

async fn a_delete_of_another_cache_wins_over_a_load(one: CacheApi, other: CacheApi) {
    let load = || async {
        other.delete("k").await.unwrap();
        1
    };
    assert_eq!(one.get_or_set("k", load).await, 1);
    assert_eq!(other.get::<i32>("k").await.unwrap(), None);
}

async fn a_clear_of_another_cache_wins_over_a_load(one: CacheApi, other: CacheApi) {
    let load = || async {
        other.clear().await.unwrap();
        1
    };
    assert_eq!(one.get_or_set("k", load).await, 1);
    assert_eq!(other.get::<i32>("k").await.unwrap(), None);
}

async fn a_set_of_another_cache_wins_over_a_load(one: CacheApi, other: CacheApi) {
    let load = || async {
        other.set("k", 2).await.unwrap();
        1
    };
    one.get_or_set("k", load).await;
    assert_eq!(one.get::<i32>("k").await.unwrap(), Some(2));
}

async fn a_touch_with_zero_of_another_cache_wins_over_a_load(one: CacheApi, other: CacheApi) {
    let load = || async {
        other.touch("k", Duration::ZERO).await.unwrap();
        1
    };
    assert_eq!(one.get_or_set("k", load).await, 1);
    assert_eq!(other.get::<i32>("k").await.unwrap(), None);
}

async fn a_tag_invalidation_of_another_cache_wins_over_a_load(one: CacheApi, other: CacheApi) {
    let load = || async {
        other.invalidate_tags(vec!["t"]).await.unwrap();
        1
    };
    let tagged = Options::new().tags(["t"]);
    assert_eq!(one.get_or_set_with("k", tagged, load).await, 1);
    assert_eq!(other.get::<i32>("k").await.unwrap(), None);
}

async fn an_invalidated_tag_is_invalid_in_all_caches(one: CacheApi, other: CacheApi) {
    let tagged = || Options::new().tags(["t"]);
    one.set_with("k", 1, tagged()).await.unwrap();
    other.set_with("other", 2, tagged()).await.unwrap();
    other.set("untagged", 3).await.unwrap();
    other.invalidate_tags(vec!["t"]).await.unwrap();
    for key in ["k", "other"] {
        assert_eq!(one.get::<i32>(key).await.unwrap(), None);
        assert_eq!(other.get::<i32>(key).await.unwrap(), None);
    }
    assert_eq!(one.get::<i32>("untagged").await.unwrap(), Some(3));
}
