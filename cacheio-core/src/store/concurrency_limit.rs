//! How many requests to a server may be in flight, so that those that are sent are answered in time.
//!
//! A server that gets more requests than it can answer puts them into a queue. If all are sent, each
//! reply comes after its caller has given up, and the server works in vain. So the others wait in the
//! client, where a request can be dropped when there is no time left for it.
//!
//! There is no I/O and no lock here. The limit follows the times of the replies, by Little's law: a reply
//! that took `t` while `n` requests were in flight means that the server answers `n` in `t`. As long as
//! no reply takes long, there is no limit.

use std::time::{Duration, Instant};

/// The limit for one connection, or for the connections to one server.
///
/// ```
/// use cacheio::__private::ConcurrencyLimit;
/// use std::time::{Duration, Instant};
///
/// let (second, now) = (Duration::from_secs(1), Instant::now());
/// let mut limit = ConcurrencyLimit::new(second);
/// limit.record(1, second / 1_000, now);
/// assert!(limit.has_room(10_000));
/// // 100 requests took 400 ms: about 60 take 250 ms.
/// limit.record(100, second * 4 / 10, now);
/// assert!(limit.has_room(60) && !limit.has_room(70));
/// ```
#[derive(Debug)]
pub struct ConcurrencyLimit {
    timeout: Duration,
    /// The shortest time of a reply: that of a request with no others before it.
    shortest: Option<Duration>,
    limit: Option<usize>,
    /// The average time of a reply.
    average: Option<Duration>,
    /// The time of the latest reply.
    latest: Duration,
    /// The request that lowered the limit last.
    lowered_by: Option<(usize, Duration)>,
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
            shortest: None,
            limit: None,
            average: None,
            latest: Duration::ZERO,
            lowered_by: None,
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
        self.limit.is_none_or(|limit| in_flight < limit.max(1))
    }

    /// Returns how many more requests may be sent while so many are in flight, up to `max`.
    pub fn room(&self, in_flight: usize, max: usize) -> usize {
        self.limit
            .map_or(max, |limit| limit.max(1).min(max))
            .saturating_sub(in_flight)
    }

    /// Returns how long the server takes to answer so many requests, or zero if there is no limit.
    pub fn time_for(&self, requests: usize) -> Duration {
        self.limit.map_or(Duration::ZERO, |limit| {
            self.goal().mul_f64(ratio(requests, limit.max(1)))
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
        let goal = self.goal();
        self.latest = took;
        let average = self.average.unwrap_or(took);
        self.average = Some((average * 7 + took) / 8);
        self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
        if took > goal {
            self.lower(in_flight, took);
        } else if let Some(limit) = &mut self.limit {
            let waited_lately = self.queue.is_some()
                || (self.last_wait)
                    .is_some_and(|last| now.saturating_duration_since(last) < self.timeout * 2);
            if !waited_lately && took < goal / 2 {
                self.limit = None;
                self.lowered_by = None;
                return;
            }
            let shortest = self.shortest.unwrap_or_default();
            let grown = match took <= shortest + shortest / 8 {
                true => in_flight * 2,
                false => share(in_flight, goal, took),
            };
            *limit = (*limit).max(grown);
        }
    }

    /// Records that a request took at least this time, with at most so many in flight: one without a
    /// reply, or one that followed such requests.
    pub fn record_at_least(&mut self, in_flight: usize, took: Duration) {
        let goal = self.goal();
        if took > goal {
            let limit = share(in_flight, goal, took);
            self.limit = Some(self.limit.map_or(limit, |lower| lower.min(limit)));
        }
    }

    /// Lowers the limit after a request that took too long.
    fn lower(&mut self, in_flight: usize, took: Duration) {
        match self.lowered_by {
            Some((before, took_before)) if in_flight * 2 <= before => {
                // What half of the requests do not make shorter is the time to the server and back.
                let saved = took_before.saturating_sub(took);
                let queued = saved.mul_f64(ratio(in_flight, before - in_flight));
                self.shortest = self.shortest.max(Some(took.saturating_sub(queued)));
                self.lowered_by = Some((in_flight, took));
            }
            Some((before, _)) if in_flight <= before => {}
            _ => self.lowered_by = Some((in_flight, took)),
        }
        let goal = self.goal();
        if took > goal {
            self.limit = Some(share(in_flight, goal, took));
        }
    }

    /// Returns how long a request may be in flight: a quarter of the timeout more than a lone one.
    fn goal(&self) -> Duration {
        (self.timeout / 4 + self.shortest.unwrap_or_default()).min(self.timeout * 7 / 8)
    }
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
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]
fn share(in_flight: usize, goal: Duration, took: Duration) -> usize {
    let took = took.max(Duration::from_micros(1));
    (in_flight as f64 * goal.div_duration_f64(took)) as usize
}

#[allow(clippy::cast_precision_loss)]
fn ratio(of: usize, to: usize) -> f64 {
    of as f64 / to as f64
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TIMEOUT: Duration = Duration::from_secs(1);

    /// A server that answers requests one after another, and the requests that it has not answered.
    struct Simulation {
        now: Instant,
        limit: ConcurrencyLimit,
        in_flight: VecDeque<(Instant, usize)>,
        replies: VecDeque<Instant>,
        /// When the server has answered what it got so far.
        busy_until: Instant,
        each: Duration,
        latency: Duration,
        answered: usize,
        slowest: Duration,
    }

    impl Simulation {
        fn new(each: Duration, latency: Duration) -> Self {
            let now = Instant::now();
            Self {
                now,
                limit: ConcurrencyLimit::new(TIMEOUT),
                in_flight: VecDeque::new(),
                replies: VecDeque::new(),
                busy_until: now,
                each,
                latency,
                answered: 0,
                slowest: Duration::ZERO,
            }
        }

        /// Sends as many requests as the limit allows, up to `callers`, for some time.
        fn run(&mut self, callers: usize, time: Duration) {
            self.answered = 0;
            self.slowest = Duration::ZERO;
            let end = self.now + time;
            while self.now < end {
                while self.in_flight.len() < callers && self.limit.has_room(self.in_flight.len()) {
                    self.in_flight
                        .push_back((self.now, self.in_flight.len() + 1));
                    self.busy_until = self.busy_until.max(self.now) + self.each;
                    self.replies.push_back(self.busy_until + self.latency);
                }
                match self.in_flight.len() < callers {
                    true => self.limit.wait_begins(self.now),
                    false => self.limit.wait_ends(self.now),
                }
                self.now += MS / 2;
                while self.replies.front().is_some_and(|at| *at <= self.now) {
                    self.replies.pop_front();
                    let Some((sent, in_flight)) = self.in_flight.pop_front() else {
                        break;
                    };
                    let took = self.now - sent;
                    self.limit.record(in_flight, took, self.now);
                    self.answered += 1;
                    self.slowest = self.slowest.max(took);
                }
            }
        }
    }

    #[test]
    fn requests_to_an_overloaded_server_are_answered_in_time() {
        for each in [MS / 2, MS, MS * 10, MS * 100] {
            for latency in [MS, MS * 50, MS * 400] {
                let mut server = Simulation::new(each, latency);
                server.run(1, TIMEOUT);
                // Four times as many as it can answer in time; it has them all until the first replies.
                let callers = share(4, TIMEOUT, each);
                server.run(callers, TIMEOUT * 12);
                server.run(callers, TIMEOUT * 3);
                let case = format!("{each:?} {latency:?} {:?}", server.limit);
                assert!(
                    server.slowest <= latency + TIMEOUT * 4 / 10,
                    "{:?} {case}",
                    server.slowest
                );
                let possible = (TIMEOUT * 3).div_duration_f64(each);
                assert!(
                    ratio(server.answered, 1) > possible * 0.9,
                    "{} {case}",
                    server.answered
                );
            }
        }
    }

    #[test]
    fn a_server_far_away_is_not_taken_for_an_overloaded_one() {
        let mut server = Simulation::new(MS / 100, MS);
        server.run(300, TIMEOUT);
        assert!(!server.limit.is_limited());
        // All replies begin to take longer, as behind another network.
        server.latency = MS * 800;
        server.run(300, TIMEOUT * 10);
        server.run(300, TIMEOUT * 4);
        assert!(
            server.answered > 1_200,
            "{} {:?}",
            server.answered,
            server.limit
        );
    }

    #[test]
    fn a_pause_of_the_server_is_soon_forgotten() {
        let mut server = Simulation::new(MS / 100, MS);
        server.run(64, TIMEOUT);
        server.busy_until = server.now + TIMEOUT / 2;
        server.run(64, TIMEOUT);
        server.run(64, TIMEOUT * 4);
        assert!(!server.limit.is_limited(), "{:?}", server.limit);
    }

    #[test]
    fn only_requests_that_would_wait_too_long_are_refused() {
        let mut limit = ConcurrencyLimit::new(TIMEOUT);
        let now = Instant::now();
        assert!(!limit.refuses(1_000_000, MS, now));
        limit.record(1, MS, now);
        limit.wait_begins(now);
        limit.turn(10, now + MS);
        assert!(
            !limit.refuses(1_000, TIMEOUT, now),
            "a burst is not refused"
        );
        let later = now + TIMEOUT / 2;
        limit.turn(190, later);
        assert!(!limit.refuses(300, TIMEOUT, later));
        assert!(limit.refuses(400, TIMEOUT, later));
        assert!(limit.refuses(300, TIMEOUT / 2, later));
        limit.wait_ends(later);
        assert!(!limit.refuses(400, TIMEOUT, later));
    }
}
