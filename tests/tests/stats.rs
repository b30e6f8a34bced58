//! What is counted, and what is traced.

#![cfg(not(shuttle))]

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::{Stats, Store};
use cacheio_sync::Memory;
use cacheio_tests::api::join_all;
use cacheio_tests::fixture::{Fixture, TestEnv, Time};
use cacheio_tests::gate::LoaderGate;
use cacheio_tests::log::Log;
use cacheio_tests::watchdog;
use cacheio_tests::world::block_on;
use tracing::Level;

fn run<F: Future<Output = ()> + 'static>(fixture: fn() -> Fixture, case: fn(Fixture) -> F) {
    watchdog::guarded(move || {
        let fixture = fixture();
        fixture.world.run(case(fixture));
    });
}

mod everywhere {
    cacheio_tests::in_both_worlds! {
        a_new_cache_has_counted_nothing
        hits_and_misses
        loads_and_their_errors
        waits
        one_lookup_is_counted_once
        writes_are_not_counted_as_lookups
        an_expired_entry_is_a_miss
        clones_count_together
        caches_on_one_store_count_separately
        a_store_failure_is_traced_without_the_key
        what_cannot_be_read_is_counted_each_time_and_logged_once_per_type
    }
}

#[track_caller]
fn counts(
    stats: Stats,
    hits: u64,
    misses: u64,
    loads: u64,
    load_errors: u64,
    waits: u64,
    store_errors: u64,
) {
    let counted = [
        stats.hits,
        stats.misses,
        stats.loads,
        stats.load_errors,
        stats.waits,
        stats.store_errors,
    ];
    assert_eq!(
        counted,
        [hits, misses, loads, load_errors, waits, store_errors],
        "{stats:?}"
    );
    assert_eq!((stats.stale_hits, stats.evictions), (0, 0));
}

async fn a_new_cache_has_counted_nothing(fixture: Fixture) {
    assert_eq!(fixture.cache.stats(), Stats::default());
    assert!(fixture.cache.stats().hit_ratio().abs() < f64::EPSILON);
}

async fn hits_and_misses(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set_many(vec![("a", 1), ("b", 2)]).await.unwrap();
    cache.get::<i32>("a").await.unwrap();
    counts(cache.stats(), 1, 0, 0, 0, 0, 0);
    cache.get::<i32>("missing").await.unwrap();
    counts(cache.stats(), 1, 1, 0, 0, 0, 0);
    cache.get_arc::<i32>("a").await.unwrap();
    cache.get_arc::<i32>("missing").await.unwrap();
    counts(cache.stats(), 2, 2, 0, 0, 0, 0);
    cache
        .get_many::<i32>(vec!["a", "missing", "b", "b"])
        .await
        .unwrap();
    counts(cache.stats(), 5, 3, 0, 0, 0, 0);
    assert!((cache.stats().hit_ratio() - 0.625).abs() < f64::EPSILON);
}

async fn loads_and_their_errors(fixture: Fixture) {
    let cache = fixture.cache;
    cache.get_or_set("k", || async { 1 }).await;
    counts(cache.stats(), 0, 1, 1, 0, 0, 0);
    cache.get_or_set("k", || async { 1 }).await;
    counts(cache.stats(), 1, 1, 1, 0, 0, 0);
    cache
        .get_or_try_set("failing", || async { Err::<i32, _>("no") })
        .await
        .unwrap_err();
    counts(cache.stats(), 1, 2, 2, 1, 0, 0);
    cache
        .get_or_try_set("failing", || async { Ok::<_, ()>(1) })
        .await
        .unwrap();
    counts(cache.stats(), 1, 3, 3, 1, 0, 0);
    cache
        .get_or_set_with("unkept", Duration::ZERO, || async { 1 })
        .await;
    counts(cache.stats(), 1, 4, 4, 1, 0, 0);
    assert!((cache.stats().hit_ratio() - 0.2).abs() < f64::EPSILON);
}

async fn waits(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let callers = (0..10).map(|i| {
        let load = gate.loader(i);
        cache.spawn(move |cache| async move { cache.get_or_set("k", load).await })
    });
    let callers = callers.collect();
    cache.until(|cache| cache.stats().waits == 9).await;
    counts(cache.stats(), 0, 10, 1, 0, 9, 0);
    gate.release();
    join_all(callers).await;
    counts(cache.stats(), 0, 10, 1, 0, 9, 0);
    // Nine of ten callers were answered without a load of their own.
    assert!((cache.stats().hit_ratio() - 0.9).abs() < f64::EPSILON);
}

