//! Values that use their cache while they are dropped or serialized: the cache holds no lock and no
//! flight while code of the user runs.

#![cfg(not(shuttle))]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{Local, ManualClock};
use cacheio_sync::{Cache, Memory};
use cacheio_tests::api::CacheApi;
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores;
use cacheio_tests::watchdog::guarded;
use serde::de::Error as _;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A cache of either world, and one for threads on the same memory, which values use in their drop.
struct DropFixture {
    cache: CacheApi,
    threads: Cache,
    clock: Arc<ManualClock>,
}

fn fixture(capacity: u64, cache: fn(Arc<Memory>) -> CacheApi) -> DropFixture {
    let clock = Arc::new(ManualClock::new());
    let memory = Memory::builder()
        .capacity(capacity)
        .clock(Arc::clone(&clock));
    let memory = Arc::new(memory.build());
    DropFixture {
        threads: Cache::builder().store(Arc::clone(&memory)).build().unwrap(),
        cache: cache(memory),
        clock,
    }
}

fn threads(memory: Arc<Memory>) -> CacheApi {
    CacheApi::Threads(Cache::builder().store(memory).build().unwrap())
}

fn tasks(memory: Arc<Memory>) -> CacheApi {
    CacheApi::Tasks(AsyncCache::builder().store(memory).build().unwrap())
}

fn run<F: Future<Output = ()> + 'static>(fixture: DropFixture, case: fn(DropFixture) -> F) {
    guarded(move || fixture.cache.world().run(case(fixture)));
}

/// Makes tests of a case: in both worlds, on memory of this capacity.
macro_rules! both_worlds {
    ($($case:ident($capacity:literal))*) => {$(
        mod $case {
            use super::*;

            #[test]
            fn threads() {
                run(fixture($capacity, super::threads), super::$case);
            }

            #[test]
            fn tasks() {
                run(fixture($capacity, super::tasks), super::$case);
            }
        }
    )*};
}

both_worlds! {
    a_value_evicted_by_a_load_may_clear_the_cache_in_its_drop(1)
    a_value_evicted_by_a_load_may_delete_the_loaded_key_in_its_drop(1)
    a_value_replaced_by_a_load_may_delete_its_own_key_in_its_drop(100)
    a_value_evicted_by_set_may_use_the_cache_in_its_drop(1)
    a_value_may_read_the_cache_while_increment_serializes_it(10)
}

type Dropped = Box<dyn FnOnce() + Send + Sync>;

/// A value that does something when it is dropped, as a connection or a guard might.
struct OnDrop(Option<Dropped>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(dropped) = self.0.take() {
            dropped();
        }
    }
}

fn on_drop(dropped: impl FnOnce() + Send + Sync + 'static) -> Local<OnDrop> {
    Local::new(OnDrop(Some(Box::new(dropped))))
}

async fn a_value_evicted_by_a_load_may_clear_the_cache_in_its_drop(fixture: DropFixture) {
    let threads = fixture.threads;
    let old = on_drop(move || threads.clear().unwrap());
    fixture.cache.set("old", old).await.unwrap();
    assert_eq!(fixture.cache.get_or_set("new", || async { 1 }).await, 1);
    assert!(!fixture.cache.has("old").await.unwrap());
}

async fn a_value_evicted_by_a_load_may_delete_the_loaded_key_in_its_drop(fixture: DropFixture) {
    let threads = fixture.threads;
    let old = on_drop(move || assert!(threads.delete("new").unwrap()));
    fixture.cache.set("old", old).await.unwrap();
    assert_eq!(fixture.cache.get_or_set("new", || async { 1 }).await, 1);
    assert!(
        !fixture.cache.has("new").await.unwrap(),
        "it was there, and was deleted"
    );
}

async fn a_value_replaced_by_a_load_may_delete_its_own_key_in_its_drop(fixture: DropFixture) {
    let ttl = Duration::from_secs(1);
    let threads = fixture.threads;
    let old = on_drop(move || assert!(threads.delete("k").unwrap()));
    fixture.cache.set_with("k", old, ttl).await.unwrap();
    fixture.clock.advance(ttl);
    let nothing = || async { Local::new(OnDrop(None)) };
    let new = fixture.cache.get_or_set("k", nothing).await;
    assert!(new.0.is_none());
    assert!(
        !fixture.cache.has("k").await.unwrap(),
        "it was there, and was deleted"
    );
}

async fn a_value_evicted_by_set_may_use_the_cache_in_its_drop(fixture: DropFixture) {
    let threads = fixture.threads;
    let old = on_drop(move || {
        threads.clear().unwrap();
        threads.set("old", 3).unwrap();
        assert_eq!(threads.get_or_set("loaded", || 1), 1);
    });
    fixture.cache.set("old", old).await.unwrap();
    fixture.cache.set("new", 2).await.unwrap();
    assert_eq!(fixture.cache.get::<i32>("loaded").await.unwrap(), Some(1));
}

/// A value that serializes another entry of the cache.
#[derive(Clone)]
struct Reference(Cache);

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.get::<i32>("number").unwrap().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("it is only written"))
    }
}

async fn a_value_may_read_the_cache_while_increment_serializes_it(fixture: DropFixture) {
    fixture.cache.set("number", 41).await.unwrap();
    fixture
        .cache
        .set("k", Reference(fixture.threads))
        .await
        .unwrap();
    assert_eq!(fixture.cache.increment("k", 1).await.unwrap(), 42);
    assert_eq!(fixture.cache.get::<i32>("number").await.unwrap(), Some(41));
}

/// A value that deletes the key it is stored under, while it is encoded.
#[derive(Clone, Deserialize)]
struct Deletes {
    #[serde(skip)]
    cache: Option<Cache>,
}

impl fmt::Debug for Deletes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deletes")
    }
}

impl Serialize for Deletes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(cache) = &self.cache {
            cache.delete("k").unwrap();
        }
        serializer.serialize_struct("Deletes", 0)?.end()
    }
}

#[test]
fn a_loaded_value_may_delete_its_own_key_while_it_is_encoded() {
    guarded(|| {
        let store = stores::bytes(&TestEnv::new(Time::manual()));
        let cache = Cache::builder().store(store).build().unwrap();
        let value = || Deletes {
            cache: Some(cache.clone()),
        };
        assert!(cache.get_or_set("k", value).cache.is_some());
        // The key was deleted before the value was stored: both outcomes are allowed.
        cache.set("k", value()).unwrap();
        assert!(cache.has("k").unwrap());
    });
}
