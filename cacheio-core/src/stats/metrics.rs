//! Reports the statistics of a cache to the recorder that the program installs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics::{
    Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit, with_recorder,
};

use super::{COUNTS, Count, METRICS, StoreStats};

/// The label of caches without a namespace: Prometheus drops an empty label.
const NO_NAMESPACE: &str = "default";

const METADATA: Metadata<'_> = Metadata::new("cacheio", Level::INFO, None);

const LOAD_DURATION: &str = "cacheio_load_duration_seconds";
const L1_TRUSTED: &str = "cacheio_l1_trusted";

/// The metrics of one cache and its store.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Reports>);

#[derive(Debug)]
struct Reports {
    counters: [Key; COUNTS],
    load_duration: Key,
    /// Only of a cache with L1.
    l1_trusted: Option<Key>,
    /// Registered once, because registering is slow.
    handles: OnceLock<Handles>,
    /// The counts of the store that were already reported.
    evictions: AtomicU64,
    circuit_opens: AtomicU64,
    invalidations: AtomicU64,
    /// Whether L1 was reported as trusted.
    is_trusted: AtomicBool,
}

#[derive(Debug)]
struct Handles {
    counters: [Counter; COUNTS],
    load_duration: Histogram,
    l1_trusted: Option<Gauge>,
}

/// Records how long a load took when it is dropped.
#[derive(Debug)]
pub(crate) struct LoadTimer {
    metrics: Metrics,
    started_at: Instant,
}

impl Metrics {
    /// Creates the metrics of a cache. The counts of its store up to now are not reported.
    pub(crate) fn new(namespace: &str, store: StoreStats) -> Self {
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
            l1_trusted: store.l1_trusted.map(|_| key(L1_TRUSTED)),
            handles: OnceLock::new(),
            evictions: AtomicU64::new(store.evictions),
            circuit_opens: AtomicU64::new(store.circuit_opens),
            invalidations: AtomicU64::new(store.invalidations),
            is_trusted: AtomicBool::new(false),
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
    pub(crate) fn update_from_store(&self, stats: impl FnOnce() -> StoreStats) {
        let (reports, store) = (&self.0, stats());
        reports.raise(Count::Eviction, &reports.evictions, store.evictions);
        let circuit_opens = store.circuit_opens;
        reports.raise(Count::CircuitOpen, &reports.circuit_opens, circuit_opens);
        let invalidations = store.invalidations;
        reports.raise(Count::Invalidation, &reports.invalidations, invalidations);
        if let Some(is_trusted) = store.l1_trusted {
            reports.set_trusted(is_trusted);
        }
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

    fn set_trusted(&self, is_trusted: bool) {
        if self.is_trusted.swap(is_trusted, Ordering::Relaxed) != is_trusted {
            with_recorder(|recorder| {
                let registered = self.handles.get();
                match registered.or_else(|| self.find_handles(recorder)) {
                    Some(handles) => self.report_trusted(handles.l1_trusted.as_ref()),
                    None => drop(self.register_gauge(recorder)),
                }
            });
        }
    }

    fn report_trusted(&self, gauge: Option<&Gauge>) {
        if let Some(gauge) = gauge {
            gauge.set(f64::from(u8::from(self.is_trusted.load(Ordering::Relaxed))));
        }
    }

    /// Registers the gauge of a cache with L1, with its value.
    fn register_gauge(&self, recorder: &dyn Recorder) -> Option<Gauge> {
        let key = self.l1_trusted.as_ref()?;
        let description =
            "1 if the server has told L1 of all changes within `max_staleness`, otherwise 0.";
        recorder.describe_gauge(L1_TRUSTED.into(), None, description.into());
        let gauge = recorder.register_gauge(key, &METADATA);
        self.report_trusted(Some(&gauge));
        Some(gauge)
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
                l1_trusted: self.register_gauge(recorder),
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
