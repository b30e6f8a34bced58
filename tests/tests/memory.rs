//! What memory promises beyond the contract: its capacity, and evictions.

#![cfg(not(shuttle))]

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{ErrorKind, Local, ManualClock, Options, Store, Ttl};
use cacheio_sync::{Cache, CacheFactory, Memory};
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::random::Random;
use cacheio_tests::watchdog::guarded;

const TTL: Duration = Duration::from_secs(100);

fn on(memory: &Arc<Memory>) -> Cache {
    Cache::builder()
        .store(Arc::clone(memory))
        .default_ttl(Ttl::Never)
        .build()
        .unwrap()
}

fn both(memory: &Arc<Memory>) -> (CacheApi, CacheApi) {
    let tasks = AsyncCache::builder()
        .store(Arc::clone(memory))
        .default_ttl(Ttl::Never);
    (
        CacheApi::Threads(on(memory)),
        CacheApi::Tasks(tasks.build().unwrap()),
    )
}

fn capacity(entries: usize) -> Arc<Memory> {
    Arc::new(Memory::with_capacity(entries))
}

/// Weighs strings by their length.
fn length(_: &str, value: &(dyn Any + Send + Sync)) -> u64 {
    value
        .downcast_ref::<String>()
        .map_or(1, |text| text.len() as u64)
}

fn weighed(max: u64) -> Arc<Memory> {
    Arc::new(Memory::builder().max_weight(max, length).build())
}

async fn never_more_than(cache: CacheApi, memory: &Memory, capacity: usize) {
    for key in 0..capacity * 2 + 10 {
        cache.set(key, key).await.unwrap();
        assert!(
            memory.len() <= capacity,
            "{} entries in memory for {capacity}",
            memory.len()
        );
    }
    cache
        .set_many((0..capacity * 2).map(|key| (("many", key), key)).collect())
        .await
        .unwrap();
    for key in 0..capacity {
        cache.add(("added", key), key).await.unwrap();
        cache.get_or_set(("loaded", key), || async { key }).await;
        cache.increment(("counted", key), 1).await.unwrap();
        assert!(memory.len() <= capacity);
    }
    assert!(
        memory.len() * 10 >= capacity * 6,
        "{} of {capacity} are used",
        memory.len()
    );
}

#[test]
fn memory_never_holds_more_than_its_capacity() {
    guarded(|| {
        for entries in (1..=40)
            .chain((41..=2_000).step_by(97))
            .chain([255, 256, 257, 511, 512, 513, 1_023, 1_024, 2_000])
        {
            let memory = capacity(entries);
            World::Threads.run(never_more_than(both(&memory).0, &memory, entries));
        }
    });
}

#[test]
fn asynchronous_memory_never_holds_more_than_its_capacity() {
    guarded(|| {
        for entries in (1..=20).chain((21..=2_000).step_by(197)) {
            let memory = capacity(entries);
            World::Tasks.run(never_more_than(both(&memory).1, &memory, entries));
        }
    });
}

#[test]
fn concurrent_writers_never_exceed_the_capacity() {
    guarded(|| {
        let memory = capacity(300);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (cache, memory) = (on(&memory), &memory);
                scope.spawn(move || {
                    for key in 0..2_000 {
                        cache.set((thread, key), key).unwrap();
                        assert!(memory.len() <= 300);
                    }
                });
            }
        });
    });
}

#[test]
fn memory_never_weighs_more_than_its_maximum() {
    for max in [1, 7, 100, 1_000, 10_000, 1 << 20] {
        let memory = weighed(max);
        let cache = on(&memory);
        for key in 0..3_000_u64 {
            let weight = usize::try_from(key * 7919 % (max / 4 + 1)).unwrap();
            let _ = cache.set(key, "x".repeat(weight.min(20_000)));
            assert!(memory.weight() <= max, "{} of {max}", memory.weight());
        }
        assert!(!memory.is_empty());
    }
}

/// Weighs numbers by themselves.
fn number(_: &str, value: &(dyn Any + Send + Sync)) -> u64 {
    *value.downcast_ref::<u64>().unwrap()
}

