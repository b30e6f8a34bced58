//! A server that is not the master, or says at first that it cannot be tested, or is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cacheio_sync::Cache;
use cacheio_tests::servers::{FakeRedis, Proxy, Redis, RedisCluster, Reply};
use cacheio_tests::watchdog::guarded;

use crate::support::{
    LONG, SHORT, copy, get, nothing_old_after_the_bound, open, until, until_heard,
};

fn until_trusted(cache: &Cache) {
    let begun = Instant::now();
    while !cache.stats().l1_trusted {
        assert!(begun.elapsed() < LONG / 2, "it is not trusted");
        sleep(Duration::from_millis(5));
    }
}

/// A master that has lost its replicas goes on replying to reads, and refuses writes. Others write to another one.
#[test]
fn a_master_without_its_replicas_is_left() {
    guarded(|| {
        let old = Redis::start();
        let new = old.start_replica();
        let proxy = Proxy::to(old.address());
        let cache = open(&format!("redis://{}", proxy.address()), SHORT);
        cache.set("k", 1_i64).unwrap();
        until_heard(&cache, SHORT);
        old.until_replicated("");
        nothing_old_after_the_bound(&cache, "k", || {
            old.run("CONFIG SET min-replicas-to-write 1");
            proxy.lead_to(new.address());
            new.run("REPLICAOF NO ONE");
            new.run("SET cacheio:k 2");
        });
        until(&cache, "k", Some(2));
        until_heard(&cache, SHORT);
    });
}

/// There is no other server to go to.
#[test]
fn what_a_master_without_its_replicas_says_is_not_copied() {
    guarded(|| {
        let server = Redis::start();
        let cache = open(&server.url(), SHORT);
        cache.set("k", 1_i64).unwrap();
        until_heard(&cache, SHORT);
        server.run("CONFIG SET min-replicas-to-write 1");
        let hits = || {
            let before = cache.stats().l1_hits;
            for _ in 0..10 {
                copy(&cache, "k", Some(1));
                assert_eq!(cache.get_many::<i64>(["k"]).unwrap(), [Some(1)]);
            }
            cache.stats().l1_hits - before
        };
        // A new connection makes copies until its first probe.
        let begun = Instant::now();
        while hits() > 0 {
            assert!(begun.elapsed() < LONG / 2);
            sleep(SHORT / 4);
        }
        server.run("CONFIG SET min-replicas-to-write 0");
        until_heard(&cache, SHORT);
    });
}

/// Copies of what was read on an earlier connection, for which the server tells nothing.
#[test]
fn a_connection_that_is_replaced_leaves_no_copies() {
    guarded(|| {
        let (old, new) = (Redis::start(), Redis::start());
        let proxy = Proxy::to(old.address());
        let url = format!("redis://{}?protocol=resp2", proxy.address());
        let cache = open(&url, LONG);
        old.run("SET cacheio:k 1");
        copy(&cache, "k", Some(1));
        assert_eq!(cache.stats().l1_hits, 1);
        new.run("SET cacheio:k 2");
        new.run("SET cacheio:other 3");
        proxy.lead_to(new.address());
        proxy.cut_now();
        until(&cache, "other", Some(3));
        assert_eq!(get(&cache, "k"), Some(2));
    });
}

/// The first test of a connection is refused as by a replica, but the first probe is not: the test is repeated.
#[test]
fn a_server_that_was_not_tested_is_not_trusted() {
    guarded(|| {
        let tests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tests);
        let server = FakeRedis::start(move |command| {
            Some(match &*command[0] {
                "HELLO" => "%2\r\n+proto\r\n:3\r\n+version\r\n+7.2.0\r\n".into(),
                "SET" if counted.fetch_add(1, Ordering::SeqCst) == 0 => "-READONLY\r\n".into(),
                "PTTL" => ":-1\r\n".into(),
                // It sends no pushes.
                _ => FakeRedis::usual_reply(command),
            })
        });
        let cache = open(&server.url(), SHORT);
        let begun = Instant::now();
        while begun.elapsed() < SHORT * 2 {
            assert_eq!(get(&cache, "k"), Some(5));
            assert!(!cache.stats().l1_trusted);
            sleep(Duration::from_millis(2));
        }
        assert_eq!(tests.load(Ordering::SeqCst), 2);
    });
}

/// The test of a new connection fails for a reason that passes.
#[test]
fn a_server_that_had_no_memory_left_is_trusted_later() {
    guarded(|| {
        let server = Redis::start();
        let proxy = Proxy::to(server.address());
        server.run("CONFIG SET maxmemory 1");
        let cache = open(&format!("redis://{}", proxy.address()), SHORT);
        assert_eq!(get(&cache, "k"), None);
        sleep(SHORT);
        assert!(!cache.stats().l1_trusted);
        server.run("CONFIG SET maxmemory 0");
        until_trusted(&cache);
        assert_eq!(proxy.connections(), 1);
        cache.set("k", 1_i64).unwrap();
        copy(&cache, "k", Some(1));
        server.run("SET cacheio:k 2");
        until(&cache, "k", Some(2));
    });
}

#[test]
fn a_node_of_a_cluster_behind_the_url_of_a_server_is_not_trusted() {
    guarded(|| {
        let cluster = RedisCluster::start();
        let cache = open(&cluster.node(0).url(), SHORT);
        let reply = cluster.node(0).run("SET cacheio:d 1");
        assert_eq!(reply, Reply::Text("OK".into()));
        for _ in 0..20 {
            assert_eq!(get(&cache, "d"), Some(1));
            assert!(!cache.stats().l1_trusted);
            sleep(SHORT / 10);
        }
        assert!(cache.stats().l1_hits > 0);
    });
}

/// Its connections are replaced more and more rarely.
#[test]
fn a_url_that_leads_to_a_replica_does_not_connect_again_and_again() {
    guarded(|| {
        let master = Redis::start();
        let replica = master.start_replica();
        let proxy = Proxy::to(replica.address());
        let cache = open(&format!("redis://{}", proxy.address()), SHORT);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(6) {
            assert_eq!(cache.get::<i64>("k").unwrap(), None);
            sleep(Duration::from_millis(10));
        }
        let connections = proxy.connections();
        assert!(connections < 10, "{connections}");
    });
}
