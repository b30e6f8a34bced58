//! Attempts that are not repeated soon: to record a read of a key, or to renew the version of a tag.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Timestamp;

/// When this process last made an attempt, by hash of the key.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<u64, Timestamp>>);

/// The most keys to remember. When they are exceeded, all are forgotten, which costs round trips
/// and nothing else.
const MAX_KEYS: usize = 4_096;

impl Attempts {
    /// Returns whether the last attempt for a key is longer ago than `every`, and if so begins one.
    pub(super) fn begin(&self, key: u64, now: Timestamp, every: Duration) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&key).is_some_and(|last| now < last.after(every)) {
            return false;
        }
        if last.len() >= MAX_KEYS {
            last.clear();
        }
        last.insert(key, now);
        true
    }

    /// Forgets the attempts for some keys.
    pub(super) fn end(&self, keys: &[u64]) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            last.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    #[test]
    fn an_attempt_is_not_repeated_soon_unless_it_has_ended() {
        let attempts = Attempts::default();
        assert!(attempts.begin(1, NOW, SECOND));
        assert!(!attempts.begin(1, NOW, SECOND));
        assert!(attempts.begin(2, NOW, SECOND));
        assert!(attempts.begin(1, NOW.after(SECOND), SECOND));
        attempts.end(&[1]);
        assert!(attempts.begin(1, NOW.after(SECOND), SECOND));
    }

    #[test]
    fn the_number_of_remembered_keys_is_bounded() {
        let attempts = Attempts::default();
        for key in 0..10_000 {
            assert!(attempts.begin(key, NOW, SECOND));
        }
        assert!(attempts.0.lock().unwrap().len() <= MAX_KEYS);
    }
}
