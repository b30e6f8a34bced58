//! Whatever a URL holds, no error, event or `Debug` output shows a password in it.

#![cfg(not(shuttle))]

use std::error::Error as StdError;
use std::fmt::Debug;

use cacheio::{AsyncCache, Cache, CacheFactory, Memcached, Redis};
use cacheio_tests::log::Log;
use proptest::prelude::*;

const SECRET: &str = "s3cr3t";

const SCHEMES: [&str; 16] = [
    "redis",
    "rediss",
    "redis+unix",
    "redis-cluster",
    "redis-sentinel",
    "valkey",
    "memcache",
    "memcache+unix",
    "memcache+tls",
    "memory",
    "http",
    "",
    "redis:",
    "redis:/user:s3cr3t",
    "s3cr3t@redis",
    "user:s3cr3t",
];

/// What may be around a password that is not encoded.
fn noise() -> impl Strategy<Value = String> {
    prop_oneof![
        "[/?#@:%&=+,\\[\\] !.a-z0-9\\\\]{0,6}",
        "\\PC{0,4}",
        Just("?timeout=".to_owned()),
        Just("?codec=".to_owned()),
        Just("?db=".to_owned()),
        Just("?x=1&x=".to_owned()),
        Just("%zz".to_owned()),
        Just(String::new()),
    ]
}

fn url() -> impl Strategy<Value = String> {
    let scheme = prop::sample::select(&SCHEMES[..]);
    let user = prop::sample::select(&["", "user", "user:pass", "/user", "[::1]"][..]);
    let tail = prop::sample::select(
        &[
            "",
            "@",
            "@127.0.0.1:1",
            "@127.0.0.1:1/0",
            "@[::1]:1,127.0.0.1:1/main",
            "@/nowhere/socket",
            "@127.0.0.1:x",
            "@127.0.0.1:1?timeout=1s",
            "@127.0.0.1:1?tiemout=1s",
            "@127.0.0.1:1?ca=/nowhere&cert=a",
        ][..],
    );
    let parts = (scheme, user, noise(), noise(), tail);
    parts.prop_filter_map(
        "the secret is the host",
        |(scheme, user, before, after, tail)| {
            let end = format!("{after}{tail}");
            let is_host = before.contains('@') && !end.contains('@');
            (!is_host).then(|| format!("{scheme}://{user}:{before}{SECRET}{end}"))
        },
    )
}

fn hidden(url: &str, shown: &str) {
    assert!(!shown.contains(SECRET), "{url} shows: {shown}");
}

fn check_error(url: &str, error: &(dyn StdError + 'static)) {
    hidden(url, &format!("{error} {error:?}"));
    if let Some(source) = error.source() {
        check_error(url, source);
    }
}

fn check<T: Debug, E: StdError + 'static>(url: &str, result: Result<T, E>) -> Option<T> {
    hidden(url, &format!("{result:?}"));
    match result {
        Ok(made) => Some(made),
        Err(error) => {
            check_error(url, &error);
            None
        }
    }
}

fn check_url(url: &str) {
    if let Some(cache) = check(url, Cache::from_url(url)) {
        check(url, cache.get::<String>("k"));
        cache.get_or_set("k", || 1);
        check(url, cache.set("k", 1));
    }
    check(url, AsyncCache::from_url(url));
    check(url, CacheFactory::redis_cache(url));
    check(url, CacheFactory::memcached_cache(url));
    let redis = [
        Redis::builder().url(url),
        Redis::builder().cluster([url, "redis://127.0.0.1:1"]),
        Redis::builder().sentinel("main", ["redis://127.0.0.1:1", url]),
    ];
    for redis in redis {
        hidden(url, &format!("{redis:?}"));
        check(url, redis.build());
    }
    check(url, Memcached::new(url));
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    for server in [url, rest] {
        let memcached = Memcached::builder().server(server);
        hidden(url, &format!("{memcached:?}"));
        check(url, memcached.build());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_password_is_shown(url in url()) {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || check_url(&url));
        for logged in log.lock().iter() {
            hidden(&url, &logged.text);
        }
    }
}

#[test]
fn no_password_is_shown_of_the_urls_that_showed_one() {
    for url in [
        "redis+unix://user:s3cr3t@/path",
        "redis+unix://user:s3cr3t@path",
        "redis+unix:///user:s3cr3t@host",
        "memcache://user:s3cr3t",
        "memcache:///user:s3cr3t@host",
        "memcache://user:pass?s3cr3t@host",
        "redis://user:pass?s3cr3t@host",
        "redis://user:pass?s3cr3t=1&s3cr3t=2@host",
        "redis://user:pass?%zz=s3cr3t@host",
        "memcache+tls://host?ca=s3cr3t",
        "memcache+tls://host?cert=s3cr3t&key=s3cr3t",
        "redis:s3cr3t://host",
    ] {
        check_url(url);
    }
}
