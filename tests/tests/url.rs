//! Caches opened by URL, in both worlds.

#![cfg(not(shuttle))]

use cacheio_async::AsyncCache;
use cacheio_core::{Error, ErrorKind, Settings};
use cacheio_sync::Cache;
use cacheio_tests::world::block_on;

/// Opens the cache of a URL, and checks that both worlds give the same result.
fn open(url: &str) -> Result<(Cache, AsyncCache), Error> {
    match (Cache::from_url(url), AsyncCache::from_url(url)) {
        (Ok(threads), Ok(tasks)) => {
            assert_eq!(threads.namespace(), tasks.namespace());
            Ok((threads, tasks))
        }
        (Err(threads), Err(tasks)) => {
            assert_eq!(
                (threads.kind(), threads.to_string()),
                (tasks.kind(), tasks.to_string())
            );
            Err(threads)
        }
        (threads, tasks) => panic!("the worlds differ over {url}: {threads:?} and {tasks:?}"),
    }
}

fn refused(url: &str) -> String {
    let error = open(url).expect_err(url);
    assert_eq!(error.kind(), ErrorKind::Config, "{url}");
    let (message, debug) = (error.to_string(), format!("{error:?}"));
    assert!(
        !message.contains("secret") && !debug.contains("secret"),
        "{url} shows: {message}"
    );
    message
}

#[test]
fn a_url_opens_a_cache_in_memory() {
    for url in [
        "memory://",
        "memory://?",
        "memory://?capacity=10",
        "memory://?ttl=300",
        "memory://?ttl=500ms",
        "memory://?ttl=1h30m",
        "memory://?ttl=99999999999&ttl_none=99999999999", // forever
        "memory://?ttl=1.5s",
        "memory://?ttl=5m&capacity=10&namespace=shop&jitter=0.1&stale_for=1h&retry_after=5s",
        "memory://?stale_for=1h&soft_timeout=100ms&hard_timeout=2s&max_load=30s",
        "memory://?refresh_ahead=0.8&ttl_none=10s&ttl_idle=30m",
        "memory://?refresh_ahead=xfetch&retry_after=5s",
        "memory://?ttl=never&refresh_ahead=never",
        "memory://?codec=json+zstd&max_decompressed=1MiB",
    ] {
        let (threads, tasks) = open(url).expect(url);
        threads.set("k", 1).unwrap();
        assert_eq!(threads.get::<i32>("k").unwrap(), Some(1));
        block_on(async {
            tasks.set("k", 1).await.unwrap();
            assert_eq!(tasks.get::<i32>("k").await.unwrap(), Some(1));
        });
    }
}

#[test]
fn a_url_sets_capacity_and_namespace() {
    let (threads, tasks) = open("memory://?capacity=10&namespace=my%20shop%26co").unwrap();
    assert_eq!(threads.namespace(), "my shop&co");
    for key in 0..100 {
        threads.set(key, key).unwrap();
        block_on(tasks.set(key, key)).unwrap();
    }
    assert_eq!(
        threads
            .get_many::<i32>(0..100)
            .unwrap()
            .into_iter()
            .flatten()
            .count(),
        10
    );
    assert_eq!(
        block_on(tasks.get_many::<i32>(0..100))
            .unwrap()
            .into_iter()
            .flatten()
            .count(),
        10
    );
}

#[test]
fn an_unknown_scheme_is_an_error_that_lists_the_known_ones() {
    for url in [
        "postgres://user:secret@host/db",
        "MEMCACHED-X://secret",
        "://secret",
    ] {
        assert!(refused(url).contains("memory://"), "{}", refused(url));
    }
}

#[test]
fn an_invalid_url_is_an_error_that_shows_a_valid_one() {
    for url in ["", "memory", "memory:", "memory:/", "secret"] {
        assert!(refused(url).contains("memory://"), "{}", refused(url));
    }
}

#[test]
fn an_unknown_parameter_is_an_error_that_lists_the_known_ones() {
    for url in [
        "memory://?tll=5",
        "memory://?capacity=5&Capacity=secret",
        "memory://?password=secret",
        "memory://?=secret",
    ] {
        let message = refused(url);
        for parameter in [
            "capacity",
            "namespace",
            "ttl",
            "jitter",
            "stale_for",
            "retry_after",
            "refresh_ahead",
            "soft_timeout",
            "hard_timeout",
            "max_load",
            "ttl_none",
            "ttl_idle",
        ] {
            assert!(message.contains(parameter), "{message}");
        }
    }
}