/// A waiter that loads after a panic reads the store again: its lookup was counted before.
async fn one_lookup_is_counted_once(fixture: Fixture) {
    let cache = fixture.cache;
    let gate = LoaderGate::new();
    let (inner, pass) = (cache.clone(), gate.clone());
    let load = || async move {
        pass.pass().await;
        inner.set("k", 5).await.unwrap();
        panic!("after it has stored a value")
    };
    let leader =
        cache.spawn(move |cache| async move { cache.get_or_set::<i32, _>("k", load).await });
    gate.started().await;
    let waiter =
        cache.spawn(move |cache| async move { cache.get_or_set("k", || async { 7 }).await });
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert!(leader.outcome().await.is_err());
    assert_eq!(waiter.join().await, 5);
    counts(cache.stats(), 0, 2, 1, 0, 1, 0);
}

async fn writes_are_not_counted_as_lookups(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    cache.add("k", 2).await.unwrap();
    cache.increment("k", 1).await.unwrap();
    cache.touch("k", place_ttl()).await.unwrap();
    cache.has("k").await.unwrap();
    cache.has("missing").await.unwrap();
    cache.delete("k").await.unwrap();
    cache.delete("k").await.unwrap();
    cache.clear().await.unwrap();
    cache.ping().await.unwrap();
    counts(cache.stats(), 0, 0, 0, 0, 0, 0);
}

fn place_ttl() -> Duration {
    Duration::from_secs(100)
}

async fn an_expired_entry_is_a_miss(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    cache.get::<i32>("k").await.unwrap();
    fixture.expire(fixture.ttl());
    cache.get::<i32>("k").await.unwrap();
    counts(cache.stats(), 1, 1, 0, 0, 0, 0);
}

async fn clones_count_together(fixture: Fixture) {
    let clone = fixture.cache.clone();
    clone.get::<i32>("k").await.unwrap();
    fixture.cache.get::<i32>("k").await.unwrap();
    counts(clone.stats(), 0, 2, 0, 0, 0, 0);
    assert_eq!(clone.stats(), fixture.cache.stats());
}

async fn caches_on_one_store_count_separately(fixture: Fixture) {
    let [a, b] = fixture.sharing(["a", "b"]);
    a.get::<i32>("k").await.unwrap();
    counts(a.stats(), 0, 1, 0, 0, 0, 0);
    counts(b.stats(), 0, 0, 0, 0, 0, 0);
}

async fn a_store_failure_is_traced_without_the_key(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    cache.set("words", "no number").await.unwrap();
    faults.fail_all(true);
    let log = Log::default();
    {
        // The subscriber of this thread: both worlds run a test on the thread that calls.
        let _log = tracing::subscriber::set_default(log.clone());
        cache.get_or_set("secret key", || async { 1 }).await;
        faults.fail_all(false);
        cache.get_or_set("words", || async { 1 }).await;
    }
    let log = log.lock();
    let warnings: Vec<_> = log
        .iter()
        .filter(|logged| logged.level == Level::WARN && logged.target == "cacheio")
        .collect();
    assert!(
        warnings.len() >= 3,
        "a reading, a writing, a decoding: {log:?}"
    );
    assert!(
        warnings
            .iter()
            .any(|logged| logged.text.contains("Unavailable") && logged.text.contains("get")),
        "{log:?}"
    );
    assert!(
        warnings
            .iter()
            .any(|logged| logged.text.contains("Unavailable") && logged.text.contains("set")),
        "{log:?}"
    );
    assert!(
        warnings
            .iter()
            .any(|logged| logged.text.contains("it was unplugged")),
        "{log:?}"
    );
    assert!(
        warnings.iter().any(|logged| logged.text.contains("Decode")),
        "{log:?}"
    );
    for logged in log.iter().filter(|logged| logged.level < Level::TRACE) {
        assert!(
            !logged.text.contains("secret key") && !logged.text.contains("words"),
            "{logged:?}"
        );
    }
}

async fn what_cannot_be_read_is_counted_each_time_and_logged_once_per_type(fixture: Fixture) {
    let cache = fixture.cache;
    let log = Log::default();
    {
        let _log = tracing::subscriber::set_default(log.clone());
        for _ in 0..3 {
            cache.set("a", "text").await.unwrap();
            cache.set("b", "text").await.unwrap();
            cache.get_or_set("a", || async { 1 }).await;
            cache.get_or_set("b", || async { true }).await;
        }
    }
    assert_eq!(cache.stats().store_errors, 6);
    let log = log.lock();
    let warnings = log.iter().filter(|logged| logged.level == Level::WARN);
    assert_eq!(warnings.count(), 2, "{log:?}");
}

#[test]
fn evictions_are_those_of_the_store() {
    let memory = Arc::new(Memory::with_capacity(3));
    let cache = Fixture::threads(Time::manual(), |_: &TestEnv| Memory::with_capacity(3)).cache;
    block_on(async move {
        for key in 0..10 {
            cache.set(key, key).await.unwrap();
        }
        assert_eq!(cache.stats().evictions, 7);
    });
    assert_eq!(Store::evictions(&*memory), 0);
}
