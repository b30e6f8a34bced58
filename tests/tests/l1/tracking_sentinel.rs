//! A master behind sentinels tells of changes, and so does the next one.

use std::thread::sleep;

use cacheio_tests::servers::{Proxy, Redis, Sentinel};
use cacheio_tests::watchdog::guarded;

use crate::support::{
    LONG, SHORT, copy, nothing_old_after_the_bound, open, until, until_heard, until_probed,
};

fn url(sentinel: &Sentinel) -> String {
    let address = sentinel.address();
    format!("redis-sentinel://{address}/main/0?timeout=500ms")
}

#[test]
fn a_write_of_another_process_is_told() {
    guarded(|| {
        let server = Redis::start();
        let sentinel = Sentinel::start(&server);
        let (cache, other) = (open(&url(&sentinel), LONG), open(&url(&sentinel), LONG));
        until_probed(&server, &cache);
        cache.set("k", 0_i64).unwrap();
        for value in 1..20 {
            copy(&cache, "k", Some(value - 1));
            other.set("k", value).unwrap();
            until(&cache, "k", Some(value));
        }
        other.delete("k").unwrap();
        until(&cache, "k", None);
    });
}

/// Fails over while there is a copy, and then writes to the new master.
fn nothing_old_is_served_after_a_failover(fail_over: impl FnOnce(&Redis, &Redis, &Sentinel)) {
    let master = Redis::start();
    let replica = master.start_replica();
    let sentinel = Sentinel::start(&master);
    let cache = open(&url(&sentinel), SHORT);
    cache.set("k", 1_i64).unwrap();
    until_heard(&cache, SHORT);
    master.until_replicated("");
    sentinel.until_it_knows_a_replica();
    nothing_old_after_the_bound(&cache, "k", || {
        fail_over(&master, &replica, &sentinel);
        replica.run("SET cacheio:k 2");
    });
    until(&cache, "k", Some(2));
    until_heard(&cache, SHORT);
    copy(&cache, "k", Some(2));
    replica.run("SET cacheio:k 3");
    until(&cache, "k", Some(3));
}

#[test]
fn nothing_old_is_served_after_the_master_was_killed() {
    guarded(|| {
        nothing_old_is_served_after_a_failover(|master, replica, sentinel| {
            master.kill();
            sentinel.until_master(replica);
        });
    });
}

#[test]
fn nothing_old_is_served_after_the_master_has_hung() {
    guarded(|| {
        nothing_old_is_served_after_a_failover(|master, replica, sentinel| {
            master.pause();
            sentinel.until_master(replica);
        });
    });
}

/// The old master goes on as a master: the sentinel demotes it only after some seconds.
#[test]
fn nothing_old_is_served_from_a_master_that_was_replaced() {
    guarded(|| {
        nothing_old_is_served_after_a_failover(|_, replica, sentinel| sentinel.fail_over(replica));
    });
}

#[test]
fn nothing_old_is_served_from_a_master_that_resumes_after_it_was_replaced() {
    guarded(|| {
        nothing_old_is_served_after_a_failover(|master, replica, sentinel| {
            master.pause();
            sentinel.until_master(replica);
            master.resume();
        });
    });
}

/// If no sentinel replies, it is not known whether the master is still the one.
#[test]
fn a_master_without_a_sentinel_is_not_trusted() {
    guarded(|| {
        let server = Redis::start();
        let sentinel = Sentinel::start(&server);
        let proxy = Proxy::to(sentinel.address());
        let url = format!("redis-sentinel://{}/main/0?timeout=500ms", proxy.address());
        let cache = open(&url, SHORT);
        for _ in 0..2 {
            until_heard(&cache, SHORT);
            proxy.swallow(true);
            sleep(SHORT * 2);
            assert!(!cache.stats().l1_trusted);
            copy(&cache, "heard", Some(1));
            proxy.swallow(false);
        }
        until_heard(&cache, SHORT);
    });
}

/// The old master goes on replying to reads, as a replica.
#[test]
fn nothing_old_is_served_after_the_master_was_demoted() {
    guarded(|| {
        nothing_old_is_served_after_a_failover(|master, replica, sentinel| {
            sentinel.fail_over(replica);
            // The sentinel does this after some seconds. It would also end the connections.
            master.run(&format!("REPLICAOF 127.0.0.1 {}", replica.port()));
        });
    });
}
