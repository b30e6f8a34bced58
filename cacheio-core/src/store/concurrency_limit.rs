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

use std::time::{Duration, Instant};

use self::line::Line;

/// The smallest limit while replies come in time, so that no request waits for a single other one, such as
/// the end of a load in the background.
const MIN_LIMIT: usize = 4;

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
        if took > self.goal() {
            self.lower(took, now);
        } else if self.is_limited() {
            self.raise(in_flight, took, now);
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

    fn set_lower(&mut self, limit: usize, now: Instant) {
        self.limit = Some(limit);
        self.lowered_at = Some(now);
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
        in_flight: VecDeque<Sent>,
        /// How many of the first ones have timed out.
        timed_out: usize,
        /// When the server has answered what it got so far.
        busy_until: Instant,
        each: Duration,
        latency: Duration,
        /// By how much the latency varies.
        jitter: Duration,
        replies: u32,
        outcome: Outcome,
    }

    struct Sent {
        at: Instant,
        in_flight: usize,
        replied_at: Instant,
    }

    #[derive(Clone, Copy, Debug, Default)]
    struct Outcome {
        answered: usize,
        timed_out: usize,
        slowest: Duration,
        /// Whether a caller had to wait for its turn.
        waited: bool,
    }

    impl Simulation {
        fn new(each: Duration, latency: Duration) -> Self {
            let now = Instant::now();
            Self {
                now,
                limit: ConcurrencyLimit::new(TIMEOUT),
                in_flight: VecDeque::new(),
                timed_out: 0,
                busy_until: now,
                each,
                latency,
                jitter: Duration::ZERO,
                replies: 0,
                outcome: Outcome::default(),
            }
        }

        /// Sends as many requests as the limit allows, up to `callers`, for some time.
        fn run(&mut self, callers: usize, time: Duration) -> Outcome {
            self.outcome = Outcome::default();
            let end = self.now + time;
            while self.now < end {
                let awaited = |server: &Self| server.in_flight.len() - server.timed_out;
                while awaited(self) < callers
                    && (awaited(self) == 0 || self.limit.has_room(self.in_flight.len()))
                {
                    self.send();
                }
                if awaited(self) < callers {
                    self.limit.wait_begins(self.now);
                    self.outcome.waited = true;
                } else {
                    self.limit.wait_ends(self.now);
                }
                self.now += MS / 2;
                self.receive();
                self.time_out();
            }
            self.outcome
        }

        fn send(&mut self) {
            self.busy_until = self.busy_until.max(self.now) + self.each;
            self.replies += 1;
            let jitter = self.jitter * (self.replies % 7) / 6;
            let replied_at = self.busy_until + self.latency + jitter;
            // Replies are in order.
            let before = self.in_flight.back().map(|sent| sent.replied_at);
            self.in_flight.push_back(Sent {
                at: self.now,
                in_flight: self.in_flight.len() + 1,
                replied_at: before.unwrap_or(replied_at).max(replied_at),
            });
        }

        fn receive(&mut self) {
            while let Some(sent) = self.in_flight.front()
                && sent.replied_at <= self.now
            {
                let (took, in_flight) = (self.now - sent.at, sent.in_flight);
                self.in_flight.pop_front();
                if self.timed_out > 0 {
                    self.timed_out -= 1;
                    continue;
                }
                self.limit.record(in_flight, took, self.now);
                self.outcome.answered += 1;
                self.outcome.slowest = self.outcome.slowest.max(took);
            }
        }

        fn time_out(&mut self) {
            while let Some(sent) = self.in_flight.get(self.timed_out)
                && self.now - sent.at >= TIMEOUT
            {
                self.timed_out += 1;
                self.outcome.timed_out += 1;
                self.limit
                    .record_at_least(sent.in_flight, TIMEOUT, self.now);
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
                let outcome = server.run(callers, TIMEOUT * 3);
                let case = format!("{each:?} {latency:?} {outcome:?} {:?}", server.limit);
                assert!(outcome.slowest <= latency + TIMEOUT * 4 / 10, "{case}");
                let possible = (TIMEOUT * 3).div_duration_f64(each);
                assert!(ratio(outcome.answered, 1) > possible * 0.9, "{case}");
                assert_eq!(outcome.timed_out, 0, "{case}");
            }
        }
    }

    #[test]
    fn a_server_that_answers_two_requests_in_a_timeout_gets_no_more() {
        let mut server = Simulation::new(MS * 400, MS);
        server.run(8, TIMEOUT * 12);
        let outcome = server.run(8, TIMEOUT * 8);
        assert!(outcome.answered >= 16, "{outcome:?} {:?}", server.limit);
    }

    #[test]
    fn a_delay_of_a_third_of_the_timeout_makes_no_caller_wait() {
        for delay in [100, 200, 280, 333] {
            for jitter in [0, 20, 50] {
                for callers in [1, 4, 32, 300] {
                    let mut server = Simulation::new(MS / 100, MS);
                    server.run(callers, TIMEOUT);
                    server.latency = MS * delay;
                    server.jitter = MS * jitter;
                    let outcome = server.run(callers, TIMEOUT * 5);
                    let case = format!("{delay} {jitter} {callers} {:?}", server.limit);
                    assert!(!outcome.waited, "{case}");
                }
            }
        }
    }

    #[test]
    fn a_server_far_away_is_not_taken_for_an_overloaded_one() {
        for delay in [450, 600, 800] {
            for jitter in [0, 20, 100] {
                for callers in [32, 300] {
                    let mut server = Simulation::new(MS / 100, MS);
                    server.run(callers, TIMEOUT);
                    // All replies begin to take longer, as behind another network.
                    server.latency = MS * delay;
                    server.jitter = MS * jitter;
                    server.run(callers, TIMEOUT * 4);
                    let outcome = server.run(callers, TIMEOUT * 4);
                    let case = format!("{delay} {jitter} {callers} {:?}", server.limit);
                    assert!(!outcome.waited, "{case}");
                    // The delay ends, and with its last reply all of its effects.
                    server.latency = MS;
                    server.jitter = Duration::ZERO;
                    server.run(callers, MS * (delay + jitter));
                    assert!(!server.run(callers, TIMEOUT).waited, "{case}");
                }
            }
        }
    }

    #[test]
    fn a_few_requests_may_always_be_in_flight_while_replies_come() {
        for took in [280, 400, 600, 900] {
            for most in [1, 2, 3, 8] {
                let mut limit = ConcurrencyLimit::new(TIMEOUT);
                let mut now = Instant::now();
                limit.record(1, MS, now);
                for reply in 0..50 {
                    now += MS * took;
                    limit.record(
                        reply % most + 1,
                        MS * 15 * number(reply % most) + MS * took,
                        now,
                    );
                    assert!(limit.has_room(MIN_LIMIT - 1), "{took} {most} {limit:?}");
                }
            }
        }
    }

    fn number(count: usize) -> u32 {
        u32::try_from(count).unwrap()
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
