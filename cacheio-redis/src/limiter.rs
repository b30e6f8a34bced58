//! The requests in flight on a connection, and those that wait until they may be sent.
//!
//! As long as the server replies soon, no request waits, and this only counts them. Otherwise
//! [`ConcurrencyLimit`] tells how many may be in flight. The others wait here, in order, where one
//! whose caller has left, or that has no time left for its reply, costs the server nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cacheio_core::__private::{ConcurrencyLimit, within};
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::nearness::Nearness;

pub(crate) struct Limiter {
    nearness: Arc<Nearness>,
    is_limited: AtomicBool,
    state: Mutex<State>,
}

/// All numbers of requests are sums of [weights](crate::commands::Commands::weight).
struct State {
    limit: ConcurrencyLimit,
    /// How many requests were sent, and up to which of them the server has answered. A connection
    /// has its replies in order, so this also counts those that no caller waits for any more.
    sent: u64,
    answered: u64,
    /// The last request whose caller gave up.
    abandoned: u64,
    /// How many sends have a caller that waits for the reply.
    awaited: usize,
    /// Requests that may be sent, and were not sent yet.
    reserved: usize,
    waiters: VecDeque<Waiter>,
    waiting: usize,
}

struct Waiter {
    weight: usize,
    deadline: Instant,
    verdict: oneshot::Sender<Verdict>,
}

/// What becomes of a request that waited.
type Verdict = Result<Option<Reservation>, NoTimeLeft>;

/// The request cannot be answered in time, and must not be sent.
#[derive(Debug)]
pub(crate) struct NoTimeLeft;

/// The right to send a request. It is dropped when the request is [counted as sent](Limiter::begin).
pub(crate) struct Reservation {
    limiter: Arc<Limiter>,
    weight: usize,
}

/// A request that was sent, until its reply has come or its caller gives up.
pub(crate) struct Sent<'a> {
    limiter: &'a Arc<Limiter>,
    /// The number of requests up to this one.
    position: u64,
    in_flight: usize,
    at: Instant,
    /// Whether the number in flight is exact. It may include requests that the server has answered
    /// already, when no caller waits for their replies.
    is_exact: bool,
    is_answered: bool,
}

