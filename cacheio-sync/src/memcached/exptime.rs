//! Converts TTLs into memcached's expiration times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Memcached reads a number of seconds greater than this one as a Unix time.
const RELATIVE_MAX: u64 = 60 * 60 * 24 * 30;

/// The last expiration time that memcached can store: a second in January 2038.
const MAX_EXPTIME: u64 = i32::MAX as u64;

/// Returns the expiration time for a TTL. 0 means never.
///
/// Memcached expires entries when its clock ticks, once a second, so an entry with an expiration
/// time of `n` may live for little more than `n - 1` seconds. Therefore the TTL is rounded up, and a
/// second is added: an entry lives at least as long as requested, and at most two seconds longer.
pub(super) fn exptime(ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, |ttl| {
        let rounded = u64::from(ttl.subsec_nanos() > 0);
        encode(ttl.as_secs().saturating_add(rounded + 1), unix_time())
    })
}

/// Returns the expiration time that keeps the expiry of an entry whose remaining TTL the server
/// gave as `left` seconds, negative for never.
pub(super) fn exptime_from_remaining(left: i64) -> u64 {
    match u64::try_from(left) {
        // The entry is still live, and an expiration time of 0 would mean never.
        Ok(left) => encode(left.max(1), unix_time()),
        Err(_) => 0,
    }
}

/// Encodes a time that is `seconds` after `now`: as this number, or as a Unix time if it is large.
fn encode(seconds: u64, now: u64) -> u64 {
    if seconds <= RELATIVE_MAX {
        return seconds;
    }
    let end = now.saturating_add(seconds).min(MAX_EXPTIME);
    // Close to the last Unix time, and after it, 30 days is the longest TTL that can be encoded.
    if end < now.saturating_add(RELATIVE_MAX) {
        RELATIVE_MAX
    } else {
        end
    }
}

/// Returns the current Unix time in seconds.
fn unix_time() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_and_outlives_a_tick_of_the_servers_clock() {
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
    fn a_ttl_longer_than_30_days_becomes_a_unix_time() {
        let end = exptime(Some(Duration::from_secs(RELATIVE_MAX)));
        assert!((0..=1).contains(&(unix_time() + RELATIVE_MAX + 1 - end)));
    }

    #[test]
    fn no_ttl_exceeds_the_last_expiration_time() {
        assert_eq!(encode(u64::MAX, 1_800_000_000), MAX_EXPTIME);
        assert_eq!(encode(MAX_EXPTIME, 1_800_000_000), MAX_EXPTIME);
        // Close to the last time, and after it, 30 days can still be encoded.
        assert_eq!(encode(RELATIVE_MAX + 1, MAX_EXPTIME - 5), RELATIVE_MAX);
        assert_eq!(encode(RELATIVE_MAX + 1, MAX_EXPTIME + 5), RELATIVE_MAX);
        assert_eq!(exptime(Some(Duration::MAX)), MAX_EXPTIME);
    }

    #[test]
    fn a_rewritten_entry_keeps_its_expiry() {
        assert_eq!(exptime_from_remaining(-1), 0);
        assert_eq!(exptime_from_remaining(0), 1);
        assert_eq!(exptime_from_remaining(60), 60);
    }
}
