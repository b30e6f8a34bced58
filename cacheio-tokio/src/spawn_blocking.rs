//! A store for threads, made one for tasks.

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::Coordination;
use cacheio_core::{
    AsyncStore, BoxFuture, Clock, Entry, Error, ErrorKind, Form, Key, KeyRule, Result, Store,
};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How many writes can go on at the same time, at most.
const STRIPES: usize = 64;

/// A store for threads, made one for tasks: each call runs on the runtime's threads for blocking
/// work ([`tokio::task::spawn_blocking`]).
///
/// A call whose future is dropped goes on and ends by itself. Writes of one key are done one after
/// another in the order of the calls, dropped or not: what was given up never lands on top of a
/// later write.
///
/// It must be called in a tokio runtime; elsewhere each call is an error of kind
/// [`Unsupported`](ErrorKind::Unsupported).
///
/// ```
/// use cacheio_core::{AsyncStore, Entry, Form, Key, Result, Store};
/// use cacheio_tokio::SpawnBlocking;
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
    /// A write holds the stripe of its key until it is done.
    stripes: Arc<[Arc<Mutex<()>>]>,
    timeout: Option<Duration>,
}

impl<S: Store> SpawnBlocking<S> {
    /// Makes it one for tasks.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            stripes: std::iter::repeat_with(Arc::default).take(STRIPES).collect(),
            timeout: None,
        }
    }

    /// Bounds each call, with the time that it waits for a thread. Without it a call ends when the
    /// store's does.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Runs a call on a thread that may block, which holds the stripes of what it writes.
    async fn run<T: Send + 'static>(
        &self,
        writes: Vec<usize>,
        call: impl FnOnce(&S) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if Handle::try_current().is_err() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this store needs a tokio runtime: call the cache in one",
            ));
        }
        let work = async {
            let mut held = Vec::with_capacity(writes.len());
            for stripe in writes {
                held.push(Arc::clone(&self.stripes[stripe]).lock_owned().await);
            }
            let store = Arc::clone(&self.store);
            let done = tokio::task::spawn_blocking(move || {
                let result = call(&store);
                drop::<Vec<OwnedMutexGuard<()>>>(held);
                result
            });
            match done.await {
                Ok(result) => result,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(Error::new(
                        ErrorKind::Unavailable,
                        "the runtime shuts down and takes no more work",
                    )),
                },
            }
        };
        match self.timeout {
            None => work.await,
            Some(timeout) => tokio::time::timeout(timeout, work)
                .await
                .unwrap_or_else(|_| {
                    Err(Error::new(
                        ErrorKind::Timeout,
                        format!("no answer within {timeout:?}"),
                    ))
                }),
        }
    }
}

/// The stripe of a key.
fn stripe(key: &Key<'_>) -> usize {
    (key.hash() >> 20) as usize % STRIPES
}

/// The stripes of some keys, in the order in which everybody takes them.
fn stripes<'a>(keys: impl IntoIterator<Item = &'a Key<'a>>) -> Vec<usize> {
    let mut stripes: Vec<usize> = keys.into_iter().map(stripe).collect();
    stripes.sort_unstable();
    stripes.dedup();
    stripes
}

fn texts<'a>(keys: impl IntoIterator<Item = &'a Key<'a>>) -> Vec<Box<str>> {
    keys.into_iter().map(|key| key.text().into()).collect()
}

fn keys(texts: &[Box<str>]) -> Vec<Key<'_>> {
    texts.iter().map(|text| Key::new(text)).collect()
}

/// The methods on one key; those that write hold its stripe.
macro_rules! on_one_key {
    ($($access:ident $method:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {$(
        fn $method<'a>(&'a self, key: &'a Key<'a>, $($arg: $type),*) -> BoxFuture<'a, Result<$output>> {
            let text: Box<str> = key.text().into();
            Box::pin(self.run(on_one_key!(@$access key), move |store| store.$method(&Key::new(&text), $($arg),*)))
        }
    )*};
    (@read $key:ident) => { Vec::new() };
    (@write $key:ident) => { vec![stripe($key)] };
}

#[warn(clippy::missing_trait_methods)]
impl<S: Store> AsyncStore for SpawnBlocking<S> {
    on_one_key! {
        read get() -> Option<Entry>;
        read has() -> bool;
        write set(entry: Entry, ttl: Option<Duration>) -> ();
        write add(entry: Entry, ttl: Option<Duration>) -> bool;
        write increment(by: i64, ttl: Option<Duration>) -> i64;
        write touch(ttl: Option<Duration>) -> bool;
        write delete() -> bool;
    }

    fn get_many<'a>(&'a self, many: &'a [Key<'a>]) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        let texts = texts(many);
        Box::pin(self.run(Vec::new(), move |store| store.get_many(&keys(&texts))))
    }

    fn set_many<'a>(
        &'a self,
        entries: Vec<(Key<'a>, Entry)>,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>> {
        let written = stripes(entries.iter().map(|(key, _)| key));
        let entries: Vec<(Box<str>, Entry)> = entries
            .into_iter()
            .map(|(key, entry)| (key.text().into(), entry))
            .collect();
        Box::pin(self.run(written, move |store| {
            let (texts, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
            store.set_many(keys(&texts).into_iter().zip(entries).collect(), ttl)
        }))
    }

    fn delete_many<'a>(&'a self, many: &'a [Key<'a>]) -> BoxFuture<'a, Result<usize>> {
        let texts = texts(many);
        Box::pin(self.run(stripes(many), move |store| store.delete_many(&keys(&texts))))
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        let prefix = prefix.to_owned();
        let all = (0..STRIPES).collect();
        Box::pin(self.run(all, move |store| store.clear(&prefix)))
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.run(Vec::new(), |store| store.ping()))
    }

    fn form(&self) -> Form {
        self.store.form()
    }

    fn key_rule(&self) -> KeyRule {
        self.store.key_rule()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.store.clock()
    }

    fn evictions(&self) -> u64 {
        self.store.evictions()
    }

    fn coordination(&self) -> Option<Arc<Coordination>> {
        self.store.coordination()
    }

    fn check(&self) -> Result<()> {
        self.store.check()
    }

    fn immediate(&self) -> Option<&dyn Store> {
        None
    }
}