#[test]
fn both_limits_hold_together() {
    for (capacity, max_weight, heaviest) in [
        (1, 1_000_000, 1_000),
        (10, 1_000_000, 20),
        (100, 4_000, 80),
        (100, 4_000, 500),
        (1_000, 40_000, 80),
        (1_000, 40_000, 1_000),
        (10_000, 40_000, 3),
        (10_000, 1 << 40, 3),
        (1 << 40, 40_000, 30),
        (100, u64::MAX, 3),
        (100, u64::MAX, u64::MAX - 1),
    ] {
        let memory = Memory::builder()
            .capacity(capacity)
            .max_weight(max_weight, number);
        let memory = Arc::new(memory.build());
        let cache = on(&memory);
        let mut random = Random(11);
        let (mut most_entries, mut heaviest_total) = (0, 0);
        for _ in 0..20_000 {
            let key = random.below(capacity.min(20_000) * 3);
            if random.below(3) == 0 {
                cache.get::<u64>(key).unwrap();
                continue;
            }
            cache.set(key, 1 + random.below(heaviest)).unwrap();
            assert!(cache.has(key).unwrap());
            let (len, weight) = (memory.len() as u64, memory.weight());
            assert!(len <= capacity && weight <= max_weight, "{len}, {weight}");
            most_entries = most_entries.max(len);
            heaviest_total = heaviest_total.max(weight);
        }
        assert!(
            most_entries * 10 >= capacity * 9 || heaviest_total * 10 >= max_weight * 9,
            "{most_entries} of {capacity} entries and {heaviest_total} of {max_weight} are used"
        );
        let keys: std::collections::HashSet<_> = (0..capacity.min(20_000) * 3)
            .filter(|key| cache.has(key).unwrap())
            .collect();
        assert_eq!(keys.len(), memory.len());
    }
}

/// Neither limit makes the other tighter.
#[test]
fn each_limit_can_be_reached_to_the_last_entry() {
    let build = || {
        let memory = Memory::builder().capacity(10).max_weight(1_000, number);
        Arc::new(memory.build())
    };
    let (light, heavy, mixed) = (build(), build(), build());
    let evicted = |memory: &Arc<Memory>, weights: &[u64]| {
        let cache = on(memory);
        for (key, weight) in weights.iter().enumerate() {
            cache.set(key, *weight).unwrap();
        }
        (memory.len(), memory.weight(), cache.stats().evictions)
    };
    assert_eq!(evicted(&light, &[1; 10]), (10, 10, 0));
    assert_eq!(evicted(&light, &[1; 15]), (10, 10, 5));
    assert_eq!(evicted(&heavy, &[250; 4]), (4, 1_000, 0));
    assert_eq!(
        evicted(&mixed, &[900, 1, 1, 1, 1, 1, 1, 1, 1, 90]),
        (10, 998, 0)
    );
    let cache = on(&mixed);
    cache.set(9, 50_u64).unwrap();
    cache.set(9, 92_u64).unwrap();
    assert_eq!((mixed.weight(), cache.stats().evictions), (1_000, 0));
    cache.set("new", 1_u64).unwrap();
    assert_eq!((mixed.len(), cache.stats().evictions), (10, 1));
}

/// The entries in use stay, whichever limit evicts.
#[test]
fn a_scan_evicts_no_entries_in_use_by_the_number_of_entries() {
    let memory = Memory::builder().capacity(100).max_weight(1 << 30, number);
    let cache = on(&Arc::new(memory.build()));
    for key in 0..50 {
        cache.set(("hot", key), 7_u64).unwrap();
    }
    for scanned in 0..5_000_u64 {
        cache.get::<u64>(("hot", scanned % 50)).unwrap();
        cache.set(("scan", scanned), 1 + scanned % 9).unwrap();
    }
    let hot = (0..50).filter(|key| cache.has(("hot", *key)).unwrap());
    let hot = hot.count();
    assert!(hot >= 45, "{hot} of 50 are left");
}

