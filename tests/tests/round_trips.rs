//! Each operation takes one round trip to its server, also for many keys.

#![cfg(not(shuttle))]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{Options, Ttl, Update};
use cacheio_sync::{Cache, L1, Memory};
use cacheio_tests::api::CacheApi;
use cacheio_tests::servers::{Memcached, Proxy, Redis};
use cacheio_tests::watchdog::guarded;

const COUNT: usize = 50;

/// As many as fit into one part of a request to memcached.
const KEYS: usize = 150;

/// Long enough that what a call leaves to the background is done.
const BACKGROUND: Duration = Duration::from_millis(150);

/// Long enough that a request in several parts counts as one.
const DELAY: Duration = Duration::from_millis(15);

/// The namespace of caches on Memcached that share loads.
const SHARED: &str = "shared";

const SHORT: Duration = Duration::from_millis(200);
const MINUTE: Duration = Duration::from_secs(60);

struct RoundTrips {
    proxy: Proxy,
}

impl RoundTrips {
    /// Counts the round trips during a call.
    async fn during<T>(&self, call: impl Future<Output = T>) -> (usize, T) {
        let before = self.proxy.round_trips();
        let output = call.await;
        (self.proxy.round_trips() - before, output)
    }
}

/// Checks that each call takes one round trip.
macro_rules! once {
    ($round_trips:ident: $($call:expr => $expected:expr;)*) => {$(
        let (times, result) = $round_trips.during($call).await;
        assert_eq!(result.unwrap(), $expected, "{}", stringify!($call));
        assert_eq!(times, 1, "{} takes {times} round trips", stringify!($call));
    )*};
}

async fn each_operation_takes_one_round_trip(cache: CacheApi, proxy: Proxy) {
    let round_trips = RoundTrips { proxy };
    // Connects, and loads scripts.
    cache.set("warm", 1).await.unwrap();
    cache.increment("warm", 1).await.unwrap();
    cache.touch("warm", Ttl::Never).await.unwrap();
    round_trips.proxy.delay(DELAY);

    let keys: Vec<_> = (0..COUNT).map(|key| ("key", key)).collect();
    let entries: Vec<_> = keys.iter().map(|key| (*key, key.1)).collect();
    let ttl = Duration::from_secs(60);
    once! { round_trips:
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
        cache.increment_with("new too", 5, Options::new().ttl(ttl)) => 5;
        cache.ttl("missing") => None;
        cache.set_many(entries.clone()) => ();
        cache.set_many_with(entries.clone(), Ttl::Never) => ();
        cache.get_many::<usize>(keys.clone()) => (0..COUNT).map(Some).collect::<Vec<_>>();
        cache.delete_many(keys.clone()) => COUNT;
        cache.set_many_with(entries, Duration::ZERO) => ();
    }
    // Counters below zero take a second round trip on some servers.
    let (times, result) = round_trips.during(cache.decrement("new", 3)).await;
    assert_eq!(result.unwrap(), 7);
    assert!(times <= 2, "decrement takes {times} round trips");

    let (times, loaded) = round_trips
        .during(cache.get_or_set("loaded", || async { 1 }))
        .await;
    // One to look, one to claim the key where processes share loads, one to store.
    let steps = if shares_loads(&cache) { 3 } else { 2 };
    assert_eq!((times, loaded), (steps, 1));
    let (times, loaded) = round_trips
        .during(cache.get_or_set("loaded", || async { 2 }))
        .await;
    assert_eq!((times, loaded), (1, 1));
    let load = async |missing: Vec<(&'static str, usize)>| {
        missing
            .into_iter()
            .map(|key| (key, key.1))
            .collect::<Vec<_>>()
    };
    let loading = cache.get_or_set_many(keys, load);
    let (times, loaded) = round_trips.during(loading).await;
    assert_eq!(loaded, (0..COUNT).map(Some).collect::<Vec<_>>());
    assert_eq!(times, steps, "a batch");
}

fn is_on_redis(cache: &CacheApi) -> bool {
    format!("{cache:?}").contains("Redis")
}

