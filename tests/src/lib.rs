//! What the tests of the contract stand on.
//!
//! - [`face`]: one face over both worlds, so that every line of the contract is written once.
//! - [`place`]: a cache on a store, with the means to let time pass: what a line is given.
//! - [`servers`]: real servers, started by the tests and gone with them.
//! - [`stores`]: stores that stand in for servers, suspend, or fail on demand.
//! - [`stage`]: gates and loaders that force an order, so that no test sleeps for one.
//! - [`watchdog`]: what makes a test that hangs fail.
//!
//! The lines stand in `tests/contract/`; `tests/contract/main.rs` is the table of stores: a new
//! backend is one line there.

#![cfg(not(shuttle))]

pub mod face;
pub mod place;
pub mod servers;
pub mod stage;
pub mod stores;
pub mod watchdog;
