//! Several caches on one memory, of one world or of both: a write of one affects the loads of all in
//! its namespace, and of no others.

#![cfg(not(shuttle))]

use std::sync::Arc;
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::Options;
use cacheio_sync::{Cache, Memory};
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::watchdog::guarded;

fn threads(memory: &Arc<Memory>, namespace: &str) -> CacheApi {
    let cache = Cache::builder().store(Arc::clone(memory));
    CacheApi::Threads(cache.namespace(namespace).build().unwrap())
}

fn tasks(memory: &Arc<Memory>, namespace: &str) -> CacheApi {
    let cache = AsyncCache::builder().store(Arc::clone(memory));
    CacheApi::Tasks(cache.namespace(namespace).build().unwrap())
}

type NewCache = fn(&Arc<Memory>, namespace: &str) -> CacheApi;

/// Runs a case with two caches on one memory, in two namespaces.
fn run<F: Future<Output = ()> + 'static>(
    one: NewCache,
    other: NewCache,
    namespaces: [&str; 2],
    case: fn(CacheApi, CacheApi) -> F,
) {
    let memory = Arc::new(Memory::with_capacity(10));
    let (one, other) = (one(&memory, namespaces[0]), other(&memory, namespaces[1]));
    let world = match (one.world(), other.world()) {
        (World::Threads, World::Threads) => World::Threads,
        _ => World::Tasks,
    };
    guarded(move || world.run(case(one, other)));
}

/// Makes tests of a case: with every pair of worlds.
macro_rules! pairs {
    ($namespaces:expr; $($case:ident)*) => {$(
        mod $case {
            use super::*;

            #[test]
            fn threads_and_threads() {
                run(threads, threads, $namespaces, super::$case);
            }

            #[test]
            fn tasks_and_tasks() {
                run(tasks, tasks, $namespaces, super::$case);
            }

            #[test]
            fn threads_and_tasks() {
                run(threads, tasks, $namespaces, super::$case);
            }

            #[test]
            fn tasks_and_threads() {
                run(tasks, threads, $namespaces, super::$case);
            }
        }
    )*};
}

pairs! {
    ["", ""];
    a_delete_of_another_cache_wins_over_a_load
    a_clear_of_another_cache_wins_over_a_load
    a_set_of_another_cache_wins_over_a_load
    a_touch_with_zero_of_another_cache_wins_over_a_load
    a_tag_invalidation_of_another_cache_wins_over_a_load
    an_invalidated_tag_is_invalid_in_all_caches
}

pairs! {
    ["", "shop"];
    namespaces_do_not_see_each_other
    a_clear_of_another_namespace_clears_nothing
    a_load_of_another_namespace_is_another_load
    writes_of_another_namespace_leave_loads_alone
    a_tag_of_another_namespace_is_another_tag
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

/// Text that would be the same key if namespaces were only put in front of keys.
const KEYS: [(&str, &str); 2] = [("k", "k"), ("shop:k", "k")];

async fn namespaces_do_not_see_each_other(one: CacheApi, other: CacheApi) {
    for (key, in_shop) in KEYS {
        one.set(key, 1).await.unwrap();
        assert_eq!(other.get::<i32>(in_shop).await.unwrap(), None);
        other.set(in_shop, 2).await.unwrap();
        assert_eq!(one.get::<i32>(key).await.unwrap(), Some(1));
        assert_eq!(one.increment(key, 1).await.unwrap(), 2);
        assert!(one.delete(key).await.unwrap());
        assert!(other.delete(in_shop).await.unwrap());
    }
}

async fn a_clear_of_another_namespace_clears_nothing(one: CacheApi, other: CacheApi) {
    for (key, in_shop) in KEYS {
        one.set(key, 1).await.unwrap();
        other.set(in_shop, 2).await.unwrap();
        other.clear().await.unwrap();
        assert!(one.has(key).await.unwrap() && !other.has(in_shop).await.unwrap());
        other.set(in_shop, 2).await.unwrap();
        one.clear().await.unwrap();
        assert!(!one.has(key).await.unwrap() && other.has(in_shop).await.unwrap());
    }
}

async fn a_load_of_another_namespace_is_another_load(one: CacheApi, other: CacheApi) {
    for (key, in_shop) in KEYS {
        let load = || async { other.get_or_set(in_shop, || async { 2 }).await + 1 };
        assert_eq!(one.get_or_set(key, load).await, 3);
        assert_eq!(one.get::<i32>(key).await.unwrap(), Some(3));
        other.clear().await.unwrap();
    }
}

async fn writes_of_another_namespace_leave_loads_alone(one: CacheApi, other: CacheApi) {
    for (key, in_shop) in KEYS {
        let load = || async {
            other.set(in_shop, 2).await.unwrap();
            other.delete(in_shop).await.unwrap();
            other.clear().await.unwrap();
            1
        };
        assert_eq!(one.get_or_set(key, load).await, 1);
        assert_eq!(one.get::<i32>(key).await.unwrap(), Some(1));
    }
}

async fn a_tag_of_another_namespace_is_another_tag(one: CacheApi, other: CacheApi) {
    for (tag, in_shop) in [("t", "t"), ("shop:t", "t")] {
        one.set_with("k", 1, Options::new().tags([tag]))
            .await
            .unwrap();
        other
            .set_with("k", 2, Options::new().tags([in_shop]))
            .await
            .unwrap();
        other.invalidate_tags(vec![in_shop]).await.unwrap();
        assert!(one.has("k").await.unwrap() && !other.has("k").await.unwrap());
        other
            .set_with("k", 2, Options::new().tags([in_shop]))
            .await
            .unwrap();
        one.invalidate_tags(vec![tag]).await.unwrap();
        assert!(!one.has("k").await.unwrap() && other.has("k").await.unwrap());
    }
}

#[test]
fn many_namespaces_on_one_memory() {
    let memory = Arc::new(Memory::with_capacity(1_000));
    let cache = |i: usize| {
        let cache = Cache::builder().store(Arc::clone(&memory));
        cache.namespace(format!("tenant {i}")).build().unwrap()
    };
    let long = "a key that is too long to be stored in place, whatever its namespace";
    for i in 0..200 {
        cache(i)
            .set_with("k", i, Options::new().tags(["t"]))
            .unwrap();
        cache(i).set(long, i).unwrap();
    }
    for i in (0..200).step_by(2) {
        cache(i).clear().unwrap();
    }
    for i in 0..200 {
        let kept = (i % 2 == 1).then_some(i);
        assert_eq!(cache(i).get::<usize>("k").unwrap(), kept);
        assert_eq!(cache(i).get::<usize>(long).unwrap(), kept);
    }
    // Tags outlive the caches that stored their entries.
    cache(1).invalidate_tags(["t"]).unwrap();
    assert_eq!(cache(1).get::<usize>("k").unwrap(), None);
    assert_eq!(cache(199).get::<usize>("k").unwrap(), Some(199));
    assert_eq!(memory.len(), 200);
}

#[test]
fn errors_name_the_key_with_its_namespace() {
    let memory = Arc::new(Memory::with_capacity(10));
    let cache = Cache::builder().store(memory).namespace("shop");
    let cache = cache.build().unwrap();
    cache.set("k", String::from("text")).unwrap();
    let error = cache.get::<u64>("k").unwrap_err();
    assert_eq!(error.key(), Some("shop:k"));
    let error = cache.get_many::<u64>(["k"]).unwrap_err();
    assert_eq!(error.key(), Some("shop:k"));
    let error = cache.increment("k", 1).unwrap_err();
    assert_eq!(error.key(), Some("shop:k"));
}
