//! Adapters between the two kinds of stores: [`BlockOn`] makes a [`Store`](crate::Store) of an
//! [`AsyncStore`](crate::AsyncStore), [`SpawnBlocking`] the reverse. Both run on tokio.

mod block_on;
mod runtime;
mod spawn_blocking;

pub use block_on::{BlockOn, block_on};
#[cfg(feature = "__net")]
pub use runtime::io_runtime;
pub use runtime::{run_blocking, runtime, sleep_until, spawn_load, within};
pub use spawn_blocking::SpawnBlocking;
