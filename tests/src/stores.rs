//! Stores to run the contract on: memory in its shapes, stand-ins for servers, and real ones.

mod remote;

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use cacheio_core::{
    AsyncStore, BoxFuture, Clock, Entry, Error, ErrorKind, Form, Key, KeyRule, Payload, Result,
    Store, Timestamp,
};
use cacheio_sync::Memory;

pub use self::remote::{memcached, redis, redis_cluster};
use crate::place::Ground;

/// Memory with room for all that a line stores.
pub fn memory(ground: &Ground) -> Memory {
    Memory::builder()
        .capacity(10_000)
        .clock(ground.clock())
        .build()
}

/// Memory that weighs.
pub fn weighed(ground: &Ground) -> Memory {
    let memory = Memory::builder().capacity(64 << 20).clock(ground.clock());
    memory
        .weigher(|key, value| (key.len() + size_of_val(value)) as u64)
        .build()
}

/// Memory behind a shared pointer to something unknown.
pub fn arc_dyn(ground: &Ground) -> Arc<dyn Store> {
    Arc::new(memory(ground))
}

/// Memory behind a pointer to something unknown.
pub fn box_dyn(ground: &Ground) -> Box<dyn Store> {
    Box::new(memory(ground))
}

/// As [`arc_dyn`], for tasks.
pub fn async_arc_dyn(ground: &Ground) -> Arc<dyn AsyncStore> {
    Arc::new(memory(ground))
}

/// As [`box_dyn`], for tasks.
pub fn async_box_dyn(ground: &Ground) -> Box<dyn AsyncStore> {
    Box::new(memory(ground))
}

/// Memory that suspends: a store of values that must be awaited.
pub fn yielding_memory(ground: &Ground) -> Yielding<Memory> {
    Yielding(memory(ground))
}

/// Bytes, as a server keeps them.
pub fn bytes(ground: &Ground) -> Bytes {
    Bytes {
        clock: ground.clock(),
        entries: Mutex::default(),
    }
}

/// Bytes that must be awaited.
pub fn yielding_bytes(ground: &Ground) -> Yielding<Bytes> {
    Yielding(bytes(ground))
}

/// A map of bytes with expiry: stands in for a server.
#[derive(Debug)]
pub struct Bytes {
    clock: Arc<dyn Clock>,
    entries: Mutex<HashMap<String, (Vec<u8>, Timestamp)>>,
}

impl Bytes {
    /// The entries, without those that have expired.
    fn live(&self) -> MutexGuard<'_, HashMap<String, (Vec<u8>, Timestamp)>> {
        let now = self.clock.now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (_, expires)| now < *expires);
        entries
    }

    fn expires(&self, ttl: Option<Duration>) -> Timestamp {
        assert_ne!(
            ttl,
            Some(Duration::ZERO),
            "stores are never given a TTL of zero"
        );
        ttl.map_or(Timestamp::MAX, |ttl| self.clock.now().after(ttl))
    }

    fn checked<'a>(key: &Key<'a>) -> &'a str {
        let key = key.text();
        assert!(
            (1..=250).contains(&key.len()),
            "a key that no server holds: {} bytes",
            key.len()
        );
        assert!(
            key.bytes().all(|byte| byte > b' ' && byte != 0x7F),
            "a key that no server holds: {key:?}"
        );
        key
    }
}

fn into_bytes(entry: Entry) -> Vec<u8> {
    assert!(entry.meta.is_none(), "stores of bytes never get meta");
    match entry.payload {
        Payload::Bytes(bytes) => bytes,
        Payload::Object(object) => panic!("stores of bytes never get objects: {object:?}"),
    }
}

