//! What the tests share: runtimes, stores, and short forms of the operations.

use std::future::Future;
use std::net::TcpListener;
use std::task::Poll;
use std::time::{Duration, Instant};

use cacheio_async::Redis;
use cacheio_core::{AsyncStore, Entry, Key, Payload};
use tokio::time::{sleep, timeout};

pub(crate) const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn single_threaded_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(without_hanging(future))
}

/// Runs on the current thread, on a runtime that ends afterwards.
pub(crate) fn on_one_thread<T>(future: impl Future<Output = T>) -> T {
    single_threaded_runtime().block_on(without_hanging(future))
}

async fn without_hanging<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(180), future)
        .await
        .expect("the test hangs")
}

/// Polls a call once and returns whether it is ready.
pub(crate) async fn is_ready(call: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *call).poll(context)))
        .await
        .is_ready()
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Creates a store with a timeout that suits a busy machine.
pub(crate) fn store(url: &str) -> Redis {
    with_timeout(url, Duration::from_secs(10))
}

/// Creates a store with a timeout of 500 ms.
pub(crate) fn with_short_timeout(url: &str) -> Redis {
    with_timeout(url, Duration::from_millis(500))
}

pub(crate) fn with_timeout(url: &str, timeout: Duration) -> Redis {
    Redis::builder().url(url).timeout(timeout).build().unwrap()
}

pub(crate) fn bytes(entry: Option<Entry>) -> Option<String> {
    match entry?.payload {
        Payload::Bytes(bytes) => Some(String::from_utf8(bytes).unwrap()),
        _ => panic!("Redis holds bytes"),
    }
}

pub(crate) async fn get(store: &Redis, key: &str) -> cacheio_core::Result<Option<String>> {
    Ok(bytes(store.get(&Key::new(key)).await?))
}

pub(crate) async fn set(store: &Redis, key: &str, value: &str) -> cacheio_core::Result<()> {
    store
        .set(&Key::new(key), Entry::bytes(value.into()), MINUTE)
        .await
}

/// Waits until the server replies, and returns how long that took.
pub(crate) async fn until_up(store: &Redis) -> Duration {
    let start = Instant::now();
    while store.ping().await.is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the server is not used again"
        );
        sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}
