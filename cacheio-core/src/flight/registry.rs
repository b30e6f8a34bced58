//! The registry of the loads and writes in progress, split into stripes by the hash of the key.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::state::{Flight, LoadClaim, Outcome, Phase};
use super::sync::{AtomicU64, EventListener, Mutex, MutexGuard, Ordering};

// Few under the model checker: `clear` locks each stripe, and each lock is a step.
const STRIPES: usize = if cfg!(shuttle) { 2 } else { 64 };

pub(super) type Stripes = Arc<[Stripe]>;

#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Stripe {
    registry: Mutex<Registry>,
    /// The number of loads and writes that have ended.
    epoch: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) flights: HashMap<Box<str>, Arc<Flight>>,
    /// The hash of the key of each write in progress. Two keys with the same hash at worst
    /// prevent each other's loads from being stored.
    pub(super) writes: Vec<u64>,
    /// The key prefix of each `clear` in progress.
    pub(super) clears: Vec<Arc<str>>,
}

pub(super) fn new_stripes() -> Stripes {
    let stripe = || Stripe {
        registry: Mutex::default(),
        epoch: AtomicU64::new(0),
    };
    std::iter::repeat_with(stripe).take(STRIPES).collect()
}

/// Returns the stripe of a key.
pub(super) fn stripe_of(stripes: &[Stripe], hash: u64) -> &Stripe {
    // Memory chooses its shard by other bits, so the keys of a stripe are spread over all shards.
    &stripes[(hash >> 20) as usize % STRIPES]
}

impl Stripe {
    pub(super) fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Records that a load or a write has ended.
    pub(super) fn advance_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Times a flight out and notifies its waiters. Returns whether this call did.
    pub(super) fn time_out(&self, flight: &Flight, count: impl FnOnce()) -> bool {
        let mut registry = self.lock();
        let timed_out = registry.time_out(flight, count);
        drop(registry);
        if timed_out {
            flight.completed.notify(usize::MAX);
            // Another process may load the key now.
            drop(flight.take_claim());
        }
        timed_out
    }
}

impl Registry {
    /// Removes the flight of a key. If its value is being stored, the flight stays, and this
    /// returns a listener for its end.
    pub(super) fn invalidate(&mut self, key: &str) -> Option<EventListener> {
        if self.flights.is_empty() {
            return None;
        }
        let publishing = self.flights.get(key)?.invalidate();
        if publishing.is_none() {
            self.flights.remove(key);
        }
        publishing
    }

    /// Does the same, and returns the claim of the load, which can be of no use any more. It is dropped without the
    /// lock.
    pub(super) fn invalidate_with_claim(&mut self, key: &str) -> LoadClaim {
        let flight = self.flights.get(key).map(Arc::clone);
        self.invalidate(key);
        flight.map_or(LoadClaim::NotNeeded, |flight| {
            flight.take_claim_if_invalidated()
        })
    }

    /// Does the same for all keys that begin with `prefix`.
    pub(super) fn invalidate_all(&mut self, prefix: &str) -> Vec<EventListener> {
        let mut publishing = Vec::new();
        self.flights.retain(|key, flight| {
            if !key.starts_with(prefix) {
                return true;
            }
            let listener = flight.invalidate();
            let is_retained = listener.is_some();
            publishing.extend(listener);
            is_retained
        });
        publishing
    }

    /// Times a flight out, unless it has ended or its value is being stored. It is counted before
    /// any waiter can see it. The waiters are not notified yet.
    pub(super) fn time_out(&mut self, flight: &Flight, count: impl FnOnce()) -> bool {
        let mut state = flight.state();
        if matches!(state.phase, Phase::Publishing | Phase::Completed(_)) {
            return false;
        }
        count();
        state.phase = Phase::Completed(Some(Outcome::TimedOut));
        drop(state);
        self.remove(flight);
        true
    }

    pub(super) fn remove(&mut self, flight: &Flight) {
        let registered = self.flights.get(&*flight.key);
        if registered.is_some_and(|registered| std::ptr::eq(&**registered, flight)) {
            self.flights.remove(&*flight.key);
        }
    }

    pub(super) fn is_written(&self, flight: &Flight) -> bool {
        self.writes.contains(&flight.hash)
            || self
                .clears
                .iter()
                .any(|prefix| flight.key.starts_with(&**prefix))
    }
}
