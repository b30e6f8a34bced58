//! A Redis that tells of changes: what L1 serves while it does, and when it no longer does.

use std::thread::sleep;
use std::time::Duration;

use cacheio_core::{Options, Update};
use cacheio_sync::Cache;
use cacheio_tests::servers::{Proxy, Redis};
use cacheio_tests::watchdog::guarded;

use crate::support::{
    LONG, SHORT, copy, get, nothing_old_after_the_bound, nothing_read_is_older_than_the_bound,
    open, until, until_batch_copied, until_heard, until_probed,
};

#[test]
fn a_write_of_another_process_is_told() {
    guarded(|| {
        let server = Redis::start();
        let (cache, other) = (open(&server.url(), LONG), open(&server.url(), LONG));
        until_probed(&server, &cache);
        cache.set("k", 0_i64).unwrap();
        for value in 1..20 {
            copy(&cache, "k", Some(value - 1));
            match value % 4 {
                3 => {
                    let next = |old: Option<i64>| Update::Set(old.unwrap() + 1);
                    assert_eq!(other.update("k", next).unwrap(), Some(value));
                }
                0 => other.set_many([("k", value), ("l", 1)]).unwrap(),
                1 => assert_eq!(other.increment("k", 1).unwrap(), value),
                _ => other.set("k", value).unwrap(),
            }
            until(&cache, "k", Some(value));
        }
        copy(&cache, "k", Some(19));
        other.delete("k").unwrap();
        until(&cache, "k", None);
        other.set("k", 1_i64).unwrap();
        copy(&cache, "k", Some(1));
        assert_eq!(other.take::<i64>("k").unwrap(), Some(1));
        until(&cache, "k", None);
        other.set("k", 1_i64).unwrap();
        copy(&cache, "k", Some(1));
        other.clear().unwrap();
        until(&cache, "k", None);
    });
}

#[test]
fn writes_of_other_programs_are_told() {
    guarded(|| {
        let server = Redis::start();
        let cache = open(&server.url(), LONG);
        until_probed(&server, &cache);
        for (command, expected) in [
            ("SET cacheio:k 2", Some(2)),
            ("DEL cacheio:k", None),
            ("PEXPIRE cacheio:k 1", None),
            ("RENAME cacheio:k cacheio:l", None),
            ("FLUSHALL", None),
        ] {
            cache.set("k", 1_i64).unwrap();
            copy(&cache, "k", Some(1));
            server.run(command);
            until(&cache, "k", expected);
        }
    });
}

/// The server forgets what a connection has read while it executes a command of that connection. It must tell it that,
/// because it tells nothing of later changes.
#[test]
fn what_the_server_forgets_during_a_command_of_this_process_is_told() {
    const KEYS: u64 = 600;
    guarded(|| {
        for is_evicted in [false, true] {
            let server = Redis::start();
            let (cache, other) = (open(&server.url(), LONG), open(&server.url(), LONG));
            until_probed(&server, &cache);
            if !is_evicted {
                server.run("CONFIG SET tracking-table-max-keys 50");
            }
            cache.set_many((0..KEYS).map(|key| (key, 1_i64))).unwrap();
            for key in 0..KEYS {
                assert_eq!(cache.get(key).unwrap(), Some(1_i64));
            }
            if is_evicted {
                let limit = used_memory(&server) + (16 << 10);
                server.run("CONFIG SET maxmemory-policy allkeys-random");
                server.run(&format!("CONFIG SET maxmemory {limit}"));
                cache.set("large", "x".repeat(64 << 10)).unwrap();
                cache.ping().unwrap();
                let stats = server.run("INFO stats");
                assert!(!stats.text().contains("evicted_keys:0\r"));
                server.run("CONFIG SET maxmemory 0");
            }
            other.set_many((0..KEYS).map(|key| (key, 2_i64))).unwrap();
            for key in 0..KEYS {
                until(&cache, &key.to_string(), Some(2));
            }
        }
    });
}

fn used_memory(server: &Redis) -> u64 {
    let info = server.run("INFO memory");
    let used = info
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.unwrap().parse().unwrap()
}

#[test]
fn a_copy_outlives_the_bound_while_the_server_is_heard() {
    guarded(|| {
        let server = Redis::start();
        let cache = open(&server.url(), SHORT);
        until_heard(&cache, SHORT);
        let ttl = SHORT * 8;
        cache.set_with("k", 1_i64, ttl).unwrap();
        assert_eq!(get(&cache, "k"), Some(1));
        let before = cache.stats();
        for _ in 0..6 {
            sleep(SHORT);
            assert_eq!(get(&cache, "k"), Some(1));
        }
        assert_eq!(cache.stats().l1_hits, before.l1_hits + 6);
        // But not its entry.
        sleep(SHORT * 3);
        assert_eq!(get(&cache, "k"), None);
    });
}

