//! Tags of entries on a server that several processes use. Two clients of one server share nothing in
//! this process: each stands for a process.

#![cfg(not(shuttle))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_core::{KeyRule, Options, Ttl, Update};
use cacheio_sync::Cache;
use cacheio_tests::api::{CacheApi, World, join_all};
use cacheio_tests::gate::LoaderGate;
use cacheio_tests::servers::{Memcached, Redis, Reply};
use cacheio_tests::watchdog::guarded;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn open(world: World, url: &str) -> CacheApi {
    match world {
        World::Threads => CacheApi::Threads(Cache::from_url(url).unwrap()),
        World::Tasks => CacheApi::Tasks(AsyncCache::from_url(url).unwrap()),
    }
}

fn tagged() -> Options {
    Options::new().ttl(HOUR).tags(["t"])
}

/// Runs a case with two clients of one server.
fn run<F: Future<Output = ()> + 'static>(
    world: World,
    url: &str,
    case: fn(CacheApi, CacheApi) -> F,
) {
    let (one, other) = (open(world, url), open(world, url));
    world.run(case(one, other));
}

macro_rules! cases {
    ($($case:ident)*) => {$(
        mod $case {
            use super::*;

            #[test]
            fn redis_for_threads() {
                guarded(|| { let server = Redis::start(); run(World::Threads, &server.url(), super::$case); });
            }

            #[test]
            fn redis_for_tasks() {
                guarded(|| { let server = Redis::start(); run(World::Tasks, &server.url(), super::$case); });
            }

            #[test]
            fn memcached_for_threads() {
                guarded(|| { let server = Memcached::start(); run(World::Threads, &server.url(), super::$case); });
            }

            #[test]
            fn memcached_for_tasks() {
                guarded(|| { let server = Memcached::start(); run(World::Tasks, &server.url(), super::$case); });
            }
        }
    )*};
}

cases! {
    an_invalidation_is_seen_by_other_processes
    an_invalidation_beats_a_load_of_another_process
    a_call_after_an_invalidation_of_another_process_does_not_wait_for_an_old_load
    no_read_is_older_than_the_last_invalidation
    each_of_several_tags_is_read_from_the_server
}

async fn an_invalidation_is_seen_by_other_processes(one: CacheApi, other: CacheApi) {
    one.set_with("set", 1, tagged()).await.unwrap();
    let entries = vec![("a", 1), ("b", 1)];
    one.set_many_with(entries, tagged()).await.unwrap();
    assert_eq!(one.get_or_set_with("k", tagged(), || async { 1 }).await, 1);
    assert_eq!(other.get::<i32>("k").await.unwrap(), Some(1));
    assert_eq!(
        other.get_or_set_with("k", tagged(), || async { 2 }).await,
        1
    );

    other.invalidate_tags(vec!["t"]).await.unwrap();
    for cache in [&one, &other] {
        assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
        assert!(!cache.has("set").await.unwrap());
        let read = cache.get_many::<i32>(vec!["a", "b"]).await.unwrap();
        assert_eq!(read, [None, None]);
        assert!(!cache.touch("a", Ttl::Never).await.unwrap());
    }
    // A call that names no tags sees it too.
    assert_eq!(one.get_or_set("set", || async { 3 }).await, 3);
    assert_eq!(one.get_or_set_with("k", tagged(), || async { 4 }).await, 4);
    assert_eq!(other.get::<i32>("k").await.unwrap(), Some(4));
    assert_eq!(
        (one.stats().store_errors, other.stats().store_errors),
        (0, 0)
    );
}

async fn an_invalidation_beats_a_load_of_another_process(one: CacheApi, other: CacheApi) {
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader("old".to_owned());
        one.spawn(move |cache| async move { cache.get_or_set_with("k", tagged(), load).await })
    };
    gate.started().await;
    other.invalidate_tags(vec!["t"]).await.unwrap();
    gate.release();
    assert_eq!(leader.join().await, "old");
    assert_eq!(one.get::<String>("k").await.unwrap(), None);
    assert_eq!(other.get::<String>("k").await.unwrap(), None);
}

async fn a_call_after_an_invalidation_of_another_process_does_not_wait_for_an_old_load(
    one: CacheApi,
    other: CacheApi,
) {
    let gate = LoaderGate::new();
    let leader = {
        let load = gate.loader("old".to_owned());
        one.spawn(move |cache| async move { cache.get_or_set_with("k", tagged(), load).await })
    };
    gate.started().await;
    other.invalidate_tags(vec!["t"]).await.unwrap();
    let new = async || "new".to_owned();
    assert_eq!(one.get_or_set_with("k", tagged(), new).await, "new");
    gate.release();
    assert_eq!(leader.join().await, "old");
    for cache in [&one, &other] {
        let stored = cache.get::<String>("k").await.unwrap();
        assert_eq!(stored.as_deref(), Some("new"));
    }
}

