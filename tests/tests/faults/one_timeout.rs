//! A load takes at most one timeout in its store, in all its steps together.

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::Options;
use cacheio_tests::servers::Proxy;

use crate::env::{FaultEnv, FaultyServer, timed};

const TIMEOUT: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// Less than two steps of a load take that each last longer than half of the timeout.
const LIMIT: Duration = Duration::from_millis(1_400);

pub(crate) async fn a_load_from_a_slow_server_takes_one_timeout(env: FaultEnv<impl FaultyServer>) {
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), TIMEOUT);
    cache.set("other", 1).await.unwrap();
    proxy.delay(Duration::from_millis(800));
    let (value, took) = timed(cache.get_or_set("k", || async { 1 })).await;
    assert_eq!(value, 1);
    assert!(took < LIMIT, "{took:?}");
    // The reply to the write is still delayed, or those to a claim and to its return.
    cache.world().sleep(TIMEOUT * 2).await;
    let loaded = cache.fetch("background", |_| async { Ok::<_, String>(2) });
    let (value, took) = timed(loaded).await;
    assert_eq!(value.unwrap(), 2);
    assert!(took < LIMIT, "{took:?}");
    assert_eq!(cache.stats().circuit_opens, 0, "the server responds");
}

pub(crate) async fn a_load_takes_one_timeout_if_the_server_is_silent(
    env: FaultEnv<impl FaultyServer>,
) {
    for is_connected in [true, false] {
        let proxy = Proxy::to(env.server.address());
        let (stopped, swallowed) = (env.cache(TIMEOUT), env.via(proxy.address(), TIMEOUT));
        if is_connected {
            stopped.set("other", 1).await.unwrap();
            swallowed.set("other", 1).await.unwrap();
        }
        proxy.swallow(true);
        let (value, took) = timed(swallowed.get_or_set("k", || async { 1 })).await;
        assert_eq!(value, 1);
        assert!(took < LIMIT, "{took:?}");
        env.server.pause();
        let (value, took) = timed(stopped.get_or_set("k", || async { 1 })).await;
        env.server.resume();
        assert_eq!(value, 1);
        assert!(took < LIMIT, "{took:?}");
    }
}

/// A write waits until the value of a load is stored.
pub(crate) async fn a_write_that_waits_for_a_load_takes_one_timeout(
    env: FaultEnv<impl FaultyServer>,
) {
    let proxy = Arc::new(Proxy::to(env.server.address()));
    let cache = env.via(proxy.address(), TIMEOUT);
    cache.set("other", 1).await.unwrap();
    let slow = Arc::clone(&proxy);
    let leader = cache.spawn(move |cache| async move {
        let load = || async {
            slow.delay(Duration::from_millis(800));
            1
        };
        cache.get_or_set("k", load).await
    });
    cache.world().sleep(Duration::from_millis(150)).await;
    let (written, took) = timed(cache.set("k", 2)).await;
    assert!(took < LIMIT, "{written:?} after {took:?}");
    assert_eq!(leader.join().await, 1);
    assert_eq!(cache.stats().circuit_opens, 0, "the server responds");
}

pub(crate) async fn a_stale_value_after_a_failed_load_takes_one_timeout(
    env: FaultEnv<impl FaultyServer>,
) {
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), TIMEOUT);
    let options = || Options::ttl(Duration::from_millis(1)).stale_for(MINUTE);
    let failing =
        |key| cache.get_or_try_set_with(key, options(), || async { Err::<i32, _>("failed") });
    for key in ["warm", "k"] {
        cache.get_or_set_with(key, options(), || async { 1 }).await;
    }
    cache.world().sleep(Duration::from_millis(20)).await;
    // A server may not have the scripts yet, which takes another round trip each.
    assert_eq!(failing("warm").await.unwrap(), 1);
    // The steps are: a read of the entry, a claim where processes share loads, and the record of the
    // failure in the entry.
    proxy.delay(Duration::from_millis(200));
    let (value, took) = timed(failing("k")).await;
    assert_eq!(value.unwrap(), 1);
    assert!(took < Duration::from_millis(1_200), "{took:?}");
}

/// The versions of its tags are a part of it, also for a process that has not met any before.
pub(crate) async fn a_take_of_a_tagged_entry_takes_one_timeout(env: FaultEnv<impl FaultyServer>) {
    let proxy = Proxy::to(env.server.address());
    let tagged = Options::ttl(MINUTE).tags(["t"]);
    (env.cache(TIMEOUT).set_with("k", 1, tagged).await).unwrap();
    let cache = env.via(proxy.address(), TIMEOUT);
    cache.ping().await.unwrap();
    proxy.delay(Duration::from_millis(800));
    let (taken, took) = timed(cache.take::<i32>("k")).await;
    assert!(took < LIMIT, "{taken:?} after {took:?}");
}

/// The versions of its tags are a part of a call, and so are the steps before a write.
pub(crate) async fn a_call_on_a_tagged_entry_takes_one_timeout(env: FaultEnv<impl FaultyServer>) {
    let tagged = || Options::ttl(MINUTE).tags(["t"]);
    (env.cache(TIMEOUT).set_with("k", 1, tagged()).await).unwrap();
    for call in 0..5 {
        let proxy = Proxy::to(env.server.address());
        let cache = env.via(proxy.address(), TIMEOUT);
        cache.ping().await.unwrap();
        proxy.delay(Duration::from_millis(800));
        let called = async {
            match call {
                0 => cache.get::<i32>("k").await.err(),
                1 => cache.has("k").await.err(),
                2 => cache.ttl("k").await.err(),
                3 => cache.set_with("k", 2, tagged()).await.err(),
                _ => cache.add_with("new", 2, tagged()).await.err(),
            }
        };
        let (failed, took) = timed(called).await;
        assert!(took < LIMIT, "call {call}: {failed:?} after {took:?}");
    }
}
