//! [`SpawnBlocking`]: a synchronous store for asynchronous callers.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::AbortHandle;

use super::{runtime, within};
use crate::store::store_time::deadline;
use crate::{
    AsyncStore, BoxFuture, ClaimMode, Claimed, Entry, Error, ErrorKind, Key, Replacement, Result,
    ScanPage, Settlement, Store, TtlChange, Usage,
};

/// How many locks order the writes; each key belongs to one of them.
const STRIPES: usize = 64;

/// Implements [`AsyncStore`] for a [`Store`]: each call runs on the threads for blocking work
/// (`tokio::task::spawn_blocking`) of the caller's runtime, and outside of tokio on those of a runtime
/// that all caches of the process share.
///
/// A call whose future is dropped before a thread is free for it never begins; one that has begun
/// continues in the background. Writes of one key run one after another in the order of the calls,
/// dropped or not, so a cancelled write never overwrites a later one.
///
/// ```
/// use cacheio::store::{AsyncStore, Entry, Form, Key, Store};
/// use cacheio::{Result, SpawnBlocking};
/// use std::time::Duration;
///
/// #[derive(Debug)]
/// struct Slow;
///
/// impl Store for Slow {
///     fn form(&self) -> Form { Form::Bytes }
///     fn get(&self, _: &Key<'_>) -> Result<Option<Entry>> {
///         std::thread::sleep(Duration::from_millis(1));
///         Ok(None)
///     }
/// #   fn set(&self, _: &Key<'_>, _: Entry, _: Option<Duration>) -> Result<()> { Ok(()) }
/// #   fn delete(&self, _: &Key<'_>) -> Result<bool> { Ok(false) }
/// #   fn clear(&self, _: &str) -> Result<()> { Ok(()) }
///     // … and so on
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let store = SpawnBlocking::new(Slow);
/// assert!(AsyncStore::get(&store, &Key::new("key")).await?.is_none());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SpawnBlocking<S> {
    store: Arc<S>,
    spawner: Spawner,
}

impl<S: Store> SpawnBlocking<S> {
    /// Wraps a synchronous store, without a timeout: a call ends when the store's does.
    ///
    /// ```
    /// # use cacheio::store::{AsyncStore, Store};
    /// # use cacheio::SpawnBlocking;
    /// fn spawning(store: impl Store) -> impl AsyncStore {
    ///     SpawnBlocking::new(store)
    /// }
    /// ```
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            spawner: Spawner::default(),
        }
    }

    /// Limits how long each call but `clear` and `scan` may take. The time that a call waits for a thread
    /// counts; after the timeout the call returns an error of kind
    /// [`Timeout`](ErrorKind::Timeout). If the store's work has begun, it continues in the background.
    ///
    /// ```
    /// # use cacheio::store::{AsyncStore, Store};
    /// # use cacheio::SpawnBlocking;
    /// # use std::time::Duration;
    /// fn bounded(store: impl Store) -> impl AsyncStore {
    ///     SpawnBlocking::new(store).timeout(Duration::from_millis(200))
    /// }
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spawner.timeout = Some(timeout);
        self
    }
}

/// Runs a store's calls on threads that may block.
#[derive(Clone, Debug)]
struct Spawner {
    /// A write holds the stripe of its key until it is done.
    stripes: Arc<[Arc<Mutex<()>>]>,
    timeout: Option<Duration>,
}

/// Aborts a call that its caller no longer waits for, if no thread has begun it.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Default for Spawner {
    fn default() -> Self {
        Self {
            stripes: std::iter::repeat_with(Arc::default).take(STRIPES).collect(),
            timeout: None,
        }
    }
}

