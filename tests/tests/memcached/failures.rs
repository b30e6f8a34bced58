//! Servers that are down, hang or restart, and the limit of connections.

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use cacheio_sync::store::{Key, Store};
use cacheio_sync::{ErrorKind, Memcached};
use cacheio_tests::BUSY;
use cacheio_tests::servers;
use cacheio_tests::watchdog::guarded;

use super::{SECOND, entry, eventually, key, store, store_with_timeout, text};

#[test]
fn a_store_can_be_built_while_its_server_is_down() {
    let server = servers::Memcached::start();
    server.kill();
    let store = store(&server);
    assert_eq!(store.ping().unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart();
    let began = Instant::now();
    eventually(|| store.ping());
    assert!(began.elapsed() < SECOND + BUSY, "{:?}", began.elapsed());
}

#[test]
fn no_call_fails_after_a_restart_of_the_server() {
    let server = servers::Memcached::start();
    let store = store(&server);
    for _ in 0..10 {
        scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| store.set(&key("k"), entry("v"), None).unwrap());
            }
        });
        server.kill();
        server.restart();
        // The pooled connections are dead, but not even a call that is never sent twice fails.
        assert_eq!(store.increment(&key("n"), 1, None).unwrap(), 1);
        assert_eq!(text(store.get(&key("k")).unwrap()), None);
    }
}

