//! The times of an entry's life (created, expires, stale until) and the decisions about them.

use std::time::Duration;

use crate::config::policies::{RefreshAhead, XFETCH_REACH};
use crate::{Timestamp, Ttl};

/// The times of an entry's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) created_at: Timestamp,
    /// How long the load of its value took.
    pub(crate) load_time: Duration,
    /// When its TTL ends.
    pub(crate) expires_at: Timestamp,
    /// Until when it can be served as a stale entry.
    pub(crate) stale_until: Timestamp,
    /// The time without a read after which it expires.
    pub(crate) idle: Option<Duration>,
    /// When a read was last recorded. On a server only, and only with `idle`.
    pub(crate) read_at: Timestamp,
}

/// Whether and how an entry can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Live,
    /// It can be served when a load fails or is slow.
    Stale,
    /// It must not be served.
    Expired,
}

impl Expiry {
    pub(crate) fn new(
        now: Timestamp,
        load_time: Duration,
        ttl: Option<Duration>,
        stale_for: Duration,
    ) -> Self {
        let expires_at = ttl.map_or(Timestamp::MAX, |ttl| now.after(ttl));
        Self {
            created_at: now,
            load_time,
            expires_at,
            stale_until: expires_at.after(stale_for),
            idle: None,
            read_at: Timestamp::MIN,
        }
    }

    /// Returns the freshness for a reader that accepts entries up to `stale_for` after their expiry.
    pub(crate) fn freshness(&self, now: Timestamp, stale_for: Duration) -> Freshness {
        if now < self.expires_at {
            Freshness::Live
        } else if now < self.stale_until.min(self.expires_at.after(stale_for)) {
            Freshness::Stale
        } else {
            Freshness::Expired
        }
    }

    /// Returns whether a reader of the live entry should refresh it. `random` returns a uniform random
    /// number between 0 and 1.
    pub(crate) fn is_due(
        &self,
        now: Timestamp,
        ahead: RefreshAhead,
        random: impl FnOnce() -> f64,
    ) -> bool {
        if now < self.due_from(ahead) {
            return false;
        }
        match ahead {
            RefreshAhead::Never => false,
            RefreshAhead::Fraction(_) => true,
            // The -ln of a uniform random number has an exponential distribution.
            RefreshAhead::XFetch { beta } => {
                let early = beta * -random().max(f64::MIN_POSITIVE).ln();
                now.after(scaled(self.load_time, early)) >= self.expires_at
            }
        }
    }

    /// Returns the earliest time at which [`is_due`](Self::is_due) can be true.
    pub(crate) fn due_from(&self, ahead: RefreshAhead) -> Timestamp {
        match ahead {
            _ if self.expires_at == Timestamp::MAX => Timestamp::MAX,
            RefreshAhead::Never => Timestamp::MAX,
            RefreshAhead::Fraction(fraction) => self
                .created_at
                .after(scaled(self.expires_at.since(self.created_at), fraction)),
            RefreshAhead::XFetch { beta } => {
                let reach = scaled(self.load_time, beta * XFETCH_REACH);
                self.created_at
                    .after(self.expires_at.since(self.created_at).saturating_sub(reach))
            }
        }
    }

    /// Returns whether it tells only the age of the entry, and does not limit its life.
    pub(crate) fn is_age_only(&self) -> bool {
        self.expires_at == Timestamp::MAX && self.idle.is_none()
    }

    /// Returns how long a server keeps the entry, if it is not read, from `now` on: past its TTL as
    /// long as it may be served stale, but no longer than it may be idle.
    pub(crate) fn retention(&self, now: Timestamp) -> Option<Duration> {
        let whole = (self.stale_until != Timestamp::MAX).then(|| self.stale_until.since(now));
        let Some(idle) = self.idle else {
            return whole;
        };
        let read_at = self.read_at.max(self.created_at);
        let idle = read_at.after(idle_retention(idle)).since(now);
        let left = whole.map_or(idle, |whole| whole.min(idle));
        Some(left.max(Duration::from_millis(1)))
    }

    /// Returns whether a read has to be recorded on a server.
    pub(crate) fn must_record_read(&self, now: Timestamp) -> bool {
        self.idle
            .is_some_and(|idle| now.since(self.read_at.max(self.created_at)) >= idle / 8)
    }

    /// Returns the expiry after a touch. The entry stays stale for as long as before.
    pub(crate) fn touched(&self, expires_at: Timestamp) -> Self {
        Self {
            expires_at,
            stale_until: expires_at.after(self.stale_until.since(self.expires_at)),
            ..*self
        }
    }
}

