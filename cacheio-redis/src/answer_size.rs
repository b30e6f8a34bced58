//! The average size of the answers to gets.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Up to this size it pays to ask for several answers at once.
const LARGE: usize = 16 * 1024;
/// A single answer counts as at most this, so that it is soon forgotten.
const MAX: usize = 8 * LARGE;

/// The average size of the latest answers, in bytes.
#[derive(Debug, Default)]
pub(crate) struct AnswerSize(AtomicUsize);

impl AnswerSize {
    /// Records an answer. If several callers do at the same time, one of them may be lost.
    pub(crate) fn record(&self, bytes: usize) {
        let average = self.0.load(Ordering::Relaxed);
        let next = (average * 7 + bytes.min(MAX)).div_ceil(8);
        if next != average {
            self.0.store(next, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_large(&self) -> bool {
        self.0.load(Ordering::Relaxed) > LARGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_large_on_average() {
        let size = AnswerSize::default();
        size.record(LARGE);
        assert!(!size.is_large());
        for _ in 0..8 {
            size.record(1_000_000);
        }
        assert!(size.is_large());
        for _ in 0..30 {
            size.record(10);
        }
        assert!(!size.is_large());
    }
}