/// Whether the processes on this store share loads: on Redis, and on Memcached in the rows for that.
fn shares_loads(cache: &CacheApi) -> bool {
    is_on_redis(cache) || cache.namespace() == SHARED
}

/// An update reads and writes. Where a server removes and returns in one step, a take does not read before.
async fn an_update_takes_two_round_trips_and_a_take_one_or_two(cache: CacheApi, proxy: Proxy) {
    let round_trips = RoundTrips { proxy };
    cache.set("warm", 1).await.unwrap();
    round_trips.proxy.delay(DELAY);
    let is_on_redis = is_on_redis(&cache);
    let set = |old: Option<u64>| Update::Set(old.unwrap_or(0) + 1);
    let set_for = |old: Option<u64>| Update::SetFor(old.unwrap_or(0) + 1, Ttl::Never);
    let (times, updated) = round_trips.during(cache.update("k", set)).await;
    assert_eq!((times, updated.unwrap()), (2, Some(1)), "a new entry");
    let (times, updated) = round_trips.during(cache.update("k", set)).await;
    // Memcached asks for the TTL that is kept.
    let expected = if is_on_redis { 2 } else { 3 };
    assert_eq!((times, updated.unwrap()), (expected, Some(2)));
    let (times, updated) = round_trips.during(cache.update("k", set_for)).await;
    assert_eq!((times, updated.unwrap()), (2, Some(3)));
    let keep = |_: Option<u64>| Update::Keep;
    let (times, kept) = round_trips.during(cache.update("k", keep)).await;
    assert_eq!((times, kept.unwrap()), (1, Some(3)));
    let (times, left) = round_trips.during(cache.ttl("k")).await;
    assert_eq!((times, left.unwrap()), (1, Some(Ttl::Never)));
    let (times, taken) = round_trips.during(cache.take::<u64>("k")).await;
    let expected = if is_on_redis { 1 } else { 2 };
    assert_eq!((times, taken.unwrap()), (expected, Some(3)));
    let (times, taken) = round_trips.during(cache.take::<u64>("k")).await;
    assert_eq!((times, taken.unwrap()), (1, None));
    cache.set("k", 1).await.unwrap();
    let remove = |_: Option<u64>| Update::Remove;
    let (times, removed) = round_trips.during(cache.update("k", remove)).await;
    assert_eq!((times, removed.unwrap()), (2, None));
}

/// The read finds the stale value; one more round trip finds that it is unchanged, and records the failure
/// for all clients.
async fn a_stale_value_after_a_failed_load_takes_two_round_trips(cache: CacheApi, proxy: Proxy) {
    let round_trips = RoundTrips { proxy };
    let options = || Options::ttl(SHORT).stale_for(MINUTE);
    let loads = Arc::new(AtomicUsize::new(0));
    let load = || {
        let loads = Arc::clone(&loads);
        move || {
            let is_first = loads.fetch_add(1, Ordering::SeqCst) == 0;
            std::future::ready(if is_first { Ok(old()) } else { Err("down") })
        }
    };
    let loaded = cache.get_or_try_set_with("k", options(), load()).await;
    assert_eq!(loaded.unwrap(), old());
    round_trips.proxy.delay(DELAY);
    std::thread::sleep(SHORT);
    let shares_loads = shares_loads(&cache);
    // Where processes share loads, a load takes one more. The end of the claim is left to the background.
    let claimed = if shares_loads { 3..=4 } else { 2..=2 };
    // The second call finds the record of the failure.
    for expected in [claimed.clone(), 1..=1] {
        let getting = cache.get_or_try_set_with("k", options(), load());
        let (times, got) = round_trips.during(getting).await;
        assert_eq!(got.unwrap(), old());
        assert!(expected.contains(&times), "{times} round trips");
        assert_eq!(loads.load(Ordering::SeqCst), 2);
        std::thread::sleep(BACKGROUND);
    }
    // Without a pause after the failure, nothing is recorded: the entry is read again.
    cache.set_with("k", old(), options()).await.unwrap();
    std::thread::sleep(SHORT);
    let no_pause = options().retry_after(Duration::ZERO);
    let getting = cache.get_or_try_set_with("k", no_pause, load());
    let (times, got) = round_trips.during(getting).await;
    assert_eq!(got.unwrap(), old());
    assert!(claimed.contains(&times), "{times} round trips");
    std::thread::sleep(BACKGROUND);
    let down = |_| std::future::ready(Err::<String, _>("down"));
    let fetching = cache.fetch_entry_with("k", options(), down);
    let (times, got) = round_trips.during(fetching).await;
    assert_eq!(got.unwrap().value, old());
    assert!(claimed.contains(&times), "{times} round trips");
}

