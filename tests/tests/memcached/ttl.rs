//! TTLs on the server's clock, which ticks once a second.

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use cacheio_sync::store::Store;
use cacheio_tests::servers;
use cacheio_tests::watchdog::guarded;

use super::{SECOND, entry, key, store};

#[test]
fn an_entry_lives_for_its_ttl_and_at_most_two_seconds_longer() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        scope(|scope| {
            for part in 0..8_u32 {
                let store = &store;
                scope.spawn(move || {
                    // Start at different times between two ticks of the server's clock.
                    sleep(SECOND * part / 8);
                    let (name, ttl) = (
                        format!("k{part}"),
                        SECOND + Duration::from_millis(1) * (part % 2),
                    );
                    let began = Instant::now();
                    store.set(&key(&name), entry("v"), Some(ttl)).unwrap();
                    while store.has(&key(&name)).unwrap() {
                        sleep(Duration::from_millis(5));
                    }
                    let lived = began.elapsed();
                    assert!(lived >= ttl, "{lived:?} of {ttl:?}");
                    assert!(lived < ttl + SECOND * 5 / 2, "{lived:?} of {ttl:?}");
                });
            }
        });
    });
}

#[test]
fn long_ttls_do_not_expire_at_once() {
    let server = servers::lease::<servers::Memcached>();
    let store = store(&server);
    let day = SECOND * 86_400;
    for ttl in [
        day * 29,
        day * 30,
        day * 31,
        day * 4000,
        day * 7000,
        day * 1_000_000,
        Duration::MAX,
    ] {
        store.set(&key("set"), entry("v"), Some(ttl)).unwrap();
        assert!(store.has(&key("set")).unwrap(), "{ttl:?}");
        assert!(store.touch(&key("set"), Some(ttl)).unwrap());
        assert!(store.has(&key("set")).unwrap(), "{ttl:?}");
        store.delete(&key("n")).unwrap();
        store.increment(&key("n"), 1, Some(ttl)).unwrap();
        store.increment(&key("n"), -3, Some(ttl)).unwrap();
        store.increment(&key("n"), -3, Some(ttl)).unwrap();
        assert_eq!(store.increment(&key("n"), 0, None).unwrap(), -5, "{ttl:?}");
    }
}
