//! Going through the keys of a namespace: in steps that do not block the server, in a cluster on every master.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_core::{AsyncStore, ErrorKind};
use cacheio_tests::BUSY;
use cacheio_tests::servers;
use cacheio_tests::servers::RedisCluster;
use tokio::time::sleep;

use crate::support::{run, store, until_up, with_short_timeout};

fn cache(url: &str, namespace: &str) -> AsyncCache {
    let cache = AsyncCache::builder().store(store(url)).namespace(namespace);
    cache.build().unwrap()
}

async fn fill(cache: &AsyncCache, count: u32) {
    let entries = (0..count).map(|key| (("key", key), key));
    cache.set_many(entries).await.unwrap();
}

/// Returns how often SCAN was called, and how many microseconds a call took on average.
fn scans(server: &servers::Redis) -> (u64, f64) {
    let stats = server.run("INFO commandstats");
    let line = stats.text().lines().find(|line| line.contains("_scan:"));
    let field = |name: &str| {
        let (_, field) = line?.split_once(name)?;
        let end = field.find(',').unwrap_or(field.len());
        field[..end].parse::<f64>().ok()
    };
    let calls = field("calls=").unwrap_or_default();
    (calls as u64, field("usec_per_call=").unwrap_or_default())
}

#[test]
fn a_large_namespace_is_listed_in_steps_that_do_not_block_the_server() {
    let server = servers::Redis::start();
    run(async {
        let (small, large) = (cache(&server.url(), "small"), cache(&server.url(), "large"));
        fill(&small, 10).await;
        fill(&large, 50_000).await;
        assert_eq!(large.keys(100).await.unwrap().len(), 100);
        let (few, _) = scans(&server);
        assert!(few <= 2, "{few} calls for a hundred keys");
        assert_eq!(large.keys(usize::MAX).await.unwrap().len(), 50_000);
        assert_eq!(small.keys(usize::MAX).await.unwrap().len(), 10);
        let (calls, microseconds) = scans(&server);
        assert!(calls >= 100, "{calls} calls for all keys, twice");
        assert!(microseconds < 20_000.0, "{microseconds} µs a call");
    });
}

#[test]
fn what_other_programs_store_is_not_listed() {
    let server = servers::Redis::start();
    run(async {
        let cache = cache(&server.url(), "ns");
        fill(&cache, 1).await;
        server.raw(&[&[b"SET", b"ns:\xFF\xFE", b"1"]]);
        server.raw(&[&[b"SET", b"ns:key:0\x01", b"0123456789abcdef"]]);
        server.raw(&[&[b"SET", b"ns", b"1"], &[b"SET", b"nsx:k", b"1"]]);
        server.raw(&[&[b"RPUSH", b"ns:list", b"1"]]);
        assert_eq!(cache.keys(100).await.unwrap(), ["key:0"]);
        let entries = cache.entries::<u32>(100).await.unwrap();
        assert_eq!(entries.len(), 1);
    });
}

#[test]
fn a_server_is_not_listed_without_a_namespace() {
    let server = servers::Redis::start();
    run(async {
        let error = store(&server.url()).scan("", None, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    });
}

#[test]
fn a_listing_of_a_server_that_hangs_fails_within_the_timeout() {
    let server = servers::Redis::start();
    run(async {
        let store = with_short_timeout(&server.url());
        let cache = AsyncCache::builder().store(store.clone()).build().unwrap();
        fill(&cache, 10).await;
        server.pause();
        let start = Instant::now();
        let error = cache.keys(100).await.unwrap_err();
        assert!(
            start.elapsed() < Duration::from_millis(500) + BUSY,
            "{:?}",
            start.elapsed()
        );
        assert_eq!(error.kind(), ErrorKind::Timeout);
        server.resume();
        until_up(&store).await;
        assert_eq!(cache.keys(100).await.unwrap().len(), 10);
        server.kill();
        let error = cache.entries::<u32>(100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    });
}

/// The text of a key, and its number.
fn stays(cluster: &RedisCluster, slot: u16, key: &str) -> bool {
    cluster.slot(&format!("cacheio:{key}")) != slot
}

#[test]
fn each_key_that_stays_on_its_node_is_listed_while_a_slot_moves() {
    let cluster = RedisCluster::start();
    run(async {
        let cache = cache(&cluster.url(), "cacheio");
        fill(&cache, 3_000).await;
        let all: Vec<_> = (0..3_000).map(|key| format!("key:{key}")).collect();
        // A slot on the third node, which moves to the first.
        let moved = all.iter().find(|key| {
            let slot = cluster.slot(&format!("cacheio:{key}"));
            (11_000..16_000).contains(&slot)
        });
        let moved = moved.unwrap();
        let stored = format!("cacheio:{moved}");
        let slot = cluster.slot(&stored);
        let mut expected: Vec<_> = all
            .iter()
            .filter(|key| stays(&cluster, slot, key))
            .cloned()
            .collect();
        expected.sort_unstable();
        let is_over = Arc::new(AtomicBool::new(false));
        let lists = tokio::spawn({
            let is_over = Arc::clone(&is_over);
            let stays: Vec<_> = expected.clone();
            async move {
                let mut rounds = 0;
                while !is_over.load(Ordering::SeqCst) || rounds < 3 {
                    let mut keys = cache.keys(usize::MAX).await.unwrap();
                    keys.sort_unstable();
                    let count = keys.len();
                    keys.dedup();
                    assert_eq!(keys.len(), count, "a key is listed twice");
                    for key in &stays {
                        assert!(keys.iter().any(|listed| listed == key), "{key} is missing");
                    }
                    rounds += 1;
                }
                cache
            }
        });
        for _ in 0..3 {
            for (from, to) in [(2, 0), (0, 2)] {
                cluster.begin_migration(slot, from, to);
                sleep(Duration::from_millis(20)).await;
                for key in all.iter().filter(|key| !stays(&cluster, slot, key)) {
                    cluster.migrate(from, to, &format!("cacheio:{key}"));
                }
                sleep(Duration::from_millis(20)).await;
                cluster.end_migration(slot, from, to);
            }
        }
        is_over.store(true, Ordering::SeqCst);
        let cache = lists.await.unwrap();
        assert_eq!(cache.keys(usize::MAX).await.unwrap().len(), 3_000);
    });
}

#[test]
fn a_cluster_without_one_of_its_masters_is_not_listed() {
    let cluster = RedisCluster::start();
    run(async {
        let store = with_short_timeout(&cluster.url());
        let cache = AsyncCache::builder().store(store.clone()).build().unwrap();
        fill(&cache, 300).await;
        cluster.node(2).pause();
        let start = Instant::now();
        let error = cache.keys(1_000).await.unwrap_err();
        assert!(
            start.elapsed() < Duration::from_millis(500) + BUSY,
            "{:?}",
            start.elapsed()
        );
        assert!(
            matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable),
            "{error}"
        );
        cluster.node(2).resume();
        until_up(&store).await;
        assert_eq!(cache.keys(1_000).await.unwrap().len(), 300);
        let gone = Some("17 127.0.0.1:1".to_owned());
        let error = store.scan("cacheio:", gone, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("other masters"), "{error}");
    });
}
