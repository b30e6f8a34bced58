//! What is Memcached's own: its counters, its clock, its listing, its pool, and what a server does
//! that hangs, dies, or lies.

#![cfg(not(shuttle))]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use cacheio_sync::{Cache, Entry, Error, ErrorKind, Key, Memcached, Payload, Store};
use cacheio_tests::servers;
use cacheio_tests::watchdog::guarded;

const SECOND: Duration = Duration::from_secs(1);

fn key(text: &str) -> Key<'_> {
    Key::new(text)
}

fn entry(text: &str) -> Entry {
    Entry::bytes(text.into())
}

fn text(entry: Option<Entry>) -> Option<String> {
    entry.map(|entry| match entry.payload {
        Payload::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
        Payload::Object(object) => panic!("an object: {object:?}"),
    })
}

fn store(server: &servers::Memcached) -> Memcached {
    Memcached::new(&server.url()).unwrap()
}

fn quick(server: &servers::Memcached, timeout: Duration) -> Memcached {
    Memcached::builder()
        .server(server.address().to_string())
        .timeout(timeout)
        .build()
        .unwrap()
}

/// Until a call works again, as it does by itself.
fn eventually<T>(mut call: impl FnMut() -> Result<T, Error>) -> T {
    let began = Instant::now();
    loop {
        match call() {
            Ok(value) => return value,
            Err(error) if began.elapsed() > Duration::from_secs(20) => panic!("{error}"),
            Err(_) => sleep(Duration::from_millis(2)),
        }
    }
}

// Counters.

#[test]
fn increments_of_many_threads_all_count() {
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
fn steps_up_and_down_around_zero_all_count() {
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
fn counters_reach_all_of_i64_and_nothing_more() {
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
    // Which the server has left as `9 `.
    assert_eq!(add(-10).unwrap(), -1);
}

#[test]
fn what_is_no_counter_stays_as_it_is() {
    let server = servers::lease::<servers::Memcached>();
    let store = store(&server);
    for value in ["abc", "", "1.5", "-", "99999999999999999999999", "\"5\""] {
        store.set(&key("k"), entry(value), None).unwrap();
        for by in [1, 0, -1, i64::MAX] {
            let error = store.increment(&key("k"), by, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType, "{value:?} + {by}");
        }
        assert_eq!(text(store.get(&key("k")).unwrap()).as_deref(), Some(value));
    }
    // Which are numbers to the server.
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
fn a_counter_below_zero_that_is_often_written_still_expires() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        let began = Instant::now();
        store
            .increment(&key("n"), -1_000_000_000, Some(SECOND * 3))
            .unwrap();
        // Each write sets the TTL anew to the seconds left: by itself it would gain one each time
        // that the server's clock ticks in between.
        while store.increment(&key("n"), 1, Some(SECOND * 100)).unwrap() < 0 {
            assert!(began.elapsed() < SECOND * 12, "it never ends");
        }
        assert!(
            began.elapsed() >= SECOND * 3,
            "it ended after {:?}",
            began.elapsed()
        );
    });
}

// The clock.

