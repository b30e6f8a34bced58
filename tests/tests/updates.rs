//! `update` as moka's users know it from `and_upsert_with` and `and_compute_with`, and what it does under load.

#![cfg(not(shuttle))]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_core::{
    Clock, Entry, ErrorKind, Form, Key, Local, Options, Result, Store, Ttl, TtlChange, Update,
};
use cacheio_sync::{Cache, Memory};
use cacheio_tests::api::{CacheApi, World, block_on, join_all};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::servers::{Memcached, Redis};
use cacheio_tests::stores;
use cacheio_tests::watchdog::guarded;

const CALLERS: u64 = 8;
const EACH: u64 = 20_000;

fn run<F: Future<Output = ()> + 'static>(case: fn(CacheApi) -> F) {
    for cache in [
        CacheApi::Threads(Cache::new(1_000)),
        CacheApi::Tasks(AsyncCache::new(1_000)),
    ] {
        guarded(move || cache.world().run(case(cache)));
    }
}

#[test]
fn of_160_000_updates_none_is_lost() {
    async fn case(cache: CacheApi) {
        let counting = (0..CALLERS).map(|_| {
            cache.spawn(|cache| async move {
                for _ in 0..EACH {
                    let count = |count: Option<u64>| Update::Set(count.unwrap_or(0) + 1);
                    cache.update("counter", count).await.unwrap();
                }
            })
        });
        join_all(counting.collect()).await;
        let counted = cache.get::<u64>("counter").await.unwrap();
        assert_eq!(counted, Some(CALLERS * EACH));
    }
    run(case);
}

/// moka's `bounded_counter`: counts to a bound, and then removes the entry.
#[test]
fn bounded_counter() {
    const BOUND: u64 = 1_000;

    async fn case(cache: CacheApi) {
        let counting = (0..CALLERS).map(|_| {
            cache.spawn(|cache| async move {
                let mut removed = 0;
                for _ in 0..EACH / 10 {
                    let count = |count: Option<u64>| match count.unwrap_or(0) + 1 {
                        BOUND => Update::Remove,
                        count => Update::Set(count),
                    };
                    let count = cache.update("counter", count).await.unwrap();
                    removed += u64::from(count.is_none());
                }
                removed
            })
        });
        let removed: u64 = join_all(counting.collect()).await.into_iter().sum();
        assert_eq!(removed, CALLERS * EACH / 10 / BOUND);
        assert!(!cache.has("counter").await.unwrap());
    }
    run(case);
}

/// moka's `append_value`: a list grows, and is created by the first one.
#[test]
fn append_value() {
    async fn case(cache: CacheApi) {
        let appending = (0..CALLERS).map(|caller| {
            cache.spawn(move |cache| async move {
                for n in 0..200 {
                    let append = |list: Option<Vec<u64>>| {
                        let mut list = list.unwrap_or_default();
                        list.push(caller * 1_000 + n);
                        Update::Set(list)
                    };
                    cache.update("list", append).await.unwrap();
                }
            })
        });
        join_all(appending.collect()).await;
        let mut list = cache.get::<Vec<u64>>("list").await.unwrap().unwrap();
        list.sort_unstable();
        let all = (0..CALLERS).flat_map(|caller| (0..200).map(move |n| caller * 1_000 + n));
        assert_eq!(list, all.collect::<Vec<_>>());
    }
    run(case);
}

/// moka's `try_append`: what cannot be read leaves the list as it is.
#[test]
fn try_append() {
    async fn case(cache: CacheApi) {
        let mut errors = Vec::new();
        for text in ["1", "two", "3", "4.5", "5"] {
            let append = |list: Option<Vec<i32>>| match text.parse::<i32>() {
                Ok(number) => {
                    let mut list = list.unwrap_or_default();
                    list.push(number);
                    Update::Set(list)
                }
                Err(error) => {
                    errors.push(error.to_string());
                    Update::Keep
                }
            };
            cache.update("list", append).await.unwrap();
        }
        assert_eq!(errors.len(), 2);
        let list = cache.get::<Vec<i32>>("list").await.unwrap();
        assert_eq!(list.unwrap(), [1, 3, 5]);
    }
    run(case);
}

