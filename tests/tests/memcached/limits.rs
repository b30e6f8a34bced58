//! Values and keys that the server cannot hold.

use cacheio_sync::store::{Entry, Store};
use cacheio_sync::{Cache, ErrorKind};
use cacheio_tests::servers;

use super::{entry, key, store, text};

#[test]
fn a_value_that_is_too_large_removes_the_entry_and_keeps_the_connection_usable() {
    let server = servers::lease::<servers::Memcached>();
    let store = store(&server);
    let large = || Entry::bytes(vec![b'x'; 1 << 20]);
    store.set(&key("k"), entry("old"), None).unwrap();
    let error = store.set(&key("k"), large(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(text(store.get(&key("k")).unwrap()), None);
    let error = store.add(&key("k"), large(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let many = vec![
        (key("a"), entry("1"), None),
        (key("b"), large(), None),
        (key("c"), entry("3"), None),
    ];
    let error = store.set_many(many).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let left = store.get_many(&[key("a"), key("b"), key("c")]).unwrap();
    let left: Vec<_> = left.into_iter().map(text).collect();
    assert_eq!(left, [Some("1".into()), None, Some("3".into())]);
}

#[test]
fn a_full_server_that_does_not_evict_is_a_server_error() {
    let server = servers::Memcached::start_with(&["-M", "-m", "2"]);
    let store = store(&server);
    let kind = (0..100).find_map(|i| {
        let value = Entry::bytes(vec![b'x'; 500_000]);
        let stored = store.set(&key(&format!("k{i}")), value, None);
        stored.err().map(|error| error.kind())
    });
    assert_eq!(kind, Some(ErrorKind::Server));
    store.delete(&key("k0")).unwrap();
}

#[test]
fn a_key_with_commands_in_it_is_never_sent() {
    let server = servers::lease::<servers::Memcached>();
    let store = store(&server);
    server.plant("stays", b"v");
    for bad in ["x\r\nflush_all", "x y", "", "\0", &"x".repeat(251)] {
        let bad = key(bad);
        let errors = [
            store.get(&bad).map(drop),
            store.has(&bad).map(drop),
            store.set(&bad, entry("v"), None),
            store.add(&bad, entry("v"), None).map(drop),
            store.delete(&bad).map(drop),
            store.touch(&bad, None).map(drop),
            store.increment(&bad, 1, None).map(drop),
            store.increment(&bad, -1, None).map(drop),
            store.get_many(&[bad]).map(drop),
            store.set_many(vec![(bad, entry("v"), None)]),
            store.delete_many(&[bad]).map(drop),
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Config);
        }
    }
    assert_eq!(server.raw(b"get stays"), "VALUE stays 0 1");
    // In a cache such keys are legal, since the cache replaces them by a hash.
    let cache = Cache::builder().store(store).build().unwrap();
    cache.set("x\r\nflush_all", 1).unwrap();
    assert_eq!(cache.get("x\r\nflush_all").unwrap(), Some(1));
    assert_eq!(server.raw(b"get stays"), "VALUE stays 0 1");
}
