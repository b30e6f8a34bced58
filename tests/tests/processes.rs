//! Two processes on one server: the test binary starts itself as a child.
//!
//! In each round the parent names a key to the child, and while the child does its part, changes the
//! entry itself.

#![cfg(not(shuttle))]

use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cacheio_core::{Options, Ttl, Update};
use cacheio_sync::Cache;
use cacheio_tests::servers::{Memcached, Redis, Reply};
use cacheio_tests::watchdog::guarded;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// The variable with the URL of the child's cache.
const CHILD: &str = "CACHEIO_TESTS_CHILD_ON";

#[test]
fn a_touch_undoes_no_delete_and_no_set_of_another_process_on_redis() {
    let test = "a_touch_undoes_no_delete_and_no_set_of_another_process_on_redis";
    touching(test, Redis::start, Redis::url);
}

#[test]
fn a_touch_undoes_no_delete_and_no_set_of_another_process_on_memcached() {
    let test = "a_touch_undoes_no_delete_and_no_set_of_another_process_on_memcached";
    touching(test, Memcached::start, Memcached::url);
}

#[test]
fn a_read_moves_no_ttl_of_another_process_on_redis() {
    let test = "a_read_moves_no_ttl_of_another_process_on_redis";
    reading(test, Redis::start, Redis::url, |server, key| {
        match server.run(&format!("PTTL {key}")) {
            Reply::Integer(millis) => u64::try_from(millis).unwrap() / 1_000,
            other => panic!("{other}"),
        }
    });
}

#[test]
fn a_read_moves_no_ttl_of_another_process_on_memcached() {
    let test = "a_read_moves_no_ttl_of_another_process_on_memcached";
    reading(test, Memcached::start, Memcached::url, |server, key| {
        let response = server.raw(format!("mg {key} t").as_bytes());
        response.strip_prefix("HD t").unwrap().parse().unwrap()
    });
}

#[test]
fn no_increment_of_a_counter_with_a_policy_is_lost_between_processes() {
    let test = "no_increment_of_a_counter_with_a_policy_is_lost_between_processes";
    let count = |cache: &Cache, key: u64| {
        cache.increment(key % 10, 1).unwrap();
    };
    let Some(url) = child_url() else {
        guarded(move || {
            let (redis, memcached) = (Redis::start(), Memcached::start());
            for url in [redis.url(), memcached.url()] {
                let cache = open(&url);
                for key in 0..10_u64 {
                    let options = Options::new().ttl(HOUR).stale_for(HOUR);
                    cache.set_with(key, 0, options).unwrap();
                }
                let mut other = Other::start(test, &url);
                for round in 0..500 {
                    other.begin(round);
                    count(&cache, round);
                    other.end();
                }
                for key in 0..10_u64 {
                    assert_eq!(cache.get::<u64>(key).unwrap(), Some(100), "{url}");
                }
            }
        });
        return;
    };
    follow(&url, count);
}

/// Eight threads, four in each process.
#[test]
fn no_update_is_lost_between_processes() {
    let test = "no_update_is_lost_between_processes";
    let count = |cache: &Cache, key: u64| {
        in_threads(|| {
            for _ in 0..100 {
                let count = |old: Option<u64>| Update::Set(old.unwrap_or(0) + 1);
                cache.update(key, count).unwrap();
            }
        });
    };
    let Some(url) = child_url() else {
        guarded(move || {
            let (redis, memcached) = (Redis::start(), Memcached::start());
            for url in [redis.url(), memcached.url()] {
                let cache = open(&url);
                let mut other = Other::start(test, &url);
                for (key, policies) in [
                    (0, None),
                    (1, Some(Options::ttl(HOUR))),
                    (2, Some(Options::ttl(HOUR).stale_for(HOUR))),
                    (3, Some(Options::ttl(HOUR).tags(["t"]))),
                ] {
                    if let Some(policies) = policies {
                        cache.set_with(key, 0, policies).unwrap();
                    }
                    other.begin(key);
                    count(&cache, key);
                    other.end();
                    let counted = cache.get::<u64>(key).unwrap();
                    assert_eq!(counted, Some(800), "{key} on {url}");
                }
            }
        });
        return;
    };
    follow(&url, count);
}

