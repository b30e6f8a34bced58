//! The `Drop` of a value in L1 is code of the user: it may block, and call the cache.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use cacheio_core::{Clock, Timestamp};
use cacheio_sync::{Cache, Memory};
use cacheio_tests::servers::Redis;
use cacheio_tests::watchdog::guarded;
use serde::{Deserialize, Serialize};

use crate::server::Server;
use crate::support::{LONG, open, until, until_probed};

thread_local! {
    /// Whether values are dropped without ado.
    static IS_TEST: Cell<bool> = const { Cell::new(false) };
}

static DROPS: (Mutex<Drops>, Condvar) = (
    Mutex::new(Drops {
        cache: None,
        is_blocked: true,
        begun: 0,
        ended: 0,
    }),
    Condvar::new(),
);

struct Drops {
    cache: Option<Cache>,
    is_blocked: bool,
    begun: usize,
    ended: usize,
}

/// Waits until something holds for the drops.
fn wait_until(holds: impl Fn(&Drops) -> bool) {
    let drops = DROPS.0.lock().unwrap();
    drop(DROPS.1.wait_while(drops, |drops| !holds(drops)).unwrap());
}

fn change(change: impl FnOnce(&mut Drops)) {
    change(&mut DROPS.0.lock().unwrap());
    DROPS.1.notify_all();
}

/// Its `Drop` blocks, and reads from the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Blocking(i64);

impl Drop for Blocking {
    fn drop(&mut self) {
        if IS_TEST.get() {
            return;
        }
        change(|drops| drops.begun += 1);
        wait_until(|drops| !drops.is_blocked);
        let cache = DROPS.0.lock().unwrap().cache.clone();
        let read = cache.map(|cache| cache.get::<i64>("other").unwrap());
        assert_eq!(read, Some(Some(5)));
        change(|drops| drops.ended += 1);
    }
}

#[test]
fn the_drop_of_a_copy_that_a_change_removes_holds_up_nothing() {
    guarded(|| {
        IS_TEST.set(true);
        let server = Redis::start();
        let cache = open(&server.url(), LONG);
        until_probed(&server, &cache);
        change(|drops| drops.cache = Some(cache.clone()));
        let keys = ["k", "l", "m"];
        for key in keys {
            cache.set(key, Blocking(1)).unwrap();
            for _ in 0..2 {
                assert_eq!(cache.get(key).unwrap(), Some(Blocking(1)));
            }
        }
        let before = cache.stats();
        assert!(before.l1_hits >= 3, "{before:?}");
        server.run("SET cacheio:k 2");
        wait_until(|drops| drops.begun == 1);
        // Pushes and replies go on meanwhile.
        server.run("DEL cacheio:l cacheio:m");
        cache.set("other", 4_i64).unwrap();
        assert_eq!(cache.get::<i64>("other").unwrap(), Some(4));
        server.run("SET cacheio:other 5");
        until(&cache, "other", Some(5));
        assert_eq!(cache.stats().invalidations, before.invalidations + 4);
        // One thread drops them all.
        wait_until(|drops| drops.begun == 1);
        change(|drops| drops.is_blocked = false);
        wait_until(|drops| drops.ended == 3);
        change(|drops| drops.cache = None);
    });
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counted(i64);

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

/// A clock that drops the cache when it is read.
#[derive(Debug, Default)]
struct DropsCache {
    cache: Mutex<Option<Cache>>,
    is_armed: AtomicBool,
}

impl Clock for DropsCache {
    fn now(&self) -> Timestamp {
        if self.is_armed.swap(false, Ordering::SeqCst) {
            let cache = self.cache.lock().unwrap().take();
            drop(cache);
        }
        Timestamp::from_nanos(1_000)
    }
}

/// The last user of an L1 may be the connection on which the server tells of changes.
#[test]
fn an_l1_whose_cache_is_dropped_while_the_server_is_heard_is_dropped_elsewhere() {
    let server = Server::new();
    let clock = Arc::new(DropsCache::default());
    let memory = Memory::builder().capacity(100).clock(Arc::clone(&clock));
    let cache = server.open_with(memory.build());
    cache.set("k", Counted(1)).unwrap();
    drop(server.tell());
    for _ in 0..2 {
        assert_eq!(cache.get("k").unwrap(), Some(Counted(1)));
    }
    assert_eq!(cache.stats().l1_hits, 1);
    *clock.cache.lock().unwrap() = Some(cache);
    let before = DROPPED.load(Ordering::SeqCst);
    clock.is_armed.store(true, Ordering::SeqCst);
    let removed = server.shared.heard(Instant::now());
    assert!(clock.cache.lock().unwrap().is_none());
    assert_eq!(DROPPED.load(Ordering::SeqCst), before);
    drop(removed);
    assert_eq!(DROPPED.load(Ordering::SeqCst), before + 1);
    // There is none any more.
    assert_eq!(server.shared.max_staleness(), None::<Duration>);
}
