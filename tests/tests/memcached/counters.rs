//! Counters: 64-bit signed integers, on a server that counts without a sign.

use std::thread::scope;
use std::time::Instant;

use cacheio_sync::store::Store;
use cacheio_sync::{ErrorKind, Memcached};
use cacheio_tests::servers;
use cacheio_tests::watchdog::guarded;

use super::{SECOND, entry, key, store, text};

#[test]
fn concurrent_increments_all_count() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        store.increment(&key("n"), 1, None).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.increment(&key("n"), 0, None).unwrap(), 80_000);
    });
}

#[test]
fn concurrent_increments_and_decrements_around_zero_all_count() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = Memcached::new(&format!("{}?timeout=20s", server.url())).unwrap();
        scope(|scope| {
            for thread in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for step in 0..1_000 {
                        let by = if (thread + step) % 2 == 0 { -3 } else { 4 };
                        store.increment(&key("n"), by, None).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.increment(&key("n"), 0, None).unwrap(), 4_000);
    });
}

#[test]
fn counters_hold_every_i64_and_nothing_else() {
    let server = servers::lease::<servers::Memcached>();
    let store = store(&server);
    let add = |by| store.increment(&key("n"), by, None);
    assert_eq!(add(i64::MAX).unwrap(), i64::MAX);
    for by in [1, 1 << 32, (1 << 32) + 1, i64::MAX] {
        assert_eq!(add(by).unwrap_err().kind(), ErrorKind::Overflow);
        assert_eq!(
            text(store.get(&key("n")).unwrap()).unwrap().trim_end(),
            i64::MAX.to_string()
        );
    }
    assert_eq!(add(i64::MIN).unwrap(), -1);
    assert_eq!(add(i64::MIN + 1).unwrap(), i64::MIN);
    assert_eq!(add(-1).unwrap_err().kind(), ErrorKind::Overflow);
    assert_eq!(add(0).unwrap(), i64::MIN);
    assert_eq!(add(i64::MAX).unwrap(), -1);
    assert_eq!(add(11).unwrap(), 10);
    assert_eq!(add(-1).unwrap(), 9);
    // The server stores the 9 as `9 `.
    assert_eq!(add(-10).unwrap(), -1);
}

#[test]
fn increment_does_not_change_an_entry_that_is_not_an_integer() {
    let server = servers::lease::<servers::Memcached>();
    let store = store(&server);
    for value in ["abc", "1.5", "-", "99999999999999999999999", "\"5\""] {
        store.set(&key("k"), entry(value), None).unwrap();
        for by in [1, 0, -1, i64::MAX] {
            let error = store.increment(&key("k"), by, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType, "{value:?} + {by}");
        }
        assert_eq!(text(store.get(&key("k")).unwrap()).as_deref(), Some(value));
    }
    // These are numbers for the server.
    for value in ["9223372036854775808", "18446744073709551615"] {
        store.set(&key("k"), entry(value), None).unwrap();
        for by in [1, 0, -1, 1 << 32] {
            let error = store.increment(&key("k"), by, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType, "{value} + {by}");
            let left = text(store.get(&key("k")).unwrap()).unwrap();
            assert_eq!(left.trim_end(), value);
        }
    }
}

#[test]
fn a_negative_counter_that_is_often_written_still_expires() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        let began = Instant::now();
        store
            .increment(&key("n"), -1_000_000_000, Some(SECOND * 3))
            .unwrap();
        // Each write sets the TTL to the seconds left. Without a correction it would gain a second
        // each time the server's clock ticks between the read and the write.
        while store.increment(&key("n"), 1, Some(SECOND * 100)).unwrap() < 0 {
            assert!(began.elapsed() < SECOND * 12, "it never expires");
        }
        assert!(
            began.elapsed() >= SECOND * 3,
            "it expired after {:?}",
            began.elapsed()
        );
    });
}
