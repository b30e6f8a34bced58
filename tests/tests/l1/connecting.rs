//! Connections for a cache with L1: the server may refuse what tracking needs, or not reply to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cacheio_core::ErrorKind;
use cacheio_tests::servers::{FakeRedis, Proxy, Redis};
use cacheio_tests::watchdog::guarded;

use crate::support::{SHORT, get, nothing_old_after_the_bound, open};

/// Longer than any timeout.
const SILENT: Duration = Duration::from_secs(20);

fn usual_reply(command: &[String]) -> String {
    match command[0].as_str() {
        "PTTL" => ":-1\r\n".into(),
        _ => FakeRedis::usual_reply(command),
    }
}

#[test]
fn a_password_that_is_refused_is_tried_once() {
    for (user, refusal) in [
        ("me:word@", "-WRONGPASS invalid username-password pair\r\n"),
        (
            "",
            "-NOAUTH HELLO must be called with the client authenticated\r\n",
        ),
    ] {
        let server = FakeRedis::start(move |command| match command[0].as_str() {
            "HELLO" => Some(refusal.into()),
            _ => Some(usual_reply(command)),
        });
        let cache = open(&format!("redis://{user}{}", server.address()), SHORT);
        let error = cache.get::<i64>("k").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server, "{error:?}");
        assert_eq!(server.connections(), 1, "{refusal}");
    }
}

#[test]
fn a_server_that_does_not_reply_to_client_tracking_is_used() {
    guarded(|| {
        let server = FakeRedis::start(|command| {
            if command[0] == "CLIENT" && command[1] == "TRACKING" {
                sleep(SILENT);
            }
            Some(usual_reply(command))
        });
        let cache = open(&format!("{}?timeout=4s", server.url()), SHORT);
        assert_eq!(get(&cache, "k"), Some(5));
        assert!(!cache.stats().l1_trusted);
    });
}

/// All attempts to connect within the timeout begin with a handshake for pushes.
#[test]
fn a_server_that_does_not_reply_to_the_handshake_for_pushes_is_used() {
    guarded(|| {
        let handshakes = AtomicUsize::new(0);
        let server = FakeRedis::start(move |command| {
            if command[0] == "HELLO" && handshakes.fetch_add(1, Ordering::SeqCst) < 5 {
                sleep(SILENT);
            }
            Some(usual_reply(command))
        });
        let begun = Instant::now();
        let cache = open(&format!("{}?timeout=4s", server.url()), SHORT);
        assert_eq!(get(&cache, "k"), Some(5), "{:?}", begun.elapsed());
    });
}

#[test]
fn behind_a_proxy_that_swallows_pushes_nothing_is_older_than_the_bound() {
    guarded(|| {
        let server = Redis::start();
        let proxy = Proxy::to(server.address());
        proxy.drop_pushes();
        let cache = open(&format!("redis://{}", proxy.address()), SHORT);
        for _ in 0..2 {
            cache.set("k", 1_i64).unwrap();
            nothing_old_after_the_bound(&cache, "k", || drop(server.run("SET cacheio:k 2")));
            assert!(!cache.stats().l1_trusted);
        }
        assert!(cache.stats().l1_hits > 0);
        assert_eq!(cache.stats().invalidations, 0);
    });
}
