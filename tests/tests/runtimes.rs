//! The asynchronous cache, on memory and on servers, on every kind of runtime and executor.

#![cfg(not(shuttle))]

use std::future::{Future, pending};
use std::time::Duration;

use cacheio_async::{AsyncCache, Memory, SpawnBlocking};
use cacheio_core::{AsyncStore, BoxFuture, LoadError, Options, Ttl};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::gate::LoaderGate;
use cacheio_tests::stores;
use cacheio_tests::watchdog::guarded;
use cacheio_tests::world::block_on;
use tokio::runtime::{Builder, Handle, Runtime};

const SHORT: Duration = Duration::from_millis(20);
const MINUTE: Duration = Duration::from_secs(60);

/// A cache, and the server that it needs.
struct Row {
    name: &'static str,
    cache: AsyncCache,
    _env: TestEnv,
}

fn rows() -> Vec<Row> {
    vec![
        row("memory", |_| Memory::new()),
        row("bytes", stores::yielding_bytes),
        row("memcached", stores::memcached),
        row("redis", stores::redis),
        row("redis cluster", stores::redis_cluster),
    ]
}

fn row<S: AsyncStore>(name: &'static str, store: fn(&TestEnv) -> S) -> Row {
    let env = TestEnv::new(Time::system());
    Row {
        name,
        cache: AsyncCache::builder().store(store(&env)).build().unwrap(),
        _env: env,
    }
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

/// Runs a test on each store, on each kind of runtime that runs its tasks.
fn on_each_runtime(test: fn(&AsyncCache) -> BoxFuture<'_, ()>) {
    type Run = fn(BoxFuture<'_, ()>);
    let runtimes: [(&str, Run); 8] = [
        ("one thread, all enabled", |test| {
            let mut runtime = Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(test);
        }),
        ("threads, all enabled", |test| {
            let mut runtime = Builder::new_multi_thread();
            runtime.enable_all().build().unwrap().block_on(test);
        }),
        ("one thread, nothing enabled", |test| {
            current_thread().block_on(test);
        }),
        ("threads, nothing enabled", |test| {
            multi_thread().block_on(test);
        }),
        ("no timers", |test| {
            let mut runtime = Builder::new_multi_thread();
            runtime.enable_io().build().unwrap().block_on(test);
        }),
        ("no I/O", |test| {
            let mut runtime = Builder::new_current_thread();
            runtime.enable_time().build().unwrap().block_on(test);
        }),
        ("a paused clock", |test| {
            let mut runtime = Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(true).build();
            runtime.unwrap().block_on(test);
        }),
        ("no runtime", |test| block_on(test)),
    ];
    let blocking = |env: &TestEnv| SpawnBlocking::new(stores::bytes(env)).timeout(MINUTE);
    for row in rows().into_iter().chain([row("blocking", blocking)]) {
        for (runtime, run) in runtimes {
            println!("{} with {runtime}", row.name);
            run(test(&row.cache));
            block_on(row.cache.clear()).unwrap();
        }
    }
}

/// Uses each kind of operation, with one waiter.
async fn a_day_in_the_life(cache: &AsyncCache) {
    cache.set("k", 1).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    assert_eq!(cache.increment("n", 2).await.unwrap(), 2);
    assert!(cache.delete("k").await.unwrap());
    let (gate, waits) = (LoaderGate::new(), cache.stats().waits);
    let (one, two, ()) = tokio::join!(
        cache.get_or_set("k", gate.loader(1)),
        cache.get_or_set("k", gate.loader(2)),
        async {
            gate.started().await;
            while cache.stats().waits == waits {
                stores::pause().await;
            }
            gate.release();
        }
    );
    assert_eq!((one, gate.runs()), (two, 1));
    cache.clear().await.unwrap();
    assert!(!cache.has("k").await.unwrap());
}

/// Uses loads in the background, and each timeout.
async fn timeouts_and_background_loads(cache: &AsyncCache) {
    type Loaded = Result<i32, String>;
    let hangs = cache.fetch_with("max_load", Options::new().max_load(SHORT), |_| {
        pending::<Loaded>()
    });
    assert!(matches!(hangs.await, Err(LoadError::Timeout(_))));
    let hard = || Options::new().hard_timeout(SHORT);
    let hangs = cache.fetch_with("background", hard(), |_| pending::<Loaded>());
    assert!(matches!(hangs.await, Err(LoadError::Timeout(_))));
    let hangs = cache.get_or_try_set_with("caller", hard(), pending::<Loaded>);
    assert!(matches!(hangs.await, Err(LoadError::Timeout(_))));

    let loaded = |value| async move { Loaded::Ok(value) };
    let soft = || Options::ttl(SHORT).stale_for(MINUTE).soft_timeout(SHORT);
    let first = cache.fetch_with("stale", soft(), move |_| loaded(1)).await;
    assert_eq!(first.unwrap(), 1);
    std::thread::sleep(SHORT);
    let stale = cache.fetch_with("stale", soft(), |_| pending::<Loaded>());
    assert_eq!(stale.await.unwrap(), 1);

    let due = || Options::ttl(MINUTE).refresh_ahead(0.000_1);
    let first = cache.fetch_with("due", due(), move |_| loaded(1)).await;
    assert_eq!(first.unwrap(), 1);
    std::thread::sleep(SHORT);
    let gate = LoaderGate::new();
    let refresh = gate.loader(Loaded::Ok(2));
    let live = cache.fetch_with("due", due(), |_| refresh()).await;
    assert_eq!(live.unwrap(), 1);
    gate.release();
    while cache.get::<i32>("due").await.unwrap() != Some(2) {
        stores::pause().await;
    }
}

#[test]
fn every_operation_works_on_every_runtime() {
    guarded(|| on_each_runtime(|cache| Box::pin(a_day_in_the_life(cache))));
}

#[test]
fn timeouts_and_background_loads_work_on_every_runtime() {
    guarded(|| on_each_runtime(|cache| Box::pin(timeouts_and_background_loads(cache))));
}

#[test]
fn a_runtime_of_many_threads() {
    guarded(|| {
        for row in rows() {
            multi_thread()
                .block_on(async move {
                    tokio::spawn(async move { a_day_in_the_life(&row.cache).await }).await
                })
                .unwrap();
        }
    });
}

/// A runtime that is kept, and that nothing runs any more.
#[test]
fn a_runtime_that_stands_still_does_not_delay_callers_elsewhere() {
    guarded(|| {
        for row in rows() {
            let mut still = Builder::new_current_thread();
            let still = still.enable_all().build().unwrap();
            still.block_on(a_day_in_the_life(&row.cache));
            // These calls wait forever.
            for key in 0..10 {
                let cache = row.cache.clone();
                still.spawn(async move { cache.set(key, 1).await });
            }
            still.block_on(tokio::task::yield_now());
            multi_thread().block_on(a_day_in_the_life(&row.cache));
            block_on(a_day_in_the_life(&row.cache));
            let _entered = still.enter();
            block_on(a_day_in_the_life(&row.cache));
        }
    });
}

#[test]
fn a_cache_works_during_the_shutdown_of_a_runtime() {
    guarded(|| {
        for row in rows() {
            let runtime = multi_thread();
            for caller in 0..4 {
                let cache = row.cache.clone();
                runtime.spawn(async move {
                    loop {
                        cache.set(caller, 1).await.unwrap();
                        assert_eq!(cache.get(caller).await.unwrap(), Some(1));
                    }
                });
            }
            runtime.block_on(a_day_in_the_life(&row.cache));
            let handle: Handle = runtime.handle().clone();
            runtime.shutdown_background();
            block_on(a_day_in_the_life(&row.cache));
            let _entered = handle.enter();
            block_on(a_day_in_the_life(&row.cache));
        }
    });
}

#[test]
fn a_cache_survives_the_runtime_that_it_began_in() {
    guarded(|| {
        for Row { cache, _env, .. } in rows() {
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
        for Row { cache, _env, .. } in rows() {
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
    let cache = AsyncCache::builder().build().unwrap();
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

/// Loads within a load outside of tokio may block: they run on no thread that timers or connections need.
#[test]
fn loads_outside_of_tokio_may_block_within_each_other() {
    guarded(|| {
        let cache = AsyncCache::builder().build().unwrap();
        let inner = cache.clone();
        let outer = cache.fetch("outer", move |_| async move {
            let blocks = |_| async {
                // A call of a `Cache` on a server does this.
                cacheio_core::__private::block_on(async {
                    let soon = std::time::Instant::now() + SHORT;
                    cacheio_core::__private::sleep_until(soon)?.await;
                    Ok(1)
                })
            };
            inner.fetch("inner", blocks).await
        });
        assert_eq!(block_on(outer).unwrap(), 1);
    });
}

/// Many loads outside of tokio leave threads for the blocking stores that they write to.
#[test]
fn many_loads_outside_of_tokio_end() {
    guarded(|| {
        let store = SpawnBlocking::new(Memory::new());
        let cache = AsyncCache::builder().store(store).build().unwrap();
        let loads: Vec<_> = (0..600)
            .map(|key| {
                let cache = cache.clone();
                std::thread::spawn(move || {
                    block_on(cache.fetch(key, move |_| async move {
                        std::thread::sleep(Duration::from_millis(200));
                        Ok::<_, String>(key)
                    }))
                    .unwrap()
                })
            })
            .collect();
        let values: Vec<i32> = loads.into_iter().map(|load| load.join().unwrap()).collect();
        assert_eq!(values, (0..600).collect::<Vec<_>>());
    });
}

/// The future of a waiter is small: the state of a miss is on the heap.
#[test]
fn the_future_of_get_or_set_stays_small() {
    let cache = AsyncCache::builder().build().unwrap();
    let size = size_of_val(&cache.get_or_set("k", || async { 1_u64 }));
    assert!(size <= 512, "{size} bytes");
}
