//! Review: memory, drops, keys.
#![cfg(not(shuttle))]
#![allow(missing_docs, missing_debug_implementations, clippy::pedantic)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use cacheio_core::{CLOCK_LAG, Clock, Key, KeyRule, Local, ManualClock, Options, SystemClock, Ttl, key_text};
use cacheio_sync::{Cache, Memory};

fn within<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = tx.send(run());
    });
    match rx.recv_timeout(Duration::from_secs(5)) {
        Ok(v) => v,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("HANGS: {what}"),
        Err(_) => panic!("panicked: {what}"),
    }
}

struct OnDrop(Option<Box<dyn FnOnce() + Send + Sync>>);
impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f()
        }
    }
}
fn on_drop(f: impl FnOnce() + Send + Sync + 'static) -> Local<OnDrop> {
    Local::new(OnDrop(Some(Box::new(f))))
}

fn one() -> Cache {
    Cache::builder().store(Memory::with_capacity(1)).build().unwrap()
}

/// The evicted value's Drop clears the cache, while the load that evicted it is being published.
#[test]
fn drop_of_an_evicted_value_may_clear() {
    within("clear in Drop during publishing", || {
        let cache = one();
        let inner = cache.clone();
        cache.set("old", on_drop(move || inner.clear().unwrap())).unwrap();
        assert_eq!(cache.get_or_set("new", || 1), 1);
    });
}
#[test]
fn drop_of_an_evicted_value_may_delete_the_key_that_evicts_it() {
    within("delete in Drop during publishing", || {
        let cache = one();
        let inner = cache.clone();
        cache.set("old", on_drop(move || drop(inner.delete("new")))).unwrap();
        assert_eq!(cache.get_or_set("new", || 1), 1);
    });
}
/// The expired predecessor under the same key removes a sibling set of keys, its own among them.
#[test]
fn drop_of_an_expired_value_may_delete_its_own_key() {
    within("delete of own key in Drop of an expired value", || {
        let clock = Arc::new(ManualClock::new());
        let cache = Cache::builder().store(Memory::builder().capacity(100).clock(Arc::clone(&clock)).build()).build().unwrap();
        let inner = cache.clone();
        cache.set_with("session", on_drop(move || drop(inner.delete("session"))), Duration::from_secs(1)).unwrap();
        clock.advance(Duration::from_secs(2));
        let _: Local<OnDrop> = cache.get_or_set("session", || Local::new(OnDrop(None)));
    });
}
/// The same under `set`: fine?
#[test]
fn drop_under_set_is_fine() {
    within("clear in Drop during set", || {
        let cache = one();
        let inner = cache.clone();
        cache.set("old", on_drop(move || { inner.clear().unwrap(); inner.set("old", 3).unwrap(); let _ = inner.get_or_set("x", || 1); })).unwrap();
        cache.set("new", 1).unwrap();
    });
}

static ASK: Mutex<Option<Cache>> = Mutex::new(None);
#[derive(Clone)]
struct Asks;
impl serde::Serialize for Asks {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let cache = ASK.lock().unwrap().clone();
        if let Some(cache) = cache {
            let n: Option<i32> = cache.get("other").unwrap();
            return s.serialize_i32(n.unwrap_or(0));
        }
        s.serialize_i32(0)
    }
}
/// `increment` serializes a value of a type it does not know, under the shard's lock.
#[test]
fn increment_runs_serialize_without_a_lock() {
    within("Serialize that reads the cache, in increment", || {
        let cache = one();
        *ASK.lock().unwrap() = Some(cache.clone());
        cache.set("k", Asks).unwrap();
        let _ = cache.increment("k", 1);
    });
}

#[test]
fn keys_of_different_values_of_one_type_differ() {
    assert_ne!(key_text(("k", Vec::<&str>::new())), key_text(("k", vec![""])), "[] and [\"\"]");
}
#[test]
fn options_in_options_differ() {
    assert_ne!(key_text(("k", None::<Option<u8>>)), key_text(("k", Some(None::<u8>))));
}
#[test]
fn options_at_top_level_differ() {
    assert_ne!(key_text(None::<&str>), key_text(Some("%none")));
}

