//! A network that cuts replies, delays them, or discards requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cacheio_core::{ErrorKind, Result};
use cacheio_tests::api::{CacheApi, join_all};
use cacheio_tests::servers::Proxy;

use crate::env::{FaultEnv, FaultyServer, is_used_again, kept_to, timed};

const KEYS: usize = 20;

/// Returns a value in which each byte identifies its key.
fn value(key: usize) -> String {
    char::from(b'a' + u8::try_from(key).unwrap())
        .to_string()
        .repeat(2_000)
}

async fn fill(cache: &CacheApi) {
    cache
        .set_many((0..KEYS).map(|key| (key, value(key))).collect())
        .await
        .unwrap();
}

/// Whether a call failed because of its connection. Any other error fails the test.
fn broke<T>(result: &Result<T>) -> bool {
    match result {
        Ok(_) => false,
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
                "{error:?}"
            );
            true
        }
    }
}

/// Checks that every read returns the value of its key or an error.
async fn nothing_is_mixed_up(cache: &CacheApi) {
    for key in 0..KEYS {
        if let Ok(found) = cache.get::<String>(key).await {
            assert_eq!(found, Some(value(key)));
        }
    }
    if let Ok(all) = cache.get_many::<String>((0..KEYS).collect()).await {
        assert_eq!(
            all,
            (0..KEYS).map(|key| Some(value(key))).collect::<Vec<_>>()
        );
    }
}

pub(crate) async fn a_connection_cut_in_a_reply_mixes_up_no_values(
    env: FaultEnv<impl FaultyServer>,
) {
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), Duration::from_secs(1));
    fill(&cache).await;
    for bytes in [0, 1, 3, 5, 8, 30, 500, 1_999] {
        proxy.cut_after(bytes);
        let got = cache.get::<String>(3).await;
        assert!(broke(&got) || got.unwrap() == Some(value(3)));
        nothing_is_mixed_up(&cache).await;
        is_used_again(&cache).await;
        proxy.cut_after(bytes * 3);
        let got = cache.get_many::<String>(vec![5, 4, 6]).await;
        assert!(broke(&got) || got.unwrap() == [5, 4, 6].map(|key| Some(value(key))));
        nothing_is_mixed_up(&cache).await;
        is_used_again(&cache).await;
        proxy.cut_after(bytes % 6);
        broke(&cache.set(7, value(7)).await);
        nothing_is_mixed_up(&cache).await;
        is_used_again(&cache).await;
        nothing_is_mixed_up(&cache).await;
    }
    // A write without confirmation is not repeated.
    cache.set("count", 0).await.unwrap();
    let mut confirmed = 0;
    for bytes in [0, 1, 2, 3] {
        proxy.cut_after(bytes);
        confirmed += i64::from(!broke(&cache.increment("count", 1).await));
        cache.used_again().await;
    }
    let count = cache.get::<i64>("count").await.unwrap().unwrap();
    assert!(
        (confirmed..=4).contains(&count),
        "4 increments, {confirmed} confirmed, made {count}"
    );
}

pub(crate) async fn connections_cut_under_load_mix_up_no_values(env: FaultEnv<impl FaultyServer>) {
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), Duration::from_secs(1));
    fill(&cache).await;
    let callers = (0..24).map(|caller| {
        cache.spawn(move |cache| async move {
            for call in 0..60 {
                let key = (caller + call) % KEYS;
                if let Ok(found) = cache.get::<String>(key).await {
                    assert_eq!(found, Some(value(key)));
                }
                let loaded = cache.get_or_set(key, || async { value(key) }).await;
                assert_eq!(loaded, value(key));
                cache.world().sleep(Duration::from_millis(15)).await;
            }
        })
    });
    let callers = callers.collect();
    for cut in 0..12 {
        proxy.cut_after(cut * 97);
        cache.world().sleep(Duration::from_millis(60)).await;
        if cut % 4 == 3 {
            proxy.cut_now();
        }
    }
    join_all(callers).await;
    is_used_again(&cache).await;
    nothing_is_mixed_up(&cache).await;
}

/// This happens when a server restarts, or when a firewall drops idle connections.
pub(crate) async fn an_idle_connection_that_was_cut_is_replaced(env: FaultEnv<impl FaultyServer>) {
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), Duration::from_secs(1));
    fill(&cache).await;
    for round in 0..5 {
        proxy.cut_now();
        cache.world().sleep(Duration::from_millis(20)).await;
        assert_eq!(
            cache.get::<String>(1).await.unwrap(),
            Some(value(1)),
            "in round {round}"
        );
        proxy.cut_now();
        cache.world().sleep(Duration::from_millis(20)).await;
        cache.set(2, value(2)).await.unwrap();
        proxy.cut_now();
        cache.world().sleep(Duration::from_millis(20)).await;
        assert!(
            cache
                .get_many::<String>(vec![1, 2])
                .await
                .unwrap()
                .iter()
                .all(Option::is_some)
        );
    }
}