#[test]
fn a_small_memory_is_filled_to_the_last_entry() {
    for entries in 1..=255 {
        let memory = capacity(entries);
        let cache = on(&memory);
        for key in 0..entries {
            cache.set(key, key).unwrap();
        }
        assert_eq!((memory.len(), cache.stats().evictions), (entries, 0));
        let keys: Vec<_> = (0..entries).collect();
        assert!(
            cache
                .get_many::<usize>(keys)
                .unwrap()
                .iter()
                .all(Option::is_some)
        );
    }
}

#[test]
fn the_default_capacity_is_500() {
    let cache = CacheFactory::memory_cache();
    for key in 0..2_000 {
        cache.set(key, key).unwrap();
    }
    let live = cache
        .get_many::<i32>(0..2_000)
        .unwrap()
        .into_iter()
        .flatten()
        .count();
    assert!((400..=500).contains(&live), "{live}");
}

#[test]
fn a_capacity_of_zero_is_refused() {
    let error = Cache::builder()
        .store(Memory::with_capacity(0))
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("capacity of 0"), "{error}");
    let error = AsyncCache::builder()
        .store(Memory::with_capacity(0))
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for (memory, expected) in [
        (Memory::builder().max_weight(0, length), "`max_weight` of 0"),
        (
            Memory::builder().max_weight(9, length).capacity(0),
            "capacity of 0",
        ),
    ] {
        let error = Cache::builder().store(memory.build()).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_value_that_is_too_heavy_is_refused_and_the_old_value_is_removed() {
    let memory = weighed(100);
    let cache = on(&memory);
    cache.set("k", String::from("light")).unwrap();
    cache.set("other", String::from("stays")).unwrap();
    let error = cache.set("k", "x".repeat(101)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("100"), "{error}");
    assert!(!cache.has("k").unwrap());
    assert!(cache.has("other").unwrap());
    assert_eq!(
        cache.add("k", "x".repeat(101)).unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    let loaded: String = cache.get_or_set("k", || "x".repeat(101));
    assert_eq!(
        (
            loaded.len(),
            cache.stats().store_errors,
            cache.has("k").unwrap()
        ),
        (101, 1, false)
    );
    cache.set("k", "x".repeat(50)).unwrap();
    assert!(cache.has("k").unwrap());
}

/// A new entry does not evict itself, even if it replaces another or all others were used more.
#[test]
fn an_entry_is_present_after_set() {
    for entries in [1, 2, 3, 5, 10, 30, 100, 1_000] {
        let cache = on(&capacity(entries));
        let mut random = Random(42);
        for value in 0..20_000_u64 {
            let key = random.below(entries as u64 * 3);
            if random.below(2) == 0 {
                cache.set(key, value).unwrap();
                // Not `get`, which would count as a use.
                assert!(cache.has(key).unwrap(), "{value} of capacity {entries}");
            } else {
                cache.get::<u64>(key).unwrap();
            }
        }
    }
}

/// An entry may weigh up to 97 % of its shard, whatever else the shard contains.
#[test]
fn an_entry_that_fits_is_never_too_large() {
    for (max, shards, keys) in [
        (10, 1, 20),
        (20, 1, 20),
        (100, 1, 20),
        (400, 2, 20),
        (4 << 20, 4, 200),
    ] {
        let memory = Arc::new(Memory::builder().max_weight(max, number).build());
        let cache = on(&memory);
        let mut random = Random(7);
        for _ in 0..20_000 {
            let key = random.below(keys);
            if random.below(2) == 0 {
                let weight = 1 + random.below(max / shards * 97 / 100);
                cache.set(key, weight).unwrap();
                assert!(cache.has(key).unwrap());
                assert!(memory.weight() <= max);
            } else {
                cache.get::<u64>(key).unwrap();
            }
        }
    }
}

#[test]
fn the_weigher_is_called_once_for_each_write() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&calls);
    let memory = Memory::builder().max_weight(1_000, move |key, value| {
        counting.fetch_add(1, Ordering::SeqCst);
        assert!(key == "ns:k" && (value.is::<u64>() || value.is::<i64>()));
        1
    });
    let cache = Cache::builder()
        .store(memory.build())
        .namespace("ns")
        .build()
        .unwrap();
    let mut times = 0;
    let mut more = |more: usize| {
        times += more;
        assert_eq!(calls.load(Ordering::SeqCst), times);
    };
    cache.set("k", 1_u64).unwrap();
    more(1);
    cache.set("k", 2_u64).unwrap();
    more(1);
    cache.get::<u64>("k").unwrap();
    cache.get::<String>("k").unwrap_err();
    cache.has("k").unwrap();
    cache.touch("k", TTL).unwrap();
    more(0);
    cache.increment("k", 1).unwrap();
    more(1);
    cache.delete("k").unwrap();
    cache.get_or_set("k", || 3_u64);
    more(1);
    cache.set_many([("k", 4_u64)]).unwrap();
    more(1);
    cache.clear().unwrap();
    more(0);
}

