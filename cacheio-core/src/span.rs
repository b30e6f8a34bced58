//! How long an entry is fresh, and how long after that it may still be served.

use std::time::Duration;

use crate::Timestamp;

/// The two ends of an entry that outlives its TTL: decisions about it, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// When its TTL is over.
    pub(crate) expires: Timestamp,
    /// When it must not be served any more, whatever happens.
    pub(crate) ends: Timestamp,
}

/// What an entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It is served.
    Live,
    /// It is served when there is nothing better.
    Stale,
    /// It is as good as gone.
    Gone,
}

impl Span {
    /// Of an entry that is made now. None, if it is not to outlive its TTL.
    pub(crate) fn new(now: Timestamp, ttl: Option<Duration>, stale_for: Duration) -> Option<Self> {
        let expires = now.after(ttl?);
        (!stale_for.is_zero()).then(|| Self {
            expires,
            ends: expires.after(stale_for),
        })
    }

    /// What the entry is good for now, for a reader who takes what expired less than `stale_for`
    /// ago.
    pub(crate) fn freshness(&self, now: Timestamp, stale_for: Duration) -> Freshness {
        if now < self.expires {
            Freshness::Live
        } else if now < self.ends.min(self.expires.after(stale_for)) {
            Freshness::Stale
        } else {
            Freshness::Gone
        }
    }

    /// The same with another TTL from now on.
    pub(crate) fn touched(&self, expires: Timestamp) -> Self {
        Self {
            expires,
            ends: expires.after(self.ends.since(self.expires)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn span() -> Span {
        Span::new(NOW, Some(SECOND * 10), SECOND * 60).unwrap()
    }

    fn after(seconds: u32, stale_for: Duration) -> Freshness {
        span().freshness(NOW.after(SECOND * seconds), stale_for)
    }

    #[test]
    fn live_then_stale_then_gone() {
        assert_eq!(after(0, SECOND * 60), Freshness::Live);
        assert_eq!(after(9, SECOND * 60), Freshness::Live);
        assert_eq!(after(10, SECOND * 60), Freshness::Stale);
        assert_eq!(after(69, SECOND * 60), Freshness::Stale);
        assert_eq!(after(70, SECOND * 60), Freshness::Gone);
    }

    #[test]
    fn a_reader_may_want_less_and_gets_no_more() {
        assert_eq!(after(10, Duration::ZERO), Freshness::Gone);
        assert_eq!(after(14, SECOND * 5), Freshness::Stale);
        assert_eq!(after(15, SECOND * 5), Freshness::Gone);
        assert_eq!(after(70, SECOND * 600), Freshness::Gone);
    }

    #[test]
    fn what_never_expires_or_is_never_stale_has_no_span() {
        assert_eq!(Span::new(NOW, None, SECOND), None);
        assert_eq!(Span::new(NOW, Some(SECOND), Duration::ZERO), None);
    }

    #[test]
    fn a_touch_moves_both_ends() {
        let touched = span().touched(NOW.after(SECOND * 100));
        assert_eq!(touched.expires, NOW.after(SECOND * 100));
        assert_eq!(touched.ends, NOW.after(SECOND * 160));
    }

    #[test]
    fn the_longest_times_do_not_wrap() {
        let span = Span::new(NOW, Some(Duration::MAX), Duration::MAX).unwrap();
        assert_eq!(span.freshness(NOW, Duration::MAX), Freshness::Live);
        assert_eq!(span.ends, Timestamp::MAX);
    }
}
