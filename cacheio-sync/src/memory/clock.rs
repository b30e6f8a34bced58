//! The clock that entries expire by.

use std::fmt;
use std::sync::Arc;

use cacheio_core::{Clock, SystemClock, Timestamp};

/// A clock. The usual one is called directly, because each hit of an entry with a TTL reads it.
#[derive(Clone)]
pub(super) enum MemoryClock {
    System,
    Other(Arc<dyn Clock>),
}

impl MemoryClock {
    pub(super) fn now(&self) -> Timestamp {
        match self {
            Self::System => SystemClock.now(),
            Self::Other(clock) => clock.now(),
        }
    }

    #[inline]
    pub(super) fn recent(&self) -> Timestamp {
        match self {
            Self::System => SystemClock.recent(),
            Self::Other(clock) => clock.recent(),
        }
    }

    pub(super) fn shared(&self) -> Arc<dyn Clock> {
        match self {
            Self::System => Arc::new(SystemClock),
            Self::Other(clock) => Arc::clone(clock),
        }
    }
}

impl fmt::Debug for MemoryClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => SystemClock.fmt(f),
            Self::Other(clock) => clock.fmt(f),
        }
    }
}
