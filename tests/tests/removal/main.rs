//! Removal listeners of memory: what they are told, when, and what they may do.

#![cfg(not(shuttle))]

mod causes;
mod expired;
mod listeners;
mod moka;
mod threads;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{ManualClock, Ttl};
use cacheio_sync::{Cache, Memory, MemoryBuilder, Removal, RemovalCause};
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::watchdog::guarded;

const TTL: Duration = Duration::from_secs(100);
/// Within this time after its end an entry is reported, if memory is used.
const WITHIN: Duration = Duration::from_secs(1);

/// What a listener was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Removal>>>);

impl Told {
    /// Returns what was told since the last call: the keys and the causes.
    #[track_caller]
    fn assert(&self, expected: &[(&str, RemovalCause)]) {
        let told = self.take();
        let told: Vec<_> = told.iter().map(|told| (told.key(), told.cause())).collect();
        assert_eq!(told, expected);
    }

    fn take(&self) -> Vec<Removal> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn push(&self, removal: Removal) {
        self.0.lock().unwrap().push(removal);
    }
}

/// A cache of either world on memory with a listener.
struct Fixture {
    cache: CacheApi,
    memory: Arc<Memory>,
    clock: Arc<ManualClock>,
    told: Told,
}

/// Makes the cache of a world on memory.
fn cache(world: World, memory: &Arc<Memory>, namespace: &str) -> CacheApi {
    let memory = Arc::clone(memory);
    match world {
        World::Threads => {
            let cache = Cache::builder().store(memory).namespace(namespace);
            CacheApi::Threads(cache.default_ttl(Ttl::Never).build().unwrap())
        }
        World::Tasks => {
            let cache = AsyncCache::builder().store(memory).namespace(namespace);
            CacheApi::Tasks(cache.default_ttl(Ttl::Never).build().unwrap())
        }
    }
}

fn fixture(world: World, builder: MemoryBuilder) -> Fixture {
    let (clock, told) = (Arc::new(ManualClock::new()), Told::default());
    let listener = told.clone();
    let memory = builder
        .clock(Arc::clone(&clock))
        .on_removal(move |removal| listener.push(removal));
    let memory = Arc::new(memory.build());
    Fixture {
        cache: cache(world, &memory, ""),
        memory,
        clock,
        told,
    }
}

/// Runs a case in both worlds, on memory with room for so many entries.
fn in_both_worlds<F: Future<Output = ()>>(
    capacity: u64,
    case: impl Fn(Fixture) -> F + Send + Copy + 'static,
) {
    for world in [World::Threads, World::Tasks] {
        guarded(move || world.run(case(fixture(world, Memory::builder().capacity(capacity)))));
    }
}

/// A cache that its listener knows.
type Known = Arc<OnceLock<Cache>>;

/// Makes memory whose listener has a cache on it, and returns both.
fn known(
    builder: MemoryBuilder,
    listener: impl Fn(&Cache, Removal) + Send + Sync + 'static,
) -> (Arc<Memory>, Cache) {
    let known = Known::default();
    // What a listener owns outlives its memory.
    let weak = Arc::downgrade(&known);
    let memory = builder.on_removal(move |removal| {
        if let Some(cache) = weak.upgrade() {
            listener(cache.get().unwrap(), removal);
        }
    });
    let memory = Arc::new(memory.build());
    let cache = Cache::builder()
        .store(Arc::clone(&memory))
        .default_ttl(Ttl::Never)
        .build()
        .unwrap();
    known.set(cache.clone()).unwrap();
    // The tests end before anything is freed.
    std::mem::forget(known);
    (memory, cache)
}
