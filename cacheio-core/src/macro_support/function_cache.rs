//! The caches of functions without `self`, and of types without a field for their cache.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::by_type::ByType;
use crate::Result;

/// A cache that can be built in memory.
#[diagnostic::on_unimplemented(
    message = "a function without `self`, or a type without a field for its cache, keeps results in memory, and the \
               feature `memory` is off",
    label = "there is no memory store to build this cache with",
    note = "enable the feature `memory`, or name a cache: `#[cached(cache = CACHE)]`"
)]
pub trait InMemory: Clone + Send + Sync + 'static {
    /// Builds a cache for this many entries, by default as many as the configuration says.
    ///
    /// # Errors
    ///
    /// Returns an error if the capacity is 0.
    fn in_memory(capacity: Option<usize>) -> Result<Self>;
}

/// The cache of one function, built on first use.
#[derive(Debug)]
pub struct FunctionCache<C> {
    cache: OnceLock<C>,
    name: Option<&'static str>,
}

/// The caches that functions share with their companions, by name. Each of them looks here once.
static SHARED: Mutex<Option<HashMap<&'static str, Box<dyn Any + Send>>>> = Mutex::new(None);

impl<C: InMemory> FunctionCache<C> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            cache: OnceLock::new(),
            name: None,
        }
    }

    /// Returns a handle to the one cache of this name.
    pub const fn shared(name: &'static str) -> Self {
        Self {
            cache: OnceLock::new(),
            name: Some(name),
        }
    }

    /// Returns the cache, which the first call builds.
    ///
    /// # Panics
    ///
    /// Panics if the capacity is 0.
    #[inline]
    pub fn get(this: &Self, capacity: impl FnOnce() -> Option<usize>) -> &C {
        this.cache.get_or_init(|| match this.name {
            None => build(capacity()),
            Some(name) => find_or_build(name, capacity()),
        })
    }
}

/// The caches of one type, one for each set of its type arguments, built on first use.
#[derive(Debug)]
pub struct TypeCaches<C>(ByType<C>);

impl<C: InMemory> TypeCaches<C> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(ByType::new())
    }

    /// Returns the cache of the type `T`.
    #[inline]
    pub fn of<T: ?Sized>(this: &Self) -> &C {
        this.0.get_or_insert(typeid::of::<T>(), || build(None))
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