impl Spawner {
    /// Runs a call that holds the stripes of the keys that it writes.
    async fn run<T: Send + 'static>(
        &self,
        writes: Vec<usize>,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let work = self.run_unbounded(writes, call);
        let Some(timeout) = self.timeout else {
            return work.await;
        };
        let result = within(deadline(timeout), work).await;
        result.unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::Timeout,
                format!("no response within {timeout:?}"),
            ))
        })
    }

    /// Does the same without a timeout, for a call that takes many round trips.
    async fn run_unbounded<T: Send + 'static>(
        &self,
        writes: Vec<usize>,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let runtime = match Handle::try_current() {
            Ok(runtime) => runtime,
            Err(_) => runtime()?.clone(),
        };
        let mut held = Vec::with_capacity(writes.len());
        for stripe in writes {
            held.push(Arc::clone(&self.stripes[stripe]).lock_owned().await);
        }
        let done = runtime.spawn_blocking(move || {
            let result = call();
            drop::<Vec<OwnedMutexGuard<()>>>(held);
            result
        });
        let _abort = AbortOnDrop(done.abort_handle());
        match done.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::new(
                    ErrorKind::Unavailable,
                    "the tokio runtime is shutting down",
                )),
            },
        }
    }

    /// Returns the stripe of a key.
    fn stripe(key: &Key<'_>) -> usize {
        (key.hash() >> 20) as usize % STRIPES
    }

    /// Returns the stripes of some keys, sorted: all callers lock them in one order, so that they
    /// cannot deadlock.
    fn stripes<'a>(keys: impl IntoIterator<Item = &'a Key<'a>>) -> Vec<usize> {
        let mut stripes: Vec<usize> = keys.into_iter().map(Self::stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes
    }

    /// Returns the stripes of all keys.
    fn all() -> Vec<usize> {
        (0..STRIPES).collect()
    }
}

fn texts<'a>(keys: impl IntoIterator<Item = &'a Key<'a>>) -> Vec<Box<str>> {
    keys.into_iter().map(|key| key.text().into()).collect()
}

fn keys(texts: &[Box<str>]) -> Vec<Key<'_>> {
    texts.iter().map(|text| Key::new(text)).collect()
}

/// Writes the operations on one key.
macro_rules! one_key {
    ($($access:ident $method:ident($($arg:ident: $arg_type:ty),*) -> $output:ty;)*) => {$(
        fn $method<'a>(
            &'a self,
            key: &'a Key<'a>,
            $($arg: $arg_type),*
        ) -> BoxFuture<'a, Result<$output>> {
            let (store, text) = (Arc::clone(&self.store), Box::<str>::from(key.text()));
            let call = move || store.$method(&Key::new(&text), $($arg),*);
            let writes = one_key!(@$access key);
            Box::pin(self.spawner.run(writes, call))
        }
    )*};
    (@read $key:ident) => { Vec::new() };
    (@write $key:ident) => { vec![Spawner::stripe($key)] };
}

/// Writes the properties. The operations differ in what they send to the other thread.
macro_rules! properties {
    (@methods {}
        operations $operations:tt
        properties { $($property:ident() -> $value:ty;)* }
    ) => {$(
        fn $property(&self) -> $value {
            self.store.$property()
        }
    )*};
}

#[warn(clippy::missing_trait_methods)]
impl<S: Store> AsyncStore for SpawnBlocking<S> {
    one_key! {
        read get() -> Option<Entry>;
        read has() -> bool;
        write set(entry: Entry, ttl: Option<Duration>) -> ();
        write add(entry: Entry, ttl: Option<Duration>) -> bool;
        write increment(by: i64, ttl: Option<Duration>) -> i64;
        write touch(ttl: Option<Duration>) -> bool;
        write take() -> Option<Entry>;
        write compare_and_swap(current: Option<Entry>, new: Option<(Entry, TtlChange)>) -> bool;
        write replace(replacement: Replacement) -> bool;
        write delete() -> bool;
    }

