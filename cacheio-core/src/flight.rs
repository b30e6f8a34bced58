//! Flights: one load a key, and writes that beat loads.
//!
//! A *flight* is a load under way. The first caller that misses a key leads it, the others wait
//! for its outcome. A *write* (set, delete, clear, …) is registered for as long as it lasts. Two
//! rules make invalidation beat loads:
//!
//! - A write takes the flight of its key off the register, when it begins and when it ends: the
//!   flight's outcome still goes to those who wait for it, but is not stored, and whoever comes
//!   later starts a new one.
//! - Storing an outcome (*publishing*) begins only while no write of the key is registered; a
//!   write that comes meanwhile waits until the publishing is over.
//!
//! There is no I/O here: the engine does it between these calls, and waits on the listeners.

pub(crate) mod deadlock;
pub(crate) mod sync;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::entry::tags::{Stamps, Tags};
use crate::flight::deadlock::{LoadScope, WaitEdge};
use crate::flight::sync::{AtomicU64, Event, EventListener, Mutex, MutexGuard, Ordering};
use crate::{Key, Object};

// Few under the model checker: `clear` passes by all, and each is a step.
const STRIPES: usize = if cfg!(shuttle) { 2 } else { 64 };

/// The register of the loads and writes under way in the caches on one store.
#[derive(Debug)]
pub(crate) struct Flights {
    stripes: Arc<[Stripe]>,
}

impl Default for Flights {
    fn default() -> Self {
        let stripe = || Stripe {
            register: Mutex::default(),
            epoch: AtomicU64::new(0),
        };
        Self {
            stripes: std::iter::repeat_with(stripe).take(STRIPES).collect(),
        }
    }
}

/// What the caches on one store share. A store that several caches of a process can share keeps
/// it for them.
#[derive(Default)]
pub struct SharedState {
    pub(crate) flights: Flights,
    pub(crate) tags: Tags,
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState").finish_non_exhaustive()
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct Stripe {
    register: Mutex<Register>,
    /// How many loads and writes have ended.
    epoch: AtomicU64,
}

#[derive(Debug, Default)]
struct Register {
    flights: HashMap<Box<str>, Arc<Flight>>,
    /// The hash of the key of each write under way. Two keys of one hash at worst keep each
    /// other's loads from being stored.
    writes: Vec<u64>,
    /// The prefix of the keys of each write of a whole namespace under way.
    clears: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Flight {
    /// That of its load's scope; the flights of a batch share one.
    id: u64,
    key: Box<str>,
    hash: u64,
    /// What the tags' counters said before the load began.
    stamps: Stamps,
    schedule: Schedule,
    completed: Event,
    state: Mutex<State>,
}

/// When a flight begins, and when it is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) started_at: Instant,
    pub(crate) overdue_at: Option<Instant>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    waiting: usize,
}

#[derive(Debug)]
enum Phase {
    Loading,
    /// Was taken off the register: not to be stored.
    Invalidated,
    /// Is being stored.
    Publishing,
    /// Is over: with an outcome, or abandoned.
    Completed(Option<Outcome>),
}

/// What those who waited for a load get.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The value.
    Value(Arc<dyn Object>),
    /// The loader's error.
    Failed(Arc<dyn Any + Send + Sync>),
    /// That the loader failed, with an error that cannot be shared.
    FailedUnshared,
    /// That the load took too long.
    TimedOut,
}

/// What becomes of a caller that missed.
#[derive(Debug)]
pub(crate) enum Join {
    /// It runs its loader.
    Lead(Leader),
    /// It waits for the outcome of another's.
    Wait(Waiter),
    /// It would wait for itself.
    Cycle,
}

impl Flights {
    /// How many loads and writes around this key have ended: to be asked before the store is read,
    /// and given to [`join`](Self::join).
    pub(crate) fn epoch(&self, key: &Key<'_>) -> u64 {
        self.stripe(key.hash()).epoch.load(Ordering::SeqCst)
    }

