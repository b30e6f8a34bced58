//! Under concurrent load, a value that was loaded before an invalidation returned is never read
//! after it.

#![cfg(not(shuttle))]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cacheio_core::{Clock, Entry, Form, Key, Options, Result, Store};
use cacheio_tests::api::{CacheApi, join_all};
use cacheio_tests::fixture::{Fixture, TestEnv, Time};
use cacheio_tests::stores::{self, Bytes};
use cacheio_tests::watchdog::guarded;

/// How long each test runs at least.
const TIME: Duration = Duration::from_millis(140);

/// How often each writer invalidates, and each reader reads, at least.
const ROUNDS: u64 = 20;

/// Runs an invalidation against readers.
fn run<I>(fixture: fn() -> Fixture, invalidate: fn(CacheApi) -> I)
where
    I: Future<Output = ()> + Send + 'static,
{
    guarded(move || {
        let fixture = fixture();
        fixture.world.run(race(fixture.cache, invalidate));
    });
}

macro_rules! stress {
    ($($name:ident: $fixture:expr, { $($invalidation:ident)* })*) => {$(
        mod $name {
            use super::*;

            $(
                #[test]
                fn $invalidation() {
                    run($fixture, super::$invalidation);
                }
            )*
        }
    )*};
}

stress! {
    threads_on_memory: || Fixture::threads(Time::manual(), stores::memory),
        { delete clear delete_many invalidate_tags }
    threads_on_bytes: || Fixture::threads(Time::manual(), slow_bytes),
        { delete clear delete_many }
    tasks_on_memory: || Fixture::tasks(Time::manual(), stores::memory),
        { delete clear delete_many invalidate_tags }
    tasks_on_bytes: || Fixture::tasks(Time::manual(), stores::yielding_bytes),
        { delete clear delete_many }
}

async fn delete(cache: CacheApi) {
    cache.delete("k").await.unwrap();
}

async fn clear(cache: CacheApi) {
    cache.clear().await.unwrap();
}

async fn delete_many(cache: CacheApi) {
    cache.delete_many(vec!["other", "k", "k"]).await.unwrap();
}

async fn invalidate_tags(cache: CacheApi) {
    cache
        .invalidate_tags(vec![String::from("t")])
        .await
        .unwrap();
}

/// The source of truth: a growing number, and the oldest value that may be read.
#[derive(Debug, Default)]
struct Truth {
    now: AtomicU64,
    /// The number when the last completed invalidation began: no read returns an older one.
    floor: AtomicU64,
    /// The writers that have not ended.
    writers: AtomicUsize,
}

async fn race<I>(cache: CacheApi, invalidate: fn(CacheApi) -> I)
where
    I: Future<Output = ()> + Send + 'static,
{
    let truth = Arc::new(Truth {
        writers: AtomicUsize::new(2),
        ..Truth::default()
    });
    let end = Instant::now() + TIME;
    let writers = (0..2).map(|_| {
        let truth = Arc::clone(&truth);
        cache.spawn(move |cache| async move {
            let mut rounds = 0;
            while rounds < ROUNDS || Instant::now() < end {
                rounds += 1;
                let new = truth.now.fetch_add(1, Ordering::SeqCst) + 1;
                invalidate(cache.clone()).await;
                truth.floor.fetch_max(new, Ordering::SeqCst);
                cache.world().pause().await;
            }
            truth.writers.fetch_sub(1, Ordering::SeqCst);
        })
    });
    let readers = (0..4).map(|_| {
        let truth = Arc::clone(&truth);
        cache.spawn(move |cache| read(cache, truth))
    });
    join_all(writers.chain(readers).collect()).await;
    assert!(truth.floor.load(Ordering::SeqCst) >= ROUNDS);
}

/// Reads until the writers have ended.
async fn read(cache: CacheApi, truth: Arc<Truth>) {
    let in_memory = cache.namespace().is_empty();
    let mut rounds = 0_u64;
    while rounds < ROUNDS || truth.writers.load(Ordering::SeqCst) > 0 {
        rounds += 1;
        // A hit in memory does not suspend its task: it would keep a worker from the writers.
        if rounds.is_multiple_of(16) {
            cache.world().pause().await;
        }
        // Stores of bytes do not support tags.
        let options = if in_memory {
            Options::new().tags(["t"])
        } else {
            Options::new()
        };
        let load = || async {
            let value = truth.now.load(Ordering::SeqCst);
            if rounds.is_multiple_of(5) {
                cache.world().pause().await;
            }
            value
        };
        let floor = truth.floor.load(Ordering::SeqCst);
        let loaded = cache.get_or_set_with("k", options, load).await;
        assert!(
            loaded >= floor,
            "get_or_set: {loaded} is older than {floor}"
        );
        let floor = truth.floor.load(Ordering::SeqCst);
        if let Some(read) = cache.get::<u64>("k").await.unwrap() {
            assert!(read >= floor, "get: {read} is older than {floor}");
        }
    }
}

/// Bytes in a store that yields to other threads before and after each operation, as a slow server
/// does.
#[derive(Debug)]
struct Slow(Bytes);

fn slow_bytes(env: &TestEnv) -> Slow {
    Slow(stores::bytes(env))
}

fn slowly<T>(operation: impl FnOnce() -> T) -> T {
    std::thread::yield_now();
    let result = operation();
    std::thread::yield_now();
    result
}

impl Store for Slow {
    fn form(&self) -> Form {
        Store::form(&self.0)
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        slowly(|| self.0.get(key))
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        slowly(|| self.0.set(key, entry, ttl))
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        slowly(|| self.0.delete(key))
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        slowly(|| self.0.clear(prefix))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Store::clock(&self.0)
    }
}