    fn get_many<'a>(&'a self, many: &'a [Key<'a>]) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        let (store, texts) = (Arc::clone(&self.store), texts(many));
        let call = move || Store::get_many(&store, &keys(&texts));
        Box::pin(self.spawner.run(Vec::new(), call))
    }

    fn get_with_ttls<'a>(
        &'a self,
        many: &'a [Key<'a>],
    ) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        let (store, texts) = (Arc::clone(&self.store), texts(many));
        let call = move || Store::get_with_ttls(&store, &keys(&texts));
        Box::pin(self.spawner.run(Vec::new(), call))
    }

    fn set_many<'a>(
        &'a self,
        entries: Vec<(Key<'a>, Entry, Option<Duration>)>,
    ) -> BoxFuture<'a, Result<()>> {
        let written = Spawner::stripes(entries.iter().map(|(key, ..)| key));
        let texts = texts(entries.iter().map(|(key, ..)| key));
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(_, entry, ttl)| (entry, ttl))
            .collect();
        let store = Arc::clone(&self.store);
        let call = move || {
            let entries = keys(&texts)
                .into_iter()
                .zip(entries)
                .map(|(key, (entry, ttl))| (key, entry, ttl));
            Store::set_many(&store, entries.collect())
        };
        Box::pin(self.spawner.run(written, call))
    }

    fn replace_many<'a>(
        &'a self,
        replacements: Vec<(Key<'a>, Replacement)>,
    ) -> BoxFuture<'a, Result<()>> {
        let written = Spawner::stripes(replacements.iter().map(|(key, _)| key));
        let texts = texts(replacements.iter().map(|(key, _)| key));
        let replacements: Vec<_> = replacements
            .into_iter()
            .map(|(_, replacement)| replacement)
            .collect();
        let store = Arc::clone(&self.store);
        let call = move || {
            let replacements = keys(&texts).into_iter().zip(replacements);
            Store::replace_many(&store, replacements.collect())
        };
        Box::pin(self.spawner.run(written, call))
    }

    fn delete_many<'a>(&'a self, many: &'a [Key<'a>]) -> BoxFuture<'a, Result<usize>> {
        let (store, texts) = (Arc::clone(&self.store), texts(many));
        let call = move || Store::delete_many(&store, &keys(&texts));
        Box::pin(self.spawner.run(Spawner::stripes(many), call))
    }

    fn claim<'a>(
        &'a self,
        many: &'a [Key<'a>],
        mode: ClaimMode,
    ) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        let (store, texts) = (Arc::clone(&self.store), texts(many));
        let call = move || Store::claim(&store, &keys(&texts), mode);
        Box::pin(self.spawner.run(Spawner::stripes(many), call))
    }

    fn settle<'a>(&'a self, loads: Vec<Settlement<'a>>) -> BoxFuture<'a, Result<Vec<bool>>> {
        let written = Spawner::stripes(loads.iter().map(|load| &load.key));
        let texts = texts(loads.iter().map(|load| &load.key));
        let loads: Vec<_> = loads
            .into_iter()
            .map(|load| (load.claim, load.loaded))
            .collect();
        let store = Arc::clone(&self.store);
        let call = move || {
            let loads = keys(&texts).into_iter().zip(loads);
            let loads = loads.map(|(key, (claim, loaded))| Settlement { key, claim, loaded });
            Store::settle(&store, loads.collect())
        };
        Box::pin(self.spawner.run(written, call))
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        let (store, prefix) = (Arc::clone(&self.store), prefix.to_owned());
        let call = move || Store::clear(&store, &prefix);
        Box::pin(self.spawner.run_unbounded(Spawner::all(), call))
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        from: Option<String>,
        max: usize,
    ) -> BoxFuture<'a, Result<ScanPage>> {
        let (store, prefix) = (Arc::clone(&self.store), prefix.to_owned());
        let call = move || Store::scan(&store, &prefix, from, max);
        Box::pin(self.spawner.run_unbounded(Vec::new(), call))
    }

    fn usage<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Usage>> {
        let (store, prefix) = (Arc::clone(&self.store), prefix.to_owned());
        let call = move || Store::usage(&store, &prefix);
        Box::pin(self.spawner.run(Vec::new(), call))
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        let store = Arc::clone(&self.store);
        Box::pin(self.spawner.run(Vec::new(), move || Store::ping(&store)))
    }

    crate::__store_methods!('_, { properties } {});

    fn immediate(&self) -> Option<&dyn Store> {
        None
    }
}