#[test]
fn a_hanging_server_costs_one_timeout_and_then_calls_fail_at_once() {
    guarded(|| {
        let server = servers::Memcached::start();
        let timeout = Duration::from_secs(1);
        let store = store_with_timeout(&server, timeout);
        store.set(&key("k"), entry("v"), None).unwrap();
        server.pause();
        scope(|scope| {
            for thread in 0..40 {
                let store = &store;
                scope.spawn(move || {
                    let began = Instant::now();
                    let result = match thread % 4 {
                        0 => store.get(&key("k")).map(drop),
                        1 => store.set(&key("k"), entry("v"), None),
                        2 => store.increment(&key("n"), -1, None).map(drop),
                        _ => store.clear("ns:"),
                    };
                    let took = began.elapsed();
                    let kind = result.unwrap_err().kind();
                    assert!(
                        matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable),
                        "{kind:?}"
                    );
                    assert!(took < timeout + BUSY, "{took:?}");
                });
            }
        });
        let began = Instant::now();
        for _ in 0..1_000 {
            let error = store.get(&key("k")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
        assert!(began.elapsed() < timeout + BUSY, "{:?}", began.elapsed());
        server.resume();
        let began = Instant::now();
        eventually(|| store.get(&key("k")));
        assert!(began.elapsed() < SECOND + BUSY, "{:?}", began.elapsed());
    });
}

#[test]
fn a_connection_opened_shortly_before_the_deadline_does_not_exceed_it() {
    guarded(|| {
        let server = servers::Memcached::start();
        // The later callers spend most of their timeout waiting for the only connection.
        let store = Memcached::builder()
            .server(server.address().to_string())
            .timeout(SECOND * 2)
            .connections(1)
            .build()
            .unwrap();
        for _ in 0..2 {
            eventually(|| store.ping());
            server.pause();
            scope(|scope| {
                for wait in 0..20 {
                    let store = &store;
                    scope.spawn(move || {
                        sleep(Duration::from_millis(wait * 20));
                        let began = Instant::now();
                        assert!(store.get(&key("k")).is_err());
                        let took = began.elapsed();
                        assert!(took < SECOND * 2 + BUSY, "{took:?}");
                    });
                }
            });
            server.resume();
        }
    });
}

#[test]
fn a_write_that_timed_out_is_never_carried_out_after_a_later_delete() {
    guarded(|| {
        let server = servers::Memcached::start();
        let store = store_with_timeout(&server, Duration::from_millis(150));
        for round in 0..10 {
            store.set(&key("k"), entry("before"), None).unwrap();
            server.pause();
            let late = match round % 3 {
                0 => store.set(&key("k"), entry("ghost"), None),
                1 => store.set_many(vec![(key("k"), entry("ghost"), None)]),
                _ => store.add(&key("k"), entry("ghost"), None).map(drop),
            };
            assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
            server.resume();
            eventually(|| store.delete(&key("k")));
            for _ in 0..20 {
                assert_eq!(text(store.get(&key("k")).unwrap()), None, "round {round}");
                sleep(Duration::from_millis(1));
            }
        }
    });
}

#[test]
fn with_several_servers_only_the_keys_of_one_that_is_down_fail() {
    let servers: Vec<_> = (0..3).map(|_| servers::Memcached::start()).collect();
    let list: Vec<String> = servers
        .iter()
        .map(|server| server.address().to_string())
        .collect();
    let store = Memcached::new(&format!("memcache://{}", list.join(","))).unwrap();
    let names: Vec<String> = (0..300).map(|i| format!("ns:{i}")).collect();
    let keys: Vec<Key<'_>> = names.iter().map(|name| key(name)).collect();
    let entries = keys
        .iter()
        .map(|key| (*key, entry(key.text()), None))
        .collect();
    store.set_many(entries).unwrap();
    for server in &servers {
        let items: String = server.raw(b"stats items");
        assert!(
            items.starts_with("STAT items:"),
            "a server holds nothing: {items}"
        );
    }
    // The order in which the servers are given does not change which of them holds a key.
    let reversed: Vec<String> = list.iter().rev().cloned().collect();
    let other = Memcached::new(&format!("memcache://{}", reversed.join(","))).unwrap();
    for (found, name) in other.get_many(&keys).unwrap().into_iter().zip(&names) {
        assert_eq!(text(found).as_ref(), Some(name));
    }

    servers[1].kill();
    let served = keys.iter().filter(|key| store.get(key).is_ok()).count();
    assert!((100..300).contains(&served), "{served} of 300");
    assert_eq!(
        store.get_many(&keys).unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(store.ping().unwrap_err().kind(), ErrorKind::Unavailable);
    // The keys of the other servers are deleted.
    assert!(store.delete_many(&keys).is_err());
    let left = keys
        .iter()
        .filter(|key| matches!(store.get(key), Ok(Some(_))))
        .count();
    assert_eq!(left, 0);

    servers[1].restart();
    eventually(|| store.ping());
    assert_eq!(store.delete_many(&keys).unwrap(), 0);
}

#[test]
fn a_hanging_server_does_not_affect_the_other_servers() {
    guarded(|| {
        let servers = [servers::Memcached::start(), servers::Memcached::start()];
        let store = Memcached::builder()
            .server(servers[0].address().to_string())
            .server(servers[1].address().to_string())
            .timeout(Duration::from_millis(200))
            .build()
            .unwrap();
        let names: Vec<String> = (0..100).map(|i| format!("ns:{i}")).collect();
        let keys: Vec<Key<'_>> = names.iter().map(|name| key(name)).collect();
        for hanging in &servers {
            let entries = || keys.iter().map(|key| (*key, entry("v"), None)).collect();
            eventually(|| store.set_many(entries()));
            hanging.pause();
            let began = Instant::now();
            assert!(store.delete_many(&keys).is_err());
            assert!(
                began.elapsed() < Duration::from_millis(200) + BUSY,
                "{:?}",
                began.elapsed()
            );
            // The other server has deleted its keys, and responds.
            let responses: Vec<_> = keys.iter().filter_map(|key| store.get(key).ok()).collect();
            assert!(responses.len() > 20, "{} responses", responses.len());
            assert!(responses.iter().all(Option::is_none));
            hanging.resume();
        }
        eventually(|| store.ping());
    });
}

#[test]
fn more_callers_than_connections_wait_for_one() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let proxy = servers::Proxy::to(server.address());
        let store = Memcached::builder()
            .server(proxy.address().to_string())
            .connections(3)
            .timeout(SECOND * 10)
            .build()
            .unwrap();
        scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        store.increment(&key("n"), 1, None).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.increment(&key("n"), 0, None).unwrap(), 2_400);
        assert!(
            proxy.connections() <= 3,
            "{} connections",
            proxy.connections()
        );
    });
}
