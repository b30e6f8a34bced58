//! The asynchronous cache on every kind of executor: it does not depend on tokio.

#![cfg(not(shuttle))]

use std::future::Future;
use std::time::Duration;

use cacheio_async::{AsyncCache, Memory};
use cacheio_core::{Options, Ttl};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::gate::LoaderGate;
use cacheio_tests::stores;
use cacheio_tests::watchdog::guarded;
use cacheio_tests::world::block_on;
use tokio::runtime::{Builder, Runtime};

fn caches() -> [AsyncCache; 2] {
    [
        AsyncCache::builder().store(Memory::new()).build().unwrap(),
        AsyncCache::builder()
            .store(stores::yielding_bytes(&TestEnv::new(Time::manual())))
            .build()
            .unwrap(),
    ]
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap()
}

/// Uses each kind of operation, with one waiter.
async fn a_day_in_the_life(cache: &AsyncCache) {
    cache.set("k", 1).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    assert_eq!(cache.increment("n", 2).await.unwrap(), 2);
    assert!(cache.delete("k").await.unwrap());
    let gate = LoaderGate::new();
    let (one, two, ()) = tokio::join!(
        cache.get_or_set("k", gate.loader(1)),
        cache.get_or_set("k", gate.loader(2)),
        async {
            gate.started().await;
            while cache.stats().waits == 0 {
                stores::pause().await;
            }
            gate.release();
        }
    );
    assert_eq!((one, two, gate.runs()), (1, 1, 1));
    cache.clear().await.unwrap();
    assert!(!cache.has("k").await.unwrap());
}

#[test]
fn a_runtime_of_one_thread() {
    guarded(|| {
        for cache in caches() {
            current_thread().block_on(a_day_in_the_life(&cache));
        }
    });
}

#[test]
fn a_runtime_of_many_threads() {
    guarded(|| {
        for cache in caches() {
            multi_thread()
                .block_on(async move {
                    tokio::spawn(async move { a_day_in_the_life(&cache).await }).await
                })
                .unwrap();
        }
    });
}

#[test]
fn no_runtime_at_all() {
    guarded(|| {
        for cache in caches() {
            block_on(a_day_in_the_life(&cache));
        }
    });
}

#[test]
fn a_cache_survives_the_runtime_that_it_began_in() {
    guarded(|| {
        for cache in caches() {
            let gate = LoaderGate::new();
            let first = multi_thread();
            first.block_on(a_day_in_the_life(&cache));
            // The runtime is dropped while a load is in progress.
            let leader = {
                let (cache, load) = (cache.clone(), gate.loader(-1));
                async move { cache.get_or_set("hung", load).await }
            };
            first.spawn(leader);
            first.block_on(gate.started());
            let second = multi_thread();
            let waits = cache.stats().waits;
            let waiter = {
                let cache = cache.clone();
                async move { cache.get_or_set("hung", || async { 2 }).await }
            };
            let waiter = second.spawn(waiter);
            while cache.stats().waits == waits {
                std::thread::yield_now();
            }
            first.shutdown_background();
            assert_eq!(second.block_on(waiter).unwrap(), 2);
            assert_eq!(block_on(cache.get::<i32>("hung")).unwrap(), Some(2));
            block_on(cache.clear()).unwrap();
        }
    });
}

#[test]
fn two_runtimes_and_a_thread_share_one_load() {
    guarded(|| {
        for cache in caches() {
            let (one, two) = (current_thread(), multi_thread());
            let gate = LoaderGate::new();
            let caller = |value: i32| {
                let (cache, load) = (cache.clone(), gate.loader(value));
                async move { cache.get_or_set("k", load).await }
            };
            let in_two = two.spawn(caller(2));
            block_on(gate.started());
            let (in_one, nowhere) = (caller(1), caller(3));
            let in_one = std::thread::spawn(move || one.block_on(in_one));
            let nowhere = std::thread::spawn(move || block_on(nowhere));
            while cache.stats().waits < 2 {
                std::thread::yield_now();
            }
            gate.release();
            assert_eq!(two.block_on(in_two).unwrap(), 2);
            assert_eq!((in_one.join().unwrap(), nowhere.join().unwrap()), (2, 2));
        }
    });
}

fn sendable<F: Future + Send>(future: F) -> F {
    future
}

#[test]
fn every_future_can_be_sent() {
    let [cache, _] = caches();
    let ttl = Duration::from_secs(1);
    // The futures are not polled: the test is that this compiles.
    drop(sendable(cache.has("k")));
    drop(sendable(cache.get::<String>("k")));
    drop(sendable(cache.get_arc::<String>(("k", 1))));
    drop(sendable(cache.get_many::<i32>(["k"])));
    drop(sendable(cache.set("k", 1)));
    drop(sendable(cache.set_with("k", 1, ttl)));
    drop(sendable(cache.set_many([("k", 1)])));
    drop(sendable(cache.set_many_with([("k", 1)], ttl)));
    drop(sendable(cache.add("k", 1)));
    drop(sendable(cache.add_with("k", 1, Ttl::Never)));
    drop(sendable(cache.delete(String::from("k"))));
    drop(sendable(cache.delete_many(["k"])));
    drop(sendable(cache.increment("k", 1)));
    drop(sendable(cache.increment_with("k", 1, ttl)));
    drop(sendable(cache.decrement("k", 1)));
    drop(sendable(cache.decrement_with("k", 1, ttl)));
    drop(sendable(cache.touch("k", ttl)));
    drop(sendable(cache.clear()));
    drop(sendable(cache.get_or_set("k", || async { 1 })));
    drop(sendable(cache.get_or_set_with(
        "k",
        Options::new().tags(["t"]),
        || async { 1 },
    )));
    drop(sendable(
        cache.get_or_try_set("k", || async { Ok::<_, String>(1) }),
    ));
    drop(sendable(cache.get_or_try_set_with("k", ttl, || async {
        Ok::<_, String>(1)
    })));
    drop(sendable(cache.invalidate_tags(["t"])));
    drop(sendable(cache.ping()));
    fn is_shared<T: Clone + Send + Sync + 'static>() {}
    is_shared::<AsyncCache>();
    is_shared::<cacheio_sync::Cache>();
}

/// The future of a waiter is small: the state of a miss is on the heap.
#[test]
fn the_future_of_get_or_set_stays_small() {
    let [cache, _] = caches();
    let size = size_of_val(&cache.get_or_set("k", || async { 1_u64 }));
    assert!(size <= 512, "{size} bytes");
}