/// The origin holds a growing number. What is read was loaded after the last invalidation that had returned
/// when the read began.
async fn no_read_is_older_than_the_last_invalidation(one: CacheApi, other: CacheApi) {
    const ROUNDS: u64 = 150;
    let now = Arc::new(AtomicU64::new(0));
    let floor = Arc::new(AtomicU64::new(0));
    let writer = {
        let (now, floor) = (Arc::clone(&now), Arc::clone(&floor));
        other.spawn(move |cache| async move {
            for _ in 0..ROUNDS {
                let new = now.fetch_add(1, Ordering::SeqCst) + 1;
                cache.invalidate_tags(vec!["t"]).await.unwrap();
                floor.store(new, Ordering::SeqCst);
                cache.world().sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let readers = (0..4).map(|reader| {
        let cache = if reader % 2 == 0 { &one } else { &other };
        let (now, floor) = (Arc::clone(&now), Arc::clone(&floor));
        cache.spawn(move |cache| async move {
            while floor.load(Ordering::SeqCst) < ROUNDS {
                let oldest = floor.load(Ordering::SeqCst);
                let load = || async {
                    let value = now.load(Ordering::SeqCst);
                    cache.world().pause().await;
                    value
                };
                let read = cache.get_or_set_with("k", tagged(), load).await;
                assert!(read >= oldest, "{read} is older than {oldest}");
                let oldest = floor.load(Ordering::SeqCst);
                if let Some(read) = cache.get::<u64>("k").await.unwrap() {
                    assert!(read >= oldest, "{read} is older than {oldest}");
                }
            }
        })
    });
    let mut all: Vec<_> = readers.collect();
    all.push(writer);
    join_all(all).await;
}

async fn each_of_several_tags_is_read_from_the_server(one: CacheApi, other: CacheApi) {
    let names = ["a", "b", "c"];
    for name in names {
        let options = || Options::new().ttl(HOUR).tags(names);
        one.set_with("k", 1, options()).await.unwrap();
        assert_eq!(other.get::<i32>("k").await.unwrap(), Some(1));
        other.invalidate_tags(vec![name]).await.unwrap();
        assert_eq!(one.get::<i32>("k").await.unwrap(), None, "{name}");
    }
}

/// Where Redis keeps the version of the tag "t".
fn key_of_t(server: &Redis) -> String {
    let Reply::Array(keys) = server.run("KEYS cacheio:t#*") else {
        panic!("no list of keys");
    };
    assert_eq!(keys.len(), 1);
    keys[0].text().to_owned()
}

fn with_redis<F: Future<Output = ()>>(
    case: impl Fn(CacheApi, Arc<Redis>) -> F + Send + Copy + 'static,
) {
    for world in [World::Threads, World::Tasks] {
        guarded(move || {
            let server = Arc::new(Redis::start());
            let cache = open(world, &server.url());
            world.run(case(cache, server));
        });
    }
}

/// Runs a command that destroys the version of an entry, which is then a miss until the next load.
fn loads_again_after(command: fn(&str) -> String) {
    with_redis(move |cache, server| async move {
        cache.set_with("k", 1, tagged()).await.unwrap();
        server.run(&command(&key_of_t(&server)));
        assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
        let loaded = cache.get_or_set_with("k", tagged(), || async { 2 }).await;
        assert_eq!(loaded, 2);
        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
    });
}

#[test]
fn a_version_that_the_server_has_lost_is_a_miss() {
    loads_again_after(|key| format!("DEL {key}"));
}

#[test]
fn what_other_programs_store_as_a_version_is_replaced() {
    loads_again_after(|key| format!("SET {key} 12"));
}

#[test]
fn a_version_lives_longer_than_its_entries() {
    with_redis(|cache, server| async move {
        let ttl = |server: &Redis| match server.run(&format!("PTTL {}", key_of_t(server))) {
            Reply::Integer(millis) => millis,
            other => panic!("{other}"),
        };
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap();
        let minute = Duration::from_secs(60);
        cache.set_with("k", 1, tagged()).await.unwrap();
        let short = ttl(&server);
        assert!((millis(DAY - minute)..=millis(DAY)).contains(&short));
        // A longer one needs a new version: the older entries are misses.
        let options = || tagged().ttl(DAY);
        cache.set_with("long", 1, options()).await.unwrap();
        let long = ttl(&server);
        assert!((millis(4 * DAY - minute)..=millis(4 * DAY)).contains(&long));
        assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
        // It is not made shorter.
        cache.set_with("k", 1, tagged()).await.unwrap();
        assert!(ttl(&server) > millis(4 * DAY - minute));
        let read = cache.get_many::<i32>(vec!["k", "long"]).await.unwrap();
        assert_eq!(read, [Some(1); 2]);
        let options = tagged().ttl(Ttl::Never);
        cache.set_with("kept", 1, options).await.unwrap();
        assert_eq!(ttl(&server), -1);
        assert_eq!(cache.get::<i32>("kept").await.unwrap(), Some(1));
    });
}

/// Its entries stay live.
#[test]
fn a_version_lives_longer_than_an_entry_that_an_update_stores() {
    with_redis(|cache, server| async move {
        let set_for = |ttl: Duration| move |_: Option<i32>| Update::SetFor(1, ttl.into());
        cache.set_with("k", 1, tagged()).await.unwrap();
        for (key, days) in [("new", 2), ("k", 4)] {
            let updating = cache.update_with(key, tagged(), set_for(DAY * days));
            assert_eq!(updating.await.unwrap(), Some(1));
            let Reply::Integer(left) = server.run(&format!("PTTL {}", key_of_t(&server))) else {
                panic!("no TTL");
            };
            let left = Duration::from_millis(left.try_into().unwrap());
            assert!(
                (DAY * (4 * days - 1)..=DAY * 4 * days).contains(&left),
                "{left:?}"
            );
            let read = cache.get_many::<i32>(vec!["k", key]).await.unwrap();
            assert_eq!(read, [Some(1); 2]);
        }
        cache.invalidate_tags(vec!["t"]).await.unwrap();
        let read = cache.get_many::<i32>(vec!["k", "new"]).await.unwrap();
        assert_eq!(read, [None; 2]);
    });
}

/// After half of its TTL a version gets the whole TTL again. Nothing is written that could undo an
/// invalidation.
#[test]
fn a_version_is_renewed_while_its_entries_are_stored() {
    with_redis(|cache, server| async move {
        cache.set_with("k", 1, tagged()).await.unwrap();
        let key = key_of_t(&server);
        let stored = server.run(&format!("GET {key}")).text().to_owned();
        let (version, rest) = stored.split_once('.').unwrap();
        let (stored_at, ttl) = rest.split_once('.').unwrap();
        // As if it was stored 13 hours ago.
        let old = stored_at.parse::<u64>().unwrap() - 13 * 3_600;
        let planted = format!("{version}.{old}.{ttl}");
        server.run(&format!("SET {key} {planted} PX 39600000"));
        cache.set_with("k2", 1, tagged()).await.unwrap();
        assert_eq!(server.run(&format!("GET {key}")).text(), planted);
        let Reply::Integer(left) = server.run(&format!("PTTL {key}")) else {
            panic!("no TTL");
        };
        assert!(left > 80_000_000, "{left}");
        let read = cache.get_many::<i32>(vec!["k", "k2"]).await.unwrap();
        assert_eq!(read, [Some(1); 2]);
    });
}

#[test]
fn a_process_that_only_invalidates_sees_what_it_has_invalidated() {
    with_redis(|cache, server| async move {
        cache.set_with("k", 1, tagged()).await.unwrap();
        let other = open(cache.world(), &server.url());
        other.invalidate_tags(vec!["t"]).await.unwrap();
        assert!(!other.has("k").await.unwrap());
        assert!(!other.touch("k", HOUR).await.unwrap());
        assert!(other.add("k", 2).await.unwrap());
        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
    });
}

#[test]
fn a_tag_that_cannot_be_read_is_an_error_in_each_call() {
    with_redis(|cache, server| async move {
        for bytes in [
            &b"\xC1\x01\x03\x00\x04\x01a7"[..],
            b"\xC1\x01\x0B\x00\x04\x0912345678\xFF7",
        ] {
            server.plant("cacheio:k", bytes);
            assert!(cache.get::<i32>("k").await.is_err());
            assert!(cache.get_many::<i32>(vec!["k", "k2"]).await.is_err());
            let loaded = cache.get_or_set_with("k", tagged(), || async { 3 }).await;
            assert_eq!(loaded, 3);
            assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(3));
        }
    });
}

#[test]
fn a_load_with_tags_returns_its_value_while_the_server_is_away() {
    for world in [World::Threads, World::Tasks] {
        guarded(move || {
            let (redis, memcached) = (Redis::start(), Memcached::start());
            let urls = [redis.url(), memcached.url()];
            redis.kill();
            memcached.kill();
            for url in urls {
                let cache = open(world, &format!("{url}?timeout=300ms"));
                world.run(async {
                    for value in 1..4 {
                        let load = async move || value;
                        let loaded = cache.get_or_set_with("k", tagged(), load).await;
                        assert_eq!(loaded, value);
                    }
                    let start = Instant::now();
                    assert!(cache.set_with("k", 1, tagged()).await.is_err());
                    assert!(cache.invalidate_tags(vec!["t"]).await.is_err());
                    assert!(start.elapsed() < Duration::from_secs(2));
                });
            }
        });
    }
}

#[test]
fn the_key_of_a_tag_is_the_same_in_each_version_of_cacheio() {
    with_redis(|cache, server| async move {
        cache.set_with("k", 1, tagged()).await.unwrap();
        let key = key_of_t(&server);
        assert_eq!(key, "cacheio:t#ed8da0257ea812648409b7bc9f12cfb3077f361a");
        // No text has this key.
        assert_ne!(KeyRule::Wire { max: 250 }.legal(&key), key);
    });
}
