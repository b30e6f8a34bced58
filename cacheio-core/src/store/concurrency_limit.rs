//! How many requests to a server may be in flight, so that those that are sent are answered in time.
//!
//! A server that gets more requests than it can answer puts them into a queue. If all are sent, each
//! reply comes after its caller has given up, and the server works in vain. So the others wait in the
//! client, where a request can be dropped when there is no time left for it.
//!
//! There is no I/O and no lock here. The limit follows the times of the replies. A reply that takes long
//! has waited in a queue, or was on its way through a slow network, where a limit would only make fewer of
//! them. Requests in a queue take longer the more of them are in flight; a delay is the same for all.
//! [`Line`] tells the two apart. As long as no reply waits long in a queue, there is no limit.

mod line;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::line::Line;

/// The smallest limit to which late replies lead, so that no request waits for a single other one, such as
/// the end of a load in the background.
const MIN_LIMIT: usize = 4;

/// How many timeouts pass at least from one trial of another limit to the next.
const TIMEOUTS_PER_TRIAL: u32 = 4;

/// The limit for one connection, or for the connections to one server.
///
/// ```
/// use cacheio::__private::ConcurrencyLimit;
/// use std::time::{Duration, Instant};
///
/// let (ms, now) = (Duration::from_millis(1), Instant::now());
/// let mut limit = ConcurrencyLimit::new(ms * 1_000);
/// limit.record(1, ms, now);
/// assert!(limit.has_room(10_000));
/// // A request waits for 4 ms behind each other one: about 60 take 250 ms.
/// for in_flight in 1..=100 {
///     limit.record(in_flight, ms * 4 * in_flight as u32, now);
/// }
/// assert!(limit.has_room(55) && !limit.has_room(65));
/// ```
#[derive(Debug)]
pub struct ConcurrencyLimit {
    timeout: Duration,
    /// The time of a reply without other requests in flight, as far as it is known.
    delay: Option<Duration>,
    limit: Option<usize>,
    /// When the limit was lowered last: replies to earlier requests do not show the effect yet.
    lowered_at: Option<Instant>,
    /// The latest trial of another limit, to find out how reply times depend on it.
    trial: Option<Trial>,
    /// What slow replies tell.
    line: Line,
    /// The average time of a reply.
    average: Option<Duration>,
    /// The time of the latest reply.
    latest: Duration,
    /// How fast requests get their turn, while any wait.
    queue: Option<Queue>,
    /// When a request waited last.
    last_wait: Option<Instant>,
}