    /// Joins the flight of a key whose reading missed, or opens one.
    ///
    /// `epoch` is what [`epoch`](Self::epoch) said before the reading; if another load or write
    /// has ended since, or it was not asked, the leader has to read again. `scope` gives that of the
    /// load, or of the batch which the flight is to be part of. A flight that is overdue is given
    /// up.
    pub(crate) fn join(
        &self,
        key: &Key<'_>,
        epoch: Option<u64>,
        stamps: Stamps,
        schedule: Schedule,
        scope: impl FnOnce() -> Arc<LoadScope>,
    ) -> Join {
        let stripe = self.stripe(key.hash());
        let mut register = stripe.lock();
        let overdue = register.flights.get(key.text());
        let overdue = overdue.filter(|flight| flight.is_overdue(schedule.started_at));
        let overdue = overdue.map(Arc::clone);
        let superseded = overdue.filter(|flight| register.time_out(flight, || ()));
        if let Some(flight) = register.flights.get(key.text()) {
            let mut state = flight.state();
            let joinable = flight.stamps.are_current();
            // A flight that is being stored stays registered, stale or not, so that writes see it.
            if joinable || matches!(state.phase, Phase::Publishing) {
                return match WaitEdge::wait_for(flight.id) {
                    Err(_) => Join::Cycle,
                    Ok(edge) => {
                        state.waiting += 1;
                        Join::Wait(Waiter {
                            flight: Arc::clone(flight),
                            joined: joinable,
                            _edge: edge,
                        })
                    }
                };
            }
            state.phase = Phase::Invalidated;
        }
        let reread = epoch != Some(stripe.epoch.load(Ordering::SeqCst));
        let scope = scope();
        let flight = Flight::new(scope.id(), key, stamps, schedule);
        let mut lead = self.open(register, flight, scope, reread);
        if let Some(superseded) = superseded {
            lead.supersedes = true;
            superseded.completed.notify(usize::MAX);
        }
        Join::Lead(lead)
    }

    /// Opens a flight of a key whatever other is under way, as a write would: the other is
    /// invalidated.
    ///
    /// # Errors
    ///
    /// What to wait for first, if the other is being stored.
    pub(crate) fn lead(
        &self,
        key: &Key<'_>,
        stamps: Stamps,
        schedule: Schedule,
        scope: &Arc<LoadScope>,
    ) -> Result<Leader, EventListener> {
        let mut register = self.stripe(key.hash()).lock();
        match register.invalidate(key.text()) {
            Some(publishing) => Err(publishing),
            None => {
                let flight = Flight::new(scope.id(), key, stamps, schedule);
                Ok(self.open(register, flight, Arc::clone(scope), false))
            }
        }
    }

    /// Gives up a flight that is overdue, unless it has ended or is being stored: those who wait
    /// for it are told. Whether it was this call that did.
    pub(crate) fn time_out(&self, wait: &Waiter, count: impl FnOnce()) -> bool {
        self.stripe(wait.flight.hash).time_out(&wait.flight, count)
    }

    fn open(
        &self,
        mut register: MutexGuard<'_, Register>,
        flight: Flight,
        scope: Arc<LoadScope>,
        reread: bool,
    ) -> Leader {
        let flight = Arc::new(flight);
        register
            .flights
            .insert(flight.key.clone(), Arc::clone(&flight));
        drop(register);
        Leader {
            scope,
            stripes: Arc::clone(&self.stripes),
            flight,
            reread,
            supersedes: false,
            completed: false,
        }
    }

    /// Registers a write of a key. It may go to the store when
    /// [`publishing`](WriteGuard::take_publishing) is over.
    pub(crate) fn write<'a>(&'a self, key: Key<'a>) -> WriteGuard<'a> {
        let mut register = self.stripe(key.hash()).lock();
        register.writes.push(key.hash());
        let publishing = register.invalidate(key.text());
        WriteGuard {
            flights: self,
            key,
            publishing,
        }
    }

    /// Registers a write of all keys that begin with `prefix`.
    pub(crate) fn write_all(&self, prefix: &str) -> ClearGuard<'_> {
        let prefix: Arc<str> = prefix.into();
        let mut publishing = Vec::new();
        for stripe in &*self.stripes {
            let mut register = stripe.lock();
            register.clears.push(Arc::clone(&prefix));
            publishing.extend(register.invalidate_all(&prefix));
        }
        ClearGuard {
            flights: self,
            prefix,
            publishing,
        }
    }

    fn stripe(&self, hash: u64) -> &Stripe {
        stripe(&self.stripes, hash)
    }
}

fn stripe(stripes: &[Stripe], hash: u64) -> &Stripe {
    // Memory takes its shard from other bits: a stripe's keys are spread over all shards.
    &stripes[(hash >> 20) as usize % STRIPES]
}

impl Stripe {
    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    fn time_out(&self, flight: &Flight, count: impl FnOnce()) -> bool {
        let mut register = self.lock();
        let given_up = register.time_out(flight, count);
        drop(register);
        if given_up {
            flight.completed.notify(usize::MAX);
        }
        given_up
    }
}

