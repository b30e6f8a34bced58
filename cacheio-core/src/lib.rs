#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "tokio")]
mod bridge;
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
mod macro_support;
mod stats;
mod store;
mod value;

#[cfg(feature = "tokio")]
pub use bridge::{BlockOn, SpawnBlocking};
pub use cacheable::{AsyncCacheable, Cacheable};
pub use clock::{CLOCK_LAG, Clock, CoarseClock, ManualClock, SystemClock, Timestamp};
#[cfg(any(feature = "zstd", feature = "lz4"))]
pub use codec::Compressed;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Codec, Json};
pub use config::defaults::{Config, config, configure};
pub use config::options::Options;
pub use config::policies::RefreshAhead;
pub use config::ttl::Ttl;
pub use entry::{Entry, Form, Meta, Payload};
pub use error::{BoxError, Error, ErrorKind, LoadError, Operation, Result};
pub use fetched::{Fetched, LoadContext, Source};
pub use key::{CacheKey, Key, KeyParts, KeyRule, KeyWriter, key_text};
pub use stats::Stats;
pub use store::{AsyncStore, BoxFuture, FastLookup, Store};
pub use value::{Encode, Local, Object, Value};

#[doc(hidden)]
pub mod __private;