impl ConcurrencyLimit {
    /// Creates one without a limit. `timeout` is that of the calls.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            delay: None,
            limit: None,
            lowered_at: None,
            trial: None,
            line: Line::default(),
            average: None,
            latest: Duration::ZERO,
            queue: None,
            last_wait: None,
        }
    }

    /// Forgets how fast the server was, for a new connection.
    pub fn reset(&mut self) {
        *self = Self {
            queue: self.queue,
            last_wait: self.last_wait,
            ..Self::new(self.timeout)
        };
    }

    /// Returns whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Returns whether another request may be sent while so many are in flight. One always may.
    pub fn has_room(&self, in_flight: usize) -> bool {
        self.limit.is_none_or(|limit| in_flight < limit)
    }

    /// Returns how many more requests may be sent while so many are in flight, up to `max`.
    pub fn room(&self, in_flight: usize, max: usize) -> usize {
        self.limit
            .map_or(max, |limit| limit.min(max))
            .saturating_sub(in_flight)
    }

    /// Returns how long the server takes to answer so many requests, or zero if there is no limit.
    pub fn time_for(&self, requests: usize) -> Duration {
        self.limit.map_or(Duration::ZERO, |limit| {
            let delay = self.delay.unwrap_or_default();
            let queued = self.goal().saturating_sub(delay);
            delay + queued.mul_f64(ratio(requests, limit))
        })
    }

    /// Returns how long a reply takes on average, or zero if that is not known.
    pub fn reply_time(&self) -> Duration {
        self.average.unwrap_or_default()
    }

    /// Returns how long the latest reply took, or zero if there was none.
    pub fn latest_reply_time(&self) -> Duration {
        self.latest
    }

    /// Returns how long a reply takes at least, if that is known.
    pub fn shortest_reply_time(&self) -> Option<Duration> {
        self.delay
    }

    /// Records that a request waits.
    pub fn wait_begins(&mut self, now: Instant) {
        self.queue.get_or_insert(Queue {
            since: now,
            turns: 0,
            turns_since: now,
        });
    }

    /// Records that requests which waited are sent.
    pub fn turn(&mut self, requests: usize, now: Instant) {
        if let Some(queue) = &mut self.queue {
            queue.turns += requests;
            let time = now.saturating_duration_since(queue.turns_since);
            if time > self.timeout {
                // The more recent half counts more.
                queue.turns /= 2;
                queue.turns_since += time / 2;
            }
        }
    }

    /// Records that no request waits any more.
    pub fn wait_ends(&mut self, now: Instant) {
        if self.queue.take().is_some() {
            self.last_wait = Some(now);
        }
    }

    /// Returns whether a new request has to be refused, because it would be answered too late behind
    /// those that wait. A short burst of requests is not refused.
    pub fn refuses(&self, waiting: usize, remaining: Duration, now: Instant) -> bool {
        let Some(queue) = &self.queue else {
            return false;
        };
        if queue.turns == 0 || now.saturating_duration_since(queue.since) < self.timeout / 2 {
            return false;
        }
        let time = now.saturating_duration_since(queue.turns_since);
        let wait = time.mul_f64(ratio(waiting, queue.turns));
        // An eighth less, because this is an estimate.
        wait + self.reply_time() > remaining * 7 / 8
    }

    /// Records a reply. `in_flight` is the number of requests that were in flight after this one was
    /// sent.
    pub fn record(&mut self, in_flight: usize, took: Duration, now: Instant) {
        self.latest = took;
        let average = self.average.unwrap_or(took);
        self.average = Some((average * 7 + took) / 8);
        self.delay = Some(self.delay.map_or(took, |delay| delay.min(took)));
        if self.is_slow(took) {
            self.line.add(in_flight, took, now, self.timeout);
            if let Some((delay, _)) = self.line.delay_and_cost() {
                self.delay = self.delay.max(Some(delay));
            }
        }
        self.end_trial(now);
        if took > self.goal() {
            self.lower(took, now);
        } else if self.is_limited() {
            self.raise(in_flight, took, now);
        }
        if self.is_slow(took) && self.queue.is_some() {
            self.begin_trial(took, now);
        }
    }

    /// Records that a request took at least this time, with at most so many in flight: one without a
    /// reply, or one that followed such requests.
    pub fn record_at_least(&mut self, in_flight: usize, took: Duration, now: Instant) {
        let goal = self.goal();
        // Its caller may have given up for any reason.
        if took <= goal.max(self.timeout / 2) || self.was_sent_before_lowering(took, now) {
            return;
        }
        // If no reply comes in time, a smaller limit costs nothing.
        let is_useless = took >= self.timeout * 7 / 8;
        let min = if is_useless { 1 } else { MIN_LIMIT };
        let limit = share(in_flight, goal, took).max(min);
        if self.limit.is_none_or(|before| limit < before) {
            self.set_lower(limit, now);
        }
    }

    /// Lowers the limit after a reply that took too long, at most by half in the time of a reply.
    fn lower(&mut self, took: Duration, now: Instant) {
        if self.was_sent_before_lowering(took, now) {
            return;
        }
        let goal = self.goal();
        let limit = match (self.line.delay_and_cost(), self.limit) {
            (Some((delay, cost)), _) => quotient(goal.saturating_sub(delay), cost),
            (None, Some(limit)) => share(limit, goal, took),
            // Half of the requests show why replies take long. Until half of the timeout has passed, no
            // caller has a disadvantage.
            (None, None) if took > self.timeout / 2 && self.line.has_enough() => {
                self.line.most() / 2
            }
            (None, None) => return,
        };
        let limit = limit.max(self.limit.unwrap_or_default() / 2).max(MIN_LIMIT);
        if limit < self.limit.unwrap_or(self.line.most() * 2) {
            self.set_lower(limit, now);
        }
    }

    /// Tries another limit for the time of a reply if nothing tells a delay from a queue, because all replies
    /// had the same number in flight.
    fn begin_trial(&mut self, took: Duration, now: Instant) {
        let is_soon = |trial: Trial| {
            now.saturating_duration_since(trial.began) < self.timeout * TIMEOUTS_PER_TRIAL
        };
        let Some(before) = self.limit.filter(|_| !self.trial.is_some_and(is_soon)) else {
            return;
        };
        let limit = match before {
            1 => 2,
            // With fewer in flight, no reply takes longer.
            _ if self.line.has_enough() && self.line.delay_and_cost().is_none() => before / 2,
            _ => return,
        };
        self.limit = Some(limit);
        self.trial = Some(Trial {
            before,
            began: now,
            ends: Some(now + took * 3 / 2),
        });
    }

    /// Ends a trial after its time. The replies have raised the limit if it may be higher than before.
    fn end_trial(&mut self, now: Instant) {
        if let Some(trial) = &mut self.trial
            && trial.ends.take_if(|ends| now >= *ends).is_some()
        {
            self.limit = self.limit.map(|limit| limit.max(trial.before));
        }
    }

    fn set_lower(&mut self, limit: usize, now: Instant) {
        self.limit = Some(limit);
        self.lowered_at = Some(now);
        // The limit before a trial would be too high.
        if let Some(trial) = &mut self.trial {
            trial.ends = None;
        }
    }

    /// Raises the limit, or ends it, after a reply that came in time.
    fn raise(&mut self, in_flight: usize, took: Duration, now: Instant) {
        let goal = self.goal();
        let waited_lately = self.queue.is_some()
            || (self.last_wait)
                .is_some_and(|last| now.saturating_duration_since(last) < self.timeout * 2);
        if !waited_lately && took < goal / 2 {
            self.limit = None;
            return;
        }
        let delay = self.delay.unwrap_or_default();
        let possible = share(in_flight, goal, took);
        let limit = match self.line.delay_and_cost() {
            Some((delay, cost)) if self.is_slow(took) => {
                quotient(goal.saturating_sub(delay), cost).min(self.line.most() * 2)
            }
            _ if took <= delay + delay / 8 => possible.max(in_flight * 2),
            _ => possible,
        };
        self.limit = self.limit.max(Some(limit));
    }

    /// Returns whether a request that took so long until now was sent before the limit was lowered.
    fn was_sent_before_lowering(&self, took: Duration, now: Instant) -> bool {
        (self.lowered_at).is_some_and(|lowered| now.saturating_duration_since(lowered) < took)
    }

    /// Returns whether a reply came so late that it may have waited in a queue.
    fn is_slow(&self, took: Duration) -> bool {
        took > self.timeout / 8
    }

    /// Returns how long a request may be in flight: a quarter of the timeout more than a lone one, or less
    /// if that takes most of the timeout.
    fn goal(&self) -> Duration {
        let delay = self.delay.unwrap_or_default();
        let left = (self.timeout * 7 / 8).saturating_sub(delay);
        delay + left.clamp(self.timeout / 8, self.timeout / 4)
    }
}

/// A trial of another limit.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The limit before.
    before: usize,
    began: Instant,
    /// When it ends, until it has.
    ends: Option<Instant>,
}

/// The requests that wait, for as long as there are any.
#[derive(Clone, Copy, Debug)]
struct Queue {
    since: Instant,
    /// How many requests got their turn since a time.
    turns: usize,
    turns_since: Instant,
}

/// Returns how many of `in_flight` requests, which took a time, take `goal`.
fn share(in_flight: usize, goal: Duration, took: Duration) -> usize {
    quotient(
        goal,
        took.as_secs_f64().max(1e-6) / ratio(in_flight.max(1), 1),
    )
}

/// Returns how many requests take a time, if each takes so many seconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn quotient(time: Duration, seconds: f64) -> usize {
    (time.as_secs_f64() / seconds.max(1e-9)) as usize
}

#[allow(clippy::cast_precision_loss)]
fn ratio(of: usize, to: usize) -> f64 {
    of as f64 / to as f64
}
