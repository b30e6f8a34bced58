//! What a listener may do.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cacheio_core::{Local, Options, Update};
use cacheio_sync::RemovalCause::{Deleted, Evicted, Expired, Replaced};
use cacheio_tests::log::Log;
use tracing::Level;

use super::*;

/// Uses everything that a cache has, on other keys.
fn use_everything(cache: &Cache) {
    cache.set("other", 1).unwrap();
    cache.set_many([("other", 2), ("another", 3)]).unwrap();
    assert_eq!(cache.get("other").unwrap(), Some(2));
    assert!(cache.has("another").unwrap());
    assert!(!cache.add("other", 4).unwrap());
    assert_eq!(cache.increment("other", 1).unwrap(), 3);
    cache
        .update("other", |old: Option<i64>| Update::Set(old.unwrap() + 1))
        .unwrap();
    assert_eq!(cache.get_or_set("loaded", || 5), 5);
    cache.touch("other", TTL).unwrap();
    assert_eq!(cache.take::<i64>("other").unwrap(), Some(4));
    cache.delete_many(["another", "loaded"]).unwrap();
    cache.invalidate_tags(["t"]).unwrap();
}

#[test]
fn a_listener_may_use_the_cache() {
    guarded(|| {
        let told = Told::default();
        let listener = told.clone();
        let clock = Arc::new(ManualClock::new());
        let builder = Memory::builder().capacity(10).clock(Arc::clone(&clock));
        let (memory, cache) = known(builder, move |cache, removal| {
            if removal.key().starts_with('k') {
                use_everything(cache);
                // It is there no more, or there is a new value.
                let value = cache.get::<u64>(removal.key()).unwrap();
                assert_eq!(value.is_some(), removal.cause() == Replaced, "{removal:?}");
                listener.push(removal);
            }
        });
        cache.set("k", 1_u64).unwrap();
        cache.set("k", 2_u64).unwrap();
        told.assert(&[("k", Replaced)]);
        cache.delete("k").unwrap();
        told.assert(&[("k", Deleted)]);
        cache.set_with("k", 1_u64, TTL).unwrap();
        clock.advance(TTL);
        memory.purge_expired();
        told.assert(&[("k", Expired)]);
        assert!(memory.is_empty());
    });
}

/// Also within the publication of a load, for which writes of its key wait.
#[test]
fn a_listener_may_write_the_key_that_a_load_has_just_stored() {
    for world in [World::Threads, World::Tasks] {
        for replaced in [true, false] {
            guarded(move || {
                let (memory, threads) =
                    known(Memory::builder().capacity(1), move |cache, removal| {
                        if removal.cause() != Deleted {
                            assert!(cache.delete("k").unwrap());
                            cache.set("k", 3).unwrap();
                            assert_eq!(cache.get_or_set("k", || 4), 3);
                            cache.delete("k").unwrap();
                        }
                    });
                let cache = cache(world, &memory, "");
                world.run(async move {
                    cache
                        .set(if replaced { "k" } else { "evicted" }, 1)
                        .await
                        .unwrap();
                    let options = Options::new().force_refresh();
                    assert_eq!(cache.get_or_set_with("k", options, || async { 2 }).await, 2);
                    assert!(!threads.has("k").unwrap());
                });
            });
        }
    }
}

/// Two loads each replace a value, and their listeners write the key of the other one at the same time. If they ran
/// within the publications, each would wait for the other one to end.
#[test]
fn listeners_of_two_loads_may_write_the_keys_of_each_other() {
    for many in [false, true] {
        guarded(move || {
            let (in_listeners, written) = (Barrier::new(2), AtomicUsize::new(0));
            let (_memory, cache) = known(Memory::builder(), move |cache, removal| {
                if removal.value::<i32>().as_deref() == Some(&1) {
                    in_listeners.wait();
                    let other = if removal.key() == "a" { "b" } else { "a" };
                    cache.set(other, 3).unwrap();
                    written.fetch_add(1, Ordering::SeqCst);
                }
            });
            cache.set_many([("a", 1), ("b", 1)]).unwrap();
            thread::scope(|scope| {
                for key in ["a", "b"] {
                    let cache = &cache;
                    scope.spawn(move || {
                        let options = Options::new().force_refresh();
                        if many {
                            let load =
                                |keys: Vec<&'static str>| keys.into_iter().map(|key| (key, 2));
                            let loaded = cache.get_or_set_many_with([key], options, load);
                            assert_eq!(loaded, [Some(2)]);
                        } else {
                            assert_eq!(cache.get_or_set_with(key, options, || 2), 2);
                        }
                    });
                }
            });
            assert_eq!(cache.get_many(["a", "b"]).unwrap(), [Some(3), Some(3)]);
        });
    }
}

#[test]
fn a_load_in_the_background_tells_what_it_replaced() {
    guarded(|| {
        let told = Told::default();
        let listener = told.clone();
        let (_memory, cache) = known(Memory::builder(), move |cache, removal| {
            assert_eq!(cache.get::<i32>("k").unwrap(), Some(2));
            cache.set("other", 1).unwrap();
            listener.push(removal);
        });
        cache.set("k", 1).unwrap();
        let options = Options::new().force_refresh();
        let fetched = cache.fetch_with("k", options, |_| Ok::<_, ()>(2)).unwrap();
        assert_eq!(fetched, 2);
        while told.0.lock().unwrap().is_empty() {
            thread::yield_now();
        }
        told.assert(&[("k", Replaced)]);
        assert!(cache.has("other").unwrap());
    });
}

