//! What the log says about the trust in a server.

use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cacheio_tests::log::{Log, Logged};
use cacheio_tests::servers::{FakeRedis, Proxy, Redis};
use cacheio_tests::watchdog::guarded;
use tracing::Level;

use crate::support::{LONG, SHORT, get, open, until, until_heard};

/// The events of this binary: they come from threads of the stores.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log =
            Log::of(|metadata| metadata.target() == "cacheio" && *metadata.level() <= Level::INFO);
        tracing::subscriber::set_global_default(log.clone()).unwrap();
        log
    })
}

/// Returns the events about L1 before the server at a port.
fn events(port: u16, level: Level) -> Vec<String> {
    let port = format!(":{port}");
    let events = log().lock();
    let of_l1 = events.iter().filter(
        |Logged {
             level: of, text, ..
         }| {
            *of == level && text.contains(&port) && text.contains("tell") | text.contains("told")
        },
    );
    of_l1.map(|logged| logged.text.clone()).collect()
}

fn wait_for(port: u16, level: Level, count: usize) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let found = events(port, level);
        if found.len() >= count {
            return found;
        }
        assert!(begun.elapsed() < LONG / 2, "{found:?}");
        sleep(Duration::from_millis(5));
    }
}

fn assert_one(port: u16, reason: &str) {
    let found = wait_for(port, Level::INFO, 1);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(reason), "{found:?}");
    assert!(!found[0].contains("cacheio:"), "{found:?}");
}

#[test]
fn a_server_that_cannot_tell_is_reported_once_with_the_reason() {
    guarded(|| {
        log();
        for (url, reason) in [
            ("redis://?protocol=resp2", "RESP3"),
            ("redis://untold:pw@", "permission"),
            ("redis://plain:pw@", "neither scripts nor ROLE"),
        ] {
            let server = Redis::start();
            server.run("ACL SETUSER untold on >pw ~* &* +@all -client|tracking");
            server.run("ACL SETUSER plain on >pw ~* &* +@all -@scripting -role");
            let address = server.address().to_string();
            let url = match url.split_once('?') {
                Some((_, parameters)) => format!("redis://{address}?{parameters}"),
                None => format!("{url}{address}"),
            };
            let cache = open(&url, SHORT);
            for value in 0..3_i64 {
                cache.set("k", value).unwrap();
                until(&cache, "k", Some(value));
                wait_for(server.port(), Level::INFO, 1);
                // The next connection is another one.
                server.run("CLIENT KILL TYPE normal SKIPME yes");
            }
            assert!(!cache.stats().l1_trusted);
            assert_one(server.port(), reason);
        }
    });
}

#[test]
fn a_server_that_is_too_old_is_reported() {
    guarded(|| {
        log();
        // It says that it is 7.0.0.
        let server = FakeRedis::start(|command| match command[0].as_str() {
            "PTTL" => Some(":-1\r\n".into()),
            _ => Some(FakeRedis::usual_reply(command)),
        });
        let cache = open(&server.url(), SHORT);
        assert_eq!(get(&cache, "k"), Some(5));
        assert_one(server.address().port(), "older");
    });
}

#[test]
fn the_loss_of_trust_and_its_end_are_reported_once_for_each_outage() {
    guarded(|| {
        log();
        let server = Redis::start();
        let cache = open(&format!("{}?timeout=200ms", server.url()), SHORT);
        let counts = || [Level::WARN, Level::INFO].map(|level| events(server.port(), level).len());
        for outage in 1..=2 {
            until_heard(&cache, SHORT);
            assert!(cache.stats().l1_trusted);
            assert_eq!(counts(), [outage - 1, outage - 1]);
            server.kill();
            wait_for(server.port(), Level::WARN, outage);
            assert!(!cache.stats().l1_trusted);
            sleep(SHORT * 2);
            assert_eq!(counts(), [outage, outage - 1]);
            server.restart();
            while cache.set("k", 1_i64).is_err() {
                sleep(Duration::from_millis(10));
            }
            wait_for(server.port(), Level::INFO, outage);
        }
        let warnings = events(server.port(), Level::WARN);
        assert!(warnings[0].contains("max_staleness"), "{warnings:?}");
    });
}

#[test]
fn a_loss_that_is_shorter_than_the_bound_is_not_reported() {
    guarded(|| {
        log();
        let server = Redis::start();
        let proxy = Proxy::to(server.address());
        let cache = open(&format!("redis://{}", proxy.address()), LONG);
        for value in 0..3_i64 {
            while cache.set("k", value).is_err() {}
            while !cache.stats().l1_trusted {
                sleep(Duration::from_millis(5));
            }
            proxy.cut_now();
            while cache.stats().l1_trusted {
                sleep(Duration::from_millis(5));
            }
        }
        let port = proxy.address().port();
        assert!(events(port, Level::WARN).is_empty());
        assert!(events(port, Level::INFO).is_empty());
    });
}
