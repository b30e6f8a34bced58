#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod block_on;
#[cfg(feature = "redis")]
mod redis;
mod spawn_blocking;

pub use block_on::BlockOn;
#[cfg(feature = "redis")]
pub use redis::{Redis, RedisBuilder};
pub use spawn_blocking::SpawnBlocking;

#[doc(hidden)]
pub mod __private {
    pub use crate::spawn_blocking::Spawner;
}
