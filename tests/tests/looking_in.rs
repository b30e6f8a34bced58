//! `keys`, `entries`, `len`, `weight` and `retain`, beyond the contract: memory that several caches share, stores that
//! cannot list their keys, and programs of moka's users.

#![cfg(not(shuttle))]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{ErrorKind, FailingStore, Local, Null, Operation, Options};
use cacheio_sync::{Cache, Memory};
use cacheio_tests::stores;

fn cache(memory: &Arc<Memory>, namespace: &str) -> Cache {
    let cache = Cache::builder()
        .store(Arc::clone(memory))
        .namespace(namespace);
    cache.build().unwrap()
}

#[test]
fn weights_are_those_of_the_weigher_in_the_namespace() {
    let memory = Memory::builder().max_weight(10_000, |key, _| key.len() as u64);
    let memory = Arc::new(memory.build());
    let (a, b, none) = (cache(&memory, "a"), cache(&memory, "b"), cache(&memory, ""));
    a.set("12345", 1).unwrap();
    b.set("123", 1).unwrap();
    none.set("a:1", 1).unwrap();
    // The weigher gets the key with the namespace.
    assert_eq!((a.weight().unwrap(), a.len().unwrap()), (7, 1));
    assert_eq!((b.weight().unwrap(), b.len().unwrap()), (5, 1));
    assert_eq!((none.weight().unwrap(), none.len().unwrap()), (3, 1));
    assert_eq!((memory.weight(), memory.len()), (15, 3));
    assert_eq!(none.keys(10).unwrap(), ["a:1"]);
    assert_eq!(none.retain(|_, _: &u8| false).unwrap(), 1);
    assert_eq!(memory.len(), 2);
}

/// More namespaces than memory has short codes for, and than it keeps apart by itself.
#[test]
fn many_namespaces_are_listed_apart() {
    let memory = Arc::new(Memory::new());
    let caches: Vec<_> = (0..100)
        .map(|number| cache(&memory, &format!("{}{number}", "n".repeat(number % 90))))
        .collect();
    for (number, cache) in caches.iter().enumerate() {
        cache.set(number, number).unwrap();
    }
    for (number, cache) in caches.iter().enumerate() {
        assert_eq!(cache.keys(10).unwrap(), [number.to_string()]);
        assert_eq!(cache.len().unwrap(), 1);
    }
}

#[test]
fn a_store_that_cannot_list_its_keys_says_so() {
    let cache = Cache::builder()
        .store(stores::Map::default())
        .build()
        .unwrap();
    cache.set("k", 1).unwrap();
    let error = cache.keys(10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.operation(), Some(Operation::Keys));
    assert!(error.to_string().contains("`keys`"), "{error}");
    let error = cache.entries::<u8>(10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_cache_that_is_off_holds_nothing() {
    let cache = Cache::builder().store(Null).build().unwrap();
    cache.set("k", 1).unwrap();
    assert_eq!(cache.keys(10).unwrap(), [""; 0]);
    assert_eq!((cache.len().unwrap(), cache.weight().unwrap()), (0, 0));
    assert_eq!(cache.retain(|_, _: &u8| false).unwrap(), 0);
}

#[test]
fn a_store_that_fails_fails_each_of_them() {
    let store = FailingStore::new(Memory::new());
    let cache = Cache::builder()
        .store(store.clone())
        .namespace("ns")
        .build()
        .unwrap();
    cache.set("k", 1).unwrap();
    assert_eq!(cache.keys(10).unwrap(), ["k"]);
    store.fail(ErrorKind::Unavailable);
    let kinds = [
        cache.keys(10).unwrap_err(),
        cache.len().unwrap_err(),
        cache.weight().unwrap_err(),
        cache.retain(|_, _: &u8| false).unwrap_err(),
    ];
    assert!(
        kinds
            .iter()
            .all(|error| error.kind() == ErrorKind::Unavailable)
    );
}

#[test]
fn values_that_cannot_be_encoded_are_listed_too() {
    let cache = Cache::default();
    cache.set("k", Local::new(AtomicUsize::new(7))).unwrap();
    let entries = cache.entries::<Local<AtomicUsize>>(10).unwrap();
    assert_eq!(entries[0].value.load(Ordering::Relaxed), 7);
    assert_eq!(
        cache.entries::<u64>(10).unwrap().len(),
        0,
        "of another type"
    );
    assert!(!format!("{entries:?}").contains('7'), "{entries:?}");
}

#[test]
fn the_futures_can_be_sent_to_other_threads() {
    fn is_send<T: Send>(_: T) {}
    let cache = AsyncCache::default();
    is_send(cache.keys(1));
    is_send(cache.entries::<String>(1));
    is_send(cache.retain(|_, _: &String| true));
}

/// A shard that has more keys than are wanted is listed in part, and again if too few of them are live.
#[test]
fn large_shards_are_listed_in_part() {
    let cache = Cache::new(100_000);
    let stale = Options::ttl(Duration::from_millis(1)).stale_for(Duration::from_secs(3_600));
    cache
        .set_many_with((0..10_000).map(|key| (("stale", key), key)), stale)
        .unwrap();
    cache
        .set_many((0..10_000).map(|key| (("live", key), key)))
        .unwrap();
    std::thread::sleep(Duration::from_millis(20));
    for limit in [1, 900, 5_000, 9_999, 10_000, 20_000, usize::MAX] {
        let mut keys = cache.keys(limit).unwrap();
        assert_eq!(keys.len(), limit.min(10_000));
        assert!(keys.iter().all(|key| key.starts_with("live:")));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), limit.min(10_000), "none is listed twice");
    }
}

