//! A server that is killed, is absent at the start, or hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cacheio_core::ErrorKind;
use cacheio_tests::api::{CacheApi, World, join_all};

use crate::env::{FaultEnv, FaultyServer, is_used_again, kept_to, timed};

/// Callers that repeatedly load some keys, and what they observed.
struct Load {
    keys: Vec<AtomicUsize>,
    loads: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    fn new(keys: usize) -> Arc<Self> {
        Arc::new(Self {
            keys: (0..keys).map(|_| AtomicUsize::new(0)).collect(),
            loads: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        })
    }

    /// Runs one caller; returns how long each call took.
    async fn call(self: Arc<Self>, cache: CacheApi, caller: usize) -> Vec<Duration> {
        let mut calls = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            let key = (caller + calls.len() * 7) % self.keys.len();
            let load = || self.load(cache.world(), key);
            let (value, took) = timed(cache.get_or_set(("load", key), load)).await;
            assert_eq!(value, format!("value of {key}"));
            calls.push(took);
            cache.world().sleep(Duration::from_millis(15)).await;
        }
        calls
    }

    async fn load(&self, world: World, key: usize) -> String {
        let _loading = Loading::begin(&self.keys[key]);
        self.loads.fetch_add(1, Ordering::SeqCst);
        world.sleep(Duration::from_millis(3)).await;
        format!("value of {key}")
    }
}

/// A load of a key. Checks that it is the only one of its key.
struct Loading<'a>(&'a AtomicUsize);

