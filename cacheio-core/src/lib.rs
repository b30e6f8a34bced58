#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "tokio")]
mod bridge;
mod cache_entry;
mod cacheable;
mod clock;
mod codec;
mod config;
mod engine;
mod entry;
mod error;
mod fetched;
mod flight;
mod key;
mod l1;
mod macro_support;
mod platform;
mod snapshot;
mod stats;
mod store;
mod typed;
mod update;
mod value;

pub use __reexport::{store::*, user::*};
#[cfg(feature = "tokio")]
pub use bridge::{BlockOn, SpawnBlocking};
pub use cacheable::{AsyncCacheable, Cacheable};
#[cfg(any(feature = "zstd", feature = "lz4"))]
pub use codec::Compressed;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
#[cfg(feature = "postcard")]
pub use codec::Postcard;

#[doc(hidden)]
pub mod __private;
#[doc(hidden)]
pub mod __reexport;
