//! How the time of a reply depends on the number of requests in flight.

use std::time::{Duration, Instant};

use super::ratio;

/// The line through the latest slow replies: how long a request takes, by the number of those that were
/// in flight. A linear regression in which older replies count less.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// How many replies count, if all counted the same.
    replies: f64,
    latest: Option<Instant>,
    in_flight: f64,
    seconds: f64,
    variance: f64,
    covariance: f64,
}

impl Line {
    /// How many replies are enough for an estimate.
    const ENOUGH: f64 = 8.0;
    /// How many replies count, however old they are.
    const KEPT: f64 = 32.0;

    /// Adds a reply. Those of the last half of a timeout count most, and none if the last one is older than
    /// a timeout.
    pub(super) fn add(
        &mut self,
        in_flight: usize,
        took: Duration,
        now: Instant,
        timeout: Duration,
    ) {
        let since = |latest| now.saturating_duration_since(latest);
        let pause = self.latest.map_or(Duration::ZERO, since);
        if pause > timeout {
            *self = Self::default();
        }
        self.latest = Some(now);
        let decay = (-2.0 * pause.div_duration_f64(timeout)).exp();
        self.replies = (self.replies * decay).max(self.replies.min(Self::KEPT - 1.0)) + 1.0;
        let share = 1.0 / self.replies;
        let more = ratio(in_flight, 1) - self.in_flight;
        let longer = took.as_secs_f64() - self.seconds;
        self.in_flight += share * more;
        self.seconds += share * longer;
        self.variance = (1.0 - share) * (self.variance + share * more * more);
        self.covariance = (1.0 - share) * (self.covariance + share * more * longer);
    }

    pub(super) fn has_enough(&self) -> bool {
        self.replies >= Self::ENOUGH
    }

    /// Returns how long a request takes without others, and how many seconds longer for each other one.
    /// This is not known if the numbers in flight were similar.
    pub(super) fn delay_and_cost(&self) -> Option<(Duration, f64)> {
        let differ = self.variance.sqrt() * 8.0 >= self.in_flight;
        (self.has_enough() && differ).then(|| {
            let cost = (self.covariance / self.variance).clamp(0.0, self.seconds / self.in_flight);
            let delay = (self.seconds - cost * self.in_flight).max(0.0);
            (Duration::from_secs_f64(delay), cost)
        })
    }

    /// Returns how many requests were in flight when there were many.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn most(&self) -> usize {
        (self.in_flight + self.variance.sqrt() * 2.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TIMEOUT: Duration = Duration::from_secs(1);

    #[test]
    fn a_line_tells_a_delay_from_a_queue() {
        // The delay, the time for each request, and how many are in flight.
        for (delay, cost, in_flight, is_known) in [
            (280, 0, 1..32, true),
            (0, 10, 1..32, true),
            (50, 5, 16..32, true),
            (200, 1, 1..300, true),
            (200, 1, 270..300, false),
            (280, 0, 30..32, false),
            (280, 0, 1..5, false),
        ] {
            let mut line = Line::default();
            let now = Instant::now();
            for requests in in_flight.clone() {
                line.add(
                    requests,
                    MS * (delay + cost * u32::try_from(requests).unwrap()),
                    now,
                    TIMEOUT,
                );
            }
            let found = line.delay_and_cost();
            let case = format!("{delay} {cost} {in_flight:?} {found:?}");
            assert_eq!(found.is_some(), is_known, "{case}");
            if let Some((found_delay, found_cost)) = found {
                assert!(found_delay.abs_diff(MS * delay) < MS, "{case}");
                assert!(
                    (found_cost * 1_000.0 - f64::from(cost)).abs() < 0.1,
                    "{case}"
                );
            }
        }
    }
}
