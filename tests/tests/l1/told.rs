//! A server that tells of changes, in forced orders. The test tells in its place.

use std::thread;
use std::time::{Duration, Instant};

use cacheio_core::__private::RemovedCopies;
use cacheio_core::{Options, Ttl};
use cacheio_sync::{Cache, L1, Memory};
use cacheio_tests::watchdog::guarded;

use std::sync::Arc;

use crate::server::Server;

const BOUND: Duration = Duration::from_secs(2);
const MILLISECOND: Duration = Duration::from_millis(1);

fn get(cache: &Cache) -> Option<i64> {
    cache.get("k").unwrap()
}

/// What the server tells while the answer to a read is on its way.
type Tell = fn(&Server) -> RemovedCopies;

const TOLD: [(&str, Tell); 3] = [
    ("a change", |server| server.shared.changed("cacheio:k")),
    ("a flush", |server| server.shared.changed_all()),
    ("the connection is lost", |server| server.shared.unheard()),
];

#[test]
fn what_is_told_before_the_answer_of_a_read_is_put_in_leaves_no_copy() {
    guarded(|| {
        for (told, tell) in TOLD {
            let server = Server::new();
            let cache = server.open();
            server.set_elsewhere("k", 1);
            drop(server.tell());
            server.answers.close();
            thread::scope(|scope| {
                let reading = scope.spawn(|| get(&cache));
                server.answers.wait_until_held(1);
                server.set_elsewhere("k", 2);
                drop(tell(&server));
                server.answers.open();
                assert_eq!(reading.join().unwrap(), Some(1));
            });
            assert_eq!(get(&cache), Some(2), "{told}");
        }
    });
}

/// A connection that was lost and one that replaces it: what was read on the first one is not told on the second.
#[test]
fn an_answer_of_a_lost_connection_becomes_no_copy_when_the_server_is_heard_again() {
    guarded(|| {
        let server = Server::new();
        let cache = server.open();
        server.set_elsewhere("k", 1);
        drop(server.tell());
        server.answers.close();
        thread::scope(|scope| {
            let reading = scope.spawn(|| get(&cache));
            server.answers.wait_until_held(1);
            drop(server.shared.unheard());
            drop(server.tell());
            server.answers.open();
            assert_eq!(reading.join().unwrap(), Some(1));
        });
        server.set_elsewhere("k", 2);
        assert_eq!(get(&cache), Some(2));
    });
}

fn open_by_clock(server: &Arc<Server>) -> Cache {
    let memory = Memory::builder().capacity(100);
    let memory = memory.clock(Arc::clone(&server.clock)).build();
    server.open_with(L1::new(memory).max_staleness(BOUND))
}

#[test]
fn a_copy_is_served_for_the_bound_after_the_server_was_heard() {
    let server = Server::new();
    let cache = open_by_clock(&server);
    server.set_elsewhere("k", 1);
    assert!(!cache.stats().l1_trusted);
    drop(server.tell());
    assert!(cache.stats().l1_trusted);
    assert_eq!(get(&cache), Some(1));
    server.set_elsewhere("k", 2);
    for _ in 0..3 {
        // Less than the bound, because some time passes until the next line.
        server.clock.advance(BOUND / 2);
        assert_eq!(get(&cache), Some(1), "nothing was told");
        drop(server.tell());
    }
    server.clock.advance(BOUND);
    assert!(!cache.stats().l1_trusted);
    assert_eq!(get(&cache), Some(2));
}

/// The L1 of a cache that is built later does not rely on what the server has confirmed to others: its copies end
/// by themselves until the server is heard again.
#[test]
fn a_new_l1_is_trusted_when_the_server_is_heard_again() {
    let server = Server::new();
    let first = open_by_clock(&server);
    server.set_elsewhere("k", 1);
    drop(server.tell());
    assert_eq!(get(&first), Some(1));
    let new = open_by_clock(&server);
    assert_eq!(get(&new), Some(1));
    assert!(first.stats().l1_trusted && !new.stats().l1_trusted);
    server.set_elsewhere("k", 2);
    server.clock.advance(BOUND - MILLISECOND);
    assert_eq!(get(&new), Some(1));
    server.clock.advance(MILLISECOND);
    assert_eq!(get(&new), Some(2));
    drop(server.tell());
    assert!(new.stats().l1_trusted);
    // This copy was read before that.
    server.set_elsewhere("k", 3);
    server.clock.advance(BOUND / 2);
    drop(server.tell());
    server.clock.advance(BOUND / 2);
    drop(server.tell());
    assert_eq!(get(&new), Some(3));
}

#[test]
fn copies_that_are_removed_because_of_a_change_are_counted() {
    let server = Server::new();
    let (cache, other) = (server.open(), server.open());
    for key in 0..5_i64 {
        cache.set_with(key, key, Options::ttl(Ttl::Never)).unwrap();
    }
    drop(server.tell());
    for key in 0..5_i64 {
        assert_eq!(cache.get(key).unwrap(), Some(key));
    }
    assert_eq!(other.get(0).unwrap(), Some(0));
    let told = |key: &str| drop(server.shared.changed(key));
    let counts = || [&cache, &other].map(|cache| cache.stats().invalidations);
    told("cacheio:0");
    assert_eq!(counts(), [1, 1]);
    // No copy of these.
    told("cacheio:0");
    told("cacheio:missing");
    told("1");
    assert_eq!(counts(), [1, 1]);
    // A write of this process is not told.
    cache.set(1, 2_i64).unwrap();
    assert_eq!(counts(), [1, 1]);
    drop(server.shared.changed_all());
    assert_eq!(counts(), [4, 1]);
    // The connection is lost: nothing is told.
    assert_eq!(cache.get(2).unwrap(), Some(2));
    drop(server.shared.unheard());
    drop(server.shared.heard(Instant::now()));
    assert_eq!(counts(), [4, 1]);
}
