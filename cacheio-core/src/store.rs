//! The traits of stores.

mod async_store;
pub(crate) mod circuit_breaker;
mod claim;
pub(crate) mod concurrency_limit;
mod defaults;
mod failing;
mod forward;
mod listing;
mod null;
mod server;
pub(crate) mod store_time;

use std::any::TypeId;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

pub use self::async_store::{AsyncStore, BoxFuture};
pub use self::claim::{Claim, ClaimMode, Claimed, Settled, Settlement, SharedLoads};
use self::defaults::{default_clock, is_live};
pub use self::failing::FailingStore;
pub use self::listing::{ScanPage, Usage};
pub use self::null::Null;
pub use self::server::Server;
use crate::flight::SharedState;
use crate::{
    Clock, Entry, Error, ErrorKind, Form, Key, KeyRule, Object, Replacement, Result, TtlChange,
};

/// Why [`Store::get_fast`] returns no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FastMiss {
    /// There may be an entry: [`Store::get`] has to be called.
    Inspect,
    /// There is no entry.
    Absent,
}

/// Keeps the entries of a cache, with methods that block the calling thread.
///
/// The cache does everything but the storage: keys arrive with their namespace and obey
/// [`key_rule`](Self::key_rule), values arrive in the [`form`](Self::form) of the store, and TTLs are
/// resolved. Single flight, invalidation during loads, codecs and statistics are not the concern of a
/// store.
///
/// # Contract
///
/// - An entry is *live* from the time when `set` returns until it is replaced, deleted, cleared or
///   evicted, or its TTL ends. No method treats an entry that is not live as present.
/// - Each call is atomic: no other call sees an intermediate state. A call on several keys is atomic
///   for each key, and takes one round trip per server.
/// - `ttl` is greater than zero. `None` means forever.
/// - Methods may block, but only for a limited time.
/// - A store of [`Form::Objects`] may get entries with [metadata](Entry::meta). Such an entry is live
///   only while [`Meta::is_live`](crate::Meta::is_live) is true too. `get` and `get_many` return it
///   also when it is not, as long as its TTL lasts and
///   [`Meta::is_retained`](crate::Meta::is_retained) is true.
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
///         // An entry whose TTL is too long for the clock never expires.
///         let end = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
///         self.0.lock().unwrap().insert(key.text().to_owned(), (entry, end));
///         Ok(())
///     }
///
///     fn delete(&self, key: &Key<'_>) -> Result<bool> {
///         let removed = self.0.lock().unwrap().remove(key.text());
///         Ok(removed.is_some_and(|(_, end)| end.is_none_or(|end| Instant::now() < end)))
///     }
///
///     fn clear(&self, prefix: &str) -> Result<()> {
///         self.0.lock().unwrap().retain(|key, _| !key.starts_with(prefix));
///         Ok(())
///     }
/// }
/// ```
///
/// This store does not support [`add`](Self::add), [`increment`](Self::increment), [`touch`](Self::touch),
/// [`take`](Self::take) and [`compare_and_swap`](Self::compare_and_swap). By default, these methods return
/// an error of kind [`Unsupported`](ErrorKind::Unsupported), because only the store can make them atomic. So do
/// [`scan`](Self::scan) and [`usage`](Self::usage): only the store knows its keys. A
/// cache needs `compare_and_swap` for `update`, `scan` for `keys`, and for `ttl` and `entries` an implementation of
/// [`get_with_ttls`](Self::get_with_ttls) that knows the TTLs. All other operations of a cache work without
/// them. A store of [`Form::Bytes`] should implement `compare_and_swap` or [`replace`](Self::replace), which is
/// not atomic otherwise.
pub trait Store: Debug + Send + Sync + 'static {
    /// Returns the form of the values that the store keeps.
    fn form(&self) -> Form;

    /// Returns the live entry of a key.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails; a missing entry is not an error.
    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>>;

    /// Stores an entry, and replaces the value, the metadata and the TTL of an existing one.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::TooLarge`] when the store cannot hold the entry, and removes the existing
    /// one; another error when the store fails.
    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()>;

    /// Removes the entry of a key. Returns whether it was live.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    fn delete(&self, key: &Key<'_>) -> Result<bool>;

    /// Removes the entries whose keys begin with `prefix`, and no others.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`] when the prefix is empty and other programs may share the server,
    /// which is never flushed; another error when the store fails.
    fn clear(&self, prefix: &str) -> Result<()>;

    /// Stores an entry if there is no live one, atomically with respect to all other writers. Returns
    /// whether it was stored.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        let _ = (key, entry, ttl);
        Err(unsupported("add"))
    }

    /// Adds to an integer atomically, and returns the sum. Without a live entry, the integer starts at
    /// 0 and lives for `ttl`; a live one keeps its TTL.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::WrongType`] when the entry is not an integer, [`ErrorKind::Overflow`] when
    /// the sum is not an `i64`, and another error when the store fails. Then nothing changes.
    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let _ = (key, by, ttl);
        Err(unsupported("increment"))
    }

    /// Sets the TTL of a live entry, from now on. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        let _ = (key, ttl);
        Err(unsupported("touch"))
    }

    /// Removes the entry of a key, and returns it if it was live. Of several callers, one gets it.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails. Then the entry may have been removed.
    fn take(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let _ = key;
        Err(unsupported("take"))
    }

    /// Changes what a key holds if that is still `current`, which [`get`](Self::get) returned; `None` if it returned
    /// nothing, because there was no entry, or only one whose TTL has ended or whose metadata says that it need not be
    /// kept. Returns whether it was. `new` is the entry that is stored, and how long it lives; without one, the entry
    /// is removed. Without both, nothing changes, but it is a write, which ends [claims](Self::claim).
    ///
    /// [`Entry::is_same`] compares entries. A store that recognizes the [`version`](Entry::version) of an entry
    /// may compare that.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::TooLarge`] when the store cannot hold the new entry, and may remove the existing
    /// one; another error when the store fails. Then the change may have been made.
    fn compare_and_swap(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        let _ = (key, current, new);
        Err(unsupported("update"))
    }

    /// Replaces an entry if it is still the one that was read. Returns whether it was.
    ///
    /// A cache calls this only on a store of [`Form::Bytes`], with an entry that
    /// [`get`](Self::get) or [`get_many`](Self::get_many) returned and that has a header: for `touch`,
    /// `increment` and `add`, and to record failed loads and reads under `ttl_idle`. A key holds the same entry if its
    /// bytes are the same, or if the store recognizes its [`version`](Entry::version).
    ///
    /// By default, this calls [`compare_and_swap`](Self::compare_and_swap). If the store does not support that, it
    /// reads the entry again and sets the new one. That is not atomic: if another client deletes or sets the entry
    /// in between, that is undone.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    fn replace(&self, key: &Key<'_>, replacement: Replacement) -> Result<bool> {
        let (current, new) = replacement.clone().swap();
        match self.compare_and_swap(key, current, new) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            swapped => return swapped,
        }
        let found = self.get(key)?;
        let is_same = found.is_some_and(|entry| replacement.replaces(&entry));
        if is_same {
            let ttl = replacement.ttl_to_set(self.clock().now())?;
            self.set(key, replacement.new, ttl)?;
        }
        Ok(is_same)
    }

    /// Replaces entries of several keys like [`replace`](Self::replace): each only if it is still the
    /// one that was read.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails; some of the entries may be replaced.
    fn replace_many(&self, replacements: Vec<(Key<'_>, Replacement)>) -> Result<()> {
        replacements
            .into_iter()
            .try_for_each(|(key, replacement)| self.replace(&key, replacement).map(drop))
    }

    /// Returns whether there is a live entry, without transferring its value.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    fn has(&self, key: &Key<'_>) -> Result<bool> {
        let entry = self.get(key)?;
        Ok(entry.is_some_and(|entry| is_live(&entry, || self.clock())))
    }

    /// Returns the live entries of several keys, in the order of the keys.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Returns the live entries of several keys like [`get_many`](Self::get_many), each with how long the
    /// store keeps it, in [`Entry::left`]. It takes as many round trips as `get_many`.
    ///
    /// A cache with L1 calls it instead of [`get`](Self::get) and `get_many`, so that no copy in L1 outlives
    /// its entry. Every cache calls it for `ttl`. By default, this calls `get_many`, which does not tell the TTLs:
    /// then a copy may outlive its entry by as much as the cache accepts, and `ttl` is not supported.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    fn get_with_ttls(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        self.get_many(keys)
    }

    /// Stores several entries, each with its TTL. If a key occurs twice, its last entry is stored.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails; some of the entries may be stored.
    fn set_many(&self, entries: Vec<(Key<'_>, Entry, Option<Duration>)>) -> Result<()> {
        entries
            .into_iter()
            .try_for_each(|(key, entry, ttl)| self.set(&key, entry, ttl))
    }

    /// Removes the entries of several keys. Returns how many were live.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails; some of the entries may be removed.
    fn delete_many(&self, keys: &[Key<'_>]) -> Result<usize> {
        keys.iter()
            .try_fold(0, |count, key| Ok(count + usize::from(self.delete(key)?)))
    }

    /// Claims the loads of several keys, so that one process at a time loads each of them. Returns who
    /// loads each key, in the order of the keys.
    ///
    /// Caches call this before they load a missing key, if the store
    /// [shares loads](Self::shared_loads). Until the claim is [settled](Self::settle) or dropped, no other
    /// process may get one, unless this process no longer responds. A write of the key ([`set`](Self::set),
    /// [`add`](Self::add), [`delete`](Self::delete), [`increment`](Self::increment), [`take`](Self::take),
    /// [`compare_and_swap`](Self::compare_and_swap), [`clear`](Self::clear)) ends the claims that were made
    /// before it began, whichever process makes it.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails. Then the values of the loads are not stored, because writes
    /// of other processes could not prevent it.
    fn claim(&self, keys: &[Key<'_>], mode: ClaimMode) -> Result<Vec<Claimed>> {
        let _ = mode;
        Ok(keys.iter().map(|_| Claimed::Unsupported).collect())
    }

    /// Ends claims. Stores the entry of a load only if its claim has not ended, and if the entry that
    /// was there when the key was claimed has not changed. Returns for each claim whether the store
    /// stored or removed the entry.
    ///
    /// After a load that left no new entry, the next callers load without waiting for each other.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails; some of the entries may be stored.
    fn settle(&self, loads: Vec<Settlement<'_>>) -> Result<Vec<bool>> {
        let _ = loads;
        Err(unsupported("settle"))
    }

    /// Returns keys that begin with `prefix`, and no others: a part of them, from a position on. `None` is the
    /// beginning; the other positions are those that the store has returned as [`ScanPage::next`] for this prefix. The
    /// caller needs about `max` keys more. A part may have more or fewer, or none at all.
    ///
    /// All parts together have each key that is there during the whole scan. They may have keys without a live entry. They
    /// may have a key twice, except for a store of [`Form::Objects`] if `max` is [`usize::MAX`]. Each part takes a limited
    /// time, and no lock or connection is held between two parts.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`] when the prefix is empty and other programs may share the server; another error
    /// when the store fails.
    fn scan(&self, prefix: &str, from: Option<String>, max: usize) -> Result<ScanPage> {
        let _ = (prefix, from, max);
        Err(unsupported("keys"))
    }

    /// Returns the number and the weight of the live entries whose keys begin with `prefix`. A cache calls this only
    /// on a store of [`Form::Objects`].
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails.
    fn usage(&self, prefix: &str) -> Result<Usage> {
        let _ = prefix;
        Err(unsupported("len"))
    }

    /// Checks that the store can be reached.
    ///
    /// # Errors
    ///
    /// Returns an error when it cannot.
    fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Looks up a value in one step, for stores of [`Form::Objects`]: a live value whose metadata need
    /// not be checked. The result fits into two registers.
    ///
    /// # Errors
    ///
    /// Returns [`FastMiss`] when there is no such value. By default the cache calls
    /// [`get`](Self::get) instead.
    fn get_fast(&self, key: &Key<'_>) -> Result<Arc<dyn Object>, FastMiss> {
        let _ = key;
        Err(FastMiss::Inspect)
    }

    /// Does the same as [`get_fast`](Self::get_fast) for a value of this type, and returns the
    /// [word](Object::word) of the value.
    #[doc(hidden)]
    fn get_word(&self, key: &Key<'_>, stored: TypeId) -> Result<u64, FastMiss> {
        let object = self.get_fast(key)?;
        match (*object).type_id() == stored {
            true => Ok(object.word()),
            false => Err(FastMiss::Inspect),
        }
    }

    /// Does what has become due, such as the removal of expired entries, and may call code of the user. A cache calls
    /// this in a read that may call nothing else but [`get`](Self::get), which it also calls while it leads a load.
    #[doc(hidden)]
    fn maintain(&self) {}

    /// Returns which keys the store can hold. The cache replaces other keys.
    fn key_rule(&self) -> KeyRule {
        match self.form() {
            Form::Objects => KeyRule::Any,
            Form::Bytes => KeyRule::Wire { max: 250 },
        }
    }

    /// Returns whether processes share loads through this store, which takes [`claim`](Self::claim) and
    /// [`settle`](Self::settle).
    fn shared_loads(&self) -> SharedLoads {
        SharedLoads::Unsupported
    }

    /// Returns the clock by which entries expire, in the store and in the cache. By default, this is
    /// Unix time for a store of [`Form::Bytes`], because the clients of a server share it.
    fn clock(&self) -> Arc<dyn Clock> {
        default_clock(self.form())
    }

    /// Returns how many live entries the store has evicted to make room.
    fn evictions(&self) -> u64 {
        0
    }

    /// Returns how often a circuit opened, because a server did not respond: the sum over all servers.
    fn circuit_opens(&self) -> u64 {
        0
    }

    /// Returns the server of the store. If there is one, caches make a tracing span for each operation that
    /// they call, see the [guide](https://docs.rs/cacheio/latest/cacheio/guide/metrics/).
    fn server(&self) -> Option<Server> {
        None
    }

    /// Returns the state that all caches on this store in the process share.
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

    /// Checks the configuration of the store. Called once, when a cache is built.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`] when a setting is invalid.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

fn unsupported(operation: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("this store does not support `{operation}`"),
    )
}
