//! Copies while memory is full.

use cacheio_sync::{Cache, L1, Memory, Redis};
use cacheio_tests::servers;

use crate::support::{LONG, get};

const CAPACITY: i64 = 100;

#[test]
fn entries_that_are_read_once_take_no_place_of_others() {
    let server = servers::Redis::start();
    let l1 = L1::new(Memory::with_capacity(CAPACITY as usize)).max_staleness(LONG);
    let redis = Redis::new(server.url()).unwrap();
    let cache = Cache::builder().store(redis).l1(l1).build().unwrap();
    let keys = |keys: std::ops::Range<i64>| keys.map(|key| (key.to_string(), key));
    cache.set_many(keys(0..20 * CAPACITY)).unwrap();
    let hits_of = |range: std::ops::Range<i64>| {
        let before = cache.stats().l1_hits;
        for (key, value) in keys(range) {
            assert_eq!(get(&cache, &key), Some(value));
        }
        cache.stats().l1_hits - before
    };
    // While there is room, the first read makes a copy.
    assert_eq!(hits_of(0..CAPACITY), 0);
    assert_eq!(hits_of(0..CAPACITY), CAPACITY as u64);
    // A key may be taken for another one, rarely.
    assert!(hits_of(CAPACITY..20 * CAPACITY) < 5);
    assert!(hits_of(0..CAPACITY) > CAPACITY as u64 - 10);
    // An entry that is read again is copied.
    let again = CAPACITY..CAPACITY + 1;
    assert_eq!([(); 3].map(|()| hits_of(again.clone())), [0, 0, 1]);
}

#[test]
fn entries_that_a_batch_reads_once_take_no_place_of_others() {
    let server = servers::Redis::start();
    let l1 = L1::new(Memory::with_capacity(CAPACITY as usize)).max_staleness(LONG);
    let redis = Redis::new(server.url()).unwrap();
    let cache = Cache::builder().store(redis).l1(l1).build().unwrap();
    let entries = (0..1_000).map(|key| (key.to_string(), key));
    cache.set_many(entries).unwrap();
    let read = |keys: std::ops::Range<i64>| {
        let before = cache.stats().l1_hits;
        let found = cache.get_many::<i64>(keys.clone().map(|key| key.to_string()));
        assert!(found.unwrap().into_iter().eq(keys.map(Some)));
        cache.stats().l1_hits - before
    };
    read(0..CAPACITY);
    assert_eq!(read(0..CAPACITY), CAPACITY as u64);
    read(200..210);
    read(300..310);
    assert!(read(0..CAPACITY) > CAPACITY as u64 - 5);
}
