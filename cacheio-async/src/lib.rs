#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
#[cfg(feature = "memory")]
mod factory;

pub use cache::{AsyncCache, AsyncCacheBuilder};
#[doc(inline)]
pub use cacheio_core::{
    AsyncCacheable, AsyncStore, BoxError, BoxFuture, CLOCK_LAG, CacheKey, Clock, CoarseClock,
    Codec, Config, Encode, Entry, Error, ErrorKind, Form, Json, Key, KeyParts, KeyRule, KeyWriter,
    LoadError, Local, ManualClock, Meta, Object, Operation, Options, Payload, Result, Stats, Store,
    SystemClock, Timestamp, Ttl, Value, config, configure, immediate_store, key_text,
};
#[cfg(feature = "macros")]
#[doc(inline)]
pub use cacheio_macros::{AsyncCacheable, CacheKey, async_cached, cached};
#[cfg(feature = "memory")]
pub use cacheio_sync::{Memory, MemoryBuilder};
#[cfg(feature = "memory")]
pub use factory::CacheFactory;

#[doc(hidden)]
pub mod __private;