#[test]
fn an_invalid_value_is_an_error_that_shows_a_valid_one() {
    for (url, expected) in [
        ("memory://?capacity=0", "capacity of 0"),
        ("memory://?capacity=x", "number of entries"),
        ("memory://?capacity=-1", "number of entries"),
        ("memory://?capacity=", "number of entries"),
        ("memory://?capacity", "number of entries"),
        (
            "memory://?capacity=99999999999999999999999",
            "number of entries",
        ),
        (
            "memory://?ttl=bad",
            "`ttl` of a memory:// URL must be a duration such as \"500ms\"",
        ),
        ("memory://?ttl=", "\"never\""),
        ("memory://?ttl=-5", "\"30s\""),
        ("memory://?ttl=1.s", "\"1h30m\""),
        ("memory://?ttl=1h30", "\"1h30m\""),
        ("memory://?ttl=0", "zero"),
        ("memory://?jitter=x", "between 0 and 1"),
        ("memory://?stale_for=long", "must be a duration such as"),
        (
            "memory://?stale_for=1h&retry_after=-1",
            "must be a duration such as",
        ),
        ("memory://?retry_after=30s", "stale_for"),
        ("memory://?jitter=2", "between 0 and 1"),
        ("memory://?refresh_ahead=soon", "\"xfetch\""),
        ("memory://?refresh_ahead=1.5", "less than 1"),
        ("memory://?soft_timeout=1s", "stale_for"),
        (
            "memory://?stale_for=1h&soft_timeout=2s&hard_timeout=1s",
            "`soft_timeout` must not be longer than `hard_timeout`",
        ),
        (
            "memory://?hard_timeout=0",
            "`hard_timeout` must be greater than zero",
        ),
        ("memory://?max_load=-1", "must be a duration such as"),
        (
            "memory://?ttl_idle=0",
            "`ttl_idle` must be greater than zero",
        ),
        ("memory://?jitter=nan", "between 0 and 1"),
        ("memory://?max_decompressed=1MiB", "json+zstd"),
        ("memory://?codec=json&max_decompressed=1MiB", "json+zstd"),
        ("memory://?codec=json+lz4&max_decompressed=0", "512KiB"),
        ("memory://?codec=json+lz4&max_decompressed=1mb", "512KiB"),
        ("memory://?namespace=%zz", "percent-encoding"),
        ("memory://?%zz=secret", "percent-encoding"),
    ] {
        let message = refused(url);
        assert!(message.contains(expected), "{url}: {message}");
    }
    assert!(refused(&format!("memory://?namespace={}", "n".repeat(101))).contains("100"));
}

#[test]
fn a_duplicate_parameter_is_refused() {
    assert!(refused("memory://?ttl=1&ttl=2").contains("twice"));
    assert!(refused("memory://?capacity=secret&capacity=secret").contains("`capacity`"));
}

#[test]
fn memory_has_no_host() {
    for url in [
        "memory://localhost",
        "memory://user:secret@host?capacity=1",
        "memory:///path",
    ] {
        assert!(
            refused(url).contains("memory://?capacity=10000"),
            "{}",
            refused(url)
        );
    }
}

/// The cache opens no connection before it needs one.
#[test]
fn a_url_opens_a_cache_although_its_server_is_absent() {
    for url in [
        "memcache://127.0.0.1:1",
        "memcache://user:secret@127.0.0.1:1,[::1]:1?timeout=200ms&connections=4",
        "memcache:///nowhere/memcached.sock?namespace=shop&ttl=5m",
        "redis://127.0.0.1:1",
        "redis://user:secret@127.0.0.1:1/3?timeout=200ms&connections=2&protocol=resp2",
        "valkey://:secret@127.0.0.1:1?codec=msgpack+zstd",
        "redis+unix:///nowhere/redis.sock?db=3",
        "redis-cluster://user:secret@127.0.0.1:1,127.0.0.1:2?jitter=0.1",
        "redis-sentinel://:secret@127.0.0.1:1,127.0.0.1:2/main/3",
    ] {
        let (threads, tasks) = open(url).expect(url);
        let shop = url.contains("namespace=shop");
        assert_eq!(threads.namespace(), if shop { "shop" } else { "cacheio" });
        for shown in [format!("{threads:?}"), format!("{tasks:?}")] {
            assert!(!shown.contains("secret"), "{url} shows: {shown}");
        }
        assert_eq!(threads.get_or_set("k", || 1), 1, "{url}");
        let error = threads.get::<i32>("k").expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret"), "{url} shows: {shown}");
    }
}

