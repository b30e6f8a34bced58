//! Checks flights with a model checker: the whole cache on memory, in both worlds, in thousands of
//! interleavings that shuttle chooses, at random and by PCT.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test -p cacheio-tests --release --test shuttle --target-dir target/shuttle
//! ```
//!
//! With `--cfg shuttle`, `flight/sync.rs` of cacheio-core uses the locks and events of shuttle.
//! Each scenario is written once, in `scenarios.rs`, or in `process_scenarios.rs` if several processes share
//! a server, which `processes.rs` models; the worlds differ in what the macros
//! `wait!`, `load!`, `go!` and `end!` mean. A deadlock is a failure. A failure prints its schedule,
//! which `shuttle::replay` runs again.
//!
//! Panics are not modelled: shuttle does not wake a thread that waits for a lock which is released
//! while the stack unwinds. A leader that panics is dropped like an aborted one, which is modelled
//! here; the contract tests panics with real locks.

#![cfg(shuttle)]

mod processes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cacheio_core::__private::SharedState;
use cacheio_core::{
    AsyncStore, BoxFuture, Clock, Entry, Form, Key, KeyRule, LoadError, ManualClock, Options,
    Result, Store, TtlChange, Update,
};
use cacheio_sync::{L1, Memory};

use crate::processes::{Mistake, Process, TakesOver};

const RANDOM: usize = 10_000;
const PCT: usize = 5_000;
/// The number of preemptions of PCT.
const DEPTH: usize = 3;

/// Checks a scenario.
fn check(scenario: impl Fn() + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    let again = Arc::clone(&scenario);
    shuttle::check_random(move || scenario(), RANDOM);
    shuttle::check_pct(move || again(), PCT, DEPTH);
}

/// Checks a scenario on a server that makes a mistake.
fn must_fail(scenario: impl Fn() + Send + Sync + 'static) {
    let found = catch_unwind(AssertUnwindSafe(|| check(scenario)));
    assert!(found.is_err(), "the mistake was not noticed");
}

/// Memory that lets other threads run before and after each operation, as a server does.
#[derive(Debug)]
struct Watched(Memory);

fn memory() -> Memory {
    Memory::builder()
        .capacity(8)
        .clock(ManualClock::new())
        .build()
}

/// Memory that holds bytes, as a server does. `replace` is the default, which is not atomic.
fn server() -> (Watched, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let memory = Memory::builder().capacity(8).through_codec(true);
    (Watched(memory.clock(Arc::clone(&clock)).build()), clock)
}

/// Whether this run uses plain memory or [`Watched`] memory.
fn plain() -> bool {
    use shuttle::rand::Rng as _;
    shuttle::rand::thread_rng().gen_bool(0.3)
}

macro_rules! watched {
    ($($name:ident($($arg:ident: $type:ty | $async_type:ty),*) -> $output:ty;)*) => {
        impl Store for Watched {
            $(fn $name(&self, $($arg: $type),*) -> Result<$output> {
                shuttle::thread::yield_now();
                let result = Store::$name(&self.0, $($arg),*);
                shuttle::thread::yield_now();
                result
            })*

            fn form(&self) -> Form {
                Store::form(&self.0)
            }

            fn key_rule(&self) -> KeyRule {
                Store::key_rule(&self.0)
            }

            fn clock(&self) -> Arc<dyn Clock> {
                Store::clock(&self.0)
            }

            fn shared_state(&self) -> Option<Arc<SharedState>> {
                Store::shared_state(&self.0)
            }
        }

        impl AsyncStore for Watched {
            $(fn $name<'a>(&'a self, $($arg: $async_type),*) -> BoxFuture<'a, Result<$output>> {
                Box::pin(async move {
                    shuttle::future::yield_now().await;
                    let result = Store::$name(&self.0, $($arg),*);
                    shuttle::future::yield_now().await;
                    result
                })
            })*

            fn form(&self) -> Form {
                Store::form(&self.0)
            }

            fn key_rule(&self) -> KeyRule {
                Store::key_rule(&self.0)
            }

            fn clock(&self) -> Arc<dyn Clock> {
                Store::clock(&self.0)
            }

            fn shared_state(&self) -> Option<Arc<SharedState>> {
                Store::shared_state(&self.0)
            }
        }
    };
}