impl Store for Bytes {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        Ok(self
            .live()
            .get(Self::checked(key))
            .map(|(bytes, _)| Entry::bytes(bytes.clone())))
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        let expires = self.expires(ttl);
        self.live()
            .insert(Self::checked(key).to_owned(), (into_bytes(entry), expires));
        Ok(())
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        Ok(self.live().remove(Self::checked(key)).is_some())
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        if prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a shared server is never flushed: give the cache a namespace",
            ));
        }
        self.live().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        let expires = self.expires(ttl);
        let mut entries = self.live();
        if entries.contains_key(Self::checked(key)) {
            return Ok(false);
        }
        entries.insert(key.text().to_owned(), (into_bytes(entry), expires));
        Ok(true)
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let expires = self.expires(ttl);
        let mut entries = self.live();
        let (bytes, _) = entries
            .entry(Self::checked(key).to_owned())
            .or_insert_with(|| (b"0".to_vec(), expires));
        let count = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        let count = count.ok_or_else(|| {
            Error::new(
                ErrorKind::WrongType,
                "what is stored is no integer of 64 bits",
            )
        })?;
        let count = count.checked_add(by).ok_or_else(|| {
            Error::new(
                ErrorKind::Overflow,
                "the counter would leave the range of i64",
            )
        })?;
        *bytes = count.to_string().into_bytes();
        Ok(count)
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        let expires = self.expires(ttl);
        match self.live().get_mut(Self::checked(key)) {
            Some((_, end)) => {
                *end = expires;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }
}

/// Suspends once.
pub async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A store for tasks that suspends before and after everything.
#[derive(Debug)]
pub struct Yielding<S>(pub S);

/// A store that fails while it is told to.
#[derive(Debug)]
pub struct Failing<S> {
    store: S,
    breaker: Arc<Breaker>,
}

/// What makes a [`Failing`] store fail.
#[derive(Debug, Default)]
pub struct Breaker {
    reads: AtomicBool,
    writes: AtomicBool,
}

impl Breaker {
    /// Lets reads fail, or not.
    pub fn reads_fail(&self, fail: bool) {
        self.reads.store(fail, Ordering::SeqCst);
    }

    /// Lets writes fail, or not.
    pub fn writes_fail(&self, fail: bool) {
        self.writes.store(fail, Ordering::SeqCst);
    }

    /// Lets everything fail, or nothing.
    pub fn all_fail(&self, fail: bool) {
        self.reads_fail(fail);
        self.writes_fail(fail);
    }

    fn read(&self) -> Result<()> {
        Self::check(&self.reads)
    }

    fn write(&self) -> Result<()> {
        Self::check(&self.writes)
    }

    fn check(broken: &AtomicBool) -> Result<()> {
        if broken.load(Ordering::SeqCst) {
            return Err(
                Error::new(ErrorKind::Unavailable, "the server cannot be reached")
                    .with_source("it was unplugged"),
            );
        }
        Ok(())
    }
}

impl<S> Failing<S> {
    /// A store that works until the breaker says otherwise.
    pub fn new(store: S) -> (Self, Arc<Breaker>) {
        let breaker = Arc::new(Breaker::default());
        let failing = Self {
            store,
            breaker: Arc::clone(&breaker),
        };
        (failing, breaker)
    }
}

/// The operations of a store, and whether they read or write.
macro_rules! operations {
    ($impls:ident) => {
        $impls! {
            read get(key: &'a Key<'a>) -> Option<Entry>;
            write set(key: &'a Key<'a>, entry: Entry, ttl: Option<Duration>) -> ();
            write delete(key: &'a Key<'a>) -> bool;
            write clear(prefix: &'a str) -> ();
            write add(key: &'a Key<'a>, entry: Entry, ttl: Option<Duration>) -> bool;
            write increment(key: &'a Key<'a>, by: i64, ttl: Option<Duration>) -> i64;
            write touch(key: &'a Key<'a>, ttl: Option<Duration>) -> bool;
            read has(key: &'a Key<'a>) -> bool;
            read get_many(keys: &'a [Key<'a>]) -> Vec<Option<Entry>>;
            write set_many(entries: Vec<(Key<'a>, Entry)>, ttl: Option<Duration>) -> ();
            write delete_many(keys: &'a [Key<'a>]) -> usize;
        }
    };
}

macro_rules! settings {
    ($trait:ident, $this:ident => $inner:expr) => {
        fn form(&self) -> Form {
            let $this = self;
            $trait::form($inner)
        }

        fn key_rule(&self) -> KeyRule {
            let $this = self;
            $trait::key_rule($inner)
        }

        fn clock(&self) -> Arc<dyn Clock> {
            let $this = self;
            $trait::clock($inner)
        }

        fn evictions(&self) -> u64 {
            let $this = self;
            $trait::evictions($inner)
        }

        fn circuit_opens(&self) -> u64 {
            let $this = self;
            $trait::circuit_opens($inner)
        }

        fn check(&self) -> Result<()> {
            let $this = self;
            $trait::check($inner)
        }
    };
}

macro_rules! yielding {
    ($($access:ident $name:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {
        impl<S: Store> AsyncStore for Yielding<S> {
            $(fn $name<'a>(&'a self, $($arg: $type),*) -> BoxFuture<'a, Result<$output>> {
                around(move || self.0.$name($($arg),*))
            })*

            fn ping(&self) -> BoxFuture<'_, Result<()>> {
                around(|| self.0.ping())
            }

            settings!(Store, this => &this.0);
        }
    };
}