fn old() -> String {
    "old".to_owned()
}

/// A loading call asks for the versions of its tags together with its key.
async fn tags_take_no_round_trip_in_a_loading_call_that_names_them(cache: CacheApi, proxy: Proxy) {
    let round_trips = RoundTrips { proxy };
    let options = || Options::ttl(MINUTE).tags(["t"]);
    cache.set_with("warm", 1, options()).await.unwrap();
    cache.set("untagged", 1).await.unwrap();
    round_trips.proxy.delay(DELAY);
    let load = || async { 1 };
    // Where processes share loads, a load takes one more.
    let miss = if shares_loads(&cache) { 3 } else { 2 };
    for (expected, what) in [(miss, "a miss"), (1, "a hit")] {
        let getting = cache.get_or_set_with("k", options(), load);
        assert_eq!(round_trips.during(getting).await, (expected, 1), "{what}");
    }
    let keys: Vec<_> = (0..COUNT).collect();
    let load = |missing: Vec<usize>| {
        let values = missing.into_iter().map(|key| (key, key));
        std::future::ready(values.collect::<Vec<_>>())
    };
    for (expected, what) in [(miss, "misses"), (1, "hits")] {
        let getting = cache.get_or_set_many_with(keys.clone(), options(), load);
        assert_eq!(round_trips.during(getting).await.0, expected, "{what}");
    }
    once! { round_trips:
        cache.get::<i32>("untagged") => Some(1);
        cache.invalidate_tags(vec!["u"]) => ();
        cache.invalidate_tags(vec!["u", "v", "w"]) => ();
    }
    // Other calls take one more.
    let (times, read) = round_trips.during(cache.get::<i32>("k")).await;
    assert_eq!((times, read.unwrap()), (2, Some(1)));
    let (times, read) = round_trips
        .during(cache.get_many::<usize>(keys.clone()))
        .await;
    assert_eq!((times, read.unwrap().len()), (2, COUNT));
    let (times, set) = round_trips.during(cache.set_with("k", 2, options())).await;
    set.unwrap();
    assert_eq!(times, 2);
    let entries = keys.iter().map(|key| (*key, 1)).collect();
    let (times, set) = round_trips
        .during(cache.set_many_with(entries, options()))
        .await;
    set.unwrap();
    assert_eq!(times, 2);
    // An update asks for the versions of the tags that it names together with the entry.
    let set_for = |old: Option<usize>| Update::SetFor(old.unwrap_or(0) + 1, MINUTE.into());
    for (key, value) in [("k", 3), ("new", 1)] {
        let updating = cache.update_with(key, options(), set_for);
        let (times, updated) = round_trips.during(updating).await;
        assert_eq!((times, updated.unwrap()), (2, Some(value)), "{key}");
    }
    let (times, updated) = round_trips.during(cache.update("k", set_for)).await;
    assert_eq!((times, updated.unwrap()), (3, Some(4)));
    let (times, taken) = round_trips.during(cache.take::<usize>("k")).await;
    let expected = if is_on_redis(&cache) { 2 } else { 3 };
    assert_eq!((times, taken.unwrap()), (expected, Some(4)));
}

