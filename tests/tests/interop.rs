//! cacheio and Python's aiocache share entries and counters on a server, both ways.
//!
//! Ignored by default, because it needs aiocache: `tests/interop/run.sh` installs it and runs
//! these tests. The Python side is `tests/interop/peer.py`.

#![cfg(not(shuttle))]

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use cacheio::{AsyncCache, Ttl, Value};
use cacheio_tests::servers::{Memcached, Redis, Reply};
use serde::{Deserialize, Serialize};

const LONG: Duration = Duration::from_secs(100);

/// A Python dict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    tags: Vec<String>,
    score: Option<f64>,
}

fn ada() -> User {
    User {
        id: 7,
        name: "Ada Lövelace".into(),
        tags: vec!["a".into(), "b".into()],
        score: None,
    }
}

const UNICODE: &str = "Grüße, 世界 🦀 \"quoted\" \\ \n";

#[tokio::test]
#[ignore = "needs aiocache: tests/interop/run.sh"]
async fn redis_is_shared_with_aiocache() {
    let server = Redis::start();
    let cache = AsyncCache::from_url(&format!("{}?namespace=shop", server.url())).unwrap();
    let left = |key: &str| match server.run(&format!("PTTL shop:{key}")) {
        Reply::Integer(left) => left,
        other => panic!("no TTL: {other}"),
    };

    python("redis", server.port(), "write");
    assert!((50_000..=100_000).contains(&left("py:str")));
    share(&cache).await;
    assert_eq!(left("py:for_ever"), -1);
    python("redis", server.port(), "read");
    end(&cache).await;
}

#[tokio::test]
#[ignore = "needs aiocache: tests/interop/run.sh"]
async fn memcached_is_shared_with_aiocache() {
    let server = Memcached::start();
    let cache = AsyncCache::from_url(&format!("{}?namespace=shop", server.url())).unwrap();
    // "HD t99"
    let left = |key: &str| -> i64 {
        let response = server.raw(format!("mg shop:{key} t").as_bytes());
        let left = response
            .strip_prefix("HD t")
            .and_then(|left| left.parse().ok());
        left.unwrap_or_else(|| panic!("no TTL: {response}"))
    };

    python("memcached", server.port(), "write");
    assert!((50..=100).contains(&left("py:str")));
    share(&cache).await;
    assert!((50..=102).contains(&left("rs:str")));
    assert_eq!(left("py:for_ever"), -1);
    assert_eq!(left("rs:for_ever"), -1);
    python("memcached", server.port(), "read");
    end(&cache).await;
}

/// Reads the entries that aiocache wrote, and writes those that it reads.
async fn share(cache: &AsyncCache) {
    reads(cache, "py:str", "plain".to_owned()).await;
    reads(cache, "py:unicode", UNICODE.to_owned()).await;
    reads(cache, "py:empty", String::new()).await;
    reads(cache, "py:int", -42_i32).await;
    reads(cache, "py:large", i64::MAX).await;
    reads(cache, "py:float", 1.5_f64).await;
    reads(cache, "py:true", true).await;
    reads(cache, "py:false", false).await;
    reads(cache, "py:none", None::<u8>).await;
    reads(cache, "py:list", vec![1_u8, 2, 3]).await;
    reads(cache, "py:dict", ada()).await;
    reads(cache, "py:empty_list", Vec::<u8>::new()).await;
    let many: Vec<Option<u8>> = cache
        .get_many((0..6).map(|n| format!("py:many:{n}")))
        .await
        .unwrap();
    assert_eq!(many, [Some(0), Some(1), Some(2), Some(3), Some(4), None]);

    assert!(!cache.has("py:deleted").await.unwrap());
    assert!(!cache.add("py:added", 2).await.unwrap());
    assert!(cache.delete("py:str").await.unwrap());
    let waits = Instant::now();
    while cache.has("py:short").await.unwrap() {
        assert!(waits.elapsed() < Duration::from_secs(5), "no expiry");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // aiocache added 10 and -1.
    reads(cache, "py:counter", 9_i64).await;
    assert_eq!(cache.increment("py:counter", 7).await.unwrap(), 16);
    assert_eq!(cache.increment("rs:counter", 5).await.unwrap(), 5);

    writes(cache, "rs:str", "plain").await;
    writes(cache, "rs:unicode", UNICODE).await;
    writes(cache, "rs:empty", "").await;
    writes(cache, "rs:int", -42).await;
    writes(cache, "rs:large", i64::MAX).await;
    writes(cache, "rs:float", 1.5).await;
    writes(cache, "rs:true", true).await;
    writes(cache, "rs:false", false).await;
    writes(cache, "rs:none", None::<u8>).await;
    writes(cache, "rs:list", [1, 2, 3]).await;
    writes(cache, "rs:dict", ada()).await;
    writes(cache, "rs:empty_list", Vec::<u8>::new()).await;
    writes(cache, "rs:schlüssel", "unicode key").await;
    let many = (0..5).map(|n| (format!("rs:many:{n}"), n));
    cache.set_many_with(many, LONG).await.unwrap();
    cache
        .set_with("rs:for_ever", "x", Ttl::Never)
        .await
        .unwrap();
    assert!(cache.add("rs:added", 1).await.unwrap());
    writes(cache, "rs:deleted", "x").await;
    assert!(cache.delete("rs:deleted").await.unwrap());
    cache
        .set_with("rs:short", "x", Duration::from_secs(1))
        .await
        .unwrap();
}

/// Checks the last steps of aiocache.
async fn end(cache: &AsyncCache) {
    assert!(!cache.has("rs:str").await.unwrap());
    reads(cache, "rs:counter", 8_i64).await;
    assert_eq!(cache.decrement("rs:counter", 10).await.unwrap(), -2);
    cache.clear().await.unwrap();
    assert!(!cache.has("py:for_ever").await.unwrap());
}

async fn reads<V: Value + std::fmt::Debug + PartialEq>(cache: &AsyncCache, key: &str, expected: V) {
    let found = cache.get::<V>(key).await;
    assert_eq!(found.unwrap(), Some(expected), "{key}");
}

async fn writes(cache: &AsyncCache, key: &str, value: impl cacheio::Encode) {
    cache.set_with(key, value, LONG).await.unwrap();
}

/// Runs a part of the Python side.
fn python(backend: &str, port: u16, phase: &str) {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let peer = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/peer.py");
    let output = Command::new(&python)
        .args([peer, backend, &port.to_string(), phase])
        .output()
        .unwrap_or_else(|error| {
            panic!("{python} cannot be run ({error}): use tests/interop/run.sh")
        });
    assert!(
        output.status.success(),
        "{phase} with {python} (tests/interop/run.sh installs what it needs):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
