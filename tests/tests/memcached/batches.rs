//! Operations on many keys, and `clear`.

use std::thread::scope;

use cacheio_sync::store::{Entry, Key, Store};
use cacheio_sync::{ErrorKind, Memcached};
use cacheio_tests::servers;
use cacheio_tests::watchdog::guarded;

use super::{SECOND, entry, key, store, text};

#[test]
fn batches_larger_than_all_buffers_do_not_deadlock() {
    guarded(|| {
        let server = servers::Memcached::start_with(&["-m", "512"]);
        let store = Memcached::new(&format!("{}?timeout=30s", server.url())).unwrap();
        let names: Vec<String> = (0..20_000)
            .map(|i| format!("a-rather-long-name-of-a-key:{i:0100}"))
            .collect();
        let keys: Vec<Key<'_>> = names.iter().map(|name| key(name)).collect();
        let value = |i: usize| format!("{i}{}", "x".repeat(2_000));
        let entries = keys
            .iter()
            .enumerate()
            .map(|(i, key)| (*key, entry(&value(i)), None));
        store.set_many(entries.collect()).unwrap();
        for (i, found) in store.get_many(&keys).unwrap().into_iter().enumerate() {
            assert_eq!(text(found).unwrap(), value(i));
        }
        assert_eq!(store.delete_many(&keys[..15_000]).unwrap(), 15_000);
        let left = store.get_many(&keys).unwrap();
        assert_eq!(left.iter().filter(|entry| entry.is_some()).count(), 5_000);
    });
}

#[test]
fn clear_deletes_every_key_of_its_namespace_and_no_other() {
    guarded(|| {
        let server = servers::Memcached::start_with(&["-m", "256"]);
        let store = Memcached::new(&format!("{}?timeout=20s", server.url())).unwrap();
        let names: Vec<String> = (0..100_000).map(|i| format!("shop:ü%{i}")).collect();
        let others: Vec<String> = (0..1_000).map(|i| format!("shopping:{i}")).collect();
        let both = names.iter().chain(&others);
        let entries = both.enumerate().map(|(i, name)| {
            let size = if i % 1_000 == 0 { 600_000 } else { 1 + i % 700 };
            let entry = Entry::bytes(vec![b'x'; size]);
            (key(name), entry, Some(SECOND * 50))
        });
        store.set_many(entries.collect()).unwrap();
        store.set(&key("shop:last"), entry("v"), None).unwrap();
        store.clear("shop:").unwrap();
        let keys: Vec<Key<'_>> = names.iter().map(|name| key(name)).collect();
        assert!(store.get_many(&keys).unwrap().iter().all(Option::is_none));
        assert!(!store.has(&key("shop:last")).unwrap());
        let keys: Vec<Key<'_>> = others.iter().map(|name| key(name)).collect();
        assert!(store.get_many(&keys).unwrap().iter().all(Option::is_some));
        assert_eq!(store.clear("").unwrap_err().kind(), ErrorKind::Config);
    });
}

#[test]
fn concurrent_clears_wait_for_each_other() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        scope(|scope| {
            for thread in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for _ in 0..5 {
                        let names: Vec<_> = (0..500).map(|i| format!("ns{thread}:{i}")).collect();
                        let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
                        let entries = keys.iter().map(|key| (*key, entry("v"), None));
                        store.set_many(entries.collect()).unwrap();
                        store.clear(&format!("ns{thread}:")).unwrap();
                        let left = store.get_many(&keys).unwrap();
                        assert!(left.iter().all(Option::is_none));
                    }
                });
            }
        });
    });
}

#[test]
fn clear_is_unsupported_on_a_server_that_does_not_list_keys() {
    for arguments in [["-X"].as_slice(), &["-o", "no_lru_crawler"]] {
        let server = servers::Memcached::start_with(arguments);
        let error = store(&server).clear("ns:").unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Unsupported,
            "{arguments:?}: {error}"
        );
    }
}
