//! Claims: which process loads a key that several processes miss.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use crate::{Entry, Key};

/// Whether processes share loads through a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SharedLoads {
    /// The store has no claims.
    #[default]
    Unsupported,
    /// A cache shares loads if its builder has `shared_loads(true)`.
    OnRequest,
    /// A cache shares loads unless its builder has `shared_loads(false)`.
    ByDefault,
}

impl SharedLoads {
    /// Returns whether a cache with this setting shares loads.
    pub(crate) fn are_shared(self, setting: Option<bool>) -> bool {
        match self {
            Self::Unsupported => false,
            Self::OnRequest => setting.unwrap_or(false),
            Self::ByDefault => setting.unwrap_or(true),
        }
    }
}

/// The right to store the value of a load, which one process at a time has for a key.
///
/// The store decides what it contains. A claim is a guard: if it is dropped, and not passed to
/// [`Store::settle`](crate::Store::settle), its load has been given up, and the store lets another
/// process claim the key.
pub struct Claim(Box<dyn Any + Send + Sync>);

impl Claim {
    /// Creates a claim from the guard of a store.
    ///
    /// ```
    /// use cacheio::store::Claim;
    ///
    /// let claim = Claim::new(42_u64);
    /// assert_eq!(claim.downcast::<u64>(), Some(42));
    /// ```
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }

    /// Returns the guard that [`new`](Self::new) got, if it is a `T`.
    pub fn downcast<T: Any>(self) -> Option<T> {
        self.0.downcast().ok().map(|guard| *guard)
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").finish()
    }
}

/// Why keys are claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimMode {
    /// The caller loads the keys, unless another process does.
    Load,
    /// The same, and the caller waits for the load of another process: the store is to tell when that ends.
    Wait,
    /// The caller loads the keys in any case.
    TakeOver,
}

/// The result of claiming a key: who loads it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Claimed {
    /// The caller.
    Won {
        /// The claim.
        claim: Claim,
        /// The entry of the key when it was claimed.
        entry: Option<Entry>,
    },
    /// Another process, at this moment.
    Lost {
        /// The entry of the key.
        entry: Option<Entry>,
        /// Whether the store tells when the key or the claim on it is changed. Only the stores of cacheio do.
        is_told: bool,
    },
    /// The store does not know. Values of loads go to [`Store::set`](crate::Store::set).
    Unsupported,
}

/// The end of a load that was claimed.
#[derive(Debug)]
pub struct Settlement<'a> {
    /// The key.
    pub key: Key<'a>,
    /// The claim on it.
    pub claim: Claim,
    /// What the load leaves in the store.
    pub loaded: Settled,
}

/// What a load leaves in the store.
#[derive(Debug)]
#[non_exhaustive]
pub enum Settled {
    /// An entry, and its TTL.
    Entry(Entry, Option<Duration>),
    /// No entry: that of before is removed.
    Removed,
    /// The entry from before the load, which failed.
    Unchanged,
}
