//! How long a copy is served, by a clock that only the test advances. Two caches on a store that tells them
//! nothing of each other are as two processes.

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::{LoadContext, ManualClock, Options, Source};
use cacheio_sync::{Cache, L1, Memory};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores::{self, Bytes, Failing, Faults, Map};

const BOUND: Duration = Duration::from_secs(2);
const MILLISECOND: Duration = Duration::from_millis(1);

struct Processes {
    clock: Arc<ManualClock>,
    one: Cache,
    other: Cache,
    faults: Arc<Faults>,
}

fn cache(store: Arc<Failing<Bytes>>, clock: &Arc<ManualClock>, ttl: Option<Duration>) -> Cache {
    let memory = Memory::builder().capacity(100).clock(Arc::clone(clock));
    let l1 = L1::new(memory.build());
    let l1 = match ttl {
        Some(ttl) => l1.ttl(ttl),
        None => l1,
    };
    Cache::builder().store(store).l1(l1).build().unwrap()
}

fn processes(ttl: Option<Duration>) -> Processes {
    let clock = Arc::new(ManualClock::new());
    let env = TestEnv::new(Time::Manual(Arc::clone(&clock)));
    let (store, faults) = Failing::new(stores::bytes(&env));
    let store = Arc::new(store);
    let [one, other] = [store.clone(), store].map(|store| cache(store, &clock, ttl));
    Processes {
        clock,
        one,
        other,
        faults,
    }
}

fn get(cache: &Cache) -> Option<i32> {
    cache.get("k").unwrap()
}

#[test]
fn a_write_of_another_process_is_seen_after_the_bound() {
    let Processes {
        clock, one, other, ..
    } = processes(None);
    one.set("k", 0).unwrap();
    for value in 0..5 {
        assert_eq!(get(&other), Some(value));
        clock.advance(BOUND / 2);
        assert_eq!(get(&other), Some(value));
        one.set("k", value + 1).unwrap();
        clock.advance(BOUND / 2 - MILLISECOND);
        assert_eq!(get(&other), Some(value), "a copy is served until then");
        clock.advance(MILLISECOND);
        assert_eq!(get(&other), Some(value + 1));
    }
    one.delete("k").unwrap();
    clock.advance(BOUND);
    assert_eq!(get(&other), None);
}

#[test]
fn a_tag_that_another_process_invalidates_is_seen_after_the_bound() {
    let Processes {
        clock, one, other, ..
    } = processes(None);
    let options = Options::new().tags(["t"]);
    one.set_with("k", 1, options).unwrap();
    assert_eq!(get(&other), Some(1));
    one.invalidate_tags(["t"]).unwrap();
    assert_eq!(get(&one), None);
    assert_eq!(get(&other), Some(1));
    clock.advance(BOUND);
    assert_eq!(get(&other), None);
}

/// No store tells a load that one of its tags is invalidated meanwhile.
#[test]
fn a_tag_that_is_invalidated_during_a_load_is_seen_after_the_bound() {
    let Processes {
        clock, one, other, ..
    } = processes(None);
    for since in [BOUND, BOUND / 2] {
        let loaded = one.get_or_set_with("k", Options::new().tags(["t"]), || {
            other.invalidate_tags(["t"]).unwrap();
            clock.advance(since);
            1
        });
        assert_eq!(loaded, 1);
        clock.advance(BOUND - since);
        assert_eq!(get(&one), None);
    }
}

#[test]
fn the_ttl_of_l1_is_shorter_than_the_bound() {
    let ttl = Duration::from_millis(700);
    let Processes {
        clock, one, other, ..
    } = processes(Some(ttl));
    one.set("k", 1).unwrap();
    assert_eq!(get(&other), Some(1));
    one.set("k", 2).unwrap();
    clock.advance(ttl - MILLISECOND);
    assert_eq!(get(&other), Some(1));
    clock.advance(MILLISECOND);
    assert_eq!(get(&other), Some(2));
}