#[test]
fn a_value_without_serde_is_updated_and_taken_in_memory() {
    struct Connection(u32);

    let cache = Cache::new(10);
    let open = |old: Option<Local<Connection>>| match old {
        None => Update::Set(Local::new(Connection(7))),
        Some(_) => Update::Keep,
    };
    for _ in 0..2 {
        assert_eq!(cache.update("k", open).unwrap().unwrap().0, 7);
    }
    let taken = cache.take::<Local<Connection>>("k").unwrap();
    assert_eq!(taken.unwrap().0, 7);
    assert!(!cache.has("k").unwrap());
}

#[test]
fn the_closure_may_use_the_cache() {
    let cache = Cache::new(10);
    cache.set("other", 5_u64).unwrap();
    let add = |old: Option<u64>| {
        let other = cache.get::<u64>("other").unwrap().unwrap();
        cache.set("seen", true).unwrap();
        Update::Set(old.unwrap_or(0) + other)
    };
    assert_eq!(cache.update("k", add).unwrap(), Some(5));
    assert!(cache.has("seen").unwrap());
    // One that writes its own key is called again.
    let mut calls = 0;
    let updated = cache.update("k", |old: Option<u64>| {
        calls += 1;
        if calls == 1 {
            let nested = cache.update("k", |old: Option<u64>| Update::Set(old.unwrap() * 2));
            assert_eq!(nested.unwrap(), Some(10));
        }
        Update::Set(old.unwrap() + 1)
    });
    assert_eq!((updated.unwrap(), calls), (Some(11), 2));
}

