//! Caches on one memory, of one world or of both: a write of one is a write for all.

#![cfg(not(shuttle))]

use std::sync::Arc;
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::Options;
use cacheio_sync::{Cache, Memory};
use cacheio_tests::face::{Face, Tasks, Threads};
use cacheio_tests::watchdog::guarded;

fn threads(memory: &Arc<Memory>) -> Threads {
    Threads(Cache::builder().store(Arc::clone(memory)).build().unwrap())
}

fn tasks(memory: &Arc<Memory>) -> Tasks {
    let cache = AsyncCache::builder().store(Arc::clone(memory));
    Tasks(cache.build().unwrap())
}

/// Runs a test with two caches on one memory, of every pair of worlds.
macro_rules! pairs {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            fn memory() -> Arc<Memory> {
                Arc::new(Memory::with_capacity(10))
            }

            #[test]
            fn threads_and_threads() {
                let memory = memory();
                guarded(move || Threads::run(super::$name(threads(&memory), threads(&memory))));
            }

            #[test]
            fn tasks_and_tasks() {
                let memory = memory();
                guarded(move || Tasks::run(super::$name(tasks(&memory), tasks(&memory))));
            }

            #[test]
            fn threads_and_tasks() {
                let memory = memory();
                guarded(move || Tasks::run(super::$name(threads(&memory), tasks(&memory))));
            }

            #[test]
            fn tasks_and_threads() {
                let memory = memory();
                guarded(move || Tasks::run(super::$name(tasks(&memory), threads(&memory))));
            }
        }
    )*};
}

pairs! {
    a_delete_of_another_cache_beats_a_load
    a_clear_of_another_cache_beats_a_load
    a_set_of_another_cache_beats_a_load
    a_touch_with_zero_of_another_cache_beats_a_load
    a_tag_invalidation_of_another_cache_beats_a_load
    a_tag_is_invalid_in_all_caches
}

async fn a_delete_of_another_cache_beats_a_load<A: Face, B: Face>(one: A, other: B) {
    let load = || async {
        other.delete("k").await.unwrap();
        1
    };
    assert_eq!(one.get_or_set("k", load).await, 1);
    assert_eq!(other.get::<i32>("k").await.unwrap(), None);
}

async fn a_clear_of_another_cache_beats_a_load<A: Face, B: Face>(one: A, other: B) {
    let load = || async {
        other.clear().await.unwrap();
        1
    };
    assert_eq!(one.get_or_set("k", load).await, 1);
    assert_eq!(other.get::<i32>("k").await.unwrap(), None);
}

async fn a_set_of_another_cache_beats_a_load<A: Face, B: Face>(one: A, other: B) {
    let load = || async {
        other.set("k", 2).await.unwrap();
        1
    };
    one.get_or_set("k", load).await;
    assert_eq!(one.get::<i32>("k").await.unwrap(), Some(2));
}

async fn a_touch_with_zero_of_another_cache_beats_a_load<A: Face, B: Face>(one: A, other: B) {
    let load = || async {
        other.touch("k", Duration::ZERO).await.unwrap();
        1
    };
    assert_eq!(one.get_or_set("k", load).await, 1);
    assert_eq!(other.get::<i32>("k").await.unwrap(), None);
}

async fn a_tag_invalidation_of_another_cache_beats_a_load<A: Face, B: Face>(one: A, other: B) {
    let load = || async {
        other.invalidate_tags(vec!["t"]).await.unwrap();
        1
    };
    let tagged = Options::new().tags(["t"]);
    assert_eq!(one.get_or_set_with("k", tagged, load).await, 1);
    assert_eq!(other.get::<i32>("k").await.unwrap(), None);
}

async fn a_tag_is_invalid_in_all_caches<A: Face, B: Face>(one: A, other: B) {
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