pub(crate) async fn a_reply_that_arrives_too_slowly_times_out(env: FaultEnv<impl FaultyServer>) {
    let timeout = Duration::from_millis(300);
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), timeout);
    fill(&cache).await;
    proxy.drip(Duration::from_millis(100));
    let (got, took) = timed(cache.get::<String>(1)).await;
    assert_eq!(got.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(
        took >= timeout - Duration::from_millis(5),
        "it timed out after {took:?}"
    );
    let mut calls = vec![took];
    for key in 0..10 {
        let (got, took) = timed(cache.get::<String>(key)).await;
        assert!(broke(&got));
        let (value, loaded) = timed(cache.get_or_set(key, || async { String::new() })).await;
        assert_eq!(value, "");
        calls.extend([took, loaded / 2]);
    }
    kept_to(timeout, calls);
    proxy.drip(Duration::ZERO);
    proxy.cut_now();
    is_used_again(&cache).await;
    nothing_is_mixed_up(&cache).await;
}

/// What probes have sent into the broken network gets no reply; later ones do not wait for it.
pub(crate) async fn a_network_that_is_back_is_used_soon_whatever_the_timeout(
    env: FaultEnv<impl FaultyServer>,
) {
    let timeout = Duration::from_secs(4);
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), timeout);
    cache.set("k", 1).await.unwrap();
    proxy.swallow(true);
    let error = cache.get::<i32>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    cache.world().sleep(Duration::from_millis(700)).await;
    proxy.swallow(false);
    let after = cache.used_again().await;
    // Half a second, and a busy machine. With the timeout it would be more than three seconds.
    assert!(after < Duration::from_secs(3), "{after:?}");
}

/// The connections stay open, but no request gets a reply.
pub(crate) async fn requests_without_a_reply_time_out(env: FaultEnv<impl FaultyServer>) {
    let timeout = Duration::from_millis(200);
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), timeout);
    fill(&cache).await;
    proxy.swallow(true);
    let callers = (0..40).map(|caller| {
        cache.spawn(move |cache| async move {
            let (got, took) = timed(cache.get::<String>(caller % KEYS)).await;
            assert!(broke(&got));
            took
        })
    });
    kept_to(timeout, join_all(callers.collect()).await);
    let (got, took) = timed(cache.get::<String>(1)).await;
    assert_eq!(got.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(took < timeout, "an open circuit cost {took:?}");
    proxy.swallow(false);
    is_used_again(&cache).await;
    nothing_is_mixed_up(&cache).await;
}

/// The connections go on, and the server responds to everything else.
pub(crate) async fn lost_replies_hold_up_no_other_caller(env: FaultEnv<impl FaultyServer>) {
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), Duration::from_secs(20));
    fill(&cache).await;
    let callers = (0..40).map(|caller| {
        cache.spawn(move |cache| async move {
            let mut calls = Vec::new();
            for call in 0..60 {
                let key = (caller + call) % KEYS;
                let (found, took) = timed(cache.get::<String>(key)).await;
                // It may have lost two replies.
                assert!(broke(&found) || found.unwrap() == Some(value(key)));
                calls.push(took);
                cache.world().sleep(Duration::from_millis(20)).await;
            }
            calls
        })
    });
    let callers = callers.collect();
    // Only later replies show that one was lost: others go on calling until all callers have ended.
    let stop = Arc::new(AtomicBool::new(false));
    let others = (0..2).map(|_| {
        let stop = Arc::clone(&stop);
        cache.spawn(move |cache| async move {
            while !stop.load(Ordering::SeqCst) {
                _ = cache.get::<String>(0).await;
                cache.world().sleep(Duration::from_millis(20)).await;
            }
        })
    });
    let others = others.collect();
    for _ in 0..30 {
        proxy.lose_reply();
        cache.world().sleep(Duration::from_millis(30)).await;
    }
    is_used_again(&cache).await;
    let slowest = join_all(callers).await.concat().into_iter().max();
    stop.store(true, Ordering::SeqCst);
    join_all(others).await;
    // A few tenths of a second, and a busy machine.
    assert!(slowest < Some(Duration::from_secs(10)), "{slowest:?}");
}