/// What is read under `ttl_idle` is recorded in one round trip for all keys, and not again soon.
async fn reads_of_many_idle_entries_are_recorded_at_once(cache: CacheApi, proxy: Proxy) {
    let round_trips = RoundTrips { proxy };
    let keys: Vec<_> = (0..KEYS).collect();
    let entries: Vec<_> = keys.iter().map(|key| (*key, *key)).collect();
    let options = Options::new()
        .ttl(Ttl::Never)
        .ttl_idle(Duration::from_secs(8));
    cache.set_many_with(entries, options.clone()).await.unwrap();
    round_trips.proxy.delay(DELAY);
    // Entries that were just stored need no recording; those of an eighth of the time do.
    for (pause, expected) in [(0, 1), (1_050, 2), (0, 1)] {
        std::thread::sleep(Duration::from_millis(pause));
        let reading = cache.get_many::<usize>(keys.clone());
        let (times, values) = round_trips.during(reading).await;
        assert_eq!(
            values.unwrap(),
            keys.iter().copied().map(Some).collect::<Vec<_>>()
        );
        assert_eq!(times, expected, "after {pause} ms");
    }
    std::thread::sleep(Duration::from_millis(1_050));
    let load =
        async |missing: Vec<usize>| -> Vec<(usize, usize)> { panic!("{missing:?} are live") };
    let reading = cache.get_or_set_many_with(keys.clone(), options, load);
    assert_eq!(round_trips.during(reading).await.0, 2);
}

/// A hit in L1 takes no round trip; all else takes as many as without L1.
async fn a_hit_in_l1_takes_no_round_trip(cache: CacheApi, proxy: Proxy) {
    let round_trips = RoundTrips { proxy };
    cache.set("warm", 1).await.unwrap();
    round_trips.proxy.delay(DELAY);
    let keys: Vec<_> = (0..COUNT).map(|key| ("key", key)).collect();
    let entries: Vec<_> = keys.iter().map(|key| (*key, key.1)).collect();
    let values: Vec<_> = (0..COUNT).map(Some).collect();
    once! { round_trips:
        cache.set("k", 1) => ();
        cache.get::<i32>("k") => Some(1);
        cache.get::<i32>("missing") => None;
        cache.get::<i32>("missing") => None;
        cache.set_many_with(entries, MINUTE) => ();
        cache.get::<usize>(keys[0]) => Some(0);
        cache.get_many::<usize>(keys.clone()) => values.clone();
        // The copy has another type.
        cache.get::<u8>("k") => Some(1);
        cache.delete("k") => true;
        cache.get::<i32>("k") => None;
    }
    let (times, read) = round_trips.during(cache.get_many::<usize>(keys)).await;
    assert_eq!((times, read.unwrap()), (0, values));
    let (times, has) = round_trips.during(cache.has(("key", 0))).await;
    assert_eq!((times, has.unwrap()), (0, true));
    // One to look, one to claim the key where processes share loads, one to store.
    let steps = if shares_loads(&cache) { 3 } else { 2 };
    for expected in [steps, 0] {
        let loading = cache.get_or_set("loaded", || async { 1 });
        assert_eq!(round_trips.during(loading).await, (expected, 1));
    }
    let skipping = cache.get_or_set_with("loaded", Options::new().skip_l1(), || async { 2 });
    assert_eq!(round_trips.during(skipping).await, (1, 1));
}

/// `has`, `touch`, `add` and `delete` transfer no value.
async fn has_transfers_no_value(cache: CacheApi, proxy: Proxy) {
    cache.set("large", "x".repeat(100_000)).await.unwrap();
    let before = proxy.bytes_received();
    assert!(cache.has("large").await.unwrap());
    assert!(cache.touch("large", Ttl::Never).await.unwrap());
    assert!(!cache.add("large", 1).await.unwrap());
    assert!(cache.delete("large").await.unwrap());
    let moved = proxy.bytes_received() - before;
    assert!(moved < 1_000, "{moved} bytes came back");
}

fn memcached(address: SocketAddr) -> cacheio_sync::Memcached {
    cacheio_sync::Memcached::new(&format!("memcache://{address}?timeout=20s")).unwrap()
}

fn redis(address: SocketAddr) -> cacheio_redis::Redis {
    cacheio_redis::Redis::new(format!("redis://{address}?timeout=20s")).unwrap()
}

fn memcached_for_threads(address: SocketAddr) -> CacheApi {
    let cache = Cache::builder().store(memcached(address)).build();
    CacheApi::Threads(cache.unwrap())
}

