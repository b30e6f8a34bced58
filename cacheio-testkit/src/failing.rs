//! A store that fails on demand.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cacheio_core::{
    AsyncStore, BoxFuture, Clock, Entry, Error, ErrorKind, Form, Key, KeyRule, Replacement, Result,
    ScanPage, Store, TtlChange, Usage,
};

/// A store that fails while its [`Faults`] are on.
#[derive(Debug)]
pub struct Failing<S> {
    store: S,
    faults: Arc<Faults>,
}

impl<S> Failing<S> {
    /// Wraps a store, which works until the faults are switched on.
    pub fn new(store: S) -> (Self, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        let failing = Self {
            store,
            faults: Arc::clone(&faults),
        };
        (failing, faults)
    }
}

/// Switches for the faults of a [`Failing`] store.
#[derive(Debug, Default)]
pub struct Faults {
    reads: AtomicBool,
    writes: AtomicBool,
}

impl Faults {
    /// Switches the failure of reads on or off.
    pub fn fail_reads(&self, fail: bool) {
        self.reads.store(fail, Ordering::SeqCst);
    }

    /// Switches the failure of writes on or off.
    pub fn fail_writes(&self, fail: bool) {
        self.writes.store(fail, Ordering::SeqCst);
    }

    /// Switches all failures on or off.
    pub fn fail_all(&self, fail: bool) {
        self.fail_reads(fail);
        self.fail_writes(fail);
    }

    fn check_read(&self) -> Result<()> {
        check(&self.reads)
    }

    fn check_write(&self) -> Result<()> {
        check(&self.writes)
    }
}

fn check(fails: &AtomicBool) -> Result<()> {
    if fails.load(Ordering::SeqCst) {
        return Err(
            Error::new(ErrorKind::Unavailable, "the server cannot be reached")
                .with_source("it was unplugged"),
        );
    }
    Ok(())
}

impl<S: Store> Store for Failing<S> {
    fn form(&self) -> Form {
        self.store.form()
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        self.faults.check_read()?;
        self.store.get(key)
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        self.faults.check_write()?;
        self.store.set(key, entry, ttl)
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        self.faults.check_write()?;
        self.store.delete(key)
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.faults.check_write()?;
        self.store.clear(prefix)
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        self.faults.check_write()?;
        self.store.add(key, entry, ttl)
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        self.faults.check_write()?;
        self.store.increment(key, by, ttl)
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        self.faults.check_write()?;
        self.store.touch(key, ttl)
    }

    fn take(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        self.faults.check_write()?;
        self.store.take(key)
    }

    fn compare_and_swap(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        self.faults.check_write()?;
        self.store.compare_and_swap(key, current, new)
    }

    fn replace(&self, key: &Key<'_>, replacement: Replacement) -> Result<bool> {
        self.faults.check_write()?;
        self.store.replace(key, replacement)
    }

    fn replace_many(&self, replacements: Vec<(Key<'_>, Replacement)>) -> Result<()> {
        self.faults.check_write()?;
        self.store.replace_many(replacements)
    }

    fn has(&self, key: &Key<'_>) -> Result<bool> {
        self.faults.check_read()?;
        self.store.has(key)
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        self.faults.check_read()?;
        self.store.get_many(keys)
    }

    fn get_with_ttls(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        self.faults.check_read()?;
        self.store.get_with_ttls(keys)
    }

    fn set_many(&self, entries: Vec<(Key<'_>, Entry, Option<Duration>)>) -> Result<()> {
        self.faults.check_write()?;
        self.store.set_many(entries)
    }

    fn delete_many(&self, keys: &[Key<'_>]) -> Result<usize> {
        self.faults.check_write()?;
        self.store.delete_many(keys)
    }

    fn scan(&self, prefix: &str, from: Option<String>, max: usize) -> Result<ScanPage> {
        self.faults.check_read()?;
        self.store.scan(prefix, from, max)
    }

    fn usage(&self, prefix: &str) -> Result<Usage> {
        self.faults.check_read()?;
        self.store.usage(prefix)
    }

    fn ping(&self) -> Result<()> {
        self.faults.check_read()?;
        self.store.ping()
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

    fn circuit_opens(&self) -> u64 {
        self.store.circuit_opens()
    }

    fn check(&self) -> Result<()> {
        self.store.check()
    }
}

impl<S: AsyncStore> AsyncStore for Failing<S> {
    fn form(&self) -> Form {
        self.store.form()
    }

    fn get<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        match self.faults.check_read() {
            Ok(()) => self.store.get(key),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn set<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>> {
        match self.faults.check_write() {
            Ok(()) => self.store.set(key, entry, ttl),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn delete<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        match self.faults.check_write() {
            Ok(()) => self.store.delete(key),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        match self.faults.check_write() {
            Ok(()) => self.store.clear(prefix),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn add<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool>> {
        match self.faults.check_write() {
            Ok(()) => self.store.add(key, entry, ttl),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn increment<'a>(
        &'a self,
        key: &'a Key<'a>,
        by: i64,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<i64>> {
        match self.faults.check_write() {
            Ok(()) => self.store.increment(key, by, ttl),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn touch<'a>(&'a self, key: &'a Key<'a>, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool>> {
        match self.faults.check_write() {
            Ok(()) => self.store.touch(key, ttl),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn take<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        match self.faults.check_write() {
            Ok(()) => self.store.take(key),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn compare_and_swap<'a>(
        &'a self,
        key: &'a Key<'a>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> BoxFuture<'a, Result<bool>> {
        match self.faults.check_write() {
            Ok(()) => self.store.compare_and_swap(key, current, new),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn replace<'a>(
        &'a self,
        key: &'a Key<'a>,
        replacement: Replacement,
    ) -> BoxFuture<'a, Result<bool>> {
        match self.faults.check_write() {
            Ok(()) => self.store.replace(key, replacement),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn replace_many<'a>(
        &'a self,
        replacements: Vec<(Key<'a>, Replacement)>,
    ) -> BoxFuture<'a, Result<()>> {
        match self.faults.check_write() {
            Ok(()) => self.store.replace_many(replacements),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn has<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        match self.faults.check_read() {
            Ok(()) => self.store.has(key),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn get_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        match self.faults.check_read() {
            Ok(()) => self.store.get_many(keys),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn get_with_ttls<'a>(
        &'a self,
        keys: &'a [Key<'a>],
    ) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        match self.faults.check_read() {
            Ok(()) => self.store.get_with_ttls(keys),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn set_many<'a>(
        &'a self,
        entries: Vec<(Key<'a>, Entry, Option<Duration>)>,
    ) -> BoxFuture<'a, Result<()>> {
        match self.faults.check_write() {
            Ok(()) => self.store.set_many(entries),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<usize>> {
        match self.faults.check_write() {
            Ok(()) => self.store.delete_many(keys),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        from: Option<String>,
        max: usize,
    ) -> BoxFuture<'a, Result<ScanPage>> {
        match self.faults.check_read() {
            Ok(()) => self.store.scan(prefix, from, max),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn usage<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Usage>> {
        match self.faults.check_read() {
            Ok(()) => self.store.usage(prefix),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        match self.faults.check_read() {
            Ok(()) => self.store.ping(),
            Err(error) => Box::pin(ready(Err(error))),
        }
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

    fn circuit_opens(&self) -> u64 {
        self.store.circuit_opens()
    }

    fn check(&self) -> Result<()> {
        self.store.check()
    }
}