/// Each key is read over its own connection, which is the one that the server tells.
#[test]
fn a_batch_over_several_connections_is_tracked() {
    const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    guarded(|| {
        let server = Redis::start();
        let url = format!("{}?connections=3", server.url());
        let (cache, other) = (open(&url, SHORT), open(&url, SHORT));
        cache.set_many(KEYS.map(|key| (key, 1_i64))).unwrap();
        until_batch_copied(&KEYS, &cache, SHORT);
        let cache = open(&url, LONG);
        cache.set_many(KEYS.map(|key| (key, 1_i64))).unwrap();
        sleep(SHORT);
        for value in 2..5 {
            let old = cache.get_many::<i64>(KEYS).unwrap();
            assert_eq!(old, [Some(value - 1); 8]);
            other.set_many(KEYS.map(|key| (key, value))).unwrap();
            for key in KEYS {
                until(&cache, key, Some(value));
            }
        }
    });
}

/// Redis tells late that an entry has expired.
#[test]
fn a_copy_whose_rest_of_the_ttl_is_unknown_ends_by_itself() {
    guarded(|| {
        let server = Redis::start();
        server.run("ACL SETUSER plain on >pw ~* &* +@all -pttl");
        let cache = open(&format!("redis://plain:pw@{}", server.address()), SHORT);
        until_probed(&server, &cache);
        cache.set("k", 1_i64).unwrap();
        copy(&cache, "k", Some(1));
        for _ in 0..3 {
            let before = cache.stats().l1_hits;
            sleep(SHORT);
            assert_eq!(get(&cache, "k"), Some(1));
            assert_eq!(cache.stats().l1_hits, before);
        }
    });
}

/// The versions of tags are tracked, too.
#[test]
fn a_tag_that_another_process_invalidates_is_told() {
    guarded(|| {
        let server = Redis::start();
        let (cache, other) = (open(&server.url(), LONG), open(&server.url(), LONG));
        until_probed(&server, &cache);
        let options = || Options::new().tags(["t", "u"]);
        for tag in ["t", "u", "t"] {
            other.set_with("k", 1_i64, options()).unwrap();
            copy(&cache, "k", Some(1));
            let hits = cache.stats().l1_hits;
            copy(&cache, "k", Some(1));
            assert_eq!(cache.stats().l1_hits, hits + 2);
            other.invalidate_tags([tag]).unwrap();
            until(&cache, "k", None);
            cache.set_with("k", 2_i64, options()).unwrap();
            copy(&cache, "k", Some(2));
            other.invalidate_tags([tag]).unwrap();
            until(&cache, "k", None);
        }
    });
}

#[test]
fn a_copy_with_a_tag_outlives_the_bound_while_the_server_is_heard() {
    guarded(|| {
        let server = Redis::start();
        let (cache, other) = (open(&server.url(), SHORT), open(&server.url(), SHORT));
        let options = Options::new().tags(["t"]);
        other.set_with("k", 1_i64, options).unwrap();
        until_batch_copied(&["k"], &cache, SHORT);
        other.invalidate_tags(["t"]).unwrap();
        until(&cache, "k", None);
    });
}

#[test]
fn a_connection_that_falls_silent_is_not_trusted_after_the_bound() {
    guarded(|| {
        let server = Redis::start();
        let proxy = Proxy::to(server.address());
        let url = format!("redis://{}?timeout=200ms", proxy.address());
        let cache = open(&url, SHORT);
        for _ in 0..2 {
            // The timeout is short, and the machine may be busy.
            while cache.set("k", 1_i64).is_err() {}
            until_heard(&cache, SHORT);
            nothing_old_after_the_bound(&cache, "k", || {
                proxy.lose_connections();
                server.run("SET cacheio:k 2");
            });
            until(&cache, "k", Some(2));
        }
        until_heard(&cache, SHORT);
    });
}

#[test]
fn a_connection_that_is_closed_leaves_no_copies() {
    guarded(|| {
        let server = Redis::start();
        let proxy = Proxy::to(server.address());
        let cache = open(&format!("redis://{}", proxy.address()), SHORT * 10);
        let mut shortest = LONG;
        for value in 0..5 {
            cache.set("k", value).unwrap();
            copy(&cache, "k", Some(value));
            proxy.cut_now();
            server.run("SET cacheio:k 9");
            shortest = shortest.min(until(&cache, "k", Some(9)));
            sleep(SHORT);
        }
        assert!(shortest < SHORT * 5, "{shortest:?}");
    });
}

