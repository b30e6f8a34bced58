//! Reports the statistics of a cache to the recorder that the program installs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder, Unit, with_recorder};

use super::{COUNTS, Count, METRICS};

/// The label of caches without a namespace: Prometheus drops an empty label.
const NO_NAMESPACE: &str = "default";

const METADATA: Metadata<'_> = Metadata::new("cacheio", Level::INFO, None);

const LOAD_DURATION: &str = "cacheio_load_duration_seconds";

/// The metrics of one cache and its store.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Reports>);

#[derive(Debug)]
struct Reports {
    counters: [Key; COUNTS],
    load_duration: Key,
    /// Registered once, because registering is slow.
    handles: OnceLock<Handles>,
    /// The counts of the store that were already reported.
    evictions: AtomicU64,
    circuit_opens: AtomicU64,
}

#[derive(Debug)]
struct Handles {
    counters: [Counter; COUNTS],
    load_duration: Histogram,
}

/// Records how long a load took when it is dropped.
#[derive(Debug)]
pub(crate) struct LoadTimer {
    metrics: Metrics,
    started_at: Instant,
}

impl Metrics {
    /// Creates the metrics of a cache. The counts of its store up to now are not reported.
    pub(crate) fn new(namespace: &str, evictions: u64, circuit_opens: u64) -> Self {
        let name = match namespace {
            "" => NO_NAMESPACE,
            namespace => namespace,
        };
        let key = |metric: &'static str| {
            Key::from_parts(metric, vec![Label::new("cache", name.to_owned())])
        };
        let reports = Reports {
            counters: METRICS.map(|(name, _)| key(name)),
            load_duration: key(LOAD_DURATION),
            handles: OnceLock::new(),
            evictions: AtomicU64::new(evictions),
            circuit_opens: AtomicU64::new(circuit_opens),
        };
        // The metrics are exported, with the value 0, before the first event.
        with_recorder(|recorder| {
            reports.find_handles(recorder);
        });
        Self(Arc::new(reports))
    }

    #[inline]
    pub(crate) fn add(&self, count: Count) {
        self.0.increment(count, 1);
        if let Count::L1Hit = count {
            self.0.increment(Count::Hit, 1);
        }
    }

    /// Reports what the store has counted since the last call.
    pub(crate) fn update_from_store(&self, counted: impl FnOnce() -> (u64, u64)) {
        let (evictions, circuit_opens) = counted();
        let reports = &self.0;
        reports.raise(Count::Eviction, &reports.evictions, evictions);
        reports.raise(Count::CircuitOpen, &reports.circuit_opens, circuit_opens);
    }

    /// Starts the timer of a load, which also records loads that fail, panic or are dropped.
    pub(crate) fn time_load(&self) -> LoadTimer {
        LoadTimer {
            metrics: self.clone(),
            started_at: Instant::now(),
        }
    }
}

impl Reports {
    #[inline]
    fn increment(&self, count: Count, by: u64) {
        match self.handles.get() {
            Some(handles) => handles.counters[count as usize].increment(by),
            None => self.increment_without_handles(count, by),
        }
    }

    #[cold]
    fn increment_without_handles(&self, count: Count, by: u64) {
        with_recorder(|recorder| match self.find_handles(recorder) {
            Some(handles) => handles.counters[count as usize].increment(by),
            None => {
                let counter = recorder.register_counter(&self.counters[count as usize], &METADATA);
                counter.increment(by);
            }
        });
    }

    fn record_load(&self, time: Duration) {
        match self.handles.get() {
            Some(handles) => handles.load_duration.record(time),
            None => with_recorder(|recorder| match self.find_handles(recorder) {
                Some(handles) => handles.load_duration.record(time),
                None => {
                    let duration = recorder.register_histogram(&self.load_duration, &METADATA);
                    duration.record(time);
                }
            }),
        }
    }

    /// Adds to a counter what was not yet reported. Caches of the same name share the counter.
    fn raise(&self, count: Count, reported: &AtomicU64, total: u64) {
        if total > reported.load(Ordering::Relaxed) {
            let before = reported.fetch_max(total, Ordering::Relaxed);
            if total > before {
                self.increment(count, total - before);
            }
        }
    }

    /// Returns the handles of the recorder, registered on first use.
    ///
    /// Until the program installs a recorder, `metrics` passes a no-op one, whose handles must not be
    /// kept. It can be recognized only by its size of zero; the handles of any other recorder without
    /// a size are registered at each use.
    fn find_handles(&self, recorder: &dyn Recorder) -> Option<&Handles> {
        if size_of_val(recorder) == 0 {
            return None;
        }
        Some(self.handles.get_or_init(|| {
            describe(recorder);
            Handles {
                counters: std::array::from_fn(|counter| {
                    recorder.register_counter(&self.counters[counter], &METADATA)
                }),
                load_duration: recorder.register_histogram(&self.load_duration, &METADATA),
            }
        }))
    }
}

impl Drop for LoadTimer {
    fn drop(&mut self) {
        self.metrics.0.record_load(self.started_at.elapsed());
    }
}

fn describe(recorder: &dyn Recorder) {
    for (name, description) in METRICS {
        recorder.describe_counter(name.into(), Some(Unit::Count), description.trim().into());
    }
    let description = "How long loads took, including those that failed or were abandoned.";
    recorder.describe_histogram(
        LOAD_DURATION.into(),
        Some(Unit::Seconds),
        description.into(),
    );
}
