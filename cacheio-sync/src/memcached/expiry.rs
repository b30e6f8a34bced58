//! How long entries live, in memcached's terms.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longer than this, in seconds, is read as seconds since 1970.
const RELATIVE_MAX: u64 = 60 * 60 * 24 * 30;

/// The last second that the server can write down: in January 2038.
const LAST: u64 = i32::MAX as u64;

/// What to write for a TTL.
///
/// Entries live until a tick of the server's clock, which comes once a second: what is to live for
/// `n` seconds may live for `n - 1` and a moment. So a second is added, and an entry lives for as
/// long as asked and at most two seconds longer: the one that rounding up makes, and this.
pub(super) fn exptime(ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, |ttl| {
        let rounded = u64::from(ttl.subsec_nanos() > 0);
        in_seconds(ttl.as_secs().saturating_add(rounded + 1), now())
    })
}

/// What to write for an entry that was read and is to end when it would have ended; `left` is what
/// the server said.
pub(super) fn unchanged(left: i64) -> u64 {
    match u64::try_from(left) {
        // It is not over yet, and 0 would be for ever.
        Ok(left) => in_seconds(left.max(1), now()),
        Err(_) => 0,
    }
}

fn in_seconds(seconds: u64, now: u64) -> u64 {
    if seconds <= RELATIVE_MAX {
        return seconds;
    }
    let end = now.saturating_add(seconds).min(LAST);
    // What the server cannot write down ends with the last that it can.
    if end < now.saturating_add(RELATIVE_MAX) {
        RELATIVE_MAX
    } else {
        end
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_and_outlives_the_servers_tick() {
        assert_eq!(exptime(None), 0);
        assert_eq!(exptime(Some(Duration::from_nanos(1))), 2);
        assert_eq!(exptime(Some(Duration::from_secs(1))), 2);
        assert_eq!(exptime(Some(Duration::from_millis(1001))), 3);
        assert_eq!(
            exptime(Some(Duration::from_secs(RELATIVE_MAX - 1))),
            RELATIVE_MAX
        );
    }

    #[test]
    fn what_is_longer_than_30_days_is_written_as_the_time_it_ends() {
        let end = exptime(Some(Duration::from_secs(RELATIVE_MAX)));
        assert!((0..=1).contains(&(now() + RELATIVE_MAX + 1 - end)));
    }

    #[test]
    fn no_ttl_passes_the_end_of_time() {
        assert_eq!(in_seconds(u64::MAX, 1_800_000_000), LAST);
        assert_eq!(in_seconds(LAST, 1_800_000_000), LAST);
        // When the end of time is near or past, 30 days can still be said.
        assert_eq!(in_seconds(RELATIVE_MAX + 1, LAST - 5), RELATIVE_MAX);
        assert_eq!(in_seconds(RELATIVE_MAX + 1, LAST + 5), RELATIVE_MAX);
        assert_eq!(exptime(Some(Duration::MAX)), LAST);
    }

    #[test]
    fn an_entry_that_is_rewritten_ends_when_it_would_have() {
        assert_eq!(unchanged(-1), 0);
        assert_eq!(unchanged(0), 1);
        assert_eq!(unchanged(60), 60);
    }
}
