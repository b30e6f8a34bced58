//! A store for tasks that suspends.

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::{
    AsyncStore, BoxFuture, Clock, Entry, Form, Key, KeyRule, Replacement, Result, ScanPage, Store,
    TtlChange, Usage,
};
use cacheio_testkit::world::pause;

/// A store for tasks that suspends before and after each operation.
#[derive(Debug)]
pub struct Yielding<S>(pub S);

fn suspending<'a, T: Send + 'a>(operation: impl FnOnce() -> T + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(async {
        pause().await;
        let result = operation();
        pause().await;
        result
    })
}

impl<S: Store> AsyncStore for Yielding<S> {
    fn form(&self) -> Form {
        self.0.form()
    }

    fn get<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        suspending(move || self.0.get(key))
    }

    fn set<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>> {
        suspending(move || self.0.set(key, entry, ttl))
    }

    fn delete<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        suspending(move || self.0.delete(key))
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        suspending(move || self.0.clear(prefix))
    }

    fn add<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool>> {
        suspending(move || self.0.add(key, entry, ttl))
    }

    fn increment<'a>(
        &'a self,
        key: &'a Key<'a>,
        by: i64,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<i64>> {
        suspending(move || self.0.increment(key, by, ttl))
    }

    fn touch<'a>(&'a self, key: &'a Key<'a>, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool>> {
        suspending(move || self.0.touch(key, ttl))
    }

    fn take<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        suspending(move || self.0.take(key))
    }

    fn compare_and_swap<'a>(
        &'a self,
        key: &'a Key<'a>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> BoxFuture<'a, Result<bool>> {
        suspending(move || self.0.compare_and_swap(key, current, new))
    }

    fn replace<'a>(
        &'a self,
        key: &'a Key<'a>,
        replacement: Replacement,
    ) -> BoxFuture<'a, Result<bool>> {
        suspending(move || self.0.replace(key, replacement))
    }

    fn replace_many<'a>(
        &'a self,
        replacements: Vec<(Key<'a>, Replacement)>,
    ) -> BoxFuture<'a, Result<()>> {
        suspending(move || self.0.replace_many(replacements))
    }

    fn has<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        suspending(move || self.0.has(key))
    }

    fn get_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        suspending(move || self.0.get_many(keys))
    }

    fn get_with_ttls<'a>(
        &'a self,
        keys: &'a [Key<'a>],
    ) -> BoxFuture<'a, Result<Vec<Option<Entry>>>> {
        suspending(move || self.0.get_with_ttls(keys))
    }

    fn set_many<'a>(
        &'a self,
        entries: Vec<(Key<'a>, Entry, Option<Duration>)>,
    ) -> BoxFuture<'a, Result<()>> {
        suspending(move || self.0.set_many(entries))
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>]) -> BoxFuture<'a, Result<usize>> {
        suspending(move || self.0.delete_many(keys))
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        from: Option<String>,
        max: usize,
    ) -> BoxFuture<'a, Result<ScanPage>> {
        suspending(move || self.0.scan(prefix, from, max))
    }

    fn usage<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Usage>> {
        suspending(move || self.0.usage(prefix))
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        suspending(|| self.0.ping())
    }

    fn key_rule(&self) -> KeyRule {
        self.0.key_rule()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.0.clock()
    }

    fn evictions(&self) -> u64 {
        self.0.evictions()
    }

    fn circuit_opens(&self) -> u64 {
        self.0.circuit_opens()
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}
