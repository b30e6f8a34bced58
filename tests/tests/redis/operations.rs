//! What the operations do that the contract does not cover.

use std::time::Duration;

use cacheio_async::{AsyncCache, ErrorKind, Redis};
use cacheio_core::{AsyncStore, Entry, Key, Options, Ttl, Update};
use cacheio_tests::servers::{self, RedisCluster, Reply};
use tokio::task::JoinSet;

use crate::support::{MINUTE, bytes, get, run, set, store};

#[test]
fn counters_are_exact_and_take_their_ttl_once() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            tasks.spawn(async move {
                for _ in 0..2_000 {
                    store.increment(&Key::new("n"), 1, MINUTE).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(get(&store, "n").await.unwrap().as_deref(), Some("16000"));
        assert!(matches!(server.run("PTTL n"), Reply::Integer(1..=60_000)));
        assert_eq!(server.run("PERSIST n"), Reply::Integer(1));
        assert_eq!(
            store
                .increment(&Key::new("n"), -16_001, MINUTE)
                .await
                .unwrap(),
            -1
        );
        assert_eq!(
            server.run("PTTL n"),
            Reply::Integer(-1),
            "an existing counter keeps its TTL"
        );
    });
}

#[test]
fn increment_rejects_overflow_and_non_integers() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let n = Key::new("n");
        assert_eq!(
            store.increment(&n, i64::MIN, MINUTE).await.unwrap(),
            i64::MIN
        );
        for ttl in [None, MINUTE] {
            let error = store.increment(&n, -1, ttl).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Overflow);
            set(&store, "text", "\"seven\"").await.unwrap();
            let error = store
                .increment(&Key::new("text"), 1, ttl)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType);
            server.run("RPUSH list a");
            let error = store
                .increment(&Key::new("list"), 1, ttl)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongType);
        }
        assert_eq!(get(&store, "n").await.unwrap(), Some(i64::MIN.to_string()));
        let error = get(&store, "list").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType);
        assert!(error.to_string().contains("another type"), "{error}");
    });
}

#[test]
fn touch_returns_whether_there_was_an_entry() {
    let server = servers::Redis::start();
    run(async {
        let store = store(&server.url());
        let k = Key::new("k");
        for ttl in [MINUTE, None] {
            assert!(!store.touch(&k, ttl).await.unwrap());
        }
        set(&store, "k", "v").await.unwrap();
        for (ttl, left) in [
            (None, -1),
            (None, -1),
            (Some(Duration::from_millis(50_000)), 50_000),
        ] {
            assert!(store.touch(&k, ttl).await.unwrap());
            let Reply::Integer(now) = server.run("PTTL k") else {
                panic!("no TTL")
            };
            assert!((left - 1000..=left).contains(&now), "{now}");
        }
    });
}

#[test]
fn clear_matches_the_namespace_literally() {
    let server = servers::Redis::start();
    run(async {
        let url = server.url();
        let cache = |namespace: &str| {
            AsyncCache::builder()
                .store(store(&url))
                .namespace(namespace)
                .build()
                .unwrap()
        };
        let names = ["a*", "ab", "a?", "[ab]", "a", "a\\", "^"];
        let caches: Vec<AsyncCache> = names.iter().map(|name| cache(name)).collect();
        for cache in &caches {
            for n in 0..20 {
                cache.set(n, n).await.unwrap();
            }
        }
        for at in 0..caches.len() {
            caches[at].clear().await.unwrap();
            for (other, cache) in caches.iter().enumerate() {
                let expected = (other > at).then_some(7);
                assert_eq!(
                    cache.get::<i32>(7).await.unwrap(),
                    expected,
                    "{} {}",
                    names[at],
                    names[other]
                );
            }
        }
        let error = store(&url).clear("").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    });
}

#[test]
fn clear_removes_thousands_of_entries() {
    let server = servers::Redis::start();
    run(async {
        let store = Redis::builder()
            .url(server.url())
            .timeout(Duration::from_secs(10))
            .connections(3)
            .build()
            .unwrap();
        let names: Vec<String> = (0..10_000).map(|n| format!("big:{n}")).collect();
        let entries = names
            .iter()
            .map(|name| (Key::new(name), Entry::bytes(b"1".to_vec()), MINUTE));
        store.set_many(entries.collect()).await.unwrap();
        set(&store, "other:1", "1").await.unwrap();
        store.clear("big:").await.unwrap();
        assert_eq!(server.run("DBSIZE"), Reply::Integer(1));
    });
}

