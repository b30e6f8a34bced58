//! What is counted.

/// An event in a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Hit,
    Miss,
    Load,
    LoadError,
    Wait,
    StoreError,
    StaleHit,
    LoadTimeout,
    Refresh,
    RefreshError,
    Timeout,
}

pub(crate) const COUNTS: usize = 11;
