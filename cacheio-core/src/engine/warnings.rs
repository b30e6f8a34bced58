//! Warnings that are given once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// How many warnings are remembered. There are few: each names a type or an option.
const MAX: usize = 100;

/// The warnings of a cache that are not to be repeated.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<HashSet<Box<str>>>);

impl Warnings {
    /// Returns whether a warning has not been given yet, and remembers it.
    pub(super) fn is_first(&self, message: &str) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.len() < MAX && !given.contains(message) && given.insert(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_given_once_and_their_number_is_limited() {
        let warnings = Warnings::default();
        assert!(warnings.is_first("a") && warnings.is_first("b"));
        assert!(!warnings.is_first("a") && !warnings.is_first("b"));
        let given = (0..1_000).filter(|n| warnings.is_first(&n.to_string()));
        assert_eq!(given.count(), MAX - 2);
    }
}
