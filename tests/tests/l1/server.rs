//! A server whose requests the test can hold back, and which it lets tell of changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use cacheio_core::__private::{RemovedCopies, SharedState};
use cacheio_core::{
    Clock, Entry, Error, ErrorKind, Form, Key, KeyRule, ManualClock, Replacement, Result, Store,
    TtlChange,
};
use cacheio_sync::{Cache, L1, Memory};
use cacheio_tests::fixture::{TestEnv, Time};
use cacheio_tests::stores::{self, Bytes};

/// Where requests wait while it is closed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    held: usize,
}

impl Gate {
    /// Holds back the next requests.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap().is_closed = true;
    }

    /// Lets the requests that follow pass, while those of before are still held.
    pub(crate) fn let_others_pass(&self) {
        self.state.lock().unwrap().is_closed = false;
    }

    pub(crate) fn wait_until_held(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |state| state.held < count);
        drop(state.unwrap());
    }

    pub(crate) fn open(&self) {
        *self.state.lock().unwrap() = State::default();
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if state.is_closed {
            state.held += 1;
            self.changed.notify_all();
            let passed = self.changed.wait_while(state, |state| state.held > 0);
            drop(passed.unwrap());
        }
    }
}

/// A server for the caches of one process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) entries: Bytes,
    pub(crate) clock: Arc<ManualClock>,
    /// Where the answers to reads wait: the server has executed the reads by then.
    pub(crate) answers: Gate,
    /// Where writes wait before they are executed.
    pub(crate) writes: Gate,
    /// Whether the answers to writes are lost: they are executed, and their callers get an error.
    loses_answers: AtomicBool,
    /// Whether it tells of changes of what is read.
    tells: AtomicBool,
    pub(crate) shared: Arc<SharedState>,
}

impl Server {
    pub(crate) fn new() -> Arc<Self> {
        let clock = Arc::new(ManualClock::new());
        let env = TestEnv::new(Time::Manual(Arc::clone(&clock)));
        Arc::new(Self {
            entries: stores::bytes(&env),
            clock,
            answers: Gate::default(),
            writes: Gate::default(),
            loses_answers: AtomicBool::new(false),
            tells: AtomicBool::new(false),
            shared: Arc::default(),
        })
    }

    pub(crate) fn open(self: &Arc<Self>) -> Cache {
        self.open_with(Memory::with_capacity(100))
    }

    pub(crate) fn open_with(self: &Arc<Self>, l1: impl Into<L1>) -> Cache {
        let cache = Cache::builder().store(Arc::clone(self));
        cache.l1(l1).build().unwrap()
    }

    pub(crate) fn lose_answers(&self, lose: bool) {
        self.loses_answers.store(lose, Ordering::SeqCst);
    }

    /// Tells of changes from now on, and is heard.
    pub(crate) fn tell(&self) -> RemovedCopies {
        self.tells.store(true, Ordering::SeqCst);
        self.shared.heard(Instant::now())
    }

    /// Stores an integer as another process does.
    pub(crate) fn set_elsewhere(&self, key: &str, value: i64) {
        let (key, value) = (format!("cacheio:{key}"), value.to_string());
        let entry = Entry::bytes(value.into_bytes());
        self.entries.set(&Key::new(&key), entry, None).unwrap();
    }

    fn write<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        self.writes.pass();
        let written = write();
        match self.loses_answers.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Timeout, "the answer was lost")),
            false => written,
        }
    }
}

impl Store for Server {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        self.entries.get(key)
    }

    fn get_with_ttls(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        let mut entries = self.entries.get_with_ttls(keys)?;
        for entry in entries.iter_mut().flatten() {
            entry.is_watched = self.tells.load(Ordering::SeqCst);
        }
        self.answers.pass();
        Ok(entries)
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        self.write(|| self.entries.set(key, entry, ttl))
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        self.write(|| self.entries.delete(key))
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.write(|| self.entries.clear(prefix))
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        self.write(|| self.entries.add(key, entry, ttl))
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        self.write(|| self.entries.increment(key, by, ttl))
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        self.write(|| self.entries.touch(key, ttl))
    }

    fn replace(&self, key: &Key<'_>, replacement: Replacement) -> Result<bool> {
        self.write(|| self.entries.replace(key, replacement))
    }

    fn take(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        self.write(|| self.entries.take(key))
    }

    fn compare_and_swap(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        self.write(|| self.entries.compare_and_swap(key, current, new))
    }

    fn key_rule(&self) -> KeyRule {
        self.entries.key_rule()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.entries.clock()
    }

    fn shared_state(&self) -> Option<Arc<SharedState>> {
        Some(Arc::clone(&self.shared))
    }
}
