//! The connection pool of one server: keeps idle connections, and limits how many there are.
//!
//! A call that finds all in use waits here. If the server is overloaded, [`ConcurrencyLimit`] allows
//! fewer, so that calls wait here rather than there, where one that has no time left costs nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cacheio_core::__private::ConcurrencyLimit;
use event_listener::Event;

use super::call::{Call, Driver, PATIENCE};
use super::connection::Connection;

#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    /// Notified when a permit is free. A caller that waits is in no other queue, and leaves this one
    /// when it stops waiting.
    freed: Event,
    max_connections: usize,
    /// A caller that has waited for this long is not overtaken by new ones any more.
    overtaken_max: Duration,
}

#[derive(Debug)]
struct State {
    /// The idle connections, each with the time at which it was last used; the latest is last.
    idle: Vec<(Connection, Instant)>,
    in_use: usize,
    /// How many callers wait for a permit.
    waiting: usize,
    /// How many of them have waited for too long to be overtaken.
    urgent: usize,
    limit: ConcurrencyLimit,
    /// When the latest request was sent that was answered.
    latest_answered: Option<Instant>,
}

/// Why a caller gets no permit.
#[derive(Debug)]
pub(super) enum NoPermit {
    /// Its time has passed.
    TimedOut,
    /// The server would not answer it in time.
    Overloaded,
}

/// A firewall or a load balancer may have dropped a connection that was idle for longer than this.
const IDLE_MAX: Duration = Duration::from_secs(90);

