//! How often each operation asks its server: once, also for many keys.

#![cfg(not(shuttle))]

use std::net::SocketAddr;
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{Options, Ttl};
use cacheio_redis::Redis;
use cacheio_sync::{Cache, Memcached};
use cacheio_tests::face::{Face, Tasks, Threads};
use cacheio_tests::servers::{self, Proxy};
use cacheio_tests::watchdog::guarded;

const COUNT: usize = 50;

/// Long enough for a request in several parts to be one question still.
const DELAY: Duration = Duration::from_millis(15);

struct Asked {
    proxy: Proxy,
}

impl Asked {
    /// How often the server is asked during a call.
    async fn during<T>(&self, call: impl Future<Output = T>) -> (usize, T) {
        let before = self.proxy.round_trips();
        let output = call.await;
        (self.proxy.round_trips() - before, output)
    }
}

/// That each call asks once.
macro_rules! once {
    ($asked:ident: $($call:expr => $expected:expr;)*) => {$(
        let (times, result) = $asked.during($call).await;
        assert_eq!(result.unwrap(), $expected, "{}", stringify!($call));
        assert_eq!(times, 1, "{} asks {times} times", stringify!($call));
    )*};
}

async fn one_round_trip_an_operation<F: Face>(cache: F, proxy: Proxy) {
    let asked = Asked { proxy };
    // Connected, introduced to each other, and scripts loaded, if there are any.
    cache.set("warm", 1).await.unwrap();
    cache.increment("warm", 1).await.unwrap();
    cache.touch("warm", Ttl::Never).await.unwrap();
    asked.proxy.delay(DELAY);

    let keys: Vec<_> = (0..COUNT).map(|key| ("key", key)).collect();
    let entries: Vec<_> = keys.iter().map(|key| (*key, key.1)).collect();
    let ttl = Duration::from_secs(60);
    once! { asked:
        cache.ping() => ();
        cache.set("k", 1) => ();
        cache.set_with("k", 1, Ttl::Never) => ();
        cache.get::<i32>("k") => Some(1);
        cache.get::<i32>("missing") => None;
        cache.has("k") => true;
        cache.add("k", 2) => false;
        cache.add("added", 2) => true;
        cache.touch("k", ttl) => true;
        cache.touch("k", Ttl::Never) => true;
        cache.touch("missing", Ttl::Never) => false;
        cache.touch("k", Duration::ZERO) => true;
        cache.set_with("added", 1, Duration::ZERO) => ();
        cache.delete("k") => false;
        cache.increment("new", 5) => 5;
        cache.increment("new", 5) => 10;
        cache.increment_with("new too", 5, Options::ttl(ttl)) => 5;
        cache.set_many(entries.clone()) => ();
        cache.set_many_with(entries.clone(), Ttl::Never) => ();
        cache.get_many::<usize>(keys.clone()) => (0..COUNT).map(Some).collect::<Vec<_>>();
        cache.delete_many(keys.clone()) => COUNT;
        cache.set_many_with(entries, Duration::ZERO) => ();
    }
    // Below zero, some servers are asked for what is there first.
    let (times, result) = asked.during(cache.decrement("new", 3)).await;
    assert_eq!(result.unwrap(), 7);
    assert!(times <= 2, "decrement asks {times} times");

    let (times, loaded) = asked
        .during(cache.get_or_set("loaded", || async { 1 }))
        .await;
    assert_eq!((times, loaded), (2, 1), "one to look, one to store");
    let (times, loaded) = asked
        .during(cache.get_or_set("loaded", || async { 2 }))
        .await;
    assert_eq!((times, loaded), (1, 1));
}

/// Of what is not there, no value moves, and of what is there `has` moves none.
async fn has_moves_no_value<F: Face>(cache: F, proxy: Proxy) {
    cache.set("large", "x".repeat(100_000)).await.unwrap();
    let before = proxy.bytes_received();
    assert!(cache.has("large").await.unwrap());
    assert!(cache.touch("large", Ttl::Never).await.unwrap());
    assert!(!cache.add("large", 1).await.unwrap());
    assert!(cache.delete("large").await.unwrap());
    let moved = proxy.bytes_received() - before;
    assert!(moved < 1_000, "{moved} bytes came back");
}

fn memcached(address: SocketAddr) -> Memcached {
    Memcached::new(&format!("memcache://{address}?timeout=20s")).unwrap()
}

fn redis(address: SocketAddr) -> Redis {
    Redis::new(format!("redis://{address}?timeout=20s")).unwrap()
}

macro_rules! rows {
    ($($row:ident: $world:ident($cache:ident) on $server:ident by $store:ident;)*) => {$(
        mod $row {
            use super::*;

            fn run<R: Future<Output = ()>>(line: fn($world, Proxy) -> R) -> impl FnOnce() {
                move || {
                    let server = servers::$server::start();
                    let proxy = Proxy::to(server.address());
                    let cache = $cache::builder().store($store(proxy.address())).build().unwrap();
                    $world::run(line($world(cache), proxy));
                }
            }

            #[test]
            fn one_round_trip_an_operation() {
                guarded(|| run(super::one_round_trip_an_operation)());
            }

            #[test]
            fn has_moves_no_value() {
                guarded(|| run(super::has_moves_no_value)());
            }
        }
    )*};
}

rows! {
    memcached_for_threads: Threads(Cache) on Memcached by memcached;
    memcached_for_tasks: Tasks(AsyncCache) on Memcached by memcached;
    redis_for_threads: Threads(Cache) on Redis by redis;
    redis_for_tasks: Tasks(AsyncCache) on Redis by redis;
}
