//! Expired entries are told within a second, if memory is used.

use cacheio_core::Options;
use cacheio_sync::RemovalCause::{self, Expired, Invalidated};

use super::*;

/// Uses of memory that have nothing to do with the entries that expire.
const USES: [&str; 17] = [
    "get",
    "get_arc",
    "get of a word",
    "get, absent",
    "has",
    "has, absent",
    "get_many",
    "ttl",
    "get_or_set, hit",
    "get_or_set, miss",
    "fetch, hit",
    "set",
    "add",
    "delete",
    "increment",
    "touch",
    "take",
];

async fn use_once(cache: &CacheApi, name: &str) {
    match name {
        "get" => drop(cache.get::<String>("text").await.unwrap().unwrap()),
        "get_arc" => drop(cache.get_arc::<String>("text").await.unwrap().unwrap()),
        "get of a word" => assert_eq!(cache.get("number").await.unwrap(), Some(7_u64)),
        "get, absent" => assert!(cache.get::<u64>("absent").await.unwrap().is_none()),
        "has" => assert!(cache.has("text").await.unwrap()),
        "has, absent" => assert!(!cache.has("absent").await.unwrap()),
        "get_many" => drop(cache.get_many::<u64>(vec!["number"]).await.unwrap()),
        "ttl" => drop(cache.ttl("text").await.unwrap().unwrap()),
        "get_or_set, hit" => assert_eq!(cache.get_or_set("number", || async { 0_u64 }).await, 7),
        "get_or_set, miss" => drop(cache.get_or_set("loaded", || async { 0_u64 }).await),
        "fetch, hit" => {
            let load = async |_| Err::<u64, ()>(());
            assert_eq!(cache.fetch("number", load).await.unwrap(), 7);
        }
        "set" => cache.set("new", 1).await.unwrap(),
        "add" => assert!(!cache.add("text", 1).await.unwrap()),
        "delete" => drop(cache.delete("absent").await.unwrap()),
        "increment" => drop(cache.increment("count", 1).await.unwrap()),
        "touch" => assert!(cache.touch("text", 10 * TTL).await.unwrap()),
        "take" => drop(cache.take::<u64>("absent").await.unwrap()),
        name => panic!("{name}"),
    }
}

async fn told_by_use(fixture: Fixture, name: &'static str, tags: &'static [&'static str]) {
    let Fixture {
        cache, clock, told, ..
    } = fixture;
    let forever = cache;
    forever.set("text", "text").await.unwrap();
    forever.set("number", 7_u64).await.unwrap();
    let cause = if tags.is_empty() {
        Expired
    } else {
        Invalidated
    };
    for round in 0..3 {
        for key in 0..20 {
            let options = Options::ttl(TTL).tags(tags.iter().copied());
            forever
                .set_with(("short", key), round, options)
                .await
                .unwrap();
        }
        told.take();
        match tags {
            [] => clock.advance(TTL),
            tags => forever.invalidate_tags(tags.to_vec()).await.unwrap(),
        }
        told.assert(&[]);
        clock.advance(WITHIN);
        use_once(&forever, name).await;
        let told = told.take();
        let ended = told.iter().filter(|told| told.key().starts_with("short"));
        assert!(ended.clone().all(|told| told.cause() == cause));
        assert_eq!(ended.count(), 20, "{name}, round {round}");
    }
}

#[test]
fn any_use_tells_what_expired_a_second_ago() {
    for capacity in [100, 100_000] {
        for name in USES {
            in_both_worlds(capacity, move |fixture| told_by_use(fixture, name, &[]));
        }
    }
}

#[test]
fn any_use_tells_what_was_invalidated_a_second_ago() {
    for capacity in [100, 100_000] {
        for name in ["get", "get of a word", "get, absent", "has", "set"] {
            in_both_worlds(capacity, move |fixture| told_by_use(fixture, name, &["t"]));
        }
    }
}

#[test]
fn a_busy_reader_tells_each_entry_within_a_second() {
    in_both_worlds(100_000, |fixture| async move {
        let Fixture {
            cache, clock, told, ..
        } = fixture;
        let step = Duration::from_millis(1);
        cache.set("number", 7_u64).await.unwrap();
        for key in 0..1_000_u32 {
            cache.set_with(key, key, TTL + step * key).await.unwrap();
        }
        clock.advance(TTL);
        let mut count = 0;
        for millis in 0_u32..2_000 {
            assert_eq!(cache.get("number").await.unwrap(), Some(7_u64));
            for removal in told.take() {
                count += 1;
                let key: u32 = removal.key().parse().unwrap();
                assert_eq!(removal.cause(), RemovalCause::Expired);
                assert!(
                    (key..=key + 1_000).contains(&millis),
                    "{key} after {millis} ms"
                );
            }
            clock.advance(step);
        }
        assert_eq!(count, 1_000);
    });
}

#[test]
fn a_use_in_one_namespace_tells_of_all() {
    in_both_worlds(1_000, |fixture| async move {
        let Fixture {
            cache,
            memory,
            clock,
            told,
        } = fixture;
        let [shop, blog] = ["shop", "blog"].map(|name| super::cache(cache.world(), &memory, name));
        for round in 0..3 {
            blog.set("number", 7_u64).await.unwrap();
            cache.set_with("a", 1, TTL).await.unwrap();
            shop.set_with("b", 1, TTL).await.unwrap();
            told.take();
            clock.advance(TTL + WITHIN);
            assert_eq!(blog.get("number").await.unwrap(), Some(7_u64));
            assert_eq!(told.take().len(), 2, "round {round}");
        }
    });
}

#[test]
fn purge_expired_tells_at_once() {
    in_both_worlds(100_000, |fixture| async move {
        let Fixture {
            cache,
            memory,
            clock,
            told,
        } = fixture;
        for key in 0..100 {
            cache.set_with(key, key, TTL).await.unwrap();
        }
        clock.advance(TTL);
        memory.purge_expired();
        assert_eq!(told.take().len(), 100);
        assert!(memory.is_empty());
    });
}

/// Hits take the usual path, and those in which expired entries are removed find their value too.
#[test]
fn hits_are_hits_in_every_turn() {
    in_both_worlds(100_000, |fixture| async move {
        let Fixture { cache, clock, .. } = fixture;
        cache.set("text", "text").await.unwrap();
        cache.set_with("number", 7_u64, 10 * TTL).await.unwrap();
        for hits in 0..1_000 {
            clock.advance(Duration::from_millis(7));
            assert_eq!(
                cache.get::<String>("text").await.unwrap().as_deref(),
                Some("text")
            );
            assert_eq!(cache.get("number").await.unwrap(), Some(7_u64));
            assert_eq!(cache.get_or_set("number", || async { 8_u64 }).await, 7);
            assert!(cache.has("text").await.unwrap());
            assert_eq!(cache.stats().hits, hits * 3 + 3);
        }
        assert_eq!((cache.stats().misses, cache.stats().loads), (0, 0));
    });
}