fn memcached_for_tasks(address: SocketAddr) -> CacheApi {
    let cache = AsyncCache::builder().store(memcached(address)).build();
    CacheApi::Tasks(cache.unwrap())
}

fn memcached_shared_for_threads(address: SocketAddr) -> CacheApi {
    let builder = Cache::builder().store(memcached(address)).namespace(SHARED);
    CacheApi::Threads(builder.shared_loads(true).build().unwrap())
}

fn memcached_shared_for_tasks(address: SocketAddr) -> CacheApi {
    let builder = AsyncCache::builder()
        .store(memcached(address))
        .namespace(SHARED);
    CacheApi::Tasks(builder.shared_loads(true).build().unwrap())
}

fn redis_for_threads(address: SocketAddr) -> CacheApi {
    let cache = Cache::builder().store(redis(address)).build();
    CacheApi::Threads(cache.unwrap())
}

fn redis_for_tasks(address: SocketAddr) -> CacheApi {
    let cache = AsyncCache::builder().store(redis(address)).build();
    CacheApi::Tasks(cache.unwrap())
}

fn l1() -> L1 {
    L1::new(Memory::with_capacity(1_000)).max_staleness(MINUTE)
}

fn memcached_and_l1_for_threads(address: SocketAddr) -> CacheApi {
    let cache = Cache::builder().store(memcached(address)).l1(l1()).build();
    CacheApi::Threads(cache.unwrap())
}

fn redis_and_l1_for_tasks(address: SocketAddr) -> CacheApi {
    let cache = AsyncCache::builder().store(redis(address)).l1(l1()).build();
    CacheApi::Tasks(cache.unwrap())
}

fn run<S, F>(
    server: S,
    address: fn(&S) -> SocketAddr,
    open: fn(SocketAddr) -> CacheApi,
    case: fn(CacheApi, Proxy) -> F,
) where
    S: Send + 'static,
    F: Future<Output = ()> + 'static,
{
    guarded(move || {
        let proxy = Proxy::to(address(&server));
        let cache = open(proxy.address());
        cache.world().run(case(cache, proxy));
        drop(server);
    });
}

macro_rules! rows {
    ($($row:ident on $server:ident;)*) => {$(
        mod $row {
            use super::*;

            #[test]
            fn each_operation_takes_one_round_trip() {
                run($server::start(), $server::address, super::$row, super::each_operation_takes_one_round_trip);
            }

            #[test]
            fn an_update_takes_two_round_trips_and_a_take_one_or_two() {
                run($server::start(), $server::address, super::$row, super::an_update_takes_two_round_trips_and_a_take_one_or_two);
            }

            #[test]
            fn a_stale_value_after_a_failed_load_takes_two_round_trips() {
                run($server::start(), $server::address, super::$row, super::a_stale_value_after_a_failed_load_takes_two_round_trips);
            }

            #[test]
            fn reads_of_many_idle_entries_are_recorded_at_once() {
                run($server::start(), $server::address, super::$row, super::reads_of_many_idle_entries_are_recorded_at_once);
            }

            #[test]
            fn tags_take_no_round_trip_in_a_loading_call_that_names_them() {
                run($server::start(), $server::address, super::$row, super::tags_take_no_round_trip_in_a_loading_call_that_names_them);
            }

            #[test]
            fn has_transfers_no_value() {
                run($server::start(), $server::address, super::$row, super::has_transfers_no_value);
            }
        }
    )*};
}

mod with_l1 {
    use super::*;

    #[test]
    fn memcached_for_threads() {
        run(
            Memcached::start(),
            Memcached::address,
            memcached_and_l1_for_threads,
            a_hit_in_l1_takes_no_round_trip,
        );
    }

    #[test]
    fn redis_for_tasks() {
        run(
            Redis::start(),
            Redis::address,
            redis_and_l1_for_tasks,
            a_hit_in_l1_takes_no_round_trip,
        );
    }
}

rows! {
    memcached_for_threads on Memcached;
    memcached_for_tasks on Memcached;
    memcached_shared_for_threads on Memcached;
    memcached_shared_for_tasks on Memcached;
    redis_for_threads on Redis;
    redis_for_tasks on Redis;
}
