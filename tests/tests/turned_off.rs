//! Caches that keep nothing: `Null`, `null://`, and every cache of a process with `enabled = false`. This is its
//! own binary, because that is global.

#![cfg(not(shuttle))]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{ErrorKind, Null, Options, Saved, Update, configure};
use cacheio_sync::{Cache, L1, Memcached, Memory, Redis};
use cacheio_tests::api::{CacheApi, World, join_all};
use cacheio_tests::watchdog::guarded;

const SECOND: Duration = Duration::from_secs(1);

/// Everything that `cache` may do without entries, with a store or without.
async fn keeps_nothing(cache: CacheApi) {
    cache.set("k", 1).await.unwrap();
    let tagged = Options::new().tags(["all"]).ttl(SECOND);
    cache.set_with("k", 1, tagged).await.unwrap();
    cache.set_many(vec![("a", 1), ("b", 2)]).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
    assert_eq!(
        cache.get_many::<i32>(vec!["a", "k"]).await.unwrap(),
        vec![None; 2]
    );
    assert!(!cache.has("k").await.unwrap());
    assert!(cache.add("k", 1).await.unwrap());
    assert!(cache.add("k", 1).await.unwrap());
    assert_eq!(cache.increment("n", 5).await.unwrap(), 5);
    assert_eq!(cache.increment("n", 5).await.unwrap(), 5);
    assert!(!cache.touch("k", SECOND).await.unwrap());
    assert!(!cache.delete("k").await.unwrap());
    assert_eq!(cache.delete_many(vec!["a", "b"]).await.unwrap(), 0);
    cache.invalidate_tags(vec!["all"]).await.unwrap();
    assert_eq!(cache.take::<i32>("k").await.unwrap(), None);
    assert_eq!(cache.ttl("k").await.unwrap(), None);
    let update = |old: Option<i32>| Update::Set(old.unwrap_or(7));
    assert_eq!(cache.update("k", update).await.unwrap(), Some(7));
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
    cache.clear().await.unwrap();
    cache.ping().await.unwrap();
    for value in 0..3 {
        assert_eq!(cache.get_or_set("k", async || value).await, value);
    }
    let stats = cache.stats();
    assert_eq!(
        (stats.loads, stats.hits, stats.store_errors),
        (3, 0, 0),
        "{stats:?}"
    );
}

/// Calls at the same time share a load, as with entries.
async fn one_load_at_a_time(cache: CacheApi) {
    let loads = Arc::new(AtomicUsize::new(0));
    let callers = (0..8).map(|_| {
        let loads = Arc::clone(&loads);
        cache.spawn(move |cache| async move {
            let load = async || {
                loads.fetch_add(1, Ordering::SeqCst);
                cache.until(|cache| cache.stats().waits == 7).await;
                7
            };
            cache.get_or_set("shared", load).await
        })
    });
    let values = join_all(callers.collect()).await;
    assert_eq!((values, loads.load(Ordering::SeqCst)), (vec![7; 8], 1));
}

fn both_worlds(threads: impl Fn() -> Cache, tasks: impl Fn() -> AsyncCache) {
    World::Threads.run(keeps_nothing(CacheApi::Threads(threads())));
    World::Tasks.run(keeps_nothing(CacheApi::Tasks(tasks())));
    World::Threads.run(one_load_at_a_time(CacheApi::Threads(threads())));
    World::Tasks.run(one_load_at_a_time(CacheApi::Tasks(tasks())));
}

#[test]
fn a_cache_that_is_turned_off_keeps_nothing() {
    guarded(|| {
        both_worlds(
            || Cache::builder().store(Null).build().unwrap(),
            || AsyncCache::builder().store(Null).build().unwrap(),
        );
        both_worlds(
            || Cache::from_url("null://?stale_for=1h&namespace=shop").unwrap(),
            || AsyncCache::from_url("null://?ttl=5m").unwrap(),
        );
        let on = Cache::builder().store(Memory::new()).build().unwrap();

        let folder = env!("CARGO_TARGET_TMPDIR");
        let file = format!("{folder}/turned_off-{}", std::process::id());
        let with_file = || Cache::builder().snapshot(&file).build().unwrap();
        with_file().set("k", 1).unwrap();

        configure(|config| config.enabled = false).unwrap();
        // No server listens there.
        for url in [
            "memory://",
            "redis://127.0.0.1:1?l1=100",
            "redis-cluster://127.0.0.1:1",
            "memcache://127.0.0.1:1?stale_for=1h&refresh_ahead=0.8",
        ] {
            both_worlds(
                || Cache::from_url(url).unwrap(),
                || AsyncCache::from_url(url).unwrap(),
            );
        }
        let redis = || Redis::new("redis://127.0.0.1:1").unwrap();
        both_worlds(
            || {
                Cache::builder()
                    .store(redis())
                    .l1(L1::new(Memory::new()))
                    .build()
                    .unwrap()
            },
            || {
                AsyncCache::builder()
                    .store(redis())
                    .shared_loads(true)
                    .build()
                    .unwrap()
            },
        );
        let memcached = Memcached::new("memcache://127.0.0.1:1").unwrap();
        let cache = Cache::builder().store(memcached).build().unwrap();
        // What shows in a program is the same: the namespace, and what a server cannot keep.
        assert_eq!(cache.namespace(), "cacheio");
        let large = vec![0_u8; 100];
        cache.set("bytes", large).unwrap();
        let refused = Cache::builder().store(redis()).namespace("").build();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);

        // The entries of a program that was on are there for the next one.
        let cache = with_file();
        assert_eq!(cache.save_snapshot().unwrap(), Saved::default());
        assert_eq!(cache.get::<i32>("k").unwrap(), None);
        drop(cache);

        on.set("k", 1).unwrap();
        assert_eq!(on.get("k").unwrap(), Some(1), "what is built is built");
        configure(|config| config.enabled = true).unwrap();
        assert_eq!(with_file().get("k").unwrap(), Some(1));
        std::fs::remove_file(file).unwrap();
    });
}

#[test]
fn l1_before_nothing_is_refused() {
    for url in ["null://?l1=100", "memory://?l1=100"] {
        let refused = Cache::from_url(url).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        assert!(refused.to_string().contains("names no server"), "{refused}");
    }
}
