//! What only Memcached has: its claims, its counters, its clock, its listing of keys, its connections, its
//! deadlines, and servers that hang, restart, or send malformed responses, or whose responses are lost.

#![cfg(not(shuttle))]

mod batches;
mod claim_holders;
mod claims;
mod counters;
mod deadlines;
mod endpoints;
mod failures;
mod half_open;
mod limits;
mod lost_responses;
mod malformed;
mod scan;
mod tasks;
mod ttl;
mod url;

use std::thread::sleep;
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_sync::store::{Entry, Key, Payload};
use cacheio_sync::{Cache, Error, Memcached};
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::servers;
use cacheio_tests::watchdog::guarded;

const SECOND: Duration = Duration::from_secs(1);

fn key(text: &str) -> Key<'_> {
    Key::new(text)
}

fn entry(text: &str) -> Entry {
    Entry::bytes(text.into())
}

/// Returns the text of an entry.
fn text(entry: Option<Entry>) -> Option<String> {
    entry.map(|entry| match entry.payload {
        Payload::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("not bytes: {other:?}"),
    })
}

fn store(server: &servers::Memcached) -> Memcached {
    Memcached::new(&server.url()).unwrap()
}

fn store_with_timeout(server: &servers::Memcached, timeout: Duration) -> Memcached {
    Memcached::builder()
        .server(server.address().to_string())
        .timeout(timeout)
        .build()
        .unwrap()
}

/// Makes a cache of a store, in either world.
fn cache(world: World, store: Memcached) -> CacheApi {
    match world {
        World::Threads => CacheApi::Threads(Cache::builder().store(store).build().unwrap()),
        World::Tasks => CacheApi::Tasks(AsyncCache::builder().store(store).build().unwrap()),
    }
}

/// Runs a test in each of the two worlds.
fn in_both_worlds<F: Future<Output = ()> + 'static>(test: fn(World) -> F) {
    for world in [World::Threads, World::Tasks] {
        guarded(move || world.run(test(world)));
    }
}

/// Repeats a call until it succeeds.
fn eventually<T>(mut call: impl FnMut() -> Result<T, Error>) -> T {
    let began = Instant::now();
    loop {
        match call() {
            Ok(value) => return value,
            Err(error) if began.elapsed() > Duration::from_secs(20) => panic!("{error}"),
            Err(_) => sleep(Duration::from_millis(2)),
        }
    }
}
