//! Where a promise plays: a server to harm, and caches on it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_core::Result;
use cacheio_redis::Redis;
use cacheio_sync::{Cache, Memcached};
use cacheio_tests::face::{Face, Tasks, Threads};

/// How long a server that is back may stay unused.
const BACK: Duration = Duration::from_secs(1);

/// What a machine that also compiles may need to get round to something. It is allowed where one
/// late call decides, not where many are counted.
const BUSY: Duration = Duration::from_millis(1_500);

/// How to make a cache on the server of a URL.
pub(crate) type Open<F> = fn(url: &str, timeout: Duration) -> F;

/// A server, and how caches are made on it.
pub(crate) struct Scene<F, S> {
    pub(crate) server: S,
    open: Open<F>,
}

impl<F: Face, S> Scene<F, S> {
    pub(crate) fn new(server: S, open: Open<F>) -> Self {
        Self { server, open }
    }

    /// A cache on the server of a URL.
    pub(crate) fn at(&self, url: &str, timeout: Duration) -> F {
        (self.open)(url, timeout)
    }
}

impl<F: Face, S: Harmed> Scene<F, S> {
    /// A cache on the server.
    pub(crate) fn cache(&self, timeout: Duration) -> F {
        self.at(&self.server.url(), timeout)
    }

    /// A cache that reaches the server by way of an address.
    pub(crate) fn by_way_of(&self, address: SocketAddr, timeout: Duration) -> F {
        self.at(&S::url_of(address), timeout)
    }
}

pub(crate) fn memcached_for_threads(url: &str, timeout: Duration) -> Threads {
    Threads(built(
        Cache::builder().store(memcached(url, timeout)).build(),
    ))
}

pub(crate) fn memcached_for_tasks(url: &str, timeout: Duration) -> Tasks {
    Tasks(built(
        AsyncCache::builder().store(memcached(url, timeout)).build(),
    ))
}

pub(crate) fn redis_for_threads(url: &str, timeout: Duration) -> Threads {
    Threads(built(Cache::builder().store(redis(url, timeout)).build()))
}

pub(crate) fn redis_for_tasks(url: &str, timeout: Duration) -> Tasks {
    Tasks(built(
        AsyncCache::builder().store(redis(url, timeout)).build(),
    ))
}

fn memcached(url: &str, timeout: Duration) -> Memcached {
    built(Memcached::new(&format!(
        "{url}?timeout={}ms",
        timeout.as_millis()
    )))
}

fn redis(url: &str, timeout: Duration) -> Redis {
    built(Redis::new(format!(
        "{url}?timeout={}ms",
        timeout.as_millis()
    )))
}

fn built<T>(built: Result<T>) -> T {
    built.unwrap()
}

/// What the tests do to any kind of server.
pub(crate) trait Harmed: Send + Sync + 'static {
    fn url_of(address: SocketAddr) -> String;
    fn address(&self) -> SocketAddr;
    fn url(&self) -> String;
    fn kill(&self);
    fn restart(&self);
    fn pause(&self);
    fn resume(&self);
    fn plant(&self, key: &str, bytes: &[u8]);
}

macro_rules! harmed {
    ($($server:ident: $scheme:literal;)*) => {$(
        impl Harmed for cacheio_tests::servers::$server {
            fn url_of(address: SocketAddr) -> String {
                format!("{}://{address}", $scheme)
            }

            fn address(&self) -> SocketAddr {
                self.address()
            }

            fn url(&self) -> String {
                self.url()
            }

            fn kill(&self) {
                self.kill();
            }

            fn restart(&self) {
                self.restart();
            }

            fn pause(&self) {
                self.pause();
            }

            fn resume(&self) {
                self.resume();
            }

            fn plant(&self, key: &str, bytes: &[u8]) {
                self.plant(key, bytes);
            }
        }
    )*};
}

harmed! {
    Memcached: "memcache";
    Redis: "redis";
}

/// How long something takes.
pub(crate) async fn timed<T>(call: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = call.await;
    (output, start.elapsed())
}

/// That calls kept to a limit: 50 ms beyond it at the 99.9th percentile, where there are enough of
/// them to tell. The slowest may be later by what a busy machine needs.
pub(crate) fn kept_to(limit: Duration, mut calls: Vec<Duration>) {
    calls.sort_unstable();
    let slowest = *calls.last().expect("there are calls");
    assert!(slowest <= limit + BUSY, "the slowest call took {slowest:?}");
    let percentile = calls[(calls.len() - 1) * 999 / 1_000];
    if calls.len() >= 1_000 {
        assert!(
            percentile <= limit + Duration::from_millis(50),
            "the 99.9th percentile of {} calls is {percentile:?}, the slowest {slowest:?}",
            calls.len()
        );
    }
}

/// Waits until the cache holds what is set: how long that took.
pub(crate) async fn used_again<F: Face>(cache: &F) -> Duration {
    let start = Instant::now();
    for attempt in 0_u64.. {
        let set = cache.set("used again", attempt).await.is_ok();
        if set && cache.get::<u64>("used again").await.ok().flatten() == Some(attempt) {
            break;
        }
        F::sleep(Duration::from_millis(2)).await;
    }
    start.elapsed()
}

/// That the server is used as soon as it is there.
pub(crate) async fn is_used_again<F: Face>(cache: &F) {
    let after = used_again(cache).await;
    assert!(
        after <= BACK + BUSY,
        "the server was back, and used only after {after:?}"
    );
}
