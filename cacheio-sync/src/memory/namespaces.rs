//! The namespaces of the caches on one memory.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use cacheio_core::__private::SharedState;

use super::key::{FIRST_BYTE, Namespace};

/// Knows the code of each namespace, and what its caches share.
#[derive(Default)]
pub(super) struct Namespaces {
    /// What the caches without a namespace share.
    root: Arc<SharedState>,
    /// The prefixes of the namespaces with a code of one byte, which they have for as long as the
    /// memory exists: entries outlive caches.
    one_byte: Vec<Box<str>>,
    /// What the caches of a namespace share, for as long as there is one.
    states: HashMap<Box<str>, Weak<SharedState>>,
    /// The number of states at which those without caches are removed.
    prune_at: usize,
}

impl Namespaces {
    pub(super) fn root(&self) -> Arc<SharedState> {
        Arc::clone(&self.root)
    }

    /// Returns the namespace with this prefix, and what its caches share. None for a prefix that is
    /// too long for a code.
    pub(super) fn open(&mut self, prefix: &str) -> Option<(Namespace, Arc<SharedState>)> {
        if prefix.is_empty() {
            return Some((Namespace::default(), self.root()));
        }
        let len = u8::try_from(prefix.len()).ok()?;
        Some((self.namespace(prefix, len), self.state(prefix)))
    }

    /// Returns the prefix of the namespace with this code.
    pub(super) fn prefix<'a>(&'a self, code: &'a [u8]) -> &'a [u8] {
        match code {
            [] => &[],
            [byte] => {
                let known = self.one_byte.get(usize::from(byte - FIRST_BYTE));
                known.map_or(&[], |prefix| prefix.as_bytes())
            }
            [_, _, prefix @ ..] => prefix,
        }
    }

    fn namespace(&mut self, prefix: &str, len: u8) -> Namespace {
        let known = self.one_byte.iter().position(|known| **known == *prefix);
        let index = known.unwrap_or(self.one_byte.len());
        match u8::try_from(index) {
            Ok(index) if usize::from(index) < Namespace::ONE_BYTE_CODES => {
                if known.is_none() {
                    self.one_byte.push(prefix.into());
                }
                Namespace::with_index(prefix, index)
            }
            _ => Namespace::with_len(prefix, len),
        }
    }

    fn state(&mut self, prefix: &str) -> Arc<SharedState> {
        if let Some(state) = self.states.get(prefix).and_then(Weak::upgrade) {
            return state;
        }
        if self.states.len() >= self.prune_at {
            self.states.retain(|_, state| state.strong_count() > 0);
            self.prune_at = (self.states.len() * 2).max(64);
        }
        let state = Arc::new(self.root.for_namespace());
        self.states.insert(prefix.into(), Arc::downgrade(&state));
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_keeps_its_code_and_shares_its_state() {
        let mut namespaces = Namespaces::default();
        let prefixes: Vec<String> = (0..200).map(|i| format!("{i}:")).collect();
        let open: Vec<_> = prefixes
            .iter()
            .map(|prefix| namespaces.open(prefix).unwrap())
            .collect();
        for (prefix, (namespace, state)) in prefixes.iter().zip(&open) {
            let (again, same) = namespaces.open(prefix).unwrap();
            assert_eq!(again.code(), namespace.code());
            assert_eq!(namespaces.prefix(again.code()), prefix.as_bytes());
            assert!(Arc::ptr_eq(&same, state));
        }
        let mut codes: Vec<_> = open.iter().map(|(namespace, _)| namespace.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 200);
    }

    #[test]
    fn states_without_caches_are_removed() {
        let mut namespaces = Namespaces::default();
        for i in 0..10_000 {
            namespaces.open(&format!("{i}:")).unwrap();
        }
        assert!(namespaces.states.len() <= 64 && namespaces.one_byte.len() == 64);
    }
}
