//! Listing the keys of a namespace: a listing that has enough is left, and begun again if it had not.

use std::thread::scope;
use std::time::{Duration, Instant};

use cacheio_core::Options;
use cacheio_sync::store::Store;
use cacheio_sync::{Cache, ErrorKind, Memcached};
use cacheio_tests::BUSY;
use cacheio_tests::api::World;
use cacheio_tests::servers;
use cacheio_tests::watchdog::guarded;

use super::{SECOND, cache, eventually, in_both_worlds, store, store_with_timeout};

async fn a_listing_goes_on_until_there_are_enough_live_entries(world: World) {
    let server = servers::Memcached::start();
    let cache = cache(world, store(&server));
    let invalid: Vec<_> = (0..6_000).map(|key| (("invalid", key), 1)).collect();
    let tagged = Options::new().tags(["t"]);
    cache.set_many_with(invalid, tagged).await.unwrap();
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    let live = (0..50).map(|key| (("live", key), 1)).collect();
    cache.set_many(live).await.unwrap();
    let keys = cache.keys(50).await.unwrap();
    assert_eq!(keys.len(), 50);
    assert!(keys.iter().all(|key| key.starts_with("live:")), "{keys:?}");
    assert_eq!(cache.keys(1_000).await.unwrap(), keys);
    assert_eq!(cache.entries::<u8>(20).await.unwrap().len(), 20);
}

#[test]
fn a_listing_that_was_left_is_begun_again() {
    in_both_worlds(a_listing_goes_on_until_there_are_enough_live_entries);
}

#[test]
fn a_listing_that_is_left_occupies_neither_the_server_nor_a_connection() {
    guarded(|| {
        let server = servers::Memcached::start();
        let store = store_with_timeout(&server, SECOND * 10);
        let cache = Cache::builder().store(store).build().unwrap();
        for part in 0..20 {
            let entries = (0..5_000).map(|key| ((part, key), 1));
            cache.set_many(entries).unwrap();
        }
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(cache.keys(1).unwrap().len(), 1);
        }
        assert!(began.elapsed() < SECOND * 20, "{:?}", began.elapsed());
        assert_eq!(cache.keys(usize::MAX).unwrap().len(), 100_000);
        assert!(server.stat("curr_connections") < 10);
    });
}

#[test]
fn every_server_is_listed() {
    guarded(|| {
        let servers = [(); 3].map(|()| servers::Memcached::start());
        let mut store = Memcached::builder();
        for server in &servers {
            store = store.server(server.address().to_string());
        }
        let cache = Cache::builder()
            .store(store.build().unwrap())
            .build()
            .unwrap();
        cache.set_many((0..2_000).map(|key| (key, key))).unwrap();
        assert_eq!(cache.keys(usize::MAX).unwrap().len(), 2_000);
        assert_eq!(cache.keys(2_000).unwrap().len(), 2_000);
        assert_eq!(cache.keys(1_500).unwrap().len(), 1_500);
        servers[1].kill();
        assert_eq!(
            cache.keys(2_000).unwrap_err().kind(),
            ErrorKind::Unavailable
        );
    });
}

#[test]
fn concurrent_listings_wait_for_each_other() {
    guarded(|| {
        let server = servers::Memcached::start();
        let store = store_with_timeout(&server, SECOND * 5);
        let cache = Cache::builder().store(store).build().unwrap();
        cache.set_many((0..5_000).map(|key| (key, key))).unwrap();
        scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        assert_eq!(cache.keys(usize::MAX).unwrap().len(), 5_000);
                    }
                });
            }
        });
    });
}

#[test]
fn a_server_that_cannot_be_listed_says_so() {
    guarded(|| {
        let server = servers::Memcached::start_with(&["-o", "no_lru_crawler"]);
        let cache = Cache::builder().store(store(&server)).build().unwrap();
        let error = cache.keys(10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("no_lru_crawler"), "{error}");
        let error = store(&server).scan("", None, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    });
}

#[test]
fn a_listing_of_a_server_that_hangs_fails_within_the_timeout() {
    guarded(|| {
        let server = servers::Memcached::start();
        let store = store_with_timeout(&server, Duration::from_millis(300));
        let cache = Cache::builder().store(store).build().unwrap();
        cache.set("k", 1).unwrap();
        server.pause();
        let began = Instant::now();
        let error = cache.keys(10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(
            began.elapsed() < Duration::from_millis(300) + BUSY,
            "{:?}",
            began.elapsed()
        );
        server.resume();
        assert_eq!(eventually(|| cache.keys(10)), ["k"]);
    });
}