fn around<'a, T: Send + 'a>(operation: impl FnOnce() -> T + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(async {
        pause().await;
        let result = operation();
        pause().await;
        result
    })
}

operations!(yielding);

macro_rules! failing_for_threads {
    ($($access:ident $name:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {
        impl<S: Store> Store for Failing<S> {
            $(failing_for_threads!(@ $access $name($($arg: $type),*) -> $output);)*

            fn ping(&self) -> Result<()> {
                self.breaker.read()?;
                self.store.ping()
            }

            settings!(Store, this => &this.store);
        }
    };
    (@ $access:ident get($key:ident: $type:ty) -> $output:ty) => {
        fn get(&self, key: &Key<'_>) -> Result<$output> {
            self.breaker.$access()?;
            self.store.get(key)
        }
    };
    (@ $access:ident clear($($arg:ident: $type:ty),*) -> $output:ty) => {
        fn clear(&self, prefix: &str) -> Result<()> {
            self.breaker.$access()?;
            self.store.clear(prefix)
        }
    };
    (@ $access:ident get_many($($arg:ident: $type:ty),*) -> $output:ty) => {
        fn get_many(&self, keys: &[Key<'_>]) -> Result<$output> {
            self.breaker.$access()?;
            self.store.get_many(keys)
        }
    };
    (@ $access:ident delete_many($($arg:ident: $type:ty),*) -> $output:ty) => {
        fn delete_many(&self, keys: &[Key<'_>]) -> Result<$output> {
            self.breaker.$access()?;
            self.store.delete_many(keys)
        }
    };
    (@ $access:ident set_many($($arg:ident: $type:ty),*) -> $output:ty) => {
        fn set_many(&self, entries: Vec<(Key<'_>, Entry)>, ttl: Option<Duration>) -> Result<()> {
            self.breaker.$access()?;
            self.store.set_many(entries, ttl)
        }
    };
    (@ $access:ident $name:ident($key:ident: $key_type:ty $(, $arg:ident: $type:ty)*) -> $output:ty) => {
        fn $name(&self, $key: &Key<'_>, $($arg: $type),*) -> Result<$output> {
            self.breaker.$access()?;
            self.store.$name($key, $($arg),*)
        }
    };
}

operations!(failing_for_threads);

macro_rules! failing_for_tasks {
    ($($access:ident $name:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {
        impl<S: AsyncStore> AsyncStore for Failing<S> {
            $(fn $name<'a>(&'a self, $($arg: $type),*) -> BoxFuture<'a, Result<$output>> {
                either(self.breaker.$access(), move || self.store.$name($($arg),*))
            })*

            fn ping(&self) -> BoxFuture<'_, Result<()>> {
                either(self.breaker.read(), || self.store.ping())
            }

            settings!(AsyncStore, this => &this.store);
        }
    };
}

fn either<'a, T: Send + 'a, F: Future<Output = Result<T>> + Send + 'a>(
    works: Result<()>,
    operation: impl FnOnce() -> F + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async {
        works?;
        operation().await
    })
}

operations!(failing_for_tasks);
