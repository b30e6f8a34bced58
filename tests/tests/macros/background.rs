//! Bodies that may run in the background, after their callers have returned.

mod arguments;
mod errors;
mod methods;
mod timeouts;

use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex};

use cacheio::ErrorKind;

use crate::prelude::*;

const TIMEOUT: Duration = Duration::from_millis(20);

/// Holds bodies while it is closed.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }

    async fn wait_async(&self) {
        while *self.closed.lock().unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Opens a gate at the end of a test, so that no thread keeps waiting.
struct OpenOnDrop<'a>(&'a Gate);

impl Drop for OpenOnDrop<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[derive(Debug, Clone, PartialEq)]
enum OriginError {
    Timeout,
    Reentrant,
    Down(usize),
}

impl From<cacheio::Error> for OriginError {
    fn from(error: cacheio::Error) -> Self {
        match error.kind() {
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Reentrant => Self::Reentrant,
            kind => panic!("{kind:?}"),
        }
    }
}

#[derive(Clone, Cacheable, AsyncCacheable)]
struct Origin {
    cache: Cache,
    #[async_cache]
    async_cache: AsyncCache,
    clock: Arc<ManualClock>,
    tenant: String,
    runs: Arc<Runs>,
    gate: Arc<Gate>,
    down: Arc<AtomicBool>,
}

impl Origin {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        Self {
            cache: cache_with(&clock),
            async_cache: async_cache_with(&clock),
            clock,
            tenant: "shop".into(),
            runs: Arc::default(),
            gate: Arc::default(),
            down: Arc::default(),
        }
    }

    fn run(&self) -> Result<usize, OriginError> {
        let run = self.runs.count();
        match self.down.load(Ordering::SeqCst) {
            true => Err(OriginError::Down(run)),
            false => Ok(run),
        }
    }

    fn until_runs(&self, runs: usize) {
        until(|| self.runs.get() >= runs);
    }

    #[cached(
        key = "user:{id}",
        ttl = "1m",
        stale_for = "1h",
        refresh_ahead = 0.8,
        jitter = 0.0,
        soft_timeout = "20ms",
        hard_timeout = "2s",
        max_load = "30s",
        ttl_none = "10s"
    )]
    fn user(
        &self,
        id: u64,
        request: &str,
        names: &[String],
    ) -> Result<Option<String>, OriginError> {
        self.gate.wait();
        let run = self.run()?;
        if id == 0 {
            return Ok(None);
        }
        Ok(Some(format!(
            "{} {request} {} {run}",
            self.tenant,
            names.join(",")
        )))
    }

    #[async_cached(
        key = "user:{id}",
        ttl = "1m",
        stale_for = "1h",
        refresh_ahead = 0.8,
        jitter = 0.0,
        soft_timeout = "20ms",
        hard_timeout = "2s",
        max_load = "30s",
        ttl_none = "10s"
    )]
    async fn user_async(
        &self,
        id: u64,
        request: &str,
        names: &[String],
    ) -> Result<Option<String>, OriginError> {
        self.gate.wait_async().await;
        let run = self.run()?;
        if id == 0 {
            return Ok(None);
        }
        Ok(Some(format!(
            "{} {request} {} {run}",
            self.tenant,
            names.join(",")
        )))
    }

    #[cached(key = "slow", hard_timeout = "20ms")]
    fn slow(&self) -> Result<usize, OriginError> {
        self.gate.wait();
        self.run()
    }

    #[cached(key = "slow", hard_timeout = "20ms")]
    async fn slow_async(&self) -> Result<usize, OriginError> {
        self.gate.wait_async().await;
        self.run()
    }

    /// Cannot return a timeout.
    #[cached(key = "infallible", ttl = "1m", stale_for = "1h", soft_timeout = TIMEOUT, max_load = "40ms")]
    fn infallible(&self) -> usize {
        self.gate.wait();
        self.runs.count()
    }

    #[cached(key = "infallible", ttl = "1m", stale_for = "1h", soft_timeout = TIMEOUT, max_load = "40ms")]
    async fn infallible_async(&self) -> usize {
        self.gate.wait_async().await;
        self.runs.count()
    }

    /// Its error is not `Clone`, and not `From<cacheio::Error>`.
    #[cached(key = "not_clone", skip(waiters), ttl = "1m", refresh_ahead = "xfetch")]
    fn not_clone(&self, waiters: u64) -> std::io::Result<usize> {
        until(|| self.cache.stats().waits >= waiters);
        let run = self.run();
        run.map_err(|error| std::io::Error::other(format!("{error:?}")))
    }
}

fn text(run: usize, request: &str) -> Result<Option<String>, OriginError> {
    Ok(Some(format!("shop {request} a,b {run}")))
}

fn names() -> Vec<String> {
    vec!["a".into(), "b".into()]
}
