//! Flights: one load per key, and writes that beat loads.
//!
//! A *flight* is a load in progress. The first caller that misses a key is its *leader* and runs
//! the load. Other callers are *waiters* and receive its outcome. Two rules make a write
//! (set, delete, clear, …) beat the loads that began before it:
//!
//! 1. A write removes the flight of its key from the registry, both when it begins and when it
//!    ends. The outcome of that flight still goes to its waiters, but is not stored, and later
//!    callers open a new flight.
//! 2. A leader *publishes* (stores its value) only while no write of the key is registered. A
//!    write that comes meanwhile waits until the leader has published.
//!
//! This module does no I/O. The engine does the I/O between calls to this module, and waits for the
//! listeners that the calls return.

mod after_publication;
pub(crate) mod deadlock;
mod flights;
mod guards;
mod leader;
mod registry;
mod state;
pub(crate) mod sync;

use std::fmt;
use std::sync::Arc;

pub use self::after_publication::after_publication;
pub(crate) use self::after_publication::{AfterPublication, publishing};
pub(crate) use self::flights::{Flights, Join};
pub(crate) use self::guards::WriteGuards;
pub(crate) use self::leader::{Leader, Waiter};
pub(crate) use self::state::{LoadClaim, Outcome, Schedule};
use crate::entry::tags::Tags;
use crate::l1::L1s;

/// What the caches on one store share: a store that several caches of a process can use keeps it
/// for them.
#[derive(Default)]
pub struct SharedState {
    pub(crate) flights: Flights,
    pub(crate) tags: Arc<Tags>,
    pub(crate) l1s: L1s,
}

impl SharedState {
    /// Returns the state of another namespace of the same store. Tags are common to all namespaces:
    /// entries outlive the caches that stored them.
    pub fn for_namespace(&self) -> Self {
        Self {
            flights: Flights::default(),
            tags: Arc::clone(&self.tags),
            l1s: L1s::default(),
        }
    }

    /// Returns how often tags were invalidated, in all namespaces.
    pub fn tag_invalidations(&self) -> u64 {
        self.tags.invalidations()
    }
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState").finish_non_exhaustive()
    }
}
