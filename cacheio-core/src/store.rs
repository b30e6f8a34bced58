//! What a backend is.

pub(crate) mod circuit_breaker;
mod forward;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::WallClock;
use crate::flight::SharedState;
use crate::{Clock, Entry, Error, ErrorKind, Form, Key, KeyRule, Object, Result, SystemClock};

/// The future that an [`AsyncStore`] answers with.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The result of [`Store::get_fast`].
#[derive(Clone, Debug)]
pub enum FastLookup {
    /// A live value without metadata that has to be checked.
    Hit(Arc<dyn Object>),
    /// There may be an entry: [`Store::get`] has to be called.
    Inspect,
    /// There is no entry.
    Absent,
}

fn is_live(entry: &Entry, clock: impl FnOnce() -> Arc<dyn Clock>) -> bool {
    match &entry.meta {
        Some(meta) => meta.is_live(clock().now()),
        None => true,
    }
}

fn default_clock(form: Form) -> Arc<dyn Clock> {
    match form {
        Form::Objects => Arc::new(SystemClock),
        Form::Bytes => Arc::new(WallClock),
    }
}

/// A backend for threads: what keeps the entries.
///
/// A store is dumb. Keys arrive complete (namespace, escaping) and legal by its
/// [`key_rule`](Self::key_rule), values in its [`form`](Self::form), TTLs resolved; single flight,
/// invalidation during loads, codecs and statistics are the cache's affair.
///
/// # Contract
///
/// - An entry is *live* from the `set` that returned until it is replaced, deleted, cleared,
///   evicted, or its TTL is over. No method ever treats an entry that is not live as present.
/// - Each call is atomic: no other call sees half of it. A call on several keys is atomic for each
///   key, and takes one round trip a server.
/// - `ttl` is positive; `None` means for ever.
/// - Methods may block, but not without bound.
/// - An entry with [`meta`](Entry::meta) is live only while its
///   [`is_live`](crate::Meta::is_live) says so too; `get` and `get_many` give it back, with its
///   meta, as long as [it is to be kept](crate::Meta::is_retained) and its TTL lasts. Stores of
///   [`Form::Bytes`] never get meta.
///
/// ```
/// use cacheio::store::{Entry, Form, Key, Store};
/// use cacheio::Result;
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use std::time::{Duration, Instant};
///
/// #[derive(Debug, Default)]
/// struct Map(Mutex<HashMap<String, (Entry, Option<Instant>)>>);
///
/// impl Store for Map {
///     fn form(&self) -> Form {
///         Form::Bytes
///     }
///
///     fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
///         let map = self.0.lock().unwrap();
///         let live = map.get(key.text()).filter(|(_, end)| end.is_none_or(|end| Instant::now() < end));
///         Ok(live.map(|(entry, _)| entry.clone()))
///     }
///
///     fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
///         let end = ttl.map(|ttl| Instant::now() + ttl);
///         self.0.lock().unwrap().insert(key.text().to_owned(), (entry, end));
///         Ok(())
///     }
///
///     fn delete(&self, key: &Key<'_>) -> Result<bool> {
///         let live = self.get(key)?.is_some();
///         self.0.lock().unwrap().remove(key.text());
///         Ok(live)
///     }
///
///     fn clear(&self, prefix: &str) -> Result<()> {
///         self.0.lock().unwrap().retain(|key, _| !key.starts_with(prefix));
///         Ok(())
///     }
/// }
/// ```
///
/// What is left out here ([`add`](Self::add), [`increment`](Self::increment),
/// [`touch`](Self::touch)) needs atomicity that a store must bring itself; by default it is an
/// error of kind [`Unsupported`](ErrorKind::Unsupported).
pub trait Store: Debug + Send + Sync + 'static {
    /// In which form values come and go.
    fn form(&self) -> Form;

    /// The live entry under a key.
    ///
    /// # Errors
    ///
    /// When the store fails; a missing entry is none.
    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>>;

    /// Replaces what is under a key: value, meta and TTL.
    ///
    /// # Errors
    ///
    /// When the store fails; [`ErrorKind::TooLarge`] when it cannot hold the entry, in which case
    /// the old one is gone too.
    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()>;

    /// Removes the entry under a key; whether there was a live one.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn delete(&self, key: &Key<'_>) -> Result<bool>;

    /// Removes all entries whose keys begin with `prefix`, and no others.
    ///
    /// # Errors
    ///
    /// When the store fails. [`ErrorKind::Config`] from a store that others share, when the prefix
    /// is empty: a shared server is never flushed.
    fn clear(&self, prefix: &str) -> Result<()>;

    /// Stores only if there is no live entry; whether it did. Atomic against all other writers.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        let _ = (key, entry, ttl);
        Err(unsupported("add"))
    }

    /// Adds to an integer, atomically; what it is then. A missing one counts from 0 and lives for
    /// `ttl`; a live one keeps its TTL.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`] when the entry is no integer, [`ErrorKind::Overflow`] when it
    /// would leave the range of `i64`, and when the store fails. Nothing is changed then.
    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let _ = (key, by, ttl);
        Err(unsupported("increment"))
    }

    /// Gives a live entry a new TTL; whether there was one.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        let _ = (key, ttl);
        Err(unsupported("touch"))
    }

    /// Whether there is a live entry. No value moves.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn has(&self, key: &Key<'_>) -> Result<bool> {
        let entry = self.get(key)?;
        Ok(entry.is_some_and(|entry| is_live(&entry, || self.clock())))
    }

    /// The live entries under some keys, in their order.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Replaces what is under some keys, the later entry winning.
    ///
    /// # Errors
    ///
    /// When the store fails; some of the entries may be stored then.
    fn set_many(&self, entries: Vec<(Key<'_>, Entry)>, ttl: Option<Duration>) -> Result<()> {
        entries
            .into_iter()
            .try_for_each(|(key, entry)| self.set(&key, entry, ttl))
    }

    /// Removes the entries under some keys; how many live ones went.
    ///
    /// # Errors
    ///
    /// When the store fails; some of the entries may be gone then.
    fn delete_many(&self, keys: &[Key<'_>]) -> Result<usize> {
        keys.iter()
            .try_fold(0, |count, key| Ok(count + usize::from(self.delete(key)?)))
    }

    /// Asks whether the store is there.
    ///
    /// # Errors
    ///
    /// When it is not.
    fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the value under a key in one step, where a store of [`Form::Objects`] can: see
    /// [`FastLookup`]. By default, [`get`](Self::get) is called.
    fn get_fast(&self, key: &Key<'_>) -> FastLookup {
        let _ = key;
        FastLookup::Inspect
    }

    /// Which keys it takes.
    fn key_rule(&self) -> KeyRule {
        match self.form() {
            Form::Objects => KeyRule::Any,
            Form::Bytes => KeyRule::Wire { max: 250 },
        }
    }

    /// The clock that its entries expire by; the cache goes by it too. By default, what clients of
    /// a server share for bytes: Unix time.
    fn clock(&self) -> Arc<dyn Clock> {
        default_clock(self.form())
    }

    /// How many live entries it has dropped to make room.
    fn evictions(&self) -> u64 {
        0
    }

    /// How often it has given up a server for a while, because that did not answer: over all of its
    /// servers.
    fn circuit_opens(&self) -> u64 {
        0
    }

    /// What the caches of this process have to agree on, if several can share this store.
    #[doc(hidden)]
    fn shared_state(&self) -> Option<Arc<SharedState>> {
        None
    }

    /// Returns a view of this store for one namespace, if the store itself keeps namespaces apart.
    /// The keys that a cache passes to a view have no prefix, and `clear("")` clears the namespace.
    #[doc(hidden)]
    fn in_namespace(&self, prefix: &str) -> Option<Arc<dyn Store>> {
        let _ = prefix;
        None
    }

    /// Asked once, when a cache is built on it: whether it was set up sensibly.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when it was not.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

fn unsupported(operation: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("this store has no atomic {operation}"),
    )
}

/// A backend for tasks: as [`Store`], whose contract it shares, but its methods give futures.
///
/// The futures need no particular runtime unless the store says so. Dropping one may leave the
/// operation done or not done, nothing in between.
///
/// A store that never waits implements [`Store`] and gets this trait by [`immediate_store!`]: the
/// cache then calls it directly, and boxes no futures.
///
/// [`immediate_store!`]: crate::immediate_store
pub trait AsyncStore: Debug + Send + Sync + 'static {
    /// As [`Store::form`].
    fn form(&self) -> Form;

    /// As [`Store::get`].
    fn get<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>>;

    /// As [`Store::set`].
    fn set<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>>;

    /// As [`Store::delete`].
    fn delete<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>>;

    /// As [`Store::clear`].
    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>>;

    /// As [`Store::add`].
    fn add<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool>> {
        let _ = (key, entry, ttl);
        Box::pin(async { Err(unsupported("add")) })
    }

    /// As [`Store::increment`].
    fn increment<'a>(
        &'a self,
        key: &'a Key<'a>,
        by: i64,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<i64>> {
        let _ = (key, by, ttl);
        Box::pin(async { Err(unsupported("increment")) })
    }

    /// As [`Store::touch`].
    fn touch<'a>(&'a self, key: &'a Key<'a>, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool>> {
        let _ = (key, ttl);
        Box::pin(async { Err(unsupported("touch")) })
    }

    /// As [`Store::has`].
    fn has<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let entry = self.get(key).await?;
            Ok(entry.is_some_and(|entry| is_live(&entry, || self.clock())))
        })
    }

    /// As [`Store::get_many`].
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        Box::pin(async move {
            let mut entries = Vec::with_capacity(keys.len());
            for key in keys {
                entries.push(self.get(key).await?);
            }
            Ok(entries)
        })
    }

    /// As [`Store::set_many`].
    fn set_many<'a>(
        &'a self,
        entries: Vec<(Key<'a>, Entry)>,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for (key, entry) in entries {
                self.set(&key, entry, ttl).await?;
            }
            Ok(())
        })
    }

    /// As [`Store::delete_many`].
    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<usize>> {
        Box::pin(async move {
            let mut count = 0;
            for key in keys {
                count += usize::from(self.delete(key).await?);
            }
            Ok(count)
        })
    }

    /// As [`Store::ping`].
    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// As [`Store::key_rule`].
    fn key_rule(&self) -> KeyRule {
        match self.form() {
            Form::Objects => KeyRule::Any,
            Form::Bytes => KeyRule::Wire { max: 250 },
        }
    }

    /// As [`Store::clock`].
    fn clock(&self) -> Arc<dyn Clock> {
        default_clock(self.form())
    }

    /// As [`Store::evictions`].
    fn evictions(&self) -> u64 {
        0
    }

    /// As [`Store::circuit_opens`].
    fn circuit_opens(&self) -> u64 {
        0
    }

    /// What the caches of this process have to agree on, if several can share this store.
    #[doc(hidden)]
    fn shared_state(&self) -> Option<Arc<SharedState>> {
        None
    }

    /// As [`Store::check`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when it was not set up sensibly.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The same store for threads, if it never waits for anything: the cache then calls that, and
    /// boxes no futures.
    fn immediate(&self) -> Option<&dyn Store> {
        None
    }
}