#[test]
fn what_a_listener_removes_is_told_after_it_has_returned() {
    guarded(|| {
        let (told, nested) = (Told::default(), AtomicUsize::new(0));
        let listener = told.clone();
        let (_memory, cache) = known(Memory::builder().capacity(10), move |cache, removal| {
            assert_eq!(nested.fetch_add(1, Ordering::SeqCst), 0);
            if removal.key() == "first" {
                cache.delete("second").unwrap();
                cache.delete("third").unwrap();
            }
            listener.push(removal);
            nested.fetch_sub(1, Ordering::SeqCst);
        });
        for key in ["first", "second", "third"] {
            cache.set(key, 1).unwrap();
        }
        cache.delete("first").unwrap();
        told.assert(&[("first", Deleted), ("second", Deleted), ("third", Deleted)]);
    });
}

/// Each evicts the other, a thousand times. Nested calls would need too much stack.
#[test]
fn a_listener_that_stores_what_was_evicted_does_not_overflow_the_stack() {
    guarded(|| {
        let times = AtomicUsize::new(0);
        let (memory, cache) = known(Memory::builder().capacity(1), move |cache, removal| {
            if removal.cause() == Evicted && times.fetch_add(1, Ordering::SeqCst) < 100_000 {
                cache
                    .set(removal.key(), *removal.value::<i32>().unwrap())
                    .unwrap();
            }
        });
        cache.set("a", 1).unwrap();
        cache.set("b", 2).unwrap();
        assert_eq!(memory.len(), 1);
    });
}

#[test]
fn a_listener_that_panics_harms_nobody() {
    for world in [World::Threads, World::Tasks] {
        guarded(move || {
            let log = Log::of(|metadata| {
                *metadata.level() == Level::ERROR && metadata.target() == "cacheio"
            });
            tracing::subscriber::with_default(log.clone(), || {
                let told = Told::default();
                let listener = told.clone();
                let builder = Memory::builder().capacity(10).on_removal(move |removal| {
                    assert!(
                        !removal.key().starts_with("bad"),
                        "this panic is part of the test"
                    );
                    listener.push(removal);
                });
                let memory = Arc::new(builder.build());
                let cache = cache(world, &memory, "shop");
                world.run(async {
                    for key in ["bad", "good"] {
                        cache.set(key, 1).await.unwrap();
                        cache.set(key, 2).await.unwrap();
                        assert_eq!(cache.get(key).await.unwrap(), Some(2));
                        let options = Options::new().force_refresh();
                        assert_eq!(cache.get_or_set_with(key, options, || async { 3 }).await, 3);
                        assert_eq!(cache.increment(key, 1).await.unwrap(), 4);
                    }
                    told.assert(&[("good", Replaced); 3]);
                    // Those after it are told.
                    cache.set("bad too", 1).await.unwrap();
                    cache.clear().await.unwrap();
                    assert_eq!((told.take().len(), memory.len()), (1, 0));
                });
            });
            let panics = log.lock();
            assert_eq!(panics.len(), 5);
            assert!(
                panics
                    .iter()
                    .all(|logged| logged.text.contains("removal listener panicked"))
            );
            assert!(
                panics
                    .iter()
                    .all(|logged| logged.text.contains("shop") && !logged.text.contains("bad"))
            );
        });
    }
}
/// A value that uses its cache and panics in its drop.
struct PanicsInDrop(Cache);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        self.0.delete("other").unwrap();
        panic!("this panic is part of the test");
    }
}

#[test]
fn a_value_that_panics_when_the_listener_drops_it_harms_nobody() {
    guarded(|| {
        let told = Told::default();
        let listener = told.clone();
        let (_memory, cache) = known(Memory::builder().capacity(10), move |_, removal| {
            if removal.value::<Local<PanicsInDrop>>().is_none() {
                listener.push(removal);
            }
        });
        cache.set("other", 1).unwrap();
        cache
            .set("k", Local::new(PanicsInDrop(cache.clone())))
            .unwrap();
        cache.delete("k").unwrap();
        told.assert(&[("other", Deleted)]);
    });
}

#[test]
fn removals_can_be_sent_to_a_task() {
    World::Tasks.run(async {
        let (sender, mut removals) = tokio::sync::mpsc::unbounded_channel();
        let memory = Memory::builder().on_removal(move |removal| {
            let _ = sender.send(removal);
        });
        let cache = AsyncCache::builder().store(memory.build()).build().unwrap();
        let listener = tokio::spawn(async move { removals.recv().await });
        cache.set("k", 1).await.unwrap();
        cache.delete("k").await.unwrap();
        let removal = listener.await.unwrap().unwrap();
        assert_eq!((removal.key(), removal.cause()), ("k", Deleted));
    });
}

/// A value that removes an entry when its thread ends, when thread-locals may be gone.
struct AtThreadEnd(Mutex<Option<Cache>>);

impl Drop for AtThreadEnd {
    fn drop(&mut self) {
        if let Some(cache) = self.0.get_mut().unwrap() {
            cache.delete("k").unwrap();
        }
    }
}

thread_local! {
    static AT_THREAD_END: AtThreadEnd = const { AtThreadEnd(Mutex::new(None)) };
}

#[test]
fn removals_are_told_while_their_thread_ends() {
    guarded(|| {
        let told = Told::default();
        let listener = told.clone();
        let (_memory, cache) = known(Memory::builder(), move |_, removal| listener.push(removal));
        let in_thread = cache.clone();
        let ended = thread::spawn(move || {
            AT_THREAD_END.with(|end| *end.0.lock().unwrap() = Some(in_thread.clone()));
            in_thread.set("k", 1).unwrap();
            in_thread.set("k", 2).unwrap();
        });
        ended.join().unwrap();
        told.assert(&[("k", Replaced), ("k", Deleted)]);
    });
}