watched! {
    get(key: &Key<'_> | &'a Key<'a>) -> Option<Entry>;
    has(key: &Key<'_> | &'a Key<'a>) -> bool;
    set(key: &Key<'_> | &'a Key<'a>, entry: Entry | Entry, ttl: Option<Duration> | Option<Duration>) -> ();
    add(key: &Key<'_> | &'a Key<'a>, entry: Entry | Entry, ttl: Option<Duration> | Option<Duration>) -> bool;
    delete(key: &Key<'_> | &'a Key<'a>) -> bool;
    increment(key: &Key<'_> | &'a Key<'a>, by: i64 | i64, ttl: Option<Duration> | Option<Duration>) -> i64;
    touch(key: &Key<'_> | &'a Key<'a>, ttl: Option<Duration> | Option<Duration>) -> bool;
    take(key: &Key<'_> | &'a Key<'a>) -> Option<Entry>;
    compare_and_swap(key: &Key<'_> | &'a Key<'a>, current: Option<Entry> | Option<Entry>, new: Option<(Entry, TtlChange)> | Option<(Entry, TtlChange)>) -> bool;
    clear(prefix: &str | &'a str) -> ();
}

/// The source of truth, and how often it was loaded.
#[derive(Clone, Debug, Default)]
struct Truth {
    value: Arc<AtomicU64>,
    loads: Arc<AtomicUsize>,
}

impl Truth {
    fn load(&self) -> u64 {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.value.load(Ordering::SeqCst)
    }

    fn becomes(&self, value: u64) {
        self.value.store(value, Ordering::SeqCst);
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

/// Memory before a server. Its clock stands still: copies are removed only by writes.
fn l1() -> L1 {
    let memory = Memory::builder().capacity(8).clock(ManualClock::new());
    L1::new(memory.build())
}

mod threads {
    use super::*;
    use cacheio_sync::Cache;

    fn open() -> Cache {
        let builder = Cache::builder();
        let builder = if plain() {
            builder.store(memory())
        } else {
            builder.store(Watched(memory()))
        };
        builder.build().unwrap()
    }

    /// Opens two caches on one server, each with an L1.
    fn open_with_l1() -> [Cache; 2] {
        let store = Arc::new(server().0);
        [store.clone(), store].map(|store| Cache::builder().store(store).l1(l1()).build().unwrap())
    }

    fn open_on_server() -> (Cache, Arc<ManualClock>) {
        let (store, clock) = server();
        (Cache::builder().store(store).build().unwrap(), clock)
    }

    fn open_processes(count: usize, mistake: Mistake, takes_over: TakesOver) -> Vec<Cache> {
        let processes = processes::processes(count, mistake, takes_over).into_iter();
        let open = |process: Process| Cache::builder().store(process).build().unwrap();
        processes.map(open).collect()
    }

    macro_rules! wait {
        ($operation:expr) => {
            $operation
        };
    }
    macro_rules! load {
        ($body:block) => {
            || $body
        };
    }
    macro_rules! load_behind {
        ($body:block) => {
            move |_| Ok::<_, String>($body)
        };
    }
    macro_rules! load_many {
        ($missing:ident => $body:block) => {
            |$missing: Vec<&'static str>| $body
        };
    }
    macro_rules! go {
        ($body:block) => {
            shuttle::thread::spawn(move || $body)
        };
    }
    macro_rules! end {
        ($running:expr) => {
            $running.join().unwrap()
        };
    }
    macro_rules! pause {
        () => {
            shuttle::thread::yield_now()
        };
    }
    macro_rules! run {
        ($body:block) => {
            $body
        };
    }
    macro_rules! scenario {
        ($name:ident, $cache:ident, $body:block) => {
            #[test]
            fn $name() {
                check(|| {
                    let $cache = open();
                    $body
                });
            }
        };
        ($name:ident, $cache:ident, $clock:ident, $body:block) => {
            #[test]
            fn $name() {
                check(|| {
                    let ($cache, $clock) = open_on_server();
                    $body
                });
            }
        };
        ($name:ident, [$one:ident, $other:ident], $body:block) => {
            #[test]
            fn $name() {
                check(|| {
                    let [$one, $other] = open_with_l1();
                    $body
                });
            }
        };
    }

    include!("scenarios.rs");
    include!("process_scenarios.rs");
}

mod tasks {
    use super::*;
    use cacheio_async::AsyncCache;
    use std::future::{Future, poll_fn};
    use std::task::Poll;

    fn open() -> AsyncCache {
        let builder = AsyncCache::builder();
        let builder = if plain() {
            builder.store(memory())
        } else {
            builder.store(Watched(memory()))
        };
        builder.build().unwrap()
    }

    /// Opens two caches on one server, each with an L1.
    fn open_with_l1() -> [AsyncCache; 2] {
        let store = Arc::new(server().0);
        [store.clone(), store]
            .map(|store| AsyncCache::builder().store(store).l1(l1()).build().unwrap())
    }

    fn open_on_server() -> (AsyncCache, Arc<ManualClock>) {
        let (store, clock) = server();
        (AsyncCache::builder().store(store).build().unwrap(), clock)
    }

    fn open_processes(count: usize, mistake: Mistake, takes_over: TakesOver) -> Vec<AsyncCache> {
        let processes = processes::processes(count, mistake, takes_over).into_iter();
        let open = |process: Process| AsyncCache::builder().store(process).build().unwrap();
        processes.map(open).collect()
    }

    macro_rules! wait {
        ($operation:expr) => {
            $operation.await
        };
    }
    macro_rules! load {
        ($body:block) => {
            || async { $body }
        };
    }
    macro_rules! load_behind {
        ($body:block) => {
            move |_| async move { Ok::<_, String>($body) }
        };
    }
    macro_rules! load_many {
        ($missing:ident => $body:block) => {
            async |$missing: Vec<&'static str>| $body
        };
    }
    macro_rules! go {
        ($body:block) => {
            shuttle::future::spawn(async move { $body })
        };
    }
    macro_rules! end {
        ($running:expr) => {
            $running.await.unwrap()
        };
    }
    macro_rules! pause {
        () => {
            shuttle::future::yield_now().await
        };
    }
    macro_rules! run {
        ($body:block) => {
            shuttle::future::block_on(async move { $body })
        };
    }
    macro_rules! scenario {
        ($name:ident, $cache:ident, $body:block) => {
            #[test]
            fn $name() {
                check(|| {
                    let $cache = open();
                    shuttle::future::block_on(async move { $body })
                });
            }
        };
        ($name:ident, $cache:ident, $clock:ident, $body:block) => {
            #[test]
            fn $name() {
                check(|| {
                    let ($cache, $clock) = open_on_server();
                    shuttle::future::block_on(async move { $body })
                });
            }
        };
        ($name:ident, [$one:ident, $other:ident], $body:block) => {
            #[test]
            fn $name() {
                check(|| {
                    let [$one, $other] = open_with_l1();
                    shuttle::future::block_on(async move { $body })
                });
            }
        };
    }

    include!("scenarios.rs");
    include!("process_scenarios.rs");

    /// Polls a future this many times, then drops it.
    async fn dropped_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
        let mut future = Box::pin(future);
        let mut left = polls;
        poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            context.waker().wake_by_ref();
            future.as_mut().poll(context).map(Some)
        })
        .await
    }

    scenario!(a_leader_that_is_dropped_is_replaced, cache, {
        use shuttle::rand::Rng as _;
        let polls = shuttle::rand::thread_rng().gen_range(0..8);
        let dropped = {
            let cache = cache.clone();
            go!({
                let load = load!({
                    pause!();
                    1_u64
                });
                dropped_after(polls, cache.get_or_set("k", load)).await
            })
        };
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let cache = cache.clone();
                go!({
                    wait!(cache.get_or_set(
                        "k",
                        load!({
                            pause!();
                            2_u64
                        })
                    ))
                })
            })
            .collect();
        end!(dropped);
        for waiter in waiters {
            assert!(matches!(end!(waiter), 1 | 2));
        }
        assert!(cache.get::<u64>("k").await.unwrap().is_some());
    });

    scenario!(a_writer_that_is_dropped_leaves_no_old_copy, [one, other], {
        use shuttle::rand::Rng as _;
        let polls = shuttle::rand::thread_rng().gen_range(0..5);
        one.set("k", 1_u64).await.unwrap();
        let reader = {
            let other = other.clone();
            go!({
                wait!(other.get::<u64>("k")).unwrap();
                wait!(other.get::<u64>("k")).unwrap();
            })
        };
        let written = dropped_after(polls, one.set("k", 2_u64)).await;
        end!(reader);
        // Whether or not the server has carried it out, both caches have the value of the server.
        one.clear_l1();
        let value = one.get::<u64>("k").await.unwrap();
        assert_eq!(other.get::<u64>("k").await.unwrap(), value);
        assert!(written.is_none() || value == Some(2));
    });

    scenario!(a_writer_that_is_dropped_harms_nobody, cache, {
        use shuttle::rand::Rng as _;
        let polls = shuttle::rand::thread_rng().gen_range(0..5);
        let writer = {
            let cache = cache.clone();
            go!({ dropped_after(polls, cache.delete("k")).await })
        };
        let loader = {
            let cache = cache.clone();
            go!({
                wait!(cache.get_or_set(
                    "k",
                    load!({
                        pause!();
                        1_u64
                    })
                ))
            })
        };
        end!(writer);
        assert_eq!(end!(loader), 1);
        cache.delete("k").await.unwrap();
        assert_eq!(cache.get_or_set("k", || async { 2_u64 }).await, 2);
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
    });
}