#[test]
fn an_invalid_url_of_a_server_is_an_error_that_says_why() {
    for (url, says) in [
        ("redis://user:secret@host?tiemout=1s", "timeout"),
        ("redis://user:secret@host?timeout=soon", "timeout"),
        ("redis://user:secret@host?codec=yaml", "json"),
        ("redis://user:secret@host?namespace=", "namespace"),
        ("memcache://user:secret@host?namespace", "namespace"),
        ("redis://user:secret@host/secret", "redis"),
        ("redis-sentinel://:secret@host:1", "master"),
        ("memcache://user:secret@host?capacity=5", "connections"),
        ("memcache://user:secret@host:port", "host:11211"),
        ("memcached+udp://user:secret@host", "memcache://"),
        ("postgres://user:secret@host", "redis://"),
    ] {
        let message = refused(url);
        assert!(message.contains(says), "{url}: {message}");
    }
}

fn settings(json: &str) -> serde_json::Result<Settings> {
    serde_json::from_str(json)
}

#[test]
fn settings_of_a_file_have_the_names_of_a_url() {
    let file = r#"{
        "url": "memory://", "capacity": 10000, "namespace": "shop", "ttl": "5m", "jitter": 0.1,
        "stale_for": 3600, "refresh_ahead": "xfetch", "shared_loads": true
    }"#;
    let settings = settings(file).unwrap();
    let cache = Cache::from_settings(&settings).unwrap();
    assert_eq!(cache.namespace(), "shop");
    let cache = AsyncCache::from_settings(&settings).unwrap();
    assert_eq!(cache.namespace(), "shop");
    // No server listens there, and none is needed to build a cache.
    let file = r#"{"url": "redis://127.0.0.1:1?ttl=5m", "timeout": "200ms", "db": 1, "l1": 100}"#;
    let settings = serde_json::from_str(file).unwrap();
    assert_eq!(
        Cache::from_settings(&settings).unwrap().namespace(),
        "cacheio"
    );
}

#[test]
fn settings_of_a_file_that_cannot_be_used_are_refused() {
    for (file, message) in [
        (r#"{"namespace": "shop"}"#, "missing field `url`"),
        (
            r#"{"url": "memory://", "url": "null://"}"#,
            "duplicate field `url`",
        ),
        (
            r#"{"url": "memory://", "ttl": [1]}"#,
            "a text, a number or a boolean",
        ),
        (
            r#"{"url": "memory://", "ttl": null}"#,
            "a text, a number or a boolean",
        ),
        (r#""memory://""#, "the settings of a cache"),
        (r#""redis://:secret@h""#, "write a URL as `url`"),
    ] {
        let refused = settings(file).unwrap_err().to_string();
        assert!(refused.contains(message), "{file}: {refused}");
        assert!(!refused.contains("secret"), "{file}: {refused}");
    }
    for (file, message) in [
        (r#"{"url": "memory"}"#, "not a cache URL"),
        (
            r#"{"url": "memory://", "tll": "5m"}"#,
            "did you mean `ttl`?",
        ),
        (r#"{"url": "memory://?ttl=5m", "ttl": "5m"}"#, "`ttl` twice"),
        (r#"{"url": "memory://", "ttl": "soon"}"#, "`ttl`"),
        (
            r#"{"url": "memory://", "shared_loads": 1}"#,
            "true or false",
        ),
    ] {
        let refused = Cache::from_settings(&settings(file).unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        assert!(refused.to_string().contains(message), "{file}: {refused}");
    }
}

#[test]
fn settings_show_no_secret() {
    let file = r#"{"url": "redis://user:secret@127.0.0.1:1", "tll": "secret"}"#;
    let settings = settings(file).unwrap();
    let refused = Cache::from_settings(&settings).unwrap_err();
    let shown = format!("{settings:?} {refused} {refused:?}");
    assert!(!shown.contains("secret"), "{shown}");
}
