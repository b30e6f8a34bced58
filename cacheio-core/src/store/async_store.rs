//! The trait of stores for tasks.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::defaults::{default_clock, is_live};
use super::{
    ClaimMode, Claimed, ScanPage, Server, Settlement, SharedLoads, Store, Usage, unsupported,
};
use crate::flight::SharedState;
use crate::{Clock, Entry, ErrorKind, Form, Key, KeyRule, Replacement, Result, TtlChange};

/// The future of an operation of an [`AsyncStore`].
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Keeps the entries of a cache, with methods that return futures.
///
/// The contract is that of [`Store`]. If a future is dropped, its operation has happened or not: there
/// is no intermediate state. A store that needs a particular runtime documents it.
///
/// For a store that never waits, implement [`Store`], and this trait with [`immediate_store!`]: the
/// cache then calls it without boxing futures.
///
/// [`immediate_store!`]: crate::immediate_store
pub trait AsyncStore: Debug + Send + Sync + 'static {
    /// Does the same as [`Store::form`].
    fn form(&self) -> Form;

    /// Does the same as [`Store::get`].
    fn get<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>>;

    /// Does the same as [`Store::set`].
    fn set<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>>;

    /// Does the same as [`Store::delete`].
    fn delete<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>>;

    /// Does the same as [`Store::clear`].
    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Does the same as [`Store::add`].
    fn add<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool>> {
        let _ = (key, entry, ttl);
        Box::pin(async { Err(unsupported("add")) })
    }

    /// Does the same as [`Store::increment`].
    fn increment<'a>(
        &'a self,
        key: &'a Key<'a>,
        by: i64,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<i64>> {
        let _ = (key, by, ttl);
        Box::pin(async { Err(unsupported("increment")) })
    }

    /// Does the same as [`Store::touch`].
    fn touch<'a>(&'a self, key: &'a Key<'a>, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool>> {
        let _ = (key, ttl);
        Box::pin(async { Err(unsupported("touch")) })
    }

    /// Does the same as [`Store::take`].
    fn take<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        let _ = key;
        Box::pin(async { Err(unsupported("take")) })
    }

    /// Does the same as [`Store::compare_and_swap`].
    fn compare_and_swap<'a>(
        &'a self,
        key: &'a Key<'a>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> BoxFuture<'a, Result<bool>> {
        let _ = (key, current, new);
        Box::pin(async { Err(unsupported("update")) })
    }

    /// Does the same as [`Store::replace`].
    fn replace<'a>(
        &'a self,
        key: &'a Key<'a>,
        replacement: Replacement,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let (current, new) = replacement.clone().swap();
            match self.compare_and_swap(key, current, new).await {
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                swapped => return swapped,
            }
            let found = self.get(key).await?;
            let is_same = found.is_some_and(|entry| replacement.replaces(&entry));
            if is_same {
                let ttl = replacement.ttl_to_set(self.clock().now())?;
                self.set(key, replacement.new, ttl).await?;
            }
            Ok(is_same)
        })
    }

    /// Does the same as [`Store::replace_many`].
    fn replace_many<'a>(
        &'a self,
        replacements: Vec<(Key<'a>, Replacement)>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for (key, replacement) in replacements {
                self.replace(&key, replacement).await?;
            }
            Ok(())
        })
    }

    /// Does the same as [`Store::has`].
    fn has<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let entry = self.get(key).await?;
            Ok(entry.is_some_and(|entry| is_live(&entry, || self.clock())))
        })
    }

    /// Does the same as [`Store::get_many`].
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        Box::pin(async move {
            let mut entries = Vec::with_capacity(keys.len());
            for key in keys {
                entries.push(self.get(key).await?);
            }
            Ok(entries)
        })
    }

    /// Does the same as [`Store::get_with_ttls`].
    fn get_with_ttls<'a>(
        &'a self,
        keys: &'a [Key<'a>],
    ) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        self.get_many(keys)
    }

    /// Does the same as [`Store::set_many`].
    fn set_many<'a>(
        &'a self,
        entries: Vec<(Key<'a>, Entry, Option<Duration>)>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for (key, entry, ttl) in entries {
                self.set(&key, entry, ttl).await?;
            }
            Ok(())
        })
    }

    /// Does the same as [`Store::delete_many`].
    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<usize>> {
        Box::pin(async move {
            let mut count = 0;
            for key in keys {
                count += usize::from(self.delete(key).await?);
            }
            Ok(count)
        })
    }

    /// Does the same as [`Store::claim`].
    fn claim<'a>(
        &'a self,
        keys: &'a [Key<'a>],
        mode: ClaimMode,
    ) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        let _ = mode;
        Box::pin(async { Ok(keys.iter().map(|_| Claimed::Unsupported).collect()) })
    }

    /// Does the same as [`Store::settle`].
    fn settle<'a>(&'a self, loads: Vec<Settlement<'a>>) -> BoxFuture<'a, Result<Vec<bool>>> {
        let _ = loads;
        Box::pin(async { Err(unsupported("settle")) })
    }

    /// Does the same as [`Store::scan`].
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        from: Option<String>,
        max: usize,
    ) -> BoxFuture<'a, Result<ScanPage>> {
        let _ = (prefix, from, max);
        Box::pin(async { Err(unsupported("keys")) })
    }

    /// Does the same as [`Store::usage`].
    fn usage<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Usage>> {
        let _ = prefix;
        Box::pin(async { Err(unsupported("len")) })
    }

    /// Does the same as [`Store::ping`].
    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// Does the same as [`Store::key_rule`].
    fn key_rule(&self) -> KeyRule {
        match self.form() {
            Form::Objects => KeyRule::Any,
            Form::Bytes => KeyRule::Wire { max: 250 },
        }
    }

    /// Does the same as [`Store::shared_loads`].
    fn shared_loads(&self) -> SharedLoads {
        SharedLoads::Unsupported
    }

    /// Does the same as [`Store::clock`].
    fn clock(&self) -> Arc<dyn Clock> {
        default_clock(self.form())
    }

    /// Does the same as [`Store::evictions`].
    fn evictions(&self) -> u64 {
        0
    }

    /// Does the same as [`Store::circuit_opens`].
    fn circuit_opens(&self) -> u64 {
        0
    }

    /// Does the same as [`Store::server`].
    fn server(&self) -> Option<Server> {
        None
    }

    /// Returns the state that all caches on this store in the process share.
    #[doc(hidden)]
    fn shared_state(&self) -> Option<Arc<SharedState>> {
        None
    }

    /// Does the same as [`Store::check`].
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`] when a setting is invalid.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Returns this store as a [`Store`], if it never waits: the cache then calls it without boxing
    /// futures.
    fn immediate(&self) -> Option<&dyn Store> {
        None
    }
}
