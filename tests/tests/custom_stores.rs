//! A store that implements only what is required, or leaves `replace` to its default, and one that fails on
//! demand.

#![cfg(not(shuttle))]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{
    Clock, Entry, ErrorKind, FailingStore, Form, Key, ManualClock, Options, Result, SpawnBlocking,
    Store, Timestamp, Ttl, Update,
};
use cacheio_sync::{Cache, Memory};
use cacheio_tests::api::{CacheApi, World};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Map {
    entries: Mutex<HashMap<String, (Entry, Timestamp)>>,
    clock: Arc<ManualClock>,
}

impl Map {
    fn new() -> Self {
        Self {
            entries: Mutex::default(),
            clock: Arc::new(ManualClock::new()),
        }
    }
}

impl Store for Map {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let entries = self.entries.lock().unwrap();
        let live = entries
            .get(key.text())
            .filter(|(_, end)| self.clock.now() < *end);
        Ok(live.map(|(entry, _)| entry.clone()))
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        let end = ttl.map_or(Timestamp::MAX, |ttl| self.clock.now().after(ttl));
        let mut entries = self.entries.lock().unwrap();
        entries.insert(key.text().to_owned(), (entry, end));
        Ok(())
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        let live = self.get(key)?.is_some();
        self.entries.lock().unwrap().remove(key.text());
        Ok(live)
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.entries
            .lock()
            .unwrap()
            .retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::<ManualClock>::clone(&self.clock)
    }
}

#[test]
fn entries_with_policies_are_touched_and_read_on_a_store_without_replace() {
    let store = Map::new();
    let clock = store.clock.clone();
    let cache = Cache::builder().store(store).build().unwrap();
    let kept = Options::new().ttl(MINUTE).stale_for(MINUTE);
    cache.set_with("kept", 1, kept.clone()).unwrap();
    let idle = Options::new().ttl(Ttl::Never).ttl_idle(MINUTE);
    cache.set_many_with([("a", 1), ("b", 2)], idle).unwrap();
    assert!(cache.touch("kept", MINUTE * 3).unwrap());
    for _ in 0..4 {
        clock.advance(MINUTE / 2);
        assert_eq!(cache.get::<i32>("kept").unwrap(), Some(1));
        assert_eq!(
            cache.get_many::<i32>(["a", "b"]).unwrap(),
            [Some(1), Some(2)]
        );
    }
    clock.advance(MINUTE);
    assert_eq!(cache.get::<i32>("kept").unwrap(), None);
    assert!(!cache.touch("kept", MINUTE).unwrap() && !cache.delete("kept").unwrap());
    assert_eq!(cache.stats().store_errors, 0);
}

#[tokio::test]
async fn so_they_are_for_tasks() {
    let store = Map::new();
    let clock = store.clock.clone();
    let store = SpawnBlocking::new(store);
    let cache = AsyncCache::builder().store(store).build().unwrap();
    let idle = Options::new()
        .ttl(MINUTE)
        .stale_for(MINUTE)
        .ttl_idle(MINUTE);
    cache.set_with("k", 1, idle).await.unwrap();
    clock.advance(MINUTE / 2);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    clock.advance(MINUTE / 4);
    assert!(cache.touch("k", MINUTE).await.unwrap());
    clock.advance(MINUTE / 2);
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
}

#[test]
fn a_failing_store_fails_until_it_recovers() {
    async fn case(cache: CacheApi, store: FailingStore<Memory>) {
        cache.set("k", 1).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap(), Some(1));
        for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
            store.fail(kind);
            let kinds = [
                cache.get::<i32>("k").await.map(drop),
                cache.set("k", 2).await,
                cache.get_many::<i32>(vec!["k"]).await.map(drop),
                cache.delete("k").await.map(drop),
                cache.increment("n", 1).await.map(drop),
                cache.clear().await,
                cache.ping().await,
            ]
            .map(|outcome| outcome.map_err(|error| error.kind()));
            assert_eq!(kinds, [Err(kind); 7]);
            assert_eq!(cache.get_or_set("k", async || 3).await, 3);
        }
        store.recover();
        assert_eq!(cache.get("k").await.unwrap(), Some(1));
        assert_eq!(cache.get_or_set("k", async || 3).await, 1);
    }
    let store = || FailingStore::new(Memory::new());
    let (threads, tasks) = (store(), store());
    let cache = Cache::builder().store(threads.clone()).build().unwrap();
    World::Threads.run(case(CacheApi::Threads(cache), threads));
    let cache = AsyncCache::builder().store(tasks.clone()).build().unwrap();
    World::Tasks.run(case(CacheApi::Tasks(cache), tasks));
}

/// A lost update is worse than an error.
#[test]
fn what_only_the_store_can_make_atomic_is_unsupported() {
    let cache = Cache::builder().store(Map::new()).build().unwrap();
    for _ in 0..2 {
        let update = cache
            .update("k", |_: Option<u8>| Update::Set(2))
            .unwrap_err();
        let take = cache.take::<u8>("k").unwrap_err();
        for (error, message) in [
            (update, "this store does not support `update`"),
            (take, "this store does not support `take`"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(message), "{error}");
        }
        cache.set("k", 1).unwrap();
    }
    assert_eq!(cache.get::<u8>("k").unwrap(), Some(1));
    let error = cache.ttl("k").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`ttl`"), "{error}");
    assert_eq!(cache.ttl("missing").unwrap(), None);
}
