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

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::scope::{Edge, Frame};
use crate::sync::{AtomicU64, Event, EventListener, Mutex, MutexGuard, Ordering};
use crate::tags::Stamps;
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
            ended: AtomicU64::new(0),
        };
        Self {
            stripes: std::iter::repeat_with(stripe).take(STRIPES).collect(),
        }
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct Stripe {
    register: Mutex<Register>,
    /// How many loads and writes have ended.
    ended: AtomicU64,
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
    /// That of its load's frame; the flights of a batch share one.
    id: u64,
    key: Box<str>,
    hash: u64,
    /// What the tags' counters said before the load began.
    stamps: Stamps,
    schedule: Schedule,
    landed: Event,
    state: Mutex<State>,
}

/// When a flight begins, and when it is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) begins: Instant,
    pub(crate) overdue: Option<Instant>,
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
    Landed(Option<Outcome>),
}

/// What those who waited for a load get.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The value.
    Value(Arc<dyn Object>),
    /// The loader's error.
    Failed(Arc<dyn Any + Send + Sync>),
    /// That the loader failed, with an error that cannot be shared.
    FailedAlone,
    /// That the load took too long.
    TimedOut,
}

/// What becomes of a caller that missed.
#[derive(Debug)]
pub(crate) enum Join {
    /// It runs its loader.
    Lead(Lead),
    /// It waits for the outcome of another's.
    Wait(Wait),
    /// It would wait for itself.
    Circle,
}

impl Flights {
    /// How many loads and writes around this key have ended: to be asked before the store is read,
    /// and given to [`join`](Self::join).
    pub(crate) fn ended(&self, key: &Key<'_>) -> u64 {
        self.stripe(key.hash()).ended.load(Ordering::SeqCst)
    }

