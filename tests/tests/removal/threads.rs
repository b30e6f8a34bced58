//! Each removal is told once, whatever threads and tasks do at the same time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use cacheio_core::{Options, Update};
use cacheio_tests::api::join_all;
use cacheio_tests::random::Random;

use super::*;

const WORKERS: u64 = 8;
const CALLS: u64 = 1_500;

/// Makes calls at random. Each value is stored once at most. Returns those that were stored, except by loads.
async fn work(
    cache: CacheApi,
    clock: Arc<ManualClock>,
    next: Arc<AtomicU64>,
    seed: u64,
) -> Vec<u64> {
    let mut random = Random(seed);
    let new = || next.fetch_add(1, Ordering::SeqCst);
    let mut stored = Vec::new();
    for _ in 0..CALLS {
        let key = random.below(60);
        let options = Options::ttl(Duration::from_millis(1 + random.below(3_000)));
        let options = match random.below(3) {
            0 => options.tags(["t"]),
            _ => options,
        };
        match random.below(100) {
            0..30 => {
                let value = new();
                cache.set_with(key, value, options).await.unwrap();
                stored.push(value);
            }
            30..40 => {
                let value = new();
                let added = cache.add_with(key, value, options).await.unwrap();
                stored.extend(added.then_some(value));
            }
            40..50 => drop(cache.delete(key).await.unwrap()),
            50..60 => drop(cache.take::<u64>(key).await.unwrap()),
            60..70 => {
                let update = |_: Option<u64>| Update::Set(new());
                stored.extend(cache.update_with(key, options, update).await.unwrap());
            }
            70..80 => drop(
                cache
                    .get_or_set_with(key, options, || async { new() })
                    .await,
            ),
            80..82 => cache.clear().await.unwrap(),
            82..85 => cache.invalidate_tags(vec!["t"]).await.unwrap(),
            85..90 => clock.advance(Duration::from_millis(100)),
            _ => drop(cache.get::<u64>(key).await.unwrap()),
        }
    }
    stored
}

async fn told_once(fixture: Fixture) {
    let Fixture {
        cache,
        memory,
        clock,
        told,
    } = fixture;
    let next = Arc::new(AtomicU64::new(0));
    let workers = (0..WORKERS).map(|worker| {
        let (clock, next) = (Arc::clone(&clock), Arc::clone(&next));
        cache.spawn(move |cache| work(cache, clock, next, worker * 7 + 1))
    });
    let stored = join_all(workers.collect()).await.concat();
    let values = |told: Vec<Removal>| -> Vec<u64> {
        told.iter()
            .map(|removal| *removal.value::<u64>().unwrap())
            .collect()
    };
    let removed = values(told.take());
    let left = memory.len();
    cache.clear().await.unwrap();
    let cleared = values(told.take());
    assert_eq!(cleared.len(), left);
    let mut seen = HashSet::new();
    for value in removed.into_iter().chain(cleared) {
        assert!(seen.insert(value), "{value} is told twice");
    }
    assert!(stored.len() > 2_500, "{} were stored", stored.len());
    for value in stored {
        assert!(seen.contains(&value), "{value} is not told");
    }
}

#[test]
fn each_removal_is_told_once() {
    for capacity in [10, 40, 1_000] {
        in_both_worlds(capacity, told_once);
    }
}

#[test]
fn each_removal_by_weight_is_told_once() {
    for world in [World::Threads, World::Tasks] {
        guarded(move || {
            let weigher = |_: &str, value: &(dyn std::any::Any + Send + Sync)| {
                1 + value.downcast_ref::<u64>().unwrap() % 9
            };
            let builder = Memory::builder().capacity(40).max_weight(150, weigher);
            world.run(told_once(fixture(world, builder)));
        });
    }
}

/// A listener that loads what has expired: it never waits for a load that its own call leads.
#[test]
fn a_listener_may_load_what_has_expired() {
    guarded(|| {
        let clock = Arc::new(ManualClock::new());
        let builder = Memory::builder().capacity(100).clock(Arc::clone(&clock));
        let load = |cache: &Cache, key: &str| {
            let ttl = Options::ttl(Duration::from_millis(50));
            cache.get_or_set_with(key, ttl, || 1_u64);
        };
        let (_memory, cache) = known(builder, move |cache, removal| {
            if removal.cause() == RemovalCause::Expired {
                load(cache, removal.key());
            }
        });
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (cache, clock) = (&cache, &clock);
                scope.spawn(move || {
                    let mut random = Random(worker * 7 + 1);
                    for _ in 0..CALLS {
                        match random.below(10) {
                            0..8 => load(cache, &random.below(5).to_string()),
                            8 => drop(cache.delete(random.below(5)).unwrap()),
                            _ => clock.advance(Duration::from_millis(30)),
                        }
                    }
                });
            }
        });
    });
}

/// A report never comes after the call that removed the entry.
#[test]
fn a_call_returns_after_its_removals_were_told() {
    in_both_worlds(100, |fixture| async move {
        let Fixture { cache, told, .. } = fixture;
        let workers = (0..WORKERS).map(|worker| {
            let told = told.clone();
            cache.spawn(move |cache| async move {
                let key = worker.to_string();
                for value in 0..500_u64 {
                    cache.set(&*key, value).await.unwrap();
                    let told = told.0.lock().unwrap();
                    let own = told.iter().filter(|removal| removal.key() == key);
                    let own = own.map(|removal| *removal.value::<u64>().unwrap());
                    assert!(own.eq(0..value), "in the order of the calls");
                }
            })
        });
        join_all(workers.collect()).await;
    });
}
