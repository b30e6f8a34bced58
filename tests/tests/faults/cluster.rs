//! A cluster that loses a node.

use std::time::{Duration, Instant};

use cacheio_tests::api::{CacheApi, join_all};
use cacheio_tests::servers::RedisCluster;

use crate::env::{FaultEnv, kept_to, timed};

const TIMEOUT: Duration = Duration::from_millis(500);
const KEYS: usize = 60;

async fn fill(cache: &CacheApi) {
    cache
        .set_many((0..KEYS).map(|key| (key, key)).collect())
        .await
        .unwrap();
}

/// Reads all keys, each alone and all at once; returns how many were read.
async fn read(cache: &CacheApi) -> usize {
    let readers = (0..KEYS).map(|key| {
        cache.spawn(move |cache| async move {
            let (got, took) = timed(cache.get::<usize>(key)).await;
            assert!(
                got.as_ref()
                    .ok()
                    .copied()
                    .flatten()
                    .is_none_or(|value| value == key)
            );
            let (loaded, also) = timed(cache.get_or_set(key, || async { key })).await;
            assert_eq!(loaded, key);
            // One request to read, and one to write.
            (got.is_ok_and(|got| got.is_some()), [took, also / 2])
        })
    });
    let (found, calls): (Vec<_>, Vec<_>) = join_all(readers.collect()).await.into_iter().unzip();
    kept_to(TIMEOUT, calls.concat());
    if let Ok(all) = cache.get_many::<usize>((0..KEYS).collect()).await {
        assert!(
            all.iter()
                .enumerate()
                .all(|(key, value)| value.is_none_or(|value| value == key))
        );
    }
    found.into_iter().filter(|found| *found).count()
}

async fn until_all_are_read(cache: &CacheApi, limit: Duration) {
    let start = Instant::now();
    while read(cache).await < KEYS {
        assert!(
            start.elapsed() < limit,
            "a node was back, and not used after {:?}",
            start.elapsed()
        );
        cache.world().sleep(Duration::from_millis(20)).await;
    }
}

/// The cluster itself needs about 2 s until a restarted node accepts writes.
const REJOIN: Duration = Duration::from_secs(10);

pub(crate) async fn a_killed_node_is_used_again(env: FaultEnv<RedisCluster>) {
    let cache = env.at(&env.server.url(), TIMEOUT);
    fill(&cache).await;
    assert_eq!(read(&cache).await, KEYS);
    env.server.node(1).kill();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let found = read(&cache).await;
        assert!(found < KEYS, "a third of the slots has no node");
    }
    assert!(
        read(&cache).await >= KEYS / 3,
        "the other nodes are not used"
    );
    assert!(cache.stats().circuit_opens > 0);
    env.server.node(1).restart();
    until_all_are_read(&cache, REJOIN).await;
}

pub(crate) async fn a_stopped_node_is_used_again(env: FaultEnv<RedisCluster>) {
    let cache = env.at(&env.server.url(), TIMEOUT);
    fill(&cache).await;
    env.server.node(2).pause();
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        read(&cache).await;
    }
    assert!(
        read(&cache).await >= KEYS / 3,
        "the other nodes are not used"
    );
    env.server.node(2).resume();
    until_all_are_read(&cache, REJOIN).await;
}
