//! Review: loads.
#![cfg(not(shuttle))]
#![allow(missing_docs, missing_debug_implementations, clippy::pedantic)]

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cacheio::{AsyncCache, AsyncStore, BoxFuture, Cache, Entry, Form, Key, LoadError, Memory, Payload, Result, Store};
use cacheio::cached;

fn within<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = tx.send(run());
    });
    match rx.recv_timeout(Duration::from_secs(5)) {
        Ok(v) => v,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("HANGS: {what}"),
        Err(_) => panic!("panicked: {what}"),
    }
}

fn poll<F: Future + ?Sized>(f: &mut Pin<Box<F>>) -> Poll<F::Output> {
    f.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

// 1. `#[cached]` with an error that is not Clone, and `get_or_try_set` of the same key and error.

#[derive(Debug)]
struct NoClone;
#[derive(Clone)]
struct Service {
    cache: Cache,
}
#[cached(cache = service.cache, key = "k")]
fn fetch(service: &Service) -> std::result::Result<u8, NoClone> {
    let _ = service;
    Err(NoClone)
}
#[test]
fn macro_waits_for_a_plain_load_with_an_error_that_is_not_clone() {
    let service = Service { cache: Cache::builder().build().unwrap() };
    let waiter = Mutex::new(None);
    let error: LoadError<NoClone> = service
        .cache
        .get_or_try_set("k", || {
            let other = service.clone();
            *waiter.lock().unwrap() = Some(std::thread::spawn(move || fetch(&other).is_err()));
            while service.cache.stats().waits == 0 {
                std::thread::yield_now();
            }
            Err::<u8, _>(NoClone)
        })
        .unwrap_err();
    let joined = waiter.into_inner().unwrap().unwrap().join();
    drop(error);
    assert!(joined.is_ok(), "the waiter panicked instead of running its own body");
}

// 2. A store of bytes whose operations go on when their futures are dropped, as a request that is
// already on its way to a server does.

type Map = Arc<Mutex<HashMap<String, Vec<u8>>>>;
#[derive(Debug, Clone, Default)]
struct Wire {
    map: Map,
    /// Requests that are on their way, each on a connection of its own.
    late: Arc<Mutex<Vec<(String, Vec<u8>)>>>,
    hold: Arc<AtomicUsize>,
}
impl AsyncStore for Wire {
    fn form(&self) -> Form {
        Form::Bytes
    }
    fn get<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        let found = self.map.lock().unwrap().get(key.text()).cloned();
        Box::pin(async move { Ok(found.map(Entry::bytes)) })
    }
    fn set<'a>(&'a self, key: &'a Key<'a>, entry: Entry, _: Option<Duration>) -> BoxFuture<'a, Result<()>> {
        let Payload::Bytes(bytes) = entry.payload else { unreachable!() };
        Box::pin(async move {
            if self.hold.load(Ordering::SeqCst) > 0 {
                self.late.lock().unwrap().push((key.text().into(), bytes));
                std::future::pending::<()>().await;
            } else {
                self.map.lock().unwrap().insert(key.text().into(), bytes);
            }
            Ok(())
        })
    }
    fn delete<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { Ok(self.map.lock().unwrap().remove(key.text()).is_some()) })
    }
    fn clear<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Ok(self.map.lock().unwrap().clear()) })
    }
}

#[test]
fn a_publishing_that_was_dropped_does_not_beat_a_delete() {
    let store = Wire::default();
    let cache = AsyncCache::builder().store(store.clone()).build().unwrap();
    store.hold.store(1, Ordering::SeqCst);
    let mut leader = Box::pin(cache.get_or_set("k", || async { 1 }));
    assert!(poll(&mut leader).is_pending(), "the request is on its way");
    let mut delete = Box::pin(cache.delete("k"));
    assert!(poll(&mut delete).is_pending(), "waits for the publishing");
    drop(leader); // its task is aborted, or times out
    assert!(poll(&mut delete).is_ready());
    // The server executes what it had got before.
    for (key, bytes) in store.late.lock().unwrap().drain(..) {
        store.map.lock().unwrap().insert(key, bytes);
    }
    let mut get = Box::pin(cache.get::<i32>("k"));
    let Poll::Ready(value) = poll(&mut get) else { panic!() };
    assert_eq!(value.unwrap(), None, "loaded before the delete, read after it");
}

// 3. One task: a load that is given up waiting, not dropped, then a write of its key.

#[test]
fn select_then_delete_in_one_task() {
    let store = Wire::default();
    let cache = AsyncCache::builder().store(store.clone()).build().unwrap();
    store.hold.store(1, Ordering::SeqCst);
    let mut load = Box::pin(cache.get_or_set("k", || async { 1 }));
    assert!(poll(&mut load).is_pending());
    // select! { v = &mut load => …, () = sleep(10 ms) => cache.delete("k").await }
    let mut delete = Box::pin(cache.delete("k"));
    let ready = (0..100).any(|_| poll(&mut delete).is_ready());
    assert!(ready, "delete waits for a publishing that only this very task can poll");
}

// 4. A nested load that outlives the loader that began it.

fn yield_once() -> impl Future<Output = ()> {
    let mut first = true;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut first, false) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
}

