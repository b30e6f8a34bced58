//! What a cache reports to the recorder that the program has installed.
//!
//! Without the feature `metrics`, `metrics/none.rs` stands in for this.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder, Unit, with_recorder};

use super::count::{COUNTS, Count};

/// What the caches without a namespace are called: an empty label is none to Prometheus.
const NO_NAMESPACE: &str = "default";

const METADATA: Metadata<'_> = Metadata::new("cacheio", Level::INFO, None);

// The counters: what is counted here, and behind it what the store counts.
const EVICTIONS: usize = COUNTS;
const CIRCUIT_OPENS: usize = COUNTS + 1;
const COUNTERS: usize = COUNTS + 2;

/// The names of the counters, and what they say.
const NAMES: [(&str, &str); COUNTERS] = {
    let mut names = [("", ""); COUNTERS];
    names[Count::Hit as usize] = ("cacheio_hits_total", "Look-ups that found a live entry");
    names[Count::Miss as usize] = ("cacheio_misses_total", "Look-ups that did not");
    names[Count::StaleHit as usize] = (
        "cacheio_stale_hits_total",
        "Look-ups that were served an entry past its TTL; they are among the misses",
    );
    names[Count::Load as usize] = ("cacheio_loads_total", "Loaders run");
    names[Count::LoadError as usize] = (
        "cacheio_load_errors_total",
        "Loaders that returned an error",
    );
    names[Count::LoadTimeout as usize] = (
        "cacheio_load_timeouts_total",
        "Loads given up because they took longer than max_load",
    );
    names[Count::Refresh as usize] = (
        "cacheio_refreshes_total",
        "Loads of what was still live; they are among the loads",
    );
    names[Count::RefreshError as usize] =
        ("cacheio_refresh_errors_total", "Those of them that failed");
    names[Count::Timeout as usize] = (
        "cacheio_timeouts_total",
        "Callers that stopped waiting for a load",
    );
    names[Count::Wait as usize] = (
        "cacheio_waits_total",
        "Callers that waited for another's load",
    );
    names[Count::StoreError as usize] = (
        "cacheio_store_errors_total",
        "Operations on the store that failed while the caller got a value all the same",
    );
    names[EVICTIONS] = (
        "cacheio_evictions_total",
        "Live entries that the store dropped to make room",
    );
    names[CIRCUIT_OPENS] = (
        "cacheio_circuit_opens_total",
        "How often a server was given up for a while, because it did not answer",
    );
    names
};

const LOAD_DURATION: &str = "cacheio_load_duration_seconds";

/// Reports what one cache does, and what its store says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Reports>);

#[derive(Debug)]
struct Reports {
    counters: [Key; COUNTERS],
    load_duration: Key,
    /// Asked for once: that is dear.
    handles: OnceLock<Handles>,
    /// What is known of the store.
    evictions: AtomicU64,
    circuit_opens: AtomicU64,
}

#[derive(Debug)]
struct Handles {
    counters: [Counter; COUNTERS],
    load_duration: Histogram,
}

/// A load that goes on.
#[derive(Debug)]
pub(crate) struct LoadTimer {
    metrics: Metrics,
    began: Instant,
}

impl Metrics {
    /// Those of a cache, whose store has counted so much already.
    pub(crate) fn new(namespace: &str, evictions: u64, circuit_opens: u64) -> Self {
        let name = match namespace {
            "" => NO_NAMESPACE,
            namespace => namespace,
        };
        let key = |metric: &'static str| {
            Key::from_parts(metric, vec![Label::new("cache", name.to_owned())])
        };
        let reports = Reports {
            counters: NAMES.map(|(name, _)| key(name)),
            load_duration: key(LOAD_DURATION),
            handles: OnceLock::new(),
            evictions: AtomicU64::new(evictions),
            circuit_opens: AtomicU64::new(circuit_opens),
        };
        // So that all of them are there, at 0, before anything happens.
        with_recorder(|recorder| {
            reports.find_handles(recorder);
        });
        Self(Arc::new(reports))
    }

    #[inline]
    pub(crate) fn add(&self, count: Count) {
        self.0.increment(count as usize, 1);
    }

    /// Reports what the store has counted since it was last looked at.
    pub(crate) fn update_from_store(&self, counted: impl FnOnce() -> (u64, u64)) {
        let (evictions, circuit_opens) = counted();
        self.0.raise(EVICTIONS, &self.0.evictions, evictions);
        let known = &self.0.circuit_opens;
        self.0.raise(CIRCUIT_OPENS, known, circuit_opens);
    }

    /// Reports how long a load takes, when this is dropped: also of one that fails, panics or is
    /// cut short.
    pub(crate) fn time_load(&self) -> LoadTimer {
        LoadTimer {
            metrics: self.clone(),
            began: Instant::now(),
        }
    }
}

impl Reports {
    #[inline]
    fn increment(&self, counter: usize, by: u64) {
        match self.handles.get() {
            Some(handles) => handles.counters[counter].increment(by),
            None => self.increment_anew(counter, by),
        }
    }

    #[cold]
    fn increment_anew(&self, counter: usize, by: u64) {
        with_recorder(|recorder| match self.find_handles(recorder) {
            Some(handles) => handles.counters[counter].increment(by),
            None => {
                let counter = recorder.register_counter(&self.counters[counter], &METADATA);
                counter.increment(by);
            }
        });
    }

    fn load_took(&self, time: Duration) {
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

    /// Caches may share a name, and a counter with it: only the difference is theirs.
    fn raise(&self, counter: usize, known: &AtomicU64, now: u64) {
        if now > known.load(Ordering::Relaxed) {
            let before = known.fetch_max(now, Ordering::Relaxed);
            if now > before {
                self.increment(counter, now - before);
            }
        }
    }

    /// The handles of the first recorder that can be kept to.
    ///
    /// While none is installed, one stands in whose handles do nothing, for ever. All that can be
    /// told of it is that it has no size. Another that has none is asked anew each time.
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
        self.metrics.0.load_took(self.began.elapsed());
    }
}

fn describe(recorder: &dyn Recorder) {
    for (name, meaning) in NAMES {
        recorder.describe_counter(name.into(), Some(Unit::Count), meaning.into());
    }
    let meaning = "How long loads took, also those that failed or were given up";
    recorder.describe_histogram(LOAD_DURATION.into(), Some(Unit::Seconds), meaning.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        for (at, (name, _)) in NAMES.iter().enumerate() {
            assert!(name.ends_with("_total"), "counter {at} is named {name:?}");
            assert!(NAMES[..at].iter().all(|(other, _)| other != name));
        }
    }
}
