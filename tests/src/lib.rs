//! What the integration tests share.
//!
//! - [`api`]: one cache type over both worlds, so that each case is written and compiled once.
//! - [`busy`]: tests of real time on a busy machine.
//! - [`fixture`]: what a case is given: a cache on a store, and control over time.
//! - [`gate`]: loaders that a test starts and releases, so that no test sleeps for an order.
//! - [`history`]: what processes wrote and read, and when.
//! - [`log`]: what is traced.
//! - [`process`]: other processes, which a test directs step by step.
//! - [`random`]: numbers that are the same in every run.
//! - [`servers`]: real servers, started by the tests and stopped with the test process.
//! - [`stores`]: stores that replace servers, suspend, or fail on demand.
//! - [`watchdog`]: fails a test that hangs.
//! - [`world`]: threads and tasks: how a test runs, spawns and sleeps.
//!
//! Those that the contract needs are in `cacheio-testkit`, as are its cases. The table of stores is `rows` in
//! `tests/contract/main.rs`: a new backend is one line there.

#![cfg(not(shuttle))]

mod both_worlds;
pub mod history;
pub mod process;
pub mod random;
pub mod servers;
pub mod stores;

/// How late a single call may be on a busy machine.
pub const BUSY: std::time::Duration = std::time::Duration::from_millis(1_500);

pub use cacheio_testkit::{api, busy, fixture, gate, log, watchdog, world};
