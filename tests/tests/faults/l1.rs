//! Caches with L1, while the server or the network fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::ErrorKind;
use cacheio_sync::Cache;
use cacheio_tests::api::{CacheApi, World, join_all};
use cacheio_tests::servers::Proxy;

use crate::env::{FaultEnv, FaultyServer, is_used_again, kept_to, timed};

const TIMEOUT: Duration = Duration::from_millis(300);
const BOUND: Duration = Duration::from_millis(500);
const KEYS: usize = 8;
const CALLERS: usize = 16;

fn open(world: World, url: &str) -> CacheApi {
    let url = format!("{url}?timeout=300ms&l1=1000&max_staleness=500ms");
    match world {
        World::Threads => CacheApi::Threads(Cache::from_url(&url).unwrap()),
        World::Tasks => CacheApi::Tasks(AsyncCache::from_url(&url).unwrap()),
    }
}

/// Calls until it is told to stop. Returns how long each call took.
async fn call(cache: CacheApi, caller: usize, has_ended: Arc<AtomicBool>) -> Vec<Duration> {
    let mut calls = Vec::new();
    for round in caller.. {
        if has_ended.load(Ordering::SeqCst) {
            break;
        }
        let key = round % KEYS;
        let (failed, took) = match round % 5 {
            0 => timed(async { cache.get::<usize>(key).await.err() }).await,
            1 => timed(async { cache.set(("other", key), key).await.err() }).await,
            2 => timed(async { cache.get_many::<usize>(vec![key, 1]).await.err() }).await,
            _ => {
                let (loaded, took) = timed(cache.get_or_set(key, || async move { key })).await;
                assert_eq!(loaded, key);
                (None, took)
            }
        };
        let kind = failed.map(|error| error.kind());
        assert!(
            matches!(
                kind,
                None | Some(ErrorKind::Timeout | ErrorKind::Unavailable)
            ),
            "{kind:?}"
        );
        calls.push(took);
        cache.world().sleep(Duration::from_millis(3)).await;
    }
    calls
}

pub(crate) async fn calls_of_a_cache_with_l1_keep_to_the_timeout_and_get_or_set_never_fails<S>(
    env: FaultEnv<S>,
) where
    S: FaultyServer,
{
    let proxy = Proxy::to(env.server.address());
    let cache = open(env.world, &S::url_of(proxy.address()));
    let mut calls = Vec::new();
    for fault in ["killed", "stopped", "slow", "silent", "cut"] {
        is_used_again(&cache).await;
        for key in 0..KEYS {
            cache.get_or_set(key, || async move { key }).await;
        }
        let before = cache.stats();
        let has_ended = Arc::new(AtomicBool::new(false));
        let callers = (0..CALLERS).map(|caller| {
            let has_ended = Arc::clone(&has_ended);
            cache.spawn(move |cache| call(cache, caller, has_ended))
        });
        let callers = callers.collect();
        match fault {
            "killed" => env.server.kill(),
            "stopped" => env.server.pause(),
            "slow" => proxy.delay(TIMEOUT * 2),
            "silent" => {
                proxy.swallow(true);
                proxy.lose_connections();
            }
            _ => {}
        }
        for _ in 0..4 {
            if fault == "cut" {
                proxy.cut_now();
            }
            cache.world().sleep(BOUND / 2).await;
        }
        has_ended.store(true, Ordering::SeqCst);
        calls.extend(join_all(callers).await.concat());
        match fault {
            "killed" => env.server.restart(),
            "stopped" => env.server.resume(),
            "slow" => proxy.delay(Duration::ZERO),
            _ => proxy.swallow(false),
        }
        let after = cache.stats();
        assert_eq!(after.load_errors, 0, "{fault}");
        assert!(after.l1_hits > before.l1_hits, "{fault}: {after:?}");
    }
    kept_to(TIMEOUT, calls);
}