#[test]
fn a_copy_does_not_outlive_its_entry() {
    let ttl = Duration::from_millis(900);
    let Processes {
        clock, one, other, ..
    } = processes(None);
    one.set_with("k", 1, ttl).unwrap();
    clock.advance(ttl / 2);
    assert_eq!(get(&other), Some(1));
    clock.advance(ttl / 2 - MILLISECOND);
    assert_eq!((get(&one), get(&other)), (Some(1), Some(1)));
    clock.advance(MILLISECOND);
    assert_eq!((get(&one), get(&other)), (None, None));
    assert_eq!(one.get_or_set_with("k", ttl, || 2), 2);
    clock.advance(ttl);
    assert_eq!((get(&one), get(&other)), (None, None));
}

/// The value of a load that could not be stored is as old as the beginning of the load.
#[test]
fn during_an_outage_a_value_is_loaded_once_in_the_bound() {
    let Processes {
        clock, one, faults, ..
    } = processes(None);
    faults.fail_all(true);
    let slow = BOUND / 4;
    let load = |value| {
        one.get_or_set("k", || {
            clock.advance(slow);
            value
        })
    };
    assert_eq!(load(1), 1);
    clock.advance(BOUND - slow - MILLISECOND);
    assert_eq!(load(2), 1);
    clock.advance(MILLISECOND);
    assert_eq!(load(3), 3);
    faults.fail_all(false);
    assert_eq!(one.stats().loads, 2);
}

#[test]
fn a_due_entry_is_refreshed_although_there_is_a_copy() {
    let Processes { clock, one, .. } = processes(None);
    let ttl = Duration::from_millis(1_000);
    let options = || Options::ttl(ttl).refresh_ahead(0.5);
    let load = |value: i32| one.get_or_set_with("k", options(), || value);
    assert_eq!(load(1), 1);
    clock.advance(ttl / 2 - MILLISECOND);
    assert_eq!(load(2), 1);
    assert_eq!(one.stats().refreshes, 0);
    clock.advance(MILLISECOND);
    // The refresh runs in its caller.
    assert_eq!(load(3), 3);
    assert_eq!(one.stats().refreshes, 1);
    assert_eq!(get(&one), Some(3));
}

/// The reads of a live entry that is due go on being served, and one in each bound asks the server.
#[test]
fn a_due_entry_is_read_from_the_server_once_in_the_bound() {
    let Processes {
        clock, one, faults, ..
    } = processes(None);
    let ttl = Duration::from_secs(100);
    let options = || Options::ttl(ttl).refresh_ahead(0.1);
    let fetch = |value: Result<i32, &'static str>| {
        let load = move |_: LoadContext<i32>| value;
        one.fetch_entry_with("k", options(), load).unwrap()
    };
    assert_eq!(fetch(Ok(1)).source, Source::Loaded);
    clock.advance(ttl / 2);
    // This caller refreshes in the background, which fails.
    assert_eq!(fetch(Err("down")).value, 1);
    while one.stats().refresh_errors == 0 {
        std::thread::yield_now();
    }
    let before = one.stats().l1_hits;
    for _ in 0..10 {
        assert_eq!(fetch(Ok(2)).value, 1);
    }
    assert!(one.stats().l1_hits >= before + 9, "{:?}", one.stats());
    faults.fail_all(true);
    clock.advance(BOUND - MILLISECOND);
    assert_eq!(fetch(Ok(2)).value, 1);
}

#[test]
fn a_server_that_does_not_tell_what_is_left_is_bounded_all_the_same() {
    let bound = Duration::from_millis(200);
    let l1 = L1::new(Memory::with_capacity(100)).max_staleness(bound);
    let cache = Cache::builder().store(Map::default()).l1(l1);
    let cache = cache.build().unwrap();
    cache.set_with("k", 1, bound).unwrap();
    assert_eq!(get(&cache), Some(1));
    std::thread::sleep(2 * bound);
    assert_eq!(get(&cache), None);
}