/// Writers replace values by ones that are kept, while others remove those that are not. None of the new values is
/// removed, and none of the old ones stays.
#[test]
fn retain_never_removes_a_value_that_is_kept() {
    const KEYS: u64 = 2_000;
    let cache = Cache::new(100_000);
    for round in 0..5 {
        cache.set_many((0..KEYS).map(|key| (key, round))).unwrap();
        let removed = AtomicUsize::new(0);
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let count = cache.retain(|_, value: &u64| *value >= 1_000).unwrap();
                    removed.fetch_add(count, Ordering::Relaxed);
                });
            }
            for part in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    for key in (part * 2..KEYS).step_by(8) {
                        cache.set(key, 1_000 + key).unwrap();
                    }
                });
            }
        });
        for key in 0..KEYS {
            let expected = (key % 2 == 0).then_some(1_000 + key);
            assert_eq!(cache.get::<u64>(key).unwrap(), expected, "{key}");
        }
        let removed = removed.into_inner() as u64;
        assert!((KEYS / 2..=KEYS).contains(&removed), "{removed}");
    }
}

/// moka's documentation of `invalidate_entries_if`.
#[test]
fn moka_invalidate_entries_if() {
    let cache = Cache::new(100);
    for key in 0..10_u32 {
        cache.set(key, key * 10).unwrap();
    }
    let removed = cache.retain(|_key, value: &u32| value % 20 == 10).unwrap();
    assert_eq!(removed, 5);
    assert_eq!(cache.get::<u32>(2).unwrap(), None);
    assert_eq!(cache.get::<u32>(3).unwrap(), Some(30));
    // In moka the predicate stays until it has been applied. Here the call has done it.
    cache.set(2, 20).unwrap();
    assert_eq!(cache.get::<u32>(2).unwrap(), Some(20));
}

/// moka's documentation of `iter`: the cache can be changed while a caller goes through the entries.
#[test]
fn moka_iter() {
    let cache = Cache::new(100);
    cache.set("Julia", 14).unwrap();
    cache.set("Romeo", 15).unwrap();
    let mut ages = 0;
    for entry in cache.entries::<u32>(100).unwrap() {
        ages += entry.value;
        cache
            .set_with(
                &entry.key,
                entry.value + 1,
                Options::ttl(Duration::from_secs(60)),
            )
            .unwrap();
    }
    assert_eq!(ages, 29);
    assert_eq!(cache.get::<u32>("Julia").unwrap(), Some(15));
}