/// One that always writes its own key never ends by itself.
#[test]
fn an_update_that_always_meets_another_write_is_an_error() {
    guarded(|| {
        let (redis, memcached) = (Redis::start(), Memcached::start());
        let urls = [
            "memory://".to_owned(),
            format!("{}?timeout=300ms", redis.url()),
            format!("{}?timeout=300ms", memcached.url()),
        ];
        for url in urls {
            let cache = Cache::from_url(&url).unwrap();
            let begun = Instant::now();
            let mut next = 0;
            let error = cache.update("k", |_: Option<u64>| {
                next += 1;
                cache.set("k", next).unwrap();
                Update::Set(0)
            });
            let error = error.unwrap_err();
            match error.kind() {
                ErrorKind::Unavailable => assert!(error.to_string().contains("other clients")),
                // The time in the closure is not that of the server.
                kind => assert_eq!((kind, url == "memory://"), (ErrorKind::Timeout, false)),
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{url}");
            assert!(error.to_string().starts_with("update `"), "{error}");
            let last = (next > 0).then_some(next);
            assert_eq!(cache.get::<u64>("k").unwrap(), last, "{url}");
        }
    });
}

/// Others that write all the time get their turn, and this caller its own.
#[test]
fn an_update_pauses_after_conflicts() {
    async fn case(cache: CacheApi) {
        let begun = Instant::now();
        let mut conflicts = 0;
        let updated = cache.update("k", |old: Option<u64>| {
            if conflicts < 300 {
                conflicts += 1;
                block_on(
                    cache
                        .spawn(move |cache| async move {
                            cache.set("k", conflicts).await.unwrap();
                        })
                        .join(),
                );
            }
            Update::Set(old.unwrap_or(0) + 1)
        });
        assert_eq!(updated.await.unwrap(), Some(301));
        assert!(begun.elapsed() > Duration::from_millis(100));
    }
    run(case);
}

/// An entry whose TTL is kept is not prolonged by updates, and does not lose its TTL in the last millisecond.
#[test]
fn an_entry_that_is_always_updated_expires() {
    guarded(|| {
        let server = Redis::start();
        let cache = Cache::from_url(&server.url()).unwrap();
        let longer = |old: Option<String>| old.map_or(Update::Keep, |old| Update::Set(old + "x"));
        for key in 0..50 {
            let begun = Instant::now();
            let ttl = Duration::from_millis(10);
            cache.set_with(key, "", ttl).unwrap();
            while cache.update(key, longer).unwrap().is_some() {
                assert!(
                    begun.elapsed() < Duration::from_secs(5),
                    "it does not expire"
                );
            }
        }
    });
}

/// A store in which something happens before a key is read, and after the versions of tags were.
#[derive(Debug)]
struct Hooked<S> {
    store: S,
    hook: Hook,
    sets: Arc<AtomicUsize>,
}

#[derive(Clone, Default)]
struct Hook(Arc<Mutex<Option<Event>>>);

type Event = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl<S: Store> Store for Hooked<S> {
    fn form(&self) -> Form {
        self.store.form()
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        if key.text().ends_with('k') {
            let hook = self.hook.0.lock().unwrap().take();
            if let Some(hook) = hook {
                hook();
            }
        }
        self.store.get(key)
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        let read = keys.iter().rev().map(|key| self.get(key));
        let mut read = read.collect::<Result<Vec<_>>>()?;
        read.reverse();
        Ok(read)
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        self.sets.fetch_add(1, Ordering::SeqCst);
        self.store.set(key, entry, ttl)
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        self.store.delete(key)
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.store.clear(prefix)
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        self.store.add(key, entry, ttl)
    }

    fn compare_and_swap(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        self.store.compare_and_swap(key, current, new)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.store.clock()
    }
}

fn hooked<S: Store>(store: S) -> (Cache, Hook, Arc<AtomicUsize>) {
    let (hook, sets) = (Hook::default(), Arc::new(AtomicUsize::new(0)));
    let store = Hooked {
        store,
        hook: hook.clone(),
        sets: Arc::clone(&sets),
    };
    (Cache::builder().store(store).build().unwrap(), hook, sets)
}

#[test]
fn an_entry_that_is_set_again_after_an_invalidation_is_updated() {
    let env = TestEnv::new(Time::manual());
    for (cache, hook, _) in [hooked(stores::memory(&env)), hooked(stores::bytes(&env))] {
        let tagged = || Options::new().tags(["t"]);
        cache.set_with("k", 1, tagged()).unwrap();
        let other = cache.clone();
        *hook.0.lock().unwrap() = Some(Box::new(move || {
            other.invalidate_tags(["t"]).unwrap();
            other.set_with("k", 10, tagged()).unwrap();
        }));
        let mut seen = Vec::new();
        let updated = cache.update_with("k", tagged(), |old: Option<u64>| {
            seen.push(old);
            Update::SetFor(old.unwrap_or(0) + 1, Ttl::Never)
        });
        assert_eq!(updated.unwrap(), Some(11));
        assert_eq!(seen, [Some(10)]);
        assert_eq!(cache.get::<u64>("k").unwrap(), Some(11));
    }
}

/// A set could undo a write of another client.
#[test]
fn a_store_that_swaps_replaces_entries_without_setting_them() {
    let env = TestEnv::new(Time::manual());
    let (cache, _, sets) = hooked(stores::bytes(&env));
    let minute = Duration::from_secs(60);
    let options = Options::ttl(minute).stale_for(minute);
    cache.set_with("k", 1, options).unwrap();
    assert!(cache.touch("k", minute * 2).unwrap());
    assert_eq!(cache.get("k").unwrap(), Some(1));
    assert_eq!(sets.load(Ordering::SeqCst), 1);
}

/// Memory that counts how often it swaps.
#[derive(Debug)]
struct Counting(Memory, Arc<AtomicUsize>);

impl Store for Counting {
    fn form(&self) -> Form {
        Store::form(&self.0)
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        Store::get(&self.0, key)
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        Store::set(&self.0, key, entry, ttl)
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        Store::delete(&self.0, key)
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        Store::clear(&self.0, prefix)
    }

    fn compare_and_swap(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Store::compare_and_swap(&self.0, key, current, new)
    }
}

#[test]
fn only_keep_does_not_write() {
    let swaps = Arc::new(AtomicUsize::new(0));
    let store = Counting(Memory::new(), Arc::clone(&swaps));
    let cache = Cache::builder().store(store).build().unwrap();
    let check = |expected: usize, update: fn(Option<u8>) -> Update<u8>| {
        cache.update("k", update).unwrap();
        assert_eq!(swaps.load(Ordering::SeqCst), expected);
    };
    check(0, |_| Update::Keep);
    check(1, |_| Update::Set(1));
    check(1, |_| Update::Keep);
    check(2, |_| Update::Remove);
    // It ends the loads that are in progress.
    check(3, |_| Update::Remove);
}

#[test]
fn a_task_may_be_spawned_with_an_update() {
    World::Tasks.run(async {
        let cache = AsyncCache::new(10);
        let name = String::from("Ada");
        let updating = {
            let cache = cache.clone();
            tokio::spawn(async move {
                cache
                    .update("k", |_: Option<String>| Update::Set(name.clone()))
                    .await
            })
        };
        assert_eq!(updating.await.unwrap().unwrap().as_deref(), Some("Ada"));
        let taken = tokio::spawn(async move { cache.take::<String>("k").await });
        assert_eq!(taken.await.unwrap().unwrap().as_deref(), Some("Ada"));
    });
}
