//! The environment of a fault test: a server that it breaks, and caches on that server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_redis::Redis;
use cacheio_sync::{Cache, Memcached};
use cacheio_tests::BUSY;
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::servers;

/// How long a restarted server may stay unused.
const BACK: Duration = Duration::from_secs(1);

/// A server, and the world in which caches are opened on it.
pub(crate) struct FaultEnv<S> {
    pub(crate) server: S,
    pub(crate) world: World,
}

impl<S> FaultEnv<S> {
    pub(crate) fn new(server: S, world: World) -> Self {
        Self { server, world }
    }
}

impl<S: Opens> FaultEnv<S> {
    /// Opens a cache on the server of a URL.
    pub(crate) fn at(&self, url: &str, timeout: Duration) -> CacheApi {
        S::open(self.world, url, timeout)
    }
}

impl<S: FaultyServer> FaultEnv<S> {
    /// Opens a cache on the server.
    pub(crate) fn cache(&self, timeout: Duration) -> CacheApi {
        self.at(&self.server.url(), timeout)
    }

    /// Opens a cache that reaches the server through a proxy.
    pub(crate) fn via(&self, proxy: SocketAddr, timeout: Duration) -> CacheApi {
        self.at(&S::url_of(proxy), timeout)
    }

    /// Does the same for a cache with so many callers at a time.
    pub(crate) fn via_many(
        &self,
        proxy: SocketAddr,
        timeout: Duration,
        callers: usize,
    ) -> CacheApi {
        self.at(&S::url_for_many(proxy, callers), timeout)
    }
}

/// A kind of server that caches can be opened on.
pub(crate) trait Opens {
    fn open(world: World, url: &str, timeout: Duration) -> CacheApi;
}

impl Opens for servers::Memcached {
    fn open(world: World, url: &str, timeout: Duration) -> CacheApi {
        let store = memcached(url, timeout);
        match world {
            World::Threads => CacheApi::Threads(Cache::builder().store(store).build().unwrap()),
            World::Tasks => CacheApi::Tasks(AsyncCache::builder().store(store).build().unwrap()),
        }
    }
}

impl Opens for servers::Redis {
    fn open(world: World, url: &str, timeout: Duration) -> CacheApi {
        let store = redis(url, timeout);
        match world {
            World::Threads => CacheApi::Threads(Cache::builder().store(store).build().unwrap()),
            World::Tasks => CacheApi::Tasks(AsyncCache::builder().store(store).build().unwrap()),
        }
    }
}

impl Opens for servers::RedisCluster {
    fn open(world: World, url: &str, timeout: Duration) -> CacheApi {
        servers::Redis::open(world, url, timeout)
    }
}

fn memcached(url: &str, timeout: Duration) -> Memcached {
    let mark = if url.contains('?') { '&' } else { '?' };
    Memcached::new(&format!("{url}{mark}timeout={}ms", timeout.as_millis())).unwrap()
}

fn redis(url: &str, timeout: Duration) -> Redis {
    Redis::new(format!("{url}?timeout={}ms", timeout.as_millis())).unwrap()
}

/// What the tests do to any kind of server.
pub(crate) trait FaultyServer: Opens + Send + Sync + 'static {
    /// Whether an empty value is an entry, and not a claim.
    const HAS_EMPTY_ENTRIES: bool;

    fn url_of(address: SocketAddr) -> String;
    /// Returns a URL for so many callers at a time.
    fn url_for_many(address: SocketAddr, callers: usize) -> String;
    fn address(&self) -> SocketAddr;
    fn url(&self) -> String;
    fn kill(&self);
    fn restart(&self);
    fn pause(&self);
    fn resume(&self);
    fn plant(&self, key: &str, bytes: &[u8]);
}

impl FaultyServer for servers::Memcached {
    const HAS_EMPTY_ENTRIES: bool = false;

    fn url_of(address: SocketAddr) -> String {
        format!("memcache://{address}")
    }

    fn url_for_many(address: SocketAddr, callers: usize) -> String {
        format!("{}?connections={callers}", Self::url_of(address))
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

impl FaultyServer for servers::Redis {
    const HAS_EMPTY_ENTRIES: bool = true;

    fn url_of(address: SocketAddr) -> String {
        format!("redis://{address}")
    }

    /// All callers share a connection.
    fn url_for_many(address: SocketAddr, _callers: usize) -> String {
        Self::url_of(address)
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

/// Measures how long a call takes.
pub(crate) async fn timed<T>(call: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = call.await;
    (output, start.elapsed())
}

/// Checks that calls kept to a limit: with at least 1,000 calls, the 99.9th percentile is at most
/// 50 ms above it. The slowest call may be as late as a busy machine is.
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

/// Checks that the server is used soon after it is back.
pub(crate) async fn is_used_again(cache: &CacheApi) {
    let after = cache.used_again().await;
    assert!(
        after <= BACK + BUSY,
        "the server was back, and used only after {after:?}"
    );
}