/// Of 200 tokens, each is used once.
#[test]
fn no_token_is_taken_twice_by_two_processes() {
    let test = "no_token_is_taken_twice_by_two_processes";
    let take = |cache: &Cache, round: u64| {
        in_threads(|| {
            for token in 0..200_u64 {
                if let Some(token) = cache.take::<u64>(("token", round, token)).unwrap() {
                    cache.increment(("used", round, token), 1).unwrap();
                }
            }
        });
    };
    let Some(url) = child_url() else {
        guarded(move || {
            let (redis, memcached) = (Redis::start(), Memcached::start());
            for url in [redis.url(), memcached.url()] {
                let cache = open(&url);
                let mut other = Other::start(test, &url);
                let stale = Options::ttl(HOUR).stale_for(HOUR);
                for (round, options) in [(0, Options::ttl(HOUR)), (1, stale)] {
                    let tokens = (0..200_u64).map(|token| (("token", round, token), token));
                    cache.set_many_with(tokens, options).unwrap();
                    other.begin(round);
                    take(&cache, round);
                    other.end();
                    let used = (0..200_u64).map(|token| ("used", round, token));
                    let used = cache.get_many::<u64>(used).unwrap();
                    assert_eq!(used, vec![Some(1); 200], "{url}");
                }
            }
        });
        return;
    };
    follow(&url, take);
}

/// Runs something in four threads.
fn in_threads(body: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(&body);
        }
    });
}

fn touching<S: 'static>(test: &'static str, start: fn() -> S, url: fn(&S) -> String) {
    if let Some(url) = child_url() {
        return follow(&url, |cache, key| {
            cache.touch(key, MINUTE).unwrap();
        });
    }
    guarded(move || {
        let server = start();
        let url = url(&server);
        let cache = open(&url);
        let mut other = Other::start(test, &url);
        let (mut back, mut undone) = (0, 0);
        for key in 0..2_000_u64 {
            let kept = Options::new().ttl(HOUR).stale_for(HOUR);
            cache.set_with(key, 1, kept.clone()).unwrap();
            other.begin(key);
            pause(key);
            match key % 3 {
                0 => assert!(cache.delete(key).unwrap()),
                1 => cache.set(key, 2).unwrap(),
                _ => cache.set_with(key, 2, kept).unwrap(),
            }
            other.end();
            match cache.get::<u32>(key).unwrap() {
                None | Some(2) => {}
                Some(_) if key % 3 == 0 => back += 1,
                Some(_) => undone += 1,
            }
        }
        assert_eq!((back, undone), (0, 0), "deletes and sets were undone");
    });
}

/// `ttl` returns the remaining TTL of a key, in seconds.
fn reading<S: 'static>(
    test: &'static str,
    start: fn() -> S,
    url: fn(&S) -> String,
    ttl: fn(&S, &str) -> u64,
) {
    if let Some(url) = child_url() {
        return follow(&url, |cache, key| {
            cache.get::<u32>(key).unwrap();
        });
    }
    guarded(move || {
        let server = start();
        let url = url(&server);
        let cache = open(&url);
        let mut other = Other::start(test, &url);
        // Reads of entries that are older than an eighth of this time are recorded.
        let idle = Duration::from_secs(16);
        let entries = (0..1_500_u64).map(|key| (key, 1));
        let options = Options::new().ttl(Ttl::Never).ttl_idle(idle);
        cache.set_many_with(entries, options).unwrap();
        std::thread::sleep(idle / 7);
        let (mut prolonged, mut shortened) = (0, 0);
        for key in 0..1_500_u64 {
            other.begin(key);
            pause(key);
            let new = if key % 2 == 0 { MINUTE / 30 } else { HOUR };
            cache.set_with(key, 2, new).unwrap();
            other.end();
            match (key % 2, ttl(&server, &format!("cacheio:{key}"))) {
                (0, left) if left > 5 => prolonged += 1,
                (1, left) if left < 3_000 => shortened += 1,
                _ => {}
            }
        }
        assert_eq!((prolonged, shortened), (0, 0), "TTLs were moved");
    });
}

/// Waits between 0 and 400 microseconds, so that the processes meet in all orders.
fn pause(round: u64) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_micros(round % 40 * 10) {
        std::hint::spin_loop();
    }
}

fn open(url: &str) -> Cache {
    let url = format!("{url}?timeout=20s");
    Cache::from_url(&url).unwrap()
}

fn child_url() -> Option<String> {
    env::var(CHILD).ok()
}

/// What the child does: a step for each key that the parent names.
fn follow(url: &str, step: impl Fn(&Cache, u64)) {
    let cache = open(url);
    // Entries with a policy are known to be there.
    let options = Options::new().ttl(MINUTE).stale_for(MINUTE);
    cache.set_with("known", 1, options).unwrap();
    println!("\nready");
    for line in std::io::stdin().lines() {
        step(&cache, line.unwrap().parse().unwrap());
        println!("done");
    }
}

/// The other process.
struct Other {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(test: &str, url: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut other = Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        };
        other.wait_for("ready");
        other
    }

    fn begin(&mut self, key: u64) {
        writeln!(self.input, "{key}").unwrap();
    }

    fn end(&mut self) {
        self.wait_for("done");
    }

    fn wait_for(&mut self, line: &str) {
        let found = self.output.find(|read| read.as_ref().unwrap() == line);
        assert!(found.is_some(), "the other process has ended");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