#[test]
fn a_load_handed_on_is_no_reentry() {
    let cache = AsyncCache::builder().build().unwrap();
    let handed: Arc<Mutex<Option<Pin<Box<dyn Future<Output = std::result::Result<i32, LoadError<()>>> + Send>>>>> =
        Arc::default();
    let mut a = {
        let (cache, handed) = (cache.clone(), Arc::clone(&handed));
        Box::pin(async move {
            let inner = cache.clone();
            cache
                .get_or_set("a", || async move {
                    let asks = inner.clone();
                    // "b" wants "a" later; the loader of "a" begins it but does not wait (timeout, select!).
                    let mut b: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
                        inner
                            .get_or_try_set("b", || async {
                                yield_once().await;
                                asks.get_or_try_set("a", || async { Ok::<_, ()>(-1) }).await.map_err(|e| panic!("{e:?}"))
                            })
                            .await
                    });
                    assert!(poll(&mut b).is_pending());
                    *handed.lock().unwrap() = Some(b); // tokio::spawn(b)
                    yield_once().await;
                    1
                })
                .await
        })
    };
    assert!(poll(&mut a).is_pending());
    let mut b = handed.lock().unwrap().take().unwrap();
    // The spawned "b" now asks for "a", whose loader waits for nothing.
    assert!(poll(&mut b).is_pending());
    assert!(poll(&mut a).is_ready());
    assert!(poll(&mut b).is_ready());
}

// 5. A loader that drives other tasks of its thread (LocalSet, block_on of a current-thread runtime).

#[test]
fn a_task_that_happens_to_be_polled_by_a_loader_is_no_reentry() {
    let cache = AsyncCache::builder().build().unwrap();
    let mut other: Pin<Box<dyn Future<Output = i32> + Send>> = {
        let cache = cache.clone();
        Box::pin(async move { cache.get_or_set("a", || async { 2 }).await })
    };
    let other = &mut other;
    let mut a = Box::pin(cache.get_or_set("a", || async move {
        // runtime.block_on(fetch()) polls the runtime's other tasks meanwhile.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(other)));
        assert!(polled.is_ok(), "the other task panics: it is taken for a part of this loader");
        1
    }));
    assert!(poll(&mut a).is_ready());
}

// 6. A value whose Serialize, or a codec that, writes the key that is being published.

static CACHE: Mutex<Option<Cache>> = Mutex::new(None);
#[derive(Clone, serde::Deserialize)]
struct Deletes;
impl serde::Serialize for Deletes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let cache = CACHE.lock().unwrap().clone().unwrap();
        cache.delete("k").unwrap();
        s.serialize_unit()
    }
}
#[derive(Debug, Default)]
struct Bytes(Mutex<HashMap<String, Vec<u8>>>);
impl Store for Bytes {
    fn form(&self) -> Form {
        Form::Bytes
    }
    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        Ok(self.0.lock().unwrap().get(key.text()).cloned().map(Entry::bytes))
    }
    fn set(&self, key: &Key<'_>, entry: Entry, _: Option<Duration>) -> Result<()> {
        let Payload::Bytes(bytes) = entry.payload else { unreachable!() };
        self.0.lock().unwrap().insert(key.text().into(), bytes);
        Ok(())
    }
    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        Ok(self.0.lock().unwrap().remove(key.text()).is_some())
    }
    fn clear(&self, _: &str) -> Result<()> {
        Ok(())
    }
}
#[test]
fn encoding_is_not_a_part_of_publishing() {
    within("a write of the key in Serialize while it is published", || {
        let cache = Cache::builder().store(Bytes::default()).build().unwrap();
        *CACHE.lock().unwrap() = Some(cache.clone());
        let _: Deletes = cache.get_or_set("k", || Deletes);
    });
}

// 7. Weights as people use them.
#[test]
fn too_large_at_scale() {
    let cap = 4u64 << 20;
    let memory = Memory::builder().capacity(cap).weigher(|_, v| *v.downcast_ref::<u64>().unwrap_or(&1)).build();
    let cache = Cache::builder().store(memory).build().unwrap();
    let mut seed = 99u64;
    let mut next = |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) % n
    };
    let mut refused = 0;
    for _ in 0..200_000 {
        let k = next(200);
        if next(3) == 0 {
            refused += usize::from(cache.set(k, 1 + next(200_000)).is_err());
        } else {
            let _: Option<u64> = cache.get(k).unwrap();
        }
    }
    assert_eq!(refused, 0, "of ~66,000 sets of at most a fifth of a shard were refused as TooLarge");
}

// 8. A captured value of an aborted loader.
#[test]
fn the_captures_of_an_aborted_loader_may_use_the_key() {
    struct Guard(Cache2);
    type Cache2 = (AsyncCache, Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            // What a blocking caller of the same memory would see.
            let mut f = Box::pin(self.0.0.get_or_set("k", || async { 9 }));
            if poll(&mut f).is_pending() {
                self.0.1.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    let cache = AsyncCache::builder().build().unwrap();
    let blocked = Arc::new(AtomicUsize::new(0));
    let guard = Guard((cache.clone(), Arc::clone(&blocked)));
    let mut a = Box::pin(cache.get_or_set("k", || async move {
        let _guard = guard;
        std::future::pending::<()>().await;
        1
    }));
    assert!(poll(&mut a).is_pending());
    drop(a);
    assert_eq!(blocked.load(Ordering::SeqCst), 0, "the flight of a loader that is gone is still there while its captures are dropped");
}
