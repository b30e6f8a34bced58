#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[macro_use]
mod block_on;
mod spawn_blocking;

pub use block_on::BlockOn;
pub use spawn_blocking::SpawnBlocking;
