#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod cacheable;
mod circuit;
mod clock;
mod codec;
mod config;
mod digits;
mod engine;
mod entry;
mod error;
mod fetched;
mod flight;
mod key;
mod macro_support;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/none.rs"]
mod metrics;
mod options;
mod policies;
mod scope;
mod settings;
mod span;
mod stats;
mod store;
mod sync;
mod tags;
mod ttl;
mod url;
mod value;
mod wire;

pub use cacheable::{AsyncCacheable, Cacheable};
pub use clock::{CLOCK_LAG, Clock, CoarseClock, ManualClock, SystemClock, Timestamp};
#[cfg(any(feature = "zstd", feature = "lz4"))]
pub use codec::Compressed;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Codec, Json};
pub use config::{Config, config, configure};
pub use entry::{Entry, Form, Meta, Payload};
pub use error::{BoxError, Error, ErrorKind, LoadError, Operation, Result};
pub use fetched::{Fetched, LoadContext, Source};
pub use key::{CacheKey, Key, KeyParts, KeyRule, KeyWriter, key_text};
pub use options::Options;
pub use policies::RefreshAhead;
pub use stats::Stats;
pub use store::{AsyncStore, BoxFuture, Store};
pub use ttl::Ttl;
pub use value::{Encode, Local, Object, Value};

#[doc(hidden)]
pub mod __private;
