//! What the macros' code stands on; no part of the public interface.

#![allow(missing_docs)]

use std::sync::Arc;

pub use cacheio_core::__private::*;

pub use crate::Cache;

/// The engine of what `cache = …` names.
#[inline]
pub fn engine(cache: &Cache) -> &Arc<Engine> {
    cache.__engine()
}

/// A function's own cache.
#[cfg(feature = "memory")]
pub type OwnCache = Own<Cache>;

#[cfg(feature = "memory")]
impl InMemory for Cache {
    fn in_memory(capacity: Option<usize>) -> crate::Result<Self> {
        use crate::Memory;
        let memory = capacity.map_or_else(Memory::new, Memory::with_capacity);
        Cache::builder().store(memory).build()
    }
}