#[test]
fn a_server_that_was_stopped_is_trusted_again() {
    guarded(|| {
        let server = Redis::start();
        let cache = open(&format!("{}?timeout=200ms", server.url()), SHORT);
        cache.set("k", 1_i64).unwrap();
        until_heard(&cache, SHORT);
        copy(&cache, "k", Some(1));
        server.pause();
        sleep(SHORT);
        for _ in 0..3 {
            assert!(cache.get::<i64>("k").is_err(), "it is not trusted");
        }
        server.resume();
        until(&cache, "k", Some(1));
        until_heard(&cache, SHORT);
    });
}

/// Another server has become the master behind the address. The old one goes on replying to reads.
#[test]
fn a_master_that_was_demoted_is_not_trusted_after_the_bound() {
    guarded(|| {
        let (old, new) = (Redis::start(), Redis::start());
        let proxy = Proxy::to(old.address());
        let cache = open(&format!("redis://{}", proxy.address()), SHORT);
        cache.set("k", 1_i64).unwrap();
        until_heard(&cache, SHORT);
        nothing_old_after_the_bound(&cache, "k", || {
            proxy.lead_to(new.address());
            old.run(&format!("REPLICAOF 127.0.0.1 {}", proxy.address().port()));
            new.run("SET cacheio:k 2");
        });
        until(&cache, "k", Some(2));
        until_heard(&cache, SHORT);
    });
}

#[test]
fn a_server_that_cannot_tell_is_bounded() {
    guarded(|| {
        let server = Redis::start();
        server.run("ACL SETUSER untold on >pw ~* &* +@all -client|tracking");
        let address = server.address();
        for url in [
            format!("redis://{address}?protocol=resp2"),
            format!("redis://untold:pw@{address}"),
        ] {
            let cache = open(&url, SHORT);
            cache.set("k", 1_i64).unwrap();
            copy(&cache, "k", Some(1));
            assert!(cache.stats().l1_hits > 0);
            server.run("SET cacheio:k 2");
            sleep(SHORT);
            assert_eq!(get(&cache, "k"), Some(2), "{url}");
        }
    });
}

/// A server that does not let a user ask whether it may be written to is not trusted, and is not connected to
/// again and again.
#[test]
fn a_server_that_refuses_the_keeper_is_bounded_and_its_connection_stays() {
    guarded(|| {
        let server = Redis::start();
        server.run("ACL SETUSER plain on >pw ~* &* +@all -@scripting -role");
        let url = format!("redis://plain:pw@{}", server.address());
        let (cache, other) = (open(&url, SHORT), open(&server.url(), SHORT));
        cache.set("n", 0_i64).unwrap();
        let connections = || {
            let info = server.run("INFO stats");
            let lines = info.text().lines();
            let mut counts =
                lines.filter_map(|line| line.strip_prefix("total_connections_received:"));
            counts.next().unwrap().trim().parse::<u64>().unwrap()
        };
        other.set("n", 0_i64).unwrap();
        let before = connections();
        for _ in 0..50 {
            cache.increment("n", 1).unwrap();
            sleep(Duration::from_millis(10));
        }
        // Each look at the statistics is a connection of the test.
        assert!(connections() - before < 10);
        cache.set("k", 1_i64).unwrap();
        nothing_old_after_the_bound(&cache, "k", || other.set("k", 2_i64).unwrap());
    });
}

#[test]
fn a_cache_without_l1_is_not_tracked() {
    guarded(|| {
        let server = Redis::start();
        let cache = Cache::from_url(&server.url()).unwrap();
        cache.set("k", 1).unwrap();
        let clients = server.run("CLIENT LIST");
        assert!(!clients.text().contains("flags=t"), "{clients:?}");
        let tracked = open(&server.url(), SHORT);
        tracked.set("k", 1).unwrap();
        let clients = server.run("CLIENT LIST");
        assert!(clients.text().contains("flags=t"), "{clients:?}");
    });
}

/// Connections are cut and lost, and the server stops.
#[test]
fn no_read_is_older_than_the_bound() {
    guarded(|| {
        let server = Redis::start();
        let proxy = Proxy::to(server.address());
        let url = format!("redis://{}?timeout=300ms", proxy.address());
        let cache = open(&url, SHORT);
        let writer = Cache::from_url(&format!("{}?timeout=20s", server.url())).unwrap();
        nothing_read_is_older_than_the_bound(&cache, &writer, |round| match round % 200 {
            50 => proxy.cut_now(),
            100 => proxy.lose_connections(),
            150 => {
                server.pause();
                sleep(SHORT * 2);
                server.resume();
            }
            _ => sleep(Duration::from_millis(2)),
        });
    });
}
