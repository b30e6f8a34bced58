//! What a loading call asks for and what a loader returns.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::flight::Outcome;
use crate::{Error, LoadError, Ttl};

/// The value of a loader.
#[derive(Debug)]
pub struct Loaded<V> {
    /// The value.
    pub value: V,
    /// A TTL that overrides the one of the call; zero does not store the value.
    pub ttl: Option<Ttl>,
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self { value, ttl: None }
    }
}

/// Which callers receive the error of a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorSharing {
    /// All waiters receive it.
    Shared,
    /// Only the caller that ran the loader; the waiters run their own loaders.
    Own,
}

/// How a loading call reports errors, timeouts and the age of its value.
#[derive(Clone, Copy, Debug)]
pub struct LoadMode {
    /// Which callers receive the error of the loader.
    pub error_sharing: ErrorSharing,
    /// Whether the call can return a timeout. If not, it waits until the load ends.
    pub times_out: bool,
    /// Whether the call returns the age of its value.
    pub dated: bool,
}

impl LoadMode {
    /// The call returns a `Result`.
    pub const FALLIBLE: Self = Self {
        error_sharing: ErrorSharing::Shared,
        times_out: true,
        dated: false,
    };
    /// The call returns a plain value.
    pub const INFALLIBLE: Self = Self {
        times_out: false,
        ..Self::FALLIBLE
    };
    /// The call returns a `Result` with the age of the value.
    pub const DATED: Self = Self {
        dated: true,
        ..Self::FALLIBLE
    };

    /// Returns a loader's error in two forms: for its own caller and for the waiters.
    pub(super) fn failure<E: Send + Sync + 'static>(self, error: E) -> (Failure<E>, Outcome) {
        match self.error_sharing {
            ErrorSharing::Own => (Failure::Own(error), Outcome::FailedUnshared),
            ErrorSharing::Shared => {
                let error = Arc::new(error);
                (Failure::Load(Arc::clone(&error)), Outcome::Failed(error))
            }
        }
    }
}

/// Why a loading call returns no value.
#[derive(Debug)]
pub enum Failure<E> {
    /// The loader's error, which other callers may share.
    Load(Arc<E>),
    /// The loader's error, for this caller only.
    Own(E),
    /// The load would wait for itself.
    Reentrant(Error),
    /// The load took too long.
    TimedOut(Error),
    /// An option of the call is invalid.
    Config(Error),
}

impl<E> Failure<E> {
    /// Returns the same failure for another key of a batch.
    pub(super) fn same(&self) -> Option<Self> {
        match self {
            Self::Load(error) => Some(Self::Load(Arc::clone(error))),
            Self::Own(_) => None,
            Self::Reentrant(error) => Some(Self::Reentrant(error.same())),
            Self::TimedOut(error) => Some(Self::TimedOut(error.same())),
            Self::Config(error) => Some(Self::Config(error.same())),
        }
    }
}

impl<E> From<Failure<E>> for LoadError<E> {
    fn from(failure: Failure<E>) -> Self {
        match failure {
            Failure::Load(error) => Self::Load(error),
            Failure::Own(error) => Self::Load(Arc::new(error)),
            Failure::Reentrant(error) => Self::Reentrant(error),
            Failure::TimedOut(error) => Self::Timeout(error),
            Failure::Config(error) => Self::Config(error),
        }
    }
}

impl Failure<Infallible> {
    /// Panics with the reason: an infallible call can only fail when its loader waits for itself.
    pub fn panic(self) -> ! {
        match self {
            Self::Load(never) => match *never {},
            Self::Own(never) => match never {},
            Self::Reentrant(error) | Self::TimedOut(error) | Self::Config(error) => {
                panic!("cacheio: {error}")
            }
        }
    }
}

/// How long a caller waits for a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitLimits {
    /// Counted from the start of the load; applies when there is a stale value to serve.
    pub(super) soft: Option<Duration>,
    /// Applies in any case.
    pub(super) hard: Option<Instant>,
    /// Whether this caller times out loads that exceed `max_load`. Otherwise the next caller
    /// does, so that waiting needs no timer.
    pub(super) enforces_max_load: bool,
}
