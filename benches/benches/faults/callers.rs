//! The callers: each repeats several operations, and measures them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cacheio::ErrorKind;
use cacheio_tests::api::{CacheApi, Spawned, join_all};

/// The number of callers.
pub(crate) const COUNT: usize = 300;
/// The number of callers that only sleep.
const CONTROLS: usize = 30;
const KEYS: usize = 200;
/// What a caller does between two calls.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a loader takes.
const LOAD: Duration = Duration::from_millis(5);

/// What callers observed.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) calls: usize,
    /// How much longer than its timeout, and its loader, the longest call took.
    pub(crate) beyond: Duration,
    /// The operation of that call.
    pub(crate) slowest: &'static str,
    /// How late the latest plain sleep ended.
    pub(crate) control: Duration,
    pub(crate) wrong: usize,
    /// How long after its return the server was used again.
    pub(crate) used_after: Duration,
}

impl Report {
    fn add(mut self, other: &Self) -> Self {
        self.calls += other.calls;
        self.wrong += other.wrong;
        self.control = self.control.max(other.control);
        if other.beyond > self.beyond || self.slowest.is_empty() {
            (self.beyond, self.slowest) = (other.beyond, other.slowest);
        }
        self
    }
}

/// Callers that run until they are stopped.
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    running: Vec<Spawned<Report>>,
}

impl Callers {
    pub(crate) fn start(cache: &CacheApi, timeout: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..COUNT).map(|caller| {
            let stop = Arc::clone(&stop);
            cache.spawn(move |cache| call(cache, caller, timeout, stop))
        });
        let callers: Vec<_> = callers.collect();
        let controls = (0..CONTROLS).map(|control| {
            let stop = Arc::clone(&stop);
            // Short sleeps notice whenever the machine is late, and long ones whether timers are.
            let length = match control % 2 {
                0 => timeout.min(Duration::from_millis(500)),
                _ => Duration::from_millis(10),
            };
            cache.spawn(move |cache| self::control(cache, length, stop))
        });
        let running = callers.into_iter().chain(controls).collect();
        Self { stop, running }
    }

    pub(crate) async fn stop(self) -> Report {
        self.stop.store(true, Ordering::SeqCst);
        let reports = join_all(self.running).await;
        reports.iter().fold(Report::default(), Report::add)
    }
}

/// Repeats the operations until `stop` is set.
async fn call(cache: CacheApi, caller: usize, timeout: Duration, stop: Arc<AtomicBool>) -> Report {
    let world = cache.world();
    let mut report = Report::default();
    // The callers begin at different times.
    world.sleep(PAUSE * (caller as u32 % 20) / 20).await;
    while !stop.load(Ordering::SeqCst) {
        let key = (caller * 7 + report.calls * 13) % KEYS;
        let mut loading = Duration::ZERO;
        let start = Instant::now();
        let (operation, is_right) = match (caller + report.calls) % 5 {
            0 => ("set", cache.set(key, value(key)).await.is_ok_or_failed()),
            1 => {
                let keys: Vec<usize> = (0..5).map(|other| (key + other) % KEYS).collect();
                let found = cache.get_many::<String>(keys.clone()).await;
                let found = found.map(|found| {
                    let mut pairs = keys.iter().zip(found);
                    pairs.all(|(key, found)| found.is_none_or(|found| found == value(*key)))
                });
                ("get_many", found.is_ok_or_failed())
            }
            2 => {
                let load = || async {
                    let start = Instant::now();
                    world.sleep(LOAD).await;
                    (value(key), start.elapsed())
                };
                let got = cache
                    .get_or_set(key, async || {
                        let (value, took) = load().await;
                        loading = took;
                        value
                    })
                    .await;
                ("get_or_set", got == value(key))
            }
            _ => {
                let found = cache.get::<String>(key).await;
                let found = found.map(|found| found.is_none_or(|found| found == value(key)));
                ("get", found.is_ok_or_failed())
            }
        };
        // A waiter of another caller's load knows only how long loads take.
        if operation == "get_or_set" && loading.is_zero() {
            loading = LOAD;
        }
        let beyond = start.elapsed().saturating_sub(timeout + loading);
        report.calls += 1;
        report.wrong += usize::from(!is_right);
        if beyond > report.beyond || report.slowest.is_empty() {
            (report.beyond, report.slowest) = (beyond, operation);
        }
        world.sleep(PAUSE).await;
    }
    report
}

/// Sleeps until `stop` is set.
async fn control(cache: CacheApi, length: Duration, stop: Arc<AtomicBool>) -> Report {
    let mut report = Report::default();
    while !stop.load(Ordering::SeqCst) {
        let start = Instant::now();
        cache.world().sleep(length).await;
        report.control = report.control.max(start.elapsed() - length);
    }
    report
}

/// The outcome of a call.
trait Outcome {
    /// Whether the value is right, or the call failed as it may while the server does.
    fn is_ok_or_failed(&self) -> bool;
}

impl Outcome for cacheio::Result<bool> {
    fn is_ok_or_failed(&self) -> bool {
        match self {
            Ok(is_right) => *is_right,
            Err(error) => is_failure(error),
        }
    }
}

impl Outcome for cacheio::Result<()> {
    fn is_ok_or_failed(&self) -> bool {
        match self {
            Ok(()) => true,
            Err(error) => is_failure(error),
        }
    }
}

fn is_failure(error: &cacheio::Error) -> bool {
    let is_expected = matches!(
        error.kind(),
        ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Server
    );
    if !is_expected {
        eprintln!("an error that counts as a wrong value: {error:?}");
    }
    is_expected
}

fn value(key: usize) -> String {
    format!("the value of the key {key:04}; ").repeat(12)
}

/// Stores all values.
pub(crate) async fn fill(cache: &CacheApi) {
    let entries: Vec<_> = (0..KEYS).map(|key| (key, value(key))).collect();
    let stored = cache.set_many(entries).await;
    stored.expect("the server answers");
}