#[test]
fn expired_entries_take_no_capacity() {
    for entries in [1, 2, 10, 100, 255, 256, 1_000] {
        let clock = Arc::new(ManualClock::new());
        let memory = Arc::new(
            Memory::builder()
                .capacity(entries as u64)
                .clock(Arc::clone(&clock))
                .build(),
        );
        let cache = on(&memory);
        for round in 0..5 {
            for key in 0..entries * 2 {
                cache.set_with((round, key), key, TTL).unwrap();
            }
            clock.advance(TTL);
            // Shards are filled unevenly, so the memory may be half full.
            let new = if entries < 256 { entries } else { entries / 2 };
            let evictions = cache.stats().evictions;
            for key in 0..new {
                cache.set_with(("new", round, key), key, TTL).unwrap();
            }
            let live = (0..new)
                .filter(|key| cache.has(("new", round, key)).unwrap())
                .count();
            assert_eq!(
                (live, cache.stats().evictions - evictions),
                (new, 0),
                "of capacity {entries}"
            );
            clock.advance(TTL);
        }
    }
}

#[test]
fn purge_expired_removes_expired_entries_and_nothing_else() {
    let clock = Arc::new(ManualClock::new());
    let memory = Arc::new(
        Memory::builder()
            .capacity(1_000)
            .clock(Arc::clone(&clock))
            .build(),
    );
    let cache = on(&memory);
    for key in 0..100 {
        cache.set_with(("short", key), key, TTL).unwrap();
        cache.set(("long", key), key).unwrap();
        cache
            .set_with(("tagged", key), key, Options::new().tags(["t"]))
            .unwrap();
    }
    clock.advance(TTL);
    assert_eq!(memory.len(), 300);
    memory.purge_expired();
    assert_eq!(memory.len(), 200);
    cache.invalidate_tags(["t"]).unwrap();
    memory.purge_expired();
    assert_eq!(
        (memory.len(), memory.weight(), cache.stats().evictions),
        (100, 100, 0)
    );
    assert!((0..100).all(|key| cache.has(("long", key)).unwrap()));
    cache.clear().unwrap();
    assert!(memory.is_empty());
}

#[test]
fn evictions_of_live_entries_are_counted() {
    let memory = capacity(10);
    let cache = on(&memory);
    for key in 0..25 {
        cache.set(key, key).unwrap();
    }
    assert_eq!(cache.stats().evictions, 15);
    // Replacing and deleting are not evictions.
    let live: Vec<_> = (0..25).filter(|key| cache.has(key).unwrap()).collect();
    for key in &live {
        cache.set(key, 0).unwrap();
    }
    cache.delete_many(live).unwrap();
    assert_eq!(cache.stats().evictions, 15);
}

/// A value that uses the cache when it is dropped, as a connection or a guard might.
#[derive(Clone)]
struct Curious(Arc<Mutex<Vec<u64>>>, Cache);

impl Drop for Curious {
    fn drop(&mut self) {
        let seen = self.1.increment("dropped", 1);
        self.1.delete("absent").unwrap();
        self.1.has(0).unwrap();
        self.0.lock().unwrap().push(seen.unwrap().cast_unsigned());
    }
}