#[test]
fn batch_operations_keep_order_and_count() {
    let server = servers::Redis::start();
    let cluster = RedisCluster::start();
    for url in [
        server.url(),
        format!("{}?connections=4", server.url()),
        cluster.url(),
        format!("{}?connections=2", cluster.url()),
    ] {
        run(async {
            let store = store(&url);
            let names: Vec<String> = (0..3_000).map(|n| format!("many:{n}")).collect();
            let keys: Vec<Key<'_>> = names.iter().map(|name| Key::new(name)).collect();
            for ttl in [None, MINUTE] {
                let entries = keys
                    .iter()
                    .enumerate()
                    .map(|(n, key)| (*key, Entry::bytes(n.to_string().into_bytes()), ttl));
                store.set_many(entries.collect()).await.unwrap();
                let mut requested = keys.clone();
                requested.push(Key::new("missing"));
                requested.push(keys[17]);
                let found = store.get_many(&requested).await.unwrap();
                let found: Vec<Option<String>> = found.into_iter().map(bytes).collect();
                let mut expected: Vec<Option<String>> =
                    (0..3_000).map(|n: u32| Some(n.to_string())).collect();
                expected.extend([None, Some("17".into())]);
                assert_eq!(found, expected, "{url}");
                assert_eq!(store.delete_many(&requested).await.unwrap(), 3_000, "{url}");
            }
            assert_eq!(store.get_many(&[]).await.unwrap().len(), 0);
            assert_eq!(store.delete_many(&[]).await.unwrap(), 0);
            store.set_many(Vec::new()).await.unwrap();
        });
    }
}

#[test]
fn reads_under_ttl_idle_are_recorded_eight_times_at_most_however_many_keys_are_read() {
    let server = servers::Redis::start();
    run(async {
        let idle = Duration::from_secs(4);
        let keys: Vec<_> = (0..5_000).collect();
        let caches: Vec<_> = (0..2)
            .map(|_| {
                AsyncCache::builder()
                    .store(store(&server.url()))
                    .build()
                    .unwrap()
            })
            .collect();
        let options = Options::new().ttl(Ttl::Never).ttl_idle(idle);
        let entries: Vec<_> = keys.iter().map(|key| (*key, *key)).collect();
        let begun = std::time::Instant::now();
        caches[0].set_many_with(entries, options).await.unwrap();
        while begun.elapsed() < idle {
            for cache in &caches {
                let read = cache.get_many::<i32>(keys.clone()).await.unwrap();
                assert!(read.iter().all(Option::is_some));
            }
        }
        let info = server.run("INFO commandstats");
        let line = info
            .text()
            .lines()
            .find(|line| line.starts_with("cmdstat_pexpire:"));
        let calls = line.unwrap().split("calls=").nth(1).unwrap();
        let calls: usize = calls.split(',').next().unwrap().parse().unwrap();
        assert!(calls >= keys.len() && calls <= 8 * keys.len(), "{calls}");
    });
}

#[test]
fn without_the_right_to_scripts_what_needs_none_works() {
    let server = servers::Redis::start();
    server.run("ACL SETUSER app on >secret ~* +@all -eval -evalsha");
    run(async {
        let url = format!("redis://app:secret@127.0.0.1:{}?timeout=10s", server.port());
        let store = Redis::new(url).unwrap();
        let cache = AsyncCache::builder().store(store).build().unwrap();
        let minute = Duration::from_secs(60);
        cache.set("plain", 1).await.unwrap();
        let kept = Options::new().ttl(minute).stale_for(minute);
        cache.set_with("kept", 1, kept).await.unwrap();
        let idle = Options::new()
            .ttl(minute)
            .ttl_idle(Duration::from_millis(400));
        cache.set_with("idle", 1, idle).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(cache.touch("plain", minute).await.unwrap());
        assert_eq!(cache.increment("plain", 1).await.unwrap(), 2);
        assert_eq!(cache.get::<i32>("idle").await.unwrap(), Some(1));
        assert_eq!(cache.stats().store_errors, 1, "the read is not recorded");
        for error in [
            cache.touch("kept", minute).await.unwrap_err(),
            cache.increment("kept", 1).await.unwrap_err(),
            cache
                .update("plain", |old: Option<i32>| Update::Set(old.unwrap()))
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Server);
            assert!(error.to_string().contains("permission"), "{error}");
        }
        assert_eq!(cache.get::<i32>("kept").await.unwrap(), Some(1));
        let new = cache.update("new", |_: Option<i32>| Update::Set(1)).await;
        assert_eq!(new.unwrap(), Some(1));
        assert_eq!(cache.take::<i32>("kept").await.unwrap(), Some(1));
    });
}

#[test]
fn other_programs_share_bytes() {
    let server = servers::Redis::start();
    run(async {
        let cache = AsyncCache::from_url(&server.url()).unwrap();
        let page = bytes::Bytes::from_static(b"<html>");
        cache.set("page", &page).await.unwrap();
        assert_eq!(server.run("GET cacheio:page"), Reply::Text("<html>".into()));
        server.run("SET cacheio:other <p>");
        let other = cache.get::<bytes::Bytes>("other").await.unwrap();
        assert_eq!(other.as_deref(), Some(&b"<p>"[..]));
    });
}
