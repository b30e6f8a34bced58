//! The caches that decorated functions have of their own.

// Reached by the macros' code alone.
#![allow(missing_docs)]

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::Result;

/// A cache that can be made in memory.
pub trait InMemory: Clone + Send + Sync + 'static {
    /// A cache for so many entries, or for as many as the configuration says.
    ///
    /// # Errors
    ///
    /// When the capacity is 0.
    fn in_memory(capacity: Option<usize>) -> Result<Self>;
}

/// A function's own cache, made on first use.
#[derive(Debug)]
pub struct Own<C> {
    cache: OnceLock<C>,
    name: Option<&'static str>,
}

/// The caches that a function shares with its companions. Each of them looks here once.
static SHARED: Mutex<Option<HashMap<&'static str, Box<dyn Any + Send>>>> = Mutex::new(None);

impl<C: InMemory> Own<C> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            cache: OnceLock::new(),
            name: None,
        }
    }

    /// The same cache wherever the name is the same.
    pub const fn shared(name: &'static str) -> Self {
        Self {
            cache: OnceLock::new(),
            name: Some(name),
        }
    }

    /// # Panics
    ///
    /// When the capacity is 0.
    #[inline]
    pub fn get(&self, capacity: impl FnOnce() -> Option<usize>) -> &C {
        self.cache.get_or_init(|| match self.name {
            None => build(capacity()),
            Some(name) => find_or_build(name, capacity()),
        })
    }
}

fn find_or_build<C: InMemory>(name: &'static str, capacity: Option<usize>) -> C {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let caches = shared.get_or_insert_default();
    if let Some(cache) = caches.get(name).and_then(|cache| cache.downcast_ref::<C>()) {
        return cache.clone();
    }
    let cache: C = build(capacity);
    caches.insert(name, Box::new(cache.clone()));
    cache
}

fn build<C: InMemory>(capacity: Option<usize>) -> C {
    match C::in_memory(capacity) {
        Ok(cache) => cache,
        Err(error) => panic!("#[cached]: {error}"),
    }
}