    /// Joins the flight of a key whose reading missed, or opens one.
    ///
    /// `ended` is what [`ended`](Self::ended) said before the reading; if another load or write
    /// has ended since, or it was not asked, the leader has to read again. `frame` gives that of the
    /// load, or of the batch which the flight is to be part of. A flight that is overdue is given
    /// up.
    pub(crate) fn join(
        &self,
        key: &Key<'_>,
        ended: Option<u64>,
        stamps: Stamps,
        schedule: Schedule,
        frame: impl FnOnce() -> Arc<Frame>,
    ) -> Join {
        let stripe = self.stripe(key.hash());
        let mut register = stripe.lock();
        let overdue = register.flights.get(key.text());
        let overdue = overdue.filter(|flight| flight.is_overdue(schedule.begins));
        let overdue = overdue.map(Arc::clone);
        let superseded = overdue.filter(|flight| register.give_up(flight, || ()));
        if let Some(flight) = register.flights.get(key.text()) {
            let mut state = flight.state();
            let joinable = flight.stamps.are_current();
            // A flight that is being stored stays registered, stale or not, so that writes see it.
            if joinable || matches!(state.phase, Phase::Publishing) {
                return match Edge::wait_for(flight.id) {
                    Err(_) => Join::Circle,
                    Ok(edge) => {
                        state.waiting += 1;
                        Join::Wait(Wait {
                            flight: Arc::clone(flight),
                            joined: joinable,
                            _edge: edge,
                        })
                    }
                };
            }
            state.phase = Phase::Invalidated;
        }
        let reread = ended != Some(stripe.ended.load(Ordering::SeqCst));
        let frame = frame();
        let flight = Flight::new(frame.id(), key, stamps, schedule);
        let mut lead = self.open(register, flight, frame, reread);
        if let Some(superseded) = superseded {
            lead.supersedes = true;
            superseded.landed.notify(usize::MAX);
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
        frame: &Arc<Frame>,
    ) -> Result<Lead, EventListener> {
        let mut register = self.stripe(key.hash()).lock();
        match register.invalidate(key.text()) {
            Some(publishing) => Err(publishing),
            None => {
                let flight = Flight::new(frame.id(), key, stamps, schedule);
                Ok(self.open(register, flight, Arc::clone(frame), false))
            }
        }
    }

    /// Gives up a flight that is overdue, unless it has ended or is being stored: those who wait
    /// for it are told. Whether it was this call that did.
    pub(crate) fn give_up(&self, wait: &Wait, count: impl FnOnce()) -> bool {
        self.stripe(wait.flight.hash).give_up(&wait.flight, count)
    }

    fn open(
        &self,
        mut register: MutexGuard<'_, Register>,
        flight: Flight,
        frame: Arc<Frame>,
        reread: bool,
    ) -> Lead {
        let flight = Arc::new(flight);
        register
            .flights
            .insert(flight.key.clone(), Arc::clone(&flight));
        drop(register);
        Lead {
            frame,
            stripes: Arc::clone(&self.stripes),
            flight,
            reread,
            supersedes: false,
            landed: false,
        }
    }

    /// Registers a write of a key. It may go to the store when
    /// [`publishing`](Write::take_publishing) is over.
    pub(crate) fn write<'a>(&'a self, key: Key<'a>) -> Write<'a> {
        let mut register = self.stripe(key.hash()).lock();
        register.writes.push(key.hash());
        let publishing = register.invalidate(key.text());
        Write {
            flights: self,
            key,
            publishing,
        }
    }

    /// Registers a write of all keys that begin with `prefix`.
    pub(crate) fn write_all(&self, prefix: &str) -> WriteAll<'_> {
        let prefix: Arc<str> = prefix.into();
        let mut publishing = Vec::new();
        for stripe in &*self.stripes {
            let mut register = stripe.lock();
            register.clears.push(Arc::clone(&prefix));
            publishing.extend(register.invalidate_all(&prefix));
        }
        WriteAll {
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
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn give_up(&self, flight: &Flight, count: impl FnOnce()) -> bool {
        let mut register = self.lock();
        let given_up = register.give_up(flight, count);
        drop(register);
        if given_up {
            flight.landed.notify(usize::MAX);
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
    fn give_up(&mut self, flight: &Flight, count: impl FnOnce()) -> bool {
        let mut state = flight.state();
        if matches!(state.phase, Phase::Publishing | Phase::Landed(_)) {
            return false;
        }
        count();
        state.phase = Phase::Landed(Some(Outcome::TimedOut));
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
            landed: Event::new(),
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
        self.schedule.overdue.is_some_and(|overdue| overdue <= now)
    }

    /// Keeps it from being stored, or says what to wait for if it is.
    fn invalidate(&self) -> Option<EventListener> {
        let mut state = self.state();
        match state.phase {
            // What storing it runs (`Drop` of a value that falls out) may write: it would wait for
            // itself. Its write goes to the store after the value.
            Phase::Publishing if Frame::is_around(self.id) => None,
            Phase::Publishing => Some(self.landed.listen()),
            Phase::Loading => {
                state.phase = Phase::Invalidated;
                None
            }
            Phase::Invalidated | Phase::Landed(_) => None,
        }
    }
}

/// The caller that runs the loader. Dropped before [`land`](Self::land), the flight is abandoned
/// and one of those who wait takes over.
#[derive(Debug)]
pub(crate) struct Lead {
    stripes: Arc<[Stripe]>,
    flight: Arc<Flight>,
    frame: Arc<Frame>,
    reread: bool,
    supersedes: bool,
    landed: bool,
}

impl Lead {
    /// Whether the store has to be read again before loading: another flight may have landed
    /// between the reading that missed and this one's beginning.
    pub(crate) fn must_reread(&self) -> bool {
        self.reread
    }

    /// Waits for the flight itself, as those do who join it: for who has another run it.
    pub(crate) fn watch(&self) -> Wait {
        self.flight.state().waiting += 1;
        Wait {
            flight: Arc::clone(&self.flight),
            joined: true,
            // It is new: nobody waits for it who could be waited for.
            _edge: Edge::wait_for(self.flight.id).unwrap_or(None),
        }
    }

    /// Whether anybody has a use for what comes of it.
    pub(crate) fn is_wanted(&self) -> bool {
        let state = self.flight.state();
        match state.phase {
            Phase::Landed(_) => false,
            Phase::Invalidated => state.waiting > 0,
            Phase::Loading | Phase::Publishing => true,
        }
    }

    /// Tells those who wait that it takes too long; whether nobody did before.
    pub(crate) fn give_up(&self, count: impl FnOnce()) -> bool {
        self.stripe().give_up(&self.flight, count)
    }

    /// Whether it took the place of a load that was overdue.
    pub(crate) fn supersedes(&self) -> bool {
        self.supersedes
    }

    /// When the load is given up.
    pub(crate) fn overdue(&self) -> Option<Instant> {
        self.flight.schedule.overdue
    }

    /// Where to run the loader.
    pub(crate) fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    /// What the tags' counters said before the load began.
    pub(crate) fn stamps(&self) -> &Stamps {
        &self.flight.stamps
    }

    /// Whether the value may be stored. If so, writes wait until the flight has landed.
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
    pub(crate) fn land(mut self, outcome: impl FnOnce() -> Outcome) {
        self.landed = true;
        self.end(|| Some(outcome()));
    }

    fn end(&self, outcome: impl FnOnce() -> Option<Outcome>) {
        let stripe = self.stripe();
        let mut register = stripe.lock();
        register.remove(&self.flight);
        let mut state = self.flight.state();
        // One that was abandoned before anything was stored changes nothing for those who read.
        let is_news = self.landed || matches!(state.phase, Phase::Publishing);
        // Those who waited for one that was given up have been told.
        if !matches!(state.phase, Phase::Landed(_)) {
            state.phase = Phase::Landed(if state.waiting > 0 { outcome() } else { None });
        }
        drop(state);
        if is_news {
            stripe.end();
        }
        drop(register);
        self.flight.landed.notify(usize::MAX);
    }

    fn stripe(&self) -> &Stripe {
        stripe(&self.stripes, self.flight.hash)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.landed {
            self.end(|| None);
        }
    }
}

/// A caller that waits for another's load.
#[derive(Debug)]
pub(crate) struct Wait {
    flight: Arc<Flight>,
    /// Whether the outcome is for this caller, or it only waits for the flight to be over.
    joined: bool,
    _edge: Option<Edge>,
}

impl Wait {
    /// What to wait for before [`outcome`](Self::outcome) is asked; nothing, if it is over.
    pub(crate) fn listener(&self) -> Option<EventListener> {
        match self.flight.state().phase {
            Phase::Landed(_) => None,
            _ => Some(self.flight.landed.listen()),
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
            Phase::Landed(outcome) if self.joined => outcome.clone(),
            _ => None,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.flight.state().waiting -= 1;
    }
}

/// A write of a key under way.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    flights: &'a Flights,
    key: Key<'a>,
    publishing: Option<EventListener>,
}

impl Write<'_> {
    /// What to wait for before the write goes to the store.
    pub(crate) fn take_publishing(&mut self) -> Option<EventListener> {
        self.publishing.take()
    }
}

impl Drop for Write<'_> {
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

/// Writes of several keys under way.
#[derive(Debug)]
pub(crate) struct Writes<'a>(pub(crate) Vec<Write<'a>>);

impl Drop for Writes<'_> {
    fn drop(&mut self) {
        // The last one first: it is found at the end of its register.
        while self.0.pop().is_some() {}
    }
}

/// A write of a whole namespace under way.
#[derive(Debug)]
pub(crate) struct WriteAll<'a> {
    flights: &'a Flights,
    prefix: Arc<str>,
    publishing: Vec<EventListener>,
}

impl WriteAll<'_> {
    /// What to wait for before the write goes to the store.
    pub(crate) fn take_publishing(&mut self) -> Vec<EventListener> {
        std::mem::take(&mut self.publishing)
    }
}

impl Drop for WriteAll<'_> {
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