#[test]
fn values_are_dropped_outside_of_all_locks() {
    guarded(|| {
        let clock = Arc::new(ManualClock::new());
        let memory = Arc::new(
            Memory::builder()
                .capacity(20)
                .clock(Arc::clone(&clock))
                .build(),
        );
        let drops = Arc::default();
        let cache = on(&memory);
        let value = || Local::new(Curious(Arc::clone(&drops), cache.clone()));
        let count = || drops.lock().unwrap().len();
        cache.set(0, value()).unwrap();
        cache.set(0, value()).unwrap();
        assert_eq!(count(), 1, "replaced");
        cache.delete(0).unwrap();
        assert_eq!(count(), 2, "deleted");
        cache.set(0, value()).unwrap();
        assert!(!cache.add(0, value()).unwrap());
        assert_eq!(count(), 3, "not added");
        cache.clear().unwrap();
        assert_eq!(count(), 4, "cleared");
        cache.set_with(1, value(), TTL).unwrap();
        clock.advance(TTL);
        memory.purge_expired();
        assert_eq!(count(), 5, "swept out");
        for key in 0..100 {
            cache.set(key, value()).unwrap();
        }
        assert!(count() >= 84, "evicted");
        cache.set_with(200, value(), Duration::ZERO).unwrap();
        let loaded: Local<Curious> = cache.get_or_set(300, value);
        cache.delete(300).unwrap();
        drop(loaded);
        cache.clear().unwrap();
        assert_eq!(count(), 107);
        // The cache may have been dropped already.
        drop(cache);
    });
}

#[test]
fn a_panicking_weigher_leaves_memory_usable() {
    let memory = Memory::builder().max_weight(10, |key, _| {
        assert_ne!(key, "bad", "the weigher panics");
        1
    });
    let cache = Cache::builder().store(memory.build()).build().unwrap();
    let clone = cache.clone();
    std::thread::spawn(move || clone.set("bad", 1))
        .join()
        .unwrap_err();
    let clone = cache.clone();
    std::thread::spawn(move || clone.increment("bad", 1))
        .join()
        .unwrap_err();
    let clone = cache.clone();
    std::thread::spawn(move || clone.get_or_set("bad", || 1))
        .join()
        .unwrap_err();
    guarded(move || {
        assert!(!cache.has("bad").unwrap());
        cache.set("good", 1).unwrap();
        assert_eq!(cache.get_or_set("good", || 2), 1);
        assert_eq!(cache.increment("good", 1).unwrap(), 2);
    });
}

#[test]
fn one_memory_serves_both_worlds() {
    let memory = capacity(10);
    let (threads, tasks) = both(&memory);
    World::Tasks.run(async move {
        threads.set("k", "v").await.unwrap();
        assert_eq!(
            tasks.get::<String>("k").await.unwrap().as_deref(),
            Some("v")
        );
        tasks.delete("k").await.unwrap();
        assert!(!threads.has("k").await.unwrap());
    });
    assert!(Store::check(&*memory).is_ok());
}

#[test]
fn a_scan_does_not_evict_entries_in_use() {
    let memory = capacity(100);
    let cache = on(&memory);
    for key in 0..50 {
        cache.set(("hot", key), key).unwrap();
    }
    for scanned in 0..5_000 {
        cache.get::<i32>(("hot", scanned % 50)).unwrap();
        cache.set(("scan", scanned), scanned).unwrap();
    }
    let hot = (0..50)
        .filter(|key| cache.has(("hot", *key)).unwrap())
        .count();
    assert!(hot >= 45, "{hot} of 50 are left");
}

#[test]
fn an_object_that_is_stored_again_with_another_weight_replaces_itself() {
    let memory = Memory::builder().max_weight(1_000, |_, value| {
        let text = value.downcast_ref::<std::sync::Mutex<String>>();
        text.map_or(1, |text| text.lock().unwrap().len() as u64)
    });
    let memory = Arc::new(memory.build());
    let cache = on(&memory);
    let text = Local::new(std::sync::Mutex::new("a".repeat(10)));
    cache.set("k", text.clone()).unwrap();
    text.lock().unwrap().push_str("more");
    let tagged = Options::new().tags(["tag"]);
    cache.set_with("k", text, tagged).unwrap();
    assert_eq!((memory.len(), memory.weight()), (1, 14));
    cache.invalidate_tags(["tag"]).unwrap();
    assert!(!cache.has("k").unwrap());
}