impl Register {
    /// Takes the flight of a key off, or says what to wait for if it is being stored.
    fn invalidate(&mut self, key: &str) -> Option<EventListener> {
        if self.flights.is_empty() {
            return None;
        }
        let publishing = self.flights.get(key)?.invalidate();
        if publishing.is_none() {
            self.flights.remove(key);
        }
        publishing
    }

    /// Takes a flight off that takes too long, unless it has ended or is being stored. It is counted
    /// before anybody can know. Those who wait are still to be notified.
    fn time_out(&mut self, flight: &Flight, count: impl FnOnce()) -> bool {
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

    fn remove(&mut self, flight: &Flight) {
        let registered = self.flights.get(&*flight.key);
        if registered.is_some_and(|registered| std::ptr::eq(&**registered, flight)) {
            self.flights.remove(&*flight.key);
        }
    }

    fn invalidate_all(&mut self, prefix: &str) -> Vec<EventListener> {
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

    fn is_written(&self, flight: &Flight) -> bool {
        self.writes.contains(&flight.hash)
            || self
                .clears
                .iter()
                .any(|prefix| flight.key.starts_with(&**prefix))
    }
}

impl Flight {
    fn new(id: u64, key: &Key<'_>, stamps: Stamps, schedule: Schedule) -> Self {
        Self {
            id,
            key: key.text().into(),
            hash: key.hash(),
            stamps,
            schedule,
            completed: Event::new(),
            state: Mutex::new(State {
                phase: Phase::Loading,
                waiting: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.schedule.overdue_at.is_some_and(|at| at <= now)
    }

    /// Keeps it from being stored, or says what to wait for if it is.
    fn invalidate(&self) -> Option<EventListener> {
        let mut state = self.state();
        match state.phase {
            // What storing it runs (`Drop` of a value that falls out) may write: it would wait for
            // itself. Its write goes to the store after the value.
            Phase::Publishing if LoadScope::is_around(self.id) => None,
            Phase::Publishing => Some(self.completed.listen()),
            Phase::Loading => {
                state.phase = Phase::Invalidated;
                None
            }
            Phase::Invalidated | Phase::Completed(_) => None,
        }
    }
}

/// The caller that runs the loader. Dropped before [`land`](Self::land), the flight is abandoned
/// and one of those who wait takes over.
#[derive(Debug)]
pub(crate) struct Leader {
    stripes: Arc<[Stripe]>,
    flight: Arc<Flight>,
    scope: Arc<LoadScope>,
    reread: bool,
    supersedes: bool,
    completed: bool,
}

impl Leader {
    /// Whether the store has to be read again before loading: another flight may have completed
    /// between the reading that missed and this one's beginning.
    pub(crate) fn must_reread(&self) -> bool {
        self.reread
    }

    /// Waits for the flight itself, as those do who join it: for who has another run it.
    pub(crate) fn subscribe(&self) -> Waiter {
        self.flight.state().waiting += 1;
        Waiter {
            flight: Arc::clone(&self.flight),
            joined: true,
            // It is new: nobody waits for it who could be waited for.
            _edge: WaitEdge::wait_for(self.flight.id).unwrap_or(None),
        }
    }

    /// Whether anybody has a use for what comes of it.
    pub(crate) fn is_wanted(&self) -> bool {
        let state = self.flight.state();
        match state.phase {
            Phase::Completed(_) => false,
            Phase::Invalidated => state.waiting > 0,
            Phase::Loading | Phase::Publishing => true,
        }
    }

    /// Tells those who wait that it takes too long; whether nobody did before.
    pub(crate) fn time_out(&self, count: impl FnOnce()) -> bool {
        self.stripe().time_out(&self.flight, count)
    }

    /// Whether it took the place of a load that was overdue.
    pub(crate) fn supersedes(&self) -> bool {
        self.supersedes
    }

    /// When the load is given up.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        self.flight.schedule.overdue_at
    }

    /// Where to run the loader.
    pub(crate) fn scope(&self) -> &Arc<LoadScope> {
        &self.scope
    }

    /// What the tags' counters said before the load began.
    pub(crate) fn stamps(&self) -> &Stamps {
        &self.flight.stamps
    }

    /// Whether the value may be stored. If so, writes wait until the flight has completed.
    pub(crate) fn begin_publishing(&self) -> bool {
        let register = self.stripe().lock();
        let mut state = self.flight.state();
        let allowed = matches!(state.phase, Phase::Loading)
            && !register.is_written(&self.flight)
            && self.flight.stamps.are_current();
        if allowed {
            state.phase = Phase::Publishing;
        }
        allowed
    }

    /// Ends the flight; `outcome` is asked for if somebody waits for it.
    pub(crate) fn complete(mut self, outcome: impl FnOnce() -> Outcome) {
        self.completed = true;
        self.end(|| Some(outcome()));
    }

    fn end(&self, outcome: impl FnOnce() -> Option<Outcome>) {
        let stripe = self.stripe();
        let mut register = stripe.lock();
        register.remove(&self.flight);
        let mut state = self.flight.state();
        // One that was abandoned before anything was stored changes nothing for those who read.
        let is_news = self.completed || matches!(state.phase, Phase::Publishing);
        // Those who waited for one that was given up have been told.
        if !matches!(state.phase, Phase::Completed(_)) {
            state.phase = Phase::Completed(if state.waiting > 0 { outcome() } else { None });
        }
        drop(state);
        if is_news {
            stripe.end();
        }
        drop(register);
        self.flight.completed.notify(usize::MAX);
    }

    fn stripe(&self) -> &Stripe {
        stripe(&self.stripes, self.flight.hash)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.completed {
            self.end(|| None);
        }
    }
}

/// A caller that waits for another's load.
#[derive(Debug)]
pub(crate) struct Waiter {
    flight: Arc<Flight>,
    /// Whether the outcome is for this caller, or it only waits for the flight to be over.
    joined: bool,
    _edge: Option<WaitEdge>,
}

impl Waiter {
    /// What to wait for before [`outcome`](Self::outcome) is asked; nothing, if it is over.
    pub(crate) fn listener(&self) -> Option<EventListener> {
        match self.flight.state().phase {
            Phase::Completed(_) => None,
            _ => Some(self.flight.completed.listen()),
        }
    }

    /// The key.
    pub(crate) fn key(&self) -> Key<'_> {
        Key::new(&self.flight.key)
    }

    /// When the load began, and when it is given up.
    pub(crate) fn schedule(&self) -> Schedule {
        self.flight.schedule
    }

    /// The outcome, or none if the flight was abandoned: then the caller joins again.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match &self.flight.state().phase {
            Phase::Completed(outcome) if self.joined => outcome.clone(),
            _ => None,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.flight.state().waiting -= 1;
    }
}

/// A write of a key under way.
#[derive(Debug)]
pub(crate) struct WriteGuard<'a> {
    flights: &'a Flights,
    key: Key<'a>,
    publishing: Option<EventListener>,
}

impl WriteGuard<'_> {
    /// What to wait for before the write goes to the store.
    pub(crate) fn take_publishing(&mut self) -> Option<EventListener> {
        self.publishing.take()
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        let stripe = self.flights.stripe(self.key.hash());
        let mut register = stripe.lock();
        if let Some(at) = register
            .writes
            .iter()
            .rposition(|hash| *hash == self.key.hash())
        {
            register.writes.swap_remove(at);
        }
        // One that began during the write may have loaded what was there before it.
        register.invalidate(self.key.text());
        stripe.end();
    }
}

/// WriteGuards of several keys under way.
#[derive(Debug)]
pub(crate) struct WriteGuards<'a>(pub(crate) Vec<WriteGuard<'a>>);

impl Drop for WriteGuards<'_> {
    fn drop(&mut self) {
        // The last one first: it is found at the end of its register.
        while self.0.pop().is_some() {}
    }
}

/// A write of a whole namespace under way.
#[derive(Debug)]
pub(crate) struct ClearGuard<'a> {
    flights: &'a Flights,
    prefix: Arc<str>,
    publishing: Vec<EventListener>,
}

impl ClearGuard<'_> {
    /// What to wait for before the write goes to the store.
    pub(crate) fn take_publishing(&mut self) -> Vec<EventListener> {
        std::mem::take(&mut self.publishing)
    }
}

impl Drop for ClearGuard<'_> {
    fn drop(&mut self) {
        for stripe in &*self.flights.stripes {
            let mut register = stripe.lock();
            let clears = &mut register.clears;
            if let Some(at) = clears
                .iter()
                .position(|other| Arc::ptr_eq(other, &self.prefix))
            {
                clears.swap_remove(at);
            }
            register.invalidate_all(&self.prefix);
            stripe.end();
        }
    }
}
