//! Writes by the methods of a store, around the caches on it.

use std::thread::sleep;
use std::time::Duration;

use cacheio_core::{Entry, Key, Store, TtlChange};
use cacheio_sync::{Cache, L1, Memory, Redis};
use cacheio_tests::servers;
use cacheio_tests::watchdog::guarded;

use crate::support::{LONG, copy, get, until_probed};

const KEY: &str = "cacheio:k";

fn open(redis: &Redis, shared_loads: bool) -> Cache {
    let l1 = L1::new(Memory::with_capacity(1_000)).max_staleness(LONG);
    let builder = Cache::builder().store(redis.clone()).l1(l1);
    builder.shared_loads(shared_loads).build().unwrap()
}

fn entry(value: i64) -> Entry {
    Entry::bytes(value.to_string().into_bytes())
}

#[test]
fn a_write_by_the_store_is_seen_at_once() {
    type Write = fn(&Redis, &Key<'_>);
    let writes: [(Write, Option<i64>); 9] = [
        (
            |redis, key| redis.set(key, entry(2), None).unwrap(),
            Some(2),
        ),
        (
            |redis, key| {
                let entries = vec![(*key, entry(3), None)];
                redis.set_many(entries).unwrap();
            },
            Some(3),
        ),
        (
            |redis, key| {
                redis.increment(key, 3, None).unwrap();
            },
            Some(4),
        ),
        (
            |redis, key| {
                redis.delete(key).unwrap();
            },
            None,
        ),
        (
            |redis, key| {
                redis.delete_many(&[*key]).unwrap();
            },
            None,
        ),
        (
            |redis, key| {
                redis.touch(key, Some(Duration::from_millis(1))).unwrap();
            },
            None,
        ),
        (|redis, _| redis.clear("cacheio:").unwrap(), None),
        (
            |redis, key| {
                redis.take(key).unwrap();
            },
            None,
        ),
        (
            |redis, key| {
                let current = redis.get(key).unwrap();
                let new = Some((entry(5), TtlChange::Keep));
                assert!(redis.compare_and_swap(key, current, new).unwrap());
            },
            Some(5),
        ),
    ];
    guarded(move || {
        let server = servers::Redis::start();
        let redis = Redis::new(server.url()).unwrap();
        let cache = open(&redis, true);
        until_probed(&server, &cache);
        for (write, expected) in writes {
            cache.set("k", 1_i64).unwrap();
            copy(&cache, "k", Some(1));
            write(&redis, &Key::new(KEY));
            sleep(Duration::from_millis(2));
            assert_eq!(get(&cache, "k"), expected);
        }
    });
}

/// A loaded value is stored by such a method, too, if processes do not share loads.
#[test]
fn a_loaded_value_is_copied_all_the_same() {
    guarded(|| {
        for shared_loads in [true, false] {
            let server = servers::Redis::start();
            let redis = Redis::new(server.url()).unwrap();
            let cache = open(&redis, shared_loads);
            until_probed(&server, &cache);
            for _ in 0..3 {
                cache.delete("k").unwrap();
                assert_eq!(cache.get_or_set("k", || 1_i64), 1);
                let before = cache.stats().l1_hits;
                assert_eq!(get(&cache, "k"), Some(1));
                assert_eq!(cache.stats().l1_hits, before + 1);
            }
        }
    });
}