impl Limiter {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            nearness: Arc::default(),
            is_limited: AtomicBool::new(false),
            state: Mutex::new(State {
                limit: ConcurrencyLimit::new(timeout),
                sent: 0,
                answered: 0,
                abandoned: 0,
                awaited: 0,
                reserved: 0,
                waiters: VecDeque::new(),
                waiting: 0,
            }),
        }
    }

    /// Returns whether the replies tell that the server is near.
    pub(crate) fn nearness(&self) -> &Arc<Nearness> {
        &self.nearness
    }

    /// Returns how long the latest reply took, or zero if there was none.
    pub(crate) fn latest_reply_time(&self) -> Duration {
        self.state().limit.latest_reply_time()
    }

    /// Returns whether requests have to [wait for their turn](Self::turn).
    pub(crate) fn is_limited(&self) -> bool {
        self.is_limited.load(Ordering::Relaxed)
    }

    /// Waits until a request may be sent. Fails at once if that would take too long.
    pub(crate) async fn turn(
        self: &Arc<Self>,
        weight: usize,
        deadline: Instant,
    ) -> Result<Option<Reservation>, NoTimeLeft> {
        let admitted = self.state().admit(self, weight, deadline);
        match admitted {
            Admission::Now(reservation) => Ok(Some(reservation)),
            Admission::Refused => {
                // A caller that calls again at once must not keep others from running: among them
                // is the task that reads the replies.
                yield_now().await;
                Err(NoTimeLeft)
            }
            Admission::Later(verdict) => match within(deadline, verdict).await {
                Some(Ok(verdict)) => verdict,
                _ => Err(NoTimeLeft),
            },
        }
    }

    /// Counts a request as sent.
    pub(crate) fn begin(self: &Arc<Self>, weight: usize) -> Sent<'_> {
        let at = Instant::now();
        let mut state = self.state();
        state.sent += weight as u64;
        state.awaited += 1;
        Sent {
            limiter: self,
            position: state.sent,
            in_flight: state.in_flight(),
            at,
            is_exact: state.answered >= state.abandoned,
            is_answered: false,
        }
    }

    /// Forgets the requests in flight, because the connection was closed.
    pub(crate) fn reset(self: &Arc<Self>) {
        self.change(|state| {
            state.answered = state.sent;
            state.limit.reset();
        });
    }

    /// Lets all requests go that wait. They find out that the circuit is open.
    pub(crate) fn release_all(&self) {
        let waiters = {
            let mut state = self.state();
            state.waiting = 0;
            state.limit.wait_ends(Instant::now());
            std::mem::take(&mut state.waiters)
        };
        for waiter in waiters {
            let _ = waiter.verdict.send(Ok(None));
        }
    }

    /// Changes the state, and lets requests go that may be sent after that.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let verdicts = {
            let mut state = self.state();
            change(&mut state);
            self.nearness.record(state.limit.shortest_reply_time());
            let is_limited = state.limit.is_limited();
            if is_limited != self.is_limited() {
                self.is_limited.store(is_limited, Ordering::Relaxed);
            }
            if state.waiters.is_empty() {
                return;
            }
            state.verdicts(self)
        };
        for (waiter, verdict) in verdicts {
            // If its caller has left, the reservation is dropped, and another one takes it.
            let _ = waiter.verdict.send(verdict);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Admission {
    Now(Reservation),
    Later(oneshot::Receiver<Verdict>),
    Refused,
}

impl State {
    fn in_flight(&self) -> usize {
        usize::try_from(self.sent - self.answered).unwrap_or(usize::MAX)
    }

    fn has_room(&self) -> bool {
        let none = self.awaited == 0 && self.reserved == 0;
        none || self.limit.has_room(self.in_flight() + self.reserved)
    }

    fn admit(&mut self, limiter: &Arc<Limiter>, weight: usize, deadline: Instant) -> Admission {
        if self.waiters.is_empty() && self.has_room() {
            return Admission::Now(self.reserve(limiter, weight));
        }
        let now = Instant::now();
        let remaining = deadline.saturating_duration_since(now);
        if self.limit.refuses(self.waiting + weight, remaining, now) {
            return Admission::Refused;
        }
        let (verdict, receiver) = oneshot::channel();
        self.limit.wait_begins(now);
        self.waiting += weight;
        self.waiters.push_back(Waiter {
            weight,
            deadline,
            verdict,
        });
        Admission::Later(receiver)
    }

    fn reserve(&mut self, limiter: &Arc<Limiter>, weight: usize) -> Reservation {
        self.reserved += weight;
        Reservation {
            limiter: Arc::clone(limiter),
            weight,
        }
    }

    /// Takes the requests that may be sent now, and those that cannot be answered any more.
    fn verdicts(&mut self, limiter: &Arc<Limiter>) -> Vec<(Waiter, Verdict)> {
        let now = Instant::now();
        let mut verdicts = Vec::new();
        while let Some(waiter) = self.waiters.front() {
            let in_flight = self.in_flight() + self.reserved;
            let answered_at = now + self.limit.time_for(in_flight + waiter.weight);
            let verdict = if waiter.verdict.is_closed() || answered_at > waiter.deadline {
                Err(NoTimeLeft)
            } else if self.has_room() {
                self.limit.turn(waiter.weight, now);
                Ok(Some(self.reserve(limiter, waiter.weight)))
            } else {
                break;
            };
            if let Some(waiter) = self.waiters.pop_front() {
                self.waiting -= waiter.weight;
                verdicts.push((waiter, verdict));
            }
        }
        if self.waiters.is_empty() {
            self.limit.wait_ends(now);
        }
        verdicts
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.limiter.change(|state| state.reserved -= self.weight);
    }
}

impl Sent<'_> {
    /// Records that the reply has come.
    pub(crate) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.at);
        self.limiter.change(|state| {
            state.awaited -= 1;
            match self.is_answered {
                true => state.answered = state.answered.max(self.position),
                false => state.abandoned = state.abandoned.max(self.position),
            }
            match self.is_answered && self.is_exact {
                true => state.limit.record(self.in_flight, took, now),
                false => state.limit.record_at_least(self.in_flight, took, now),
            }
        });
    }
}