/// Two caches on one memory: `delete(k)` of one, a load of the other.
#[test]
fn two_caches_on_one_memory_delete_beats_load() {
    let memory = Arc::new(Memory::with_capacity(10));
    let a = Cache::builder().store(Arc::clone(&memory)).build().unwrap();
    let b = Cache::builder().store(memory).build().unwrap();
    let v: i32 = a.get_or_set("k", || {
        b.delete("k").unwrap();
        1
    });
    assert_eq!(v, 1);
    assert_eq!(b.get::<i32>("k").unwrap(), None, "a value loaded before delete returned is served after it");
}
#[test]
fn two_caches_on_one_memory_tags() {
    let memory = Arc::new(Memory::with_capacity(10));
    let a = Cache::builder().store(Arc::clone(&memory)).build().unwrap();
    let b = Cache::builder().store(memory).build().unwrap();
    a.set_with("k", 1, Options::new().tags(["t"])).unwrap();
    b.invalidate_tags(["t"]).unwrap();
    assert_eq!(b.get::<i32>("k").unwrap(), None);
}

/// A thread-local whose destructor asks a cache: composed key.
fn tls_child(which: &str) {
    static CACHE: Mutex<Option<Cache>> = Mutex::new(None);
    *CACHE.lock().unwrap() = Some(one());
    struct AtExit(String);
    impl Drop for AtExit {
        fn drop(&mut self) {
            let cache = CACHE.lock().unwrap().clone().unwrap();
            match self.0.as_str() {
                "composed" => drop(cache.get::<i32>(("a", 1))),
                "load" => drop(cache.get_or_set("a", || 1)),
                "leak" => drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.get_or_set("a", || 1)))),
                "plain" => drop(cache.get::<i32>("a")),
                _ => unreachable!(),
            }
        }
    }
    thread_local!(static AT_EXIT: std::cell::RefCell<Option<AtExit>> = const { std::cell::RefCell::new(None) });
    let which = which.to_owned();
    let leak = which == "leak";
    std::thread::spawn(move || {
        AT_EXIT.with(|x| *x.borrow_mut() = Some(AtExit(which)));
        // The cache's own thread-locals come later, and go earlier.
        let cache = CACHE.lock().unwrap().clone().unwrap();
        cache.get::<i32>(("b", 1)).unwrap();
        cache.get_or_set("b", || 1);
    })
    .join()
    .unwrap();
    if leak {
        let cache = CACHE.lock().unwrap().clone().unwrap();
        let (tx, rx) = mpsc::channel();
        std::thread::spawn(move || tx.send(cache.get_or_set("a", || 2)));
        if rx.recv_timeout(Duration::from_secs(3)).is_err() {
            eprintln!("LEAKED FLIGHT: the next caller of this key hangs");
            std::process::exit(3);
        }
    }
}
#[test]
fn tls_child_entry() {
    if let Ok(which) = std::env::var("REVIEW_TLS") {
        tls_child(&which);
    }
}
fn tls(which: &str) {
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls_child_entry", "--nocapture"])
        .env("REVIEW_TLS", which)
        .output()
        .unwrap();
    assert!(out.status.success(), "{which}: {:?}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
}
#[test]
fn tls_plain() { tls("plain") }
#[test]
fn tls_composed() { tls("composed") }
#[test]
fn tls_load() { tls("load") }
#[test]
fn tls_leak() { tls("leak") }

struct Rng(u64);
impl Rng {
    fn next(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// A `set` that returned Ok is there when nothing else is written.
#[test]
fn what_was_set_is_there() {
    let mut report = Vec::new();
    for cap in [1_usize, 2, 3, 5, 10, 30, 100] {
        let cache = Cache::builder().store(Memory::with_capacity(cap)).default_ttl(Ttl::Never).build().unwrap();
        let mut rng = Rng(42);
        let mut lost = 0;
        for i in 0..100_000_u64 {
            let k = rng.next(cap as u64 * 3);
            if rng.next(2) == 0 {
                cache.set(k, i).unwrap();
                lost += usize::from(!cache.has(k).unwrap());
            } else {
                let _: Option<u64> = cache.get(k).unwrap();
            }
        }
        if lost > 0 {
            report.push((cap, lost));
        }
    }
    assert!(report.is_empty(), "(capacity, sets that were gone at once of ~50000): {report:?}");
}

/// With weights: no entry of at most half a shard is ever "too large".
#[test]
fn what_fits_is_never_too_large() {
    let mut report = Vec::new();
    for cap in [10_u64, 20, 100, 400] {
        let memory = Arc::new(
            Memory::builder().capacity(cap).weigher(|_, v| *v.downcast_ref::<u64>().unwrap_or(&1)).build(),
        );
        let cache = Cache::builder().store(Arc::clone(&memory)).default_ttl(Ttl::Never).build().unwrap();
        let mut rng = Rng(7);
        let (mut refused, mut over) = (0, 0);
        for _ in 0..100_000_u64 {
            let k = rng.next(20);
            if rng.next(2) == 0 {
                let w = 1 + rng.next(cap / 2);
                refused += usize::from(cache.set(k, w).is_err());
                over += usize::from(memory.weight() > cap);
            } else {
                let _: Option<u64> = cache.get(k).unwrap();
            }
        }
        if refused + over > 0 {
            report.push((cap, refused, over));
        }
    }
    assert!(report.is_empty(), "(capacity, refused as too large, over capacity): {report:?}");
}

/// A counter with a TTL that exists keeps it, whatever TTL a new one would have.
#[test]
fn increment_with_zero_ttl_keeps_an_existing_counter() {
    let cache = one();
    cache.set("k", 10).unwrap();
    assert_eq!(cache.increment_with("k", 1, Duration::ZERO).unwrap(), 11);
    assert_eq!(cache.get::<i64>("k").unwrap(), Some(11), "an existing entry keeps its TTL");
}

#[test]
fn a_short_wire_rule_keeps_the_namespace() {
    let rule = KeyRule::Wire { max: 64 };
    let namespace = "n".repeat(50);
    let legal = rule.legal(&format!("{namespace}:a b")).into_owned();
    assert!(legal.starts_with(&format!("{namespace}:")), "{legal}");
}

#[test]
fn one_lookup_is_counted_once() {
    // A waiter that takes over, or a leader that reads again, counts a miss and a hit.
    let cache = one();
    let go = Arc::new(AtomicBool::new(false));
    let t = {
        let (cache, go) = (cache.clone(), Arc::clone(&go));
        std::thread::spawn(move || {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> i32 {
                cache.get_or_set("k", || {
                    while !go.load(Ordering::SeqCst) { std::thread::yield_now() }
                    cache.set("k", 5).unwrap();
                    panic!("x")
                })
            }));
        })
    };
    while cache.stats().loads == 0 { std::thread::yield_now() }
    let u = { let cache = cache.clone(); std::thread::spawn(move || cache.get_or_set("k", || 7)) };
    while cache.stats().waits == 0 { std::thread::yield_now() }
    go.store(true, Ordering::SeqCst);
    t.join().unwrap();
    assert_eq!(u.join().unwrap(), 5);
    let s = cache.stats();
    assert_eq!(s.hits + s.misses, 2, "{s:?}");
}

/// How far the coarse clock lags on this machine, with both cores busy.
#[test]
fn coarse_lag() {
    let stop = Arc::new(AtomicBool::new(false));
    let burn: Vec<_> = (0..4).map(|_| { let stop = Arc::clone(&stop); std::thread::spawn(move || while !stop.load(Ordering::Relaxed) { std::hint::spin_loop() }) }).collect();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let mut max = Duration::ZERO;
    while std::time::Instant::now() < end {
        let before = SystemClock.now();
        let coarse = SystemClock.recent();
        max = max.max(before.since(coarse));
    }
    stop.store(true, Ordering::Relaxed);
    burn.into_iter().for_each(|b| b.join().unwrap());
    eprintln!("largest lag of the coarse clock: {max:?}");
    assert!(max < CLOCK_LAG, "{max:?}");
}

#[test]
fn unused() {
    let _ = (Key::new("x"), AtomicUsize::new(0));
}