impl<'a> Loading<'a> {
    fn begin(loads: &'a AtomicUsize) -> Self {
        let others = loads.fetch_add(1, Ordering::SeqCst);
        assert_eq!(others, 0, "two loads of one key at a time");
        Self(loads)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) async fn a_server_killed_under_load_is_used_again(env: FaultEnv<impl FaultyServer>) {
    let timeout = Duration::from_secs(1);
    let cache = env.cache(timeout);
    let load = Load::new(48);
    let count = if env.world == World::Tasks { 500 } else { 100 };
    let callers = (0..count).map(|caller| {
        env.world
            .spawn(Arc::clone(&load).call(cache.clone(), caller))
    });
    let callers = callers.collect();
    let loads = || load.loads.load(Ordering::SeqCst);
    // On a busy machine a call may fail while the server is there; its caller loads.
    let errors = || usize::try_from(cache.stats().store_errors).unwrap();
    while loads() < 48 {
        cache.world().sleep(Duration::from_millis(10)).await;
    }
    cache.world().sleep(Duration::from_millis(300)).await;
    let (loaded, failed) = (loads(), errors());
    assert!(
        loaded <= 48 + failed,
        "{loaded} loads of 48 keys while the server is there, and {failed} errors"
    );
    env.server.kill();
    cache.world().sleep(Duration::from_secs(3)).await;
    assert!(
        loads() > loaded,
        "no caller noticed that the server is down"
    );
    env.server.restart();
    is_used_again(&cache).await;
    // Since then each key has to be loaded again, which takes its time on a busy machine.
    let keys = || (0..48).map(|key| ("load", key)).collect();
    let is_loaded = |found: &Vec<Option<String>>| found.iter().all(Option::is_some);
    while !(cache.get_many(keys()).await).is_ok_and(|found| is_loaded(&found)) {
        cache.world().sleep(Duration::from_millis(10)).await;
    }
    let failed = errors();
    // Callers that failed before that call once more.
    cache.world().sleep(Duration::from_millis(500)).await;
    let settled = loads();
    cache.world().sleep(Duration::from_millis(500)).await;
    let (loaded, failed) = (loads() - settled, errors() - failed);
    assert!(
        loaded <= failed,
        "loaded values are not found: {loaded} loads, and {failed} errors"
    );
    load.stop.store(true, Ordering::SeqCst);
    let calls = join_all(callers).await.concat();
    assert_eq!(cache.stats().load_errors, 0);
    kept_to(timeout, calls);
}

pub(crate) async fn a_server_absent_at_start_is_used_when_it_starts(
    env: FaultEnv<impl FaultyServer>,
) {
    env.server.kill();
    let cache = env.cache(Duration::from_secs(1));
    let (got, took) = timed(cache.get::<i32>("k")).await;
    assert_eq!(got.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(
        took < Duration::from_millis(500),
        "a closed port cost {took:?}"
    );
    assert_eq!(
        cache.ping().await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(cache.get_or_set("k", || async { 1 }).await, 1);
    assert_eq!(
        cache.get_or_set("k", || async { 2 }).await,
        2,
        "nothing is stored anywhere"
    );
    assert_eq!(
        cache.set("k", 3).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    env.server.restart();
    is_used_again(&cache).await;
    cache.ping().await.unwrap();
    assert_eq!(cache.get_or_set("k", || async { 4 }).await, 4);
    assert_eq!(cache.get_or_set("k", || async { 5 }).await, 4);
}

pub(crate) async fn calls_to_a_stopped_server_fail_within_the_timeout(
    env: FaultEnv<impl FaultyServer>,
) {
    let timeout = Duration::from_millis(300);
    let cache = env.cache(timeout);
    cache.set("k", 1).await.unwrap();
    env.server.pause();
    let stopped = Instant::now();
    let callers = (0..60).map(|caller| {
        cache.spawn(move |cache| async move {
            let (failed, took) = match caller % 4 {
                0 => timed(async { cache.get::<i32>("k").await.err() }).await,
                1 => timed(async { cache.set(("k", caller), 2).await.err() }).await,
                2 => timed(async { cache.get_many::<i32>(vec!["k", "other"]).await.err() }).await,
                _ => timed(async { cache.increment(("count", caller), 1).await.err() }).await,
            };
            let kind = failed.map(|error| error.kind());
            assert!(
                matches!(kind, Some(ErrorKind::Timeout | ErrorKind::Unavailable)),
                "{kind:?}"
            );
            took
        })
    });
    kept_to(timeout, join_all(callers.collect()).await);
    let ((), took) = timed(async {
        for call in 0..500 {
            let error = cache.get::<i32>(("k", call)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(cache.get_or_set(("k", call), || async { call }).await, call);
        }
    })
    .await;
    // Waiting for the server would take minutes.
    assert!(
        took < Duration::from_secs(20),
        "1,000 calls with an open circuit took {took:?}"
    );
    cache
        .world()
        .sleep(Duration::from_secs(5).saturating_sub(stopped.elapsed()))
        .await;
    env.server.resume();
    is_used_again(&cache).await;
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
}

pub(crate) async fn each_outage_opens_the_circuit_once(env: FaultEnv<impl FaultyServer>) {
    let cache = env.cache(Duration::from_secs(1));
    cache.set("k", 1).await.unwrap();
    assert_eq!(cache.stats().circuit_opens, 0);
    for outage in 1..=2 {
        env.server.kill();
        for call in 0..20 {
            assert_eq!(cache.get_or_set(("k", call), || async { call }).await, call);
        }
        assert_eq!(cache.stats().circuit_opens, outage);
        env.server.restart();
        is_used_again(&cache).await;
    }
    assert_eq!(cache.stats().circuit_opens, 2);
}

pub(crate) async fn a_delete_is_not_undone_by_an_unconfirmed_write(
    env: FaultEnv<impl FaultyServer>,
) {
    let cache = env.cache(Duration::from_millis(200));
    for round in 0..3 {
        let keys: Vec<_> = (0..24).map(|key| ("doubt", round, key)).collect();
        let entries = || keys.iter().map(|key| (*key, 1)).collect();
        while cache.set_many(entries()).await.is_err() {
            cache.world().sleep(Duration::from_millis(1)).await;
        }
        env.server.pause();
        let writers = keys.iter().map(|key| {
            let key = *key;
            cache.spawn(move |cache| async move {
                match key.2 % 3 {
                    0 => cache.set(key, 2).await.unwrap_err(),
                    1 => cache.set_many(vec![(key, 2)]).await.unwrap_err(),
                    _ => cache.increment(key, 1).await.unwrap_err(),
                }
            })
        });
        for error in join_all(writers.collect()).await {
            assert!(
                matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable),
                "{error}"
            );
        }
        cache
            .world()
            .sleep(Duration::from_millis(300 * round))
            .await;
        env.server.resume();
        for key in &keys {
            while cache.delete(*key).await.is_err() {
                cache.world().sleep(Duration::from_millis(1)).await;
            }
        }
        let mut looks = 0;
        while looks < 30 {
            // The timeout is short, and the machine may be busy.
            if let Ok(left) = cache.get_many::<i32>(keys.clone()).await {
                let none = left.iter().all(Option::is_none);
                assert!(none, "deleted values are back: {left:?}");
                looks += 1;
            }
            cache.world().sleep(Duration::from_millis(10)).await;
        }
    }
}
