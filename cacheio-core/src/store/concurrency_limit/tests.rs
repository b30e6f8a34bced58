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
    /// How long after a request the next one is sent at the earliest.
    gap: Duration,
    last_sent: Instant,
    /// Whether the network loses all requests.
    is_lost: bool,
    replies: u32,
    outcome: Outcome,
}

struct Sent {
    at: Instant,
    in_flight: usize,
    replied_at: Instant,
    is_lost: bool,
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
            gap: Duration::ZERO,
            last_sent: now,
            is_lost: false,
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
                && self.last_sent + self.gap <= self.now
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
        let before = self.in_flight.back().filter(|sent| !sent.is_lost);
        let before = before.map(|sent| sent.replied_at);
        self.last_sent = self.now;
        self.in_flight.push_back(Sent {
            at: self.now,
            in_flight: self.in_flight.len() + 1,
            replied_at: before.unwrap_or(replied_at).max(replied_at),
            is_lost: self.is_lost,
        });
    }

    fn receive(&mut self) {
        while let Some(first) = self.in_flight.iter().position(|sent| !sent.is_lost)
            && self.in_flight[first].replied_at <= self.now
            && let Some(sent) = self.in_flight.remove(first)
        {
            let (took, in_flight) = (self.now - sent.at, sent.in_flight);
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
            let (in_flight, is_lost) = (sent.in_flight, sent.is_lost);
            if is_lost {
                self.in_flight.remove(self.timed_out);
            } else {
                self.timed_out += 1;
            }
            self.outcome.timed_out += 1;
            self.limit.record_at_least(in_flight, TIMEOUT, self.now);
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

#[test]
fn a_network_that_returns_with_a_delay_does_not_keep_the_limit_of_its_loss() {
    let mut failures = Vec::new();
    for delay in [50, 150, 200, 300, 400, 600] {
        for jitter in [0, 20] {
            for callers in [2, 4, 5, 8, 64] {
                let mut server = Simulation::new(MS / 100, MS);
                server.run(callers, TIMEOUT);
                // The network loses everything.
                server.is_lost = true;
                server.run(callers, TIMEOUT * 5 / 2);
                server.is_lost = false;
                server.latency = MS * delay;
                server.jitter = MS * jitter;
                server.run(callers, TIMEOUT * 8);
                let outcome = server.run(callers, TIMEOUT * 2);
                if outcome.waited || outcome.timed_out > 0 {
                    failures.push(format!("{delay} {jitter} {callers} {:?}", server.limit));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_delay_is_found_out_though_the_number_in_flight_is_always_the_limit() {
    for delay in [260, 300, 400, 600] {
        for limit in [1, 4, 16] {
            let mut server = Simulation::new(MS / 100, MS);
            server.run(1, TIMEOUT);
            server.run(0, MS * 10);
            server.latency = MS * delay;
            server.limit.set_lower(limit, server.now);
            // Each request is sent some time after the one before.
            server.gap = MS * delay / number(limit) / 2;
            server.run(64, TIMEOUT * 4);
            server.gap = Duration::ZERO;
            server.run(64, TIMEOUT * 8);
            let outcome = server.run(64, TIMEOUT);
            assert!(!outcome.waited, "{delay} {limit} {:?}", server.limit);
        }
    }
}