impl Pool {
    /// `timeout` is that of the calls.
    pub(super) fn new(max_connections: usize, timeout: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                idle: Vec::new(),
                in_use: 0,
                waiting: 0,
                urgent: 0,
                limit: ConcurrencyLimit::new(timeout),
                latest_answered: None,
            }),
            freed: Event::new(),
            max_connections,
            overtaken_max: timeout / 8,
        }
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Waits for a permit. Fails at once if that would take too long.
    pub(super) async fn acquire(&self, call: Call) -> Result<Permit<'_>, NoPermit> {
        if let Some(permit) = self.try_acquire(&mut self.state()) {
            return Ok(permit);
        }
        let listener = self.freed.listen();
        let mut waiting = match self.wait_or_refuse(call) {
            Turn::Now(permit) => return Ok(permit),
            Turn::Later(waiting) => waiting,
            Turn::Refused => {
                // A caller that calls again at once must not keep others from running.
                call.yield_now().await;
                return Err(NoPermit::Overloaded);
            }
        };
        let mut notified = call.wait(listener).await;
        loop {
            notified.map_err(|_| NoPermit::TimedOut)?;
            let listener = self.freed.listen();
            if let Some(permit) = waiting.try_acquire(call)? {
                return Ok(permit);
            }
            notified = call.wait(listener).await;
        }
    }

    fn wait_or_refuse(&self, call: Call) -> Turn<'_> {
        let mut state = self.state();
        if let Some(permit) = self.try_acquire(&mut state) {
            return Turn::Now(permit);
        }
        let now = Instant::now();
        let remaining = call.time_left().unwrap_or_default();
        if state.limit.refuses(state.waiting + 1, remaining, now) {
            return Turn::Refused;
        }
        state.limit.wait_begins(now);
        state.waiting += 1;
        Turn::Later(Waiting {
            pool: self,
            since: now,
            is_urgent: false,
        })
    }

    /// Returns whether the server would answer a call too late that has waited until now.
    pub(super) fn is_too_late(&self, call: Call) -> bool {
        is_too_late(&self.state(), call)
    }

    /// Returns a permit for a new caller if there is room. It may belong to a caller that was notified and has
    /// not run yet: with many tasks on few threads, that takes longer than a request. Then that caller is overtaken,
    /// and waits again behind all others.
    fn try_acquire(&self, state: &mut State) -> Option<Permit<'_>> {
        // A permit is reserved for each urgent caller. As these may not be polled, one is left for the others.
        let all = state.limit.room(0, self.max_connections);
        let reserved = state.urgent.min(all.saturating_sub(1));
        (self.room(state) > reserved).then(|| self.permit(state))
    }

    fn permit(&self, state: &mut State) -> Permit<'_> {
        state.in_use += 1;
        if state.waiting > 0 {
            state.limit.turn(1, Instant::now());
        }
        Permit {
            pool: self,
            in_use: state.in_use,
            since: Instant::now(),
            is_measured: false,
            is_answered: false,
        }
    }

    fn room(&self, state: &State) -> usize {
        state.limit.room(state.in_use, self.max_connections)
    }

    /// Changes the state, and wakes as many callers as there are permits for.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        if state.waiting > 0 {
            let room = self.room(&state);
            drop(state);
            self.freed.notify(room);
        }
    }

    /// Returns the idle connection that a caller may use and that was used last, of those that are wanted.
    pub(super) fn take_idle(
        &self,
        driver: Driver,
        is_wanted: impl Fn(&Connection) -> bool,
    ) -> Option<Connection> {
        // Connections are checked and closed without the lock: both are system calls.
        loop {
            let mut state = self.state();
            let mut idle = state.idle.iter();
            let suitable = idle.rposition(|(idle, _)| idle.suits(driver) && is_wanted(idle));
            let (connection, since) = state.idle.remove(suitable?);
            drop(state);
            if since.elapsed() <= IDLE_MAX && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Closes the oldest idle connection if a new one would be one too many.
    pub(super) fn make_room(&self) {
        let mut state = self.state();
        // The new one is among those in use, as its caller has a permit.
        let is_full = state.in_use + state.idle.len() > self.max_connections;
        let oldest = (is_full && !state.idle.is_empty()).then(|| state.idle.remove(0));
        drop(state);
        drop(oldest);
    }

    /// Keeps a connection for other calls. Closes the oldest one if it was idle for too long.
    pub(super) fn put_idle(&self, connection: Connection) {
        let now = Instant::now();
        let mut state = self.state();
        state.idle.push((connection, now));
        let expired = (state.idle)
            .first()
            .is_some_and(|(_, since)| now.saturating_duration_since(*since) > IDLE_MAX);
        let expired = expired.then(|| state.idle.remove(0));
        drop(state);
        drop(expired);
    }

    /// Closes all idle connections.
    pub(super) fn clear(&self) {
        let idle = std::mem::take(&mut self.state().idle);
        drop(idle);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_too_late(state: &State, call: Call) -> bool {
    call.time_left().unwrap_or_default() < state.limit.reply_time()
}

enum Turn<'a> {
    Now(Permit<'a>),
    Later(Waiting<'a>),
    Refused,
}

/// A caller that waits for a permit.
struct Waiting<'a> {
    pool: &'a Pool,
    since: Instant,
    is_urgent: bool,
}

impl<'a> Waiting<'a> {
    /// Returns a permit if there is one, or an error if it would come too late.
    fn try_acquire(&mut self, call: Call) -> Result<Option<Permit<'a>>, NoPermit> {
        let pool = self.pool;
        let mut state = pool.state();
        if pool.room(&state) == 0 {
            if !self.is_urgent && self.since.elapsed() >= pool.overtaken_max {
                self.is_urgent = true;
                state.urgent += 1;
            }
            return Ok(None);
        }
        if is_too_late(&state, call) {
            return Err(NoPermit::Overloaded);
        }
        Ok(Some(pool.permit(&mut state)))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // It may have been notified, and not have taken the permit.
        self.pool.change(|state| {
            state.waiting -= 1;
            state.urgent -= usize::from(self.is_urgent);
            if state.waiting == 0 {
                state.limit.wait_ends(Instant::now());
            }
        });
    }
}

/// The right to use one connection.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    pool: &'a Pool,
    /// How many were in use, with this one.
    in_use: usize,
    since: Instant,
    is_measured: bool,
    is_answered: bool,
}

impl Permit<'_> {
    /// Says that a single request was sent now, which tells how fast the server is.
    pub(super) fn measure(&mut self) {
        self.since = Instant::now();
        self.is_measured = true;
    }

    /// Says that the request is sent again. The time of both exchanges is not that of a reply.
    pub(super) fn resent(&mut self) {
        self.since = Instant::now();
        self.is_measured = false;
    }

    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }

    /// Returns whether the response is late though the server responds: it has answered a later request, and
    /// takes much less time on average.
    pub(super) fn is_overdue(&self) -> bool {
        let state = self.pool.state();
        state.latest_answered > Some(self.since)
            && self.since.elapsed() > PATIENCE + state.limit.reply_time() * 4
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.since);
        self.pool.change(|state| {
            state.in_use -= 1;
            if self.is_answered {
                state.latest_answered = state.latest_answered.max(Some(self.since));
            }
            match (self.is_measured, self.is_answered) {
                (true, true) => state.limit.record(self.in_use, took, now),
                (true, false) => state.limit.record_at_least(self.in_use, took, now),
                _ => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use cacheio_core::__private::poll_ready;

    use super::*;

    #[cfg(feature = "tokio")]
    #[test]
    fn a_caller_that_has_waited_for_long_is_not_overtaken() {
        use std::pin::pin;
        use std::task::{Context, Poll, Waker};

        let timeout = Duration::from_secs(2);
        let pool = Pool::new(2, timeout);
        let call = Call::new(Driver::Tasks, timeout);
        let _other = poll_ready(pool.acquire(call)).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut held = poll_ready(pool.acquire(call)).unwrap();
        let mut waits = pin!(pool.acquire(call));
        assert!(waits.as_mut().poll(&mut context).is_pending());
        std::thread::sleep(pool.overtaken_max);
        drop(held);
        held = poll_ready(pool.acquire(call)).unwrap();
        assert!(waits.as_mut().poll(&mut context).is_pending());
        drop(held);
        let mut new = pin!(pool.acquire(call));
        assert!(new.as_mut().poll(&mut context).is_pending());
        let Poll::Ready(Ok(had_its_turn)) = waits.as_mut().poll(&mut context) else {
            panic!("it still waits");
        };
        drop(had_its_turn);
        assert!(new.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn two_exchanges_are_not_measured_as_one() {
        let timeout = Duration::from_secs(10);
        let pool = Pool::new(16, timeout);
        let call = Call::new(Driver::Threads, timeout);
        let mut permit = poll_ready(pool.acquire(call)).unwrap();
        permit.measure();
        let sent = permit.since;
        std::thread::sleep(Duration::from_millis(1));
        permit.resent();
        assert!(permit.since > sent);
        permit.answered();
        drop(permit);
        assert_eq!(pool.state().limit.reply_time(), Duration::ZERO);
        let mut permit = poll_ready(pool.acquire(call)).unwrap();
        permit.measure();
        permit.answered();
        drop(permit);
        assert!(pool.state().limit.reply_time() > Duration::ZERO);
    }
}