#[test]
fn an_entry_lives_as_long_as_asked_and_two_seconds_more_at_most() {
    guarded(|| {
        let server = servers::lease::<servers::Memcached>();
        let store = store(&server);
        scope(|scope| {
            for part in 0..8_u32 {
                let store = &store;
                scope.spawn(move || {
                    // Anywhere between two ticks of the server's clock.
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
fn long_ttls_do_not_end_at_once() {
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

// What the server cannot hold.

#[test]
fn a_value_that_is_too_large_leaves_nothing_and_harms_no_connection() {
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
        (key("a"), entry("1")),
        (key("b"), large()),
        (key("c"), entry("3")),
    ];
    let error = store.set_many(many, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let left = store.get_many(&[key("a"), key("b"), key("c")]).unwrap();
    let left: Vec<_> = left.into_iter().map(text).collect();
    assert_eq!(left, [Some("1".into()), None, Some("3".into())]);
}

#[test]
fn a_full_server_that_may_not_evict_says_so() {
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
fn a_key_that_carries_commands_is_never_sent() {
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
            store.set_many(vec![(bad, entry("v"))], None),
            store.delete_many(&[bad]).map(drop),
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Config);
        }
    }
    assert_eq!(server.raw(b"get stays"), "VALUE stays 0 1");
    // Through a cache they are legal: core replaces them.
    let cache = Cache::builder().store(store).build().unwrap();
    cache.set("x\r\nflush_all", 1).unwrap();
    assert_eq!(cache.get("x\r\nflush_all").unwrap(), Some(1));
    assert_eq!(server.raw(b"get stays"), "VALUE stays 0 1");
}

// Batches and clear.

#[test]
fn batches_that_fill_every_buffer_do_not_lock_up() {
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
            .map(|(i, key)| (*key, entry(&value(i))));
        store.set_many(entries.collect(), None).unwrap();
        for (i, found) in store.get_many(&keys).unwrap().into_iter().enumerate() {
            assert_eq!(text(found).unwrap(), value(i));
        }
        assert_eq!(store.delete_many(&keys[..15_000]).unwrap(), 15_000);
        let left = store.get_many(&keys).unwrap();
        assert_eq!(left.iter().filter(|entry| entry.is_some()).count(), 5_000);
    });
}

#[test]
fn clear_finds_every_key_of_its_namespace_and_no_other() {
    guarded(|| {
        let server = servers::Memcached::start_with(&["-m", "256"]);
        let store = Memcached::new(&format!("{}?timeout=20s", server.url())).unwrap();
        let names: Vec<String> = (0..100_000).map(|i| format!("shop:ü%{i}")).collect();
        let others: Vec<String> = (0..1_000).map(|i| format!("shopping:{i}")).collect();
        let both = names.iter().chain(&others);
        let entries = both.enumerate().map(|(i, name)| {
            let size = if i % 1_000 == 0 { 600_000 } else { i % 700 };
            (key(name), Entry::bytes(vec![b'x'; size]))
        });
        let ttl = Some(SECOND * 50);
        store.set_many(entries.collect(), ttl).unwrap();
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
fn clears_at_the_same_time_wait_for_each_other() {
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
                        let entries = keys.iter().map(|key| (*key, entry("v"))).collect();
                        store.set_many(entries, None).unwrap();
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
fn a_server_that_lists_no_keys_cannot_be_cleared_and_says_why() {
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

// Servers that hang, die, and come back.

#[test]
fn a_server_that_is_absent_at_first_is_no_error_of_construction() {
    let server = servers::Memcached::start();
    server.kill();
    let store = store(&server);
    assert_eq!(store.ping().unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart();
    let began = Instant::now();
    eventually(|| store.ping());
    assert!(began.elapsed() < SECOND * 2, "{:?}", began.elapsed());
}

#[test]
fn the_pool_forgets_the_connections_of_a_server_that_restarted() {
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
        // Nobody has seen it away: no call fails, not even one that is never sent twice.
        assert_eq!(store.increment(&key("n"), 1, None).unwrap(), 1);
        assert_eq!(text(store.get(&key("k")).unwrap()), None);
    }
}

#[test]
fn a_server_that_hangs_costs_one_timeout_and_then_nothing() {
    guarded(|| {
        let server = servers::Memcached::start();
        let timeout = Duration::from_millis(300);
        let store = quick(&server, timeout);
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
                    assert!(took < timeout + Duration::from_millis(250), "{took:?}");
                });
            }
        });
        let began = Instant::now();
        for _ in 0..1_000 {
            let error = store.get(&key("k")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
        assert!(began.elapsed() < timeout, "{:?}", began.elapsed());
        server.resume();
        let began = Instant::now();
        eventually(|| store.get(&key("k")));
        assert!(began.elapsed() < SECOND * 2, "{:?}", began.elapsed());
    });
}

#[test]
fn a_connection_made_at_the_last_moment_is_bounded_too() {
    guarded(|| {
        let server = servers::Memcached::start();
        // Waiting for the one connection takes nearly all the time of those who come later.
        let store = Memcached::builder()
            .server(server.address().to_string())
            .timeout(Duration::from_millis(100))
            .pool_size(1)
            .build()
            .unwrap();
        for _ in 0..5 {
            eventually(|| store.ping());
            server.pause();
            scope(|scope| {
                for wait in 0..20 {
                    let store = &store;
                    scope.spawn(move || {
                        sleep(Duration::from_millis(wait));
                        let began = Instant::now();
                        assert!(store.get(&key("k")).is_err());
                        let took = began.elapsed();
                        assert!(took < Duration::from_millis(350), "{took:?}");
                    });
                }
            });
            server.resume();
        }
    });
}

#[test]
fn a_write_that_timed_out_never_comes_after_a_later_delete() {
    guarded(|| {
        let server = servers::Memcached::start();
        let store = quick(&server, Duration::from_millis(150));
        for round in 0..10 {
            store.set(&key("k"), entry("before"), None).unwrap();
            server.pause();
            let late = match round % 3 {
                0 => store.set(&key("k"), entry("ghost"), None),
                1 => store.set_many(vec![(key("k"), entry("ghost"))], None),
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
fn of_several_servers_one_that_is_down_is_an_error_for_its_keys_alone() {
    let servers: Vec<_> = (0..3).map(|_| servers::Memcached::start()).collect();
    let list: Vec<String> = servers
        .iter()
        .map(|server| server.address().to_string())
        .collect();
    let store = Memcached::new(&format!("memcache://{}", list.join(","))).unwrap();
    let names: Vec<String> = (0..300).map(|i| format!("ns:{i}")).collect();
    let keys: Vec<Key<'_>> = names.iter().map(|name| key(name)).collect();
    let entries = keys.iter().map(|key| (*key, entry(key.text()))).collect();
    store.set_many(entries, None).unwrap();
    for server in &servers {
        let held: String = server.raw(b"stats items");
        assert!(
            held.starts_with("STAT items:"),
            "a server has nothing: {held}"
        );
    }
    // The same keys on the same servers, in whichever order these are named.
    let turned: Vec<String> = list.iter().rev().cloned().collect();
    let other = Memcached::new(&format!("memcache://{}", turned.join(","))).unwrap();
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
    // What can be deleted is deleted.
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
fn a_hanging_server_does_not_take_the_healthy_ones_with_it() {
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
            let entries = || keys.iter().map(|key| (*key, entry("v"))).collect();
            eventually(|| store.set_many(entries(), None));
            hanging.pause();
            let began = Instant::now();
            assert!(store.delete_many(&keys).is_err());
            assert!(
                began.elapsed() < Duration::from_millis(450),
                "{:?}",
                began.elapsed()
            );
            // The other has deleted its own, and answers.
            let answers: Vec<_> = keys.iter().filter_map(|key| store.get(key).ok()).collect();
            assert!(answers.len() > 20, "{} answers", answers.len());
            assert!(answers.iter().all(Option::is_none));
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
            .pool_size(3)
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

// Servers that lie.

/// Answers every line with the same bytes; how many connections there were.
fn liar(answer: &'static [u8]) -> (SocketAddr, &'static AtomicUsize) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let connections: &AtomicUsize = Box::leak(Box::default());
    spawn(move || {
        for stream in listener.incoming() {
            connections.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            spawn(move || {
                let mut line = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if stream.write_all(answer).is_err() {
                        break;
                    }
                    line.clear();
                }
            });
        }
    });
    (address, connections)
}

#[test]
fn nobody_gets_the_value_of_another_key_from_a_server_that_lies() {
    guarded(|| {
        for answer in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
            b"VA 3 O1\r\nabc\r\nVA 3 O0\r\nabc\r\nMN\r\n",
            b"VA 3 O9\r\nabc\r\nMN\r\n",
            b"VA 3\r\nabc\r\nMN\r\n",
            b"VA 3 O0\r\nabcdef\r\nMN\r\n",
            b"VA 1073741824 O0\r\nabc",
            b"VA 99999999999999999999 O0\r\n",
            b"CLIENT_ERROR bad command line format\r\nMN\r\n",
        ] {
            let (address, _) = liar(answer);
            let store = Memcached::builder()
                .server(address.to_string())
                .timeout(Duration::from_millis(200))
                .build()
                .unwrap();
            let found = store.get_many(&[key("a"), key("b")]);
            assert!(found.is_err(), "{found:?}");
        }
    });
}

#[test]
fn a_connection_with_more_bytes_than_were_asked_for_is_not_used_again() {
    let (address, connections) = liar(b"VA 1\r\n1\r\nVA 1\r\n2\r\n");
    let store = Memcached::new(&format!("memcache://{address}")).unwrap();
    for _ in 0..5 {
        assert_eq!(text(store.get(&key("k")).unwrap()).as_deref(), Some("1"));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

// Ways in: unix sockets, passwords, TLS.

/// A server started by hand, since it cannot be asked in the clear over TCP whether it is up.
struct ByHand {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl ByHand {
    /// A folder of its own, and a free port.
    fn prepare(name: &str) -> (PathBuf, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder =
            std::env::temp_dir().join(format!("cacheio-{name}-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        (folder, port)
    }

    fn start((folder, port): (PathBuf, u16), arguments: &[&str]) -> Self {
        let child = Command::new("memcached")
            .args(["-u", "root", "-U", "0"])
            .args(arguments)
            .stderr(Stdio::null())
            .spawn()
            .expect("memcached is installed: apt-get install memcached");
        Self {
            child,
            folder,
            port,
        }
    }

    fn on_tcp(place: (PathBuf, u16), arguments: &[&str]) -> Self {
        let port = place.1;
        let server = Self::start(
            place,
            &[&["-l", "127.0.0.1", "-p", &port.to_string()], arguments].concat(),
        );
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            sleep(Duration::from_millis(5));
        }
        server
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_a_server_too() {
    guarded(|| {
        let place = ByHand::prepare("unix");
        let path = place.0.join("mem cached.sock");
        let path = path.to_str().unwrap().to_owned();
        let encoded = path.replace(' ', "%20");
        let mut server = ByHand::start(place, &["-s", &path]);
        let stores = [
            Memcached::new(&format!("memcache://{encoded}")).unwrap(),
            Memcached::new(&format!("memcache+unix://{encoded}")).unwrap(),
            Memcached::builder().unix_socket(&path).build().unwrap(),
        ];
        for store in &stores {
            eventually(|| store.ping());
            store.set(&key("ns:k"), entry("v"), None).unwrap();
            assert_eq!(text(store.get(&key("ns:k")).unwrap()).as_deref(), Some("v"));
            store.clear("ns:").unwrap();
            assert!(!store.has(&key("ns:k")).unwrap());
        }
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        assert_eq!(stores[0].ping().unwrap_err().kind(), ErrorKind::Unavailable);
    });
}

#[test]
fn a_password_lets_in_and_never_shows() {
    guarded(|| {
        let place = ByHand::prepare("password");
        let file = place.0.join("passwords");
        fs::write(&file, "ann:s3cr:t\n").unwrap();
        let server = ByHand::on_tcp(place, &["-Y", file.to_str().unwrap()]);
        let address = format!("127.0.0.1:{}", server.port);

        let store = Memcached::new(&format!("memcache://ann:s3cr%3At@{address}")).unwrap();
        store.set(&key("k"), entry("v"), None).unwrap();
        assert_eq!(text(store.get(&key("k")).unwrap()).as_deref(), Some("v"));
        assert!(!format!("{store:?}").contains("s3cr"));

        for wrong in [
            format!("memcache://ann:wr0ng@{address}"),
            format!("memcache://{address}"),
        ] {
            let store = Memcached::new(&wrong).unwrap();
            let error = store.get(&key("k")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Server, "{error:?}");
            assert!(!format!("{error:?} {error} {store:?}").contains("wr0ng"));
            // A server that refuses is one that answers.
            assert_eq!(store.get(&key("k")).unwrap_err().kind(), ErrorKind::Server);
        }
    });
}

/// A certificate for this machine, and one of who signed it.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .stderr(Stdio::null())
            .status()
            .expect("openssl is installed: apt-get install openssl");
        assert!(made.success(), "openssl {arguments}");
    };
    fs::write(
        folder.join("names"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
    )
    .unwrap();
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {new} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"
    ));
    for who in ["server", "client"] {
        openssl(&format!(
            "req {new} -keyout {who}.key -out {who}.csr -subj /CN={who}"
        ));
        openssl(&format!(
            "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {who}.pem -days 2 -extfile names"
        ));
    }
}

#[test]
fn tls_is_spoken_to_a_server_that_can_be_trusted() {
    guarded(|| {
        let place = ByHand::prepare("tls");
        let folder = place.0.clone();
        certificates(&folder);
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let options = format!(
            "ssl_chain_cert={},ssl_key={},ssl_ca_cert={},ssl_verify_mode=2",
            file("server.pem"),
            file("server.key"),
            file("ca.pem"),
        );
        let server = ByHand::on_tcp(place, &["-Z", "-o", &options]);
        let (ca, cert, secret) = (file("ca.pem"), file("client.pem"), file("client.key"));
        let address = format!("localhost:{}", server.port);

        let url = format!("memcache+tls://{address}?ca={ca}&cert={cert}&key={secret}&timeout=5s");
        let store = Memcached::new(&url).unwrap();
        let large = "x".repeat(700_000);
        for _ in 0..3 {
            store.set(&key("ns:k"), entry(&large), None).unwrap();
            assert_eq!(
                text(store.get(&key("ns:k")).unwrap()).as_ref(),
                Some(&large)
            );
        }
        let names: Vec<String> = (0..5_000).map(|i| format!("ns:{i}")).collect();
        let keys: Vec<Key<'_>> = names.iter().map(|name| key(name)).collect();
        let entries = keys.iter().map(|key| (*key, entry(key.text())));
        store.set_many(entries.collect(), None).unwrap();
        for (found, name) in store.get_many(&keys).unwrap().into_iter().zip(&names) {
            assert_eq!(text(found).as_ref(), Some(name));
        }
        store.clear("ns:").unwrap();
        assert!(store.get_many(&keys).unwrap().iter().all(Option::is_none));

        // One that nobody trusts, no TLS at all, and a client that shows nothing.
        for url in [
            format!("memcache+tls://{address}?ca={cert}&timeout=2s"),
            format!("memcache://{address}?timeout=2s"),
            format!("memcache+tls://{address}?ca={ca}&timeout=2s"),
        ] {
            let error = Memcached::new(&url).unwrap().get(&key("k")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error:?}");
        }
        for url in [
            format!("memcache+tls://{address}?ca=/nowhere.pem"),
            format!("memcache+tls://{address}?ca={ca}&cert={cert}"),
            format!("memcache://{address}?ca={ca}"),
        ] {
            assert_eq!(
                Memcached::new(&url).unwrap_err().kind(),
                ErrorKind::Config,
                "{url}"
            );
        }
    });
}

// URLs.

#[test]
fn a_url_that_makes_no_sense_is_said_to_without_its_password() {
    for url in [
        "memcache://",
        "memcache://user@host",
        "memcache://user:secret@",
        "memcache://user:secret@host:port",
        "memcache://user:secret%zz@host",
        "memcache://:secret@host",
        "memcache://user:secret@host/0",
        "memcache://user:secret@host,",
        "memcache://user:secret@host,host:11211",
        "memcache://user:secret@host?timeout=soon",
        "memcache://user:secret@host?timeout=0",
        "memcache://user:secret@host?pool=0",
        "memcache://user:secret@host?pool=many",
        "memcache://user:secret@host?retries=3",
        "memcache+unix://user:secret@host",
        "redis://user:secret@host",
        "user:secret@host",
    ] {
        let error = Memcached::new(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
    }
}

#[test]
fn urls_say_where_servers_are() {
    let shown = |url| format!("{:?}", Memcached::new(url).unwrap());
    assert_eq!(
        shown("memcache://user:secret@a,b:1,[::1],[::1]:2/?timeout=250ms&pool=4"),
        "Memcached { servers: [a:11211, b:1, [::1]:11211, [::1]:2], timeout: 250ms }"
    );
    assert_eq!(
        shown("memcache:///run/mem%20cached.sock"),
        "Memcached { servers: [/run/mem cached.sock], timeout: 1s }"
    );
}