/// Returns how long a server keeps an entry that is not read: reads are recorded up to an eighth of
/// the idle time late.
pub(crate) fn idle_retention(idle: Duration) -> Duration {
    idle.saturating_add(idle / 8).min(Ttl::MAX)
}

/// Multiplies a duration by any factor, also by one that is negative or not a number.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn expiry() -> Expiry {
        Expiry::new(NOW, SECOND, Some(SECOND * 10), SECOND * 60)
    }

    fn after(seconds: u32, stale_for: Duration) -> Freshness {
        expiry().freshness(NOW.after(SECOND * seconds), stale_for)
    }

    #[test]
    fn an_entry_is_live_then_stale_then_expired() {
        assert_eq!(after(0, SECOND * 60), Freshness::Live);
        assert_eq!(after(9, SECOND * 60), Freshness::Live);
        assert_eq!(after(10, SECOND * 60), Freshness::Stale);
        assert_eq!(after(69, SECOND * 60), Freshness::Stale);
        assert_eq!(after(70, SECOND * 60), Freshness::Expired);
    }

    #[test]
    fn a_reader_can_shorten_but_not_extend_stale_for() {
        assert_eq!(after(10, Duration::ZERO), Freshness::Expired);
        assert_eq!(after(14, SECOND * 5), Freshness::Stale);
        assert_eq!(after(15, SECOND * 5), Freshness::Expired);
        assert_eq!(after(70, SECOND * 600), Freshness::Expired);
    }

    #[test]
    fn an_entry_without_expiry_is_never_stale_and_never_due() {
        let expiry = Expiry::new(NOW, SECOND, None, SECOND);
        let late = Timestamp::from_nanos(u64::MAX - 1);
        assert_eq!(expiry.freshness(late, SECOND), Freshness::Live);
        for ahead in [RefreshAhead::Fraction(0.1), RefreshAhead::XFETCH] {
            assert!(!expiry.is_due(late, ahead, || 0.0));
        }
    }

    #[test]
    fn a_touch_moves_both_expiry_times() {
        let touched = expiry().touched(NOW.after(SECOND * 100));
        assert_eq!(touched.expires_at, NOW.after(SECOND * 100));
        assert_eq!(touched.stale_until, NOW.after(SECOND * 160));
        assert_eq!(touched.created_at, NOW);
    }

    #[test]
    fn the_longest_durations_do_not_wrap() {
        let expiry = Expiry::new(NOW, Duration::MAX, Some(Duration::MAX), Duration::MAX);
        assert_eq!(expiry.freshness(NOW, Duration::MAX), Freshness::Live);
        assert_eq!(expiry.stale_until, Timestamp::MAX);
        let expiry = Expiry::new(NOW, Duration::MAX, Some(SECOND), Duration::MAX);
        assert!(expiry.is_due(NOW, RefreshAhead::XFETCH, || 0.5));
    }

    #[test]
    fn an_entry_is_due_after_a_fraction_of_its_ttl() {
        let due = |seconds| expiry().is_due(NOW.after(SECOND * seconds), 0.8.into(), || 0.0);
        assert!(!due(0) && !due(7));
        assert!(due(8) && due(9));
        assert_eq!(expiry().due_from(0.8.into()), NOW.after(SECOND * 8));
    }

    #[test]
    fn xfetch_is_more_probable_near_the_expiry_and_for_long_loads() {
        let share = |left: u32, beta: f64| {
            let now = NOW.after(SECOND * (10 - left));
            let ahead = RefreshAhead::XFetch { beta };
            let due = |n: &u32| expiry().is_due(now, ahead, || (f64::from(*n) + 0.5) / 10_000.0);
            f64::from(u32::try_from((0..10_000).filter(due).count()).unwrap()) / 10_000.0
        };
        // With a load time of one second, the probability is e^-left.
        for (left, expected) in [(1, 0.367_9), (2, 0.135_3), (5, 0.006_7)] {
            assert!((share(left, 1.0) - expected).abs() < 0.001, "{left}");
        }
        assert!((share(4, 2.0) - share(2, 1.0)).abs() < 0.001);
        assert!((share(0, 1.0) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn xfetch_is_never_due_before_its_reach() {
        let load = Duration::from_millis(100);
        let expiry = Expiry::new(NOW, load, Some(SECOND * 10), Duration::ZERO);
        let from = expiry.due_from(RefreshAhead::XFETCH);
        assert_eq!(from, NOW.after(Duration::from_millis(8_400)));
        let before = Timestamp::from_nanos(from.as_nanos() - 1);
        assert!(!expiry.is_due(before, RefreshAhead::XFETCH, || 0.0));
        assert!(expiry.is_due(from, RefreshAhead::XFETCH, || 0.0));
    }
}
