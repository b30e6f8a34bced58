#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
#[cfg(any(feature = "memory", feature = "memcached", feature = "redis"))]
mod factory;
#[cfg(feature = "memcached")]
mod memcached;
#[cfg(feature = "memory")]
mod memory;
mod pool;

pub use cache::{Cache, CacheBuilder};
#[cfg(any(feature = "zstd", feature = "lz4"))]
#[doc(inline)]
pub use cacheio_core::Compressed;
#[cfg(feature = "msgpack")]
#[doc(inline)]
pub use cacheio_core::MessagePack;
#[cfg(feature = "postcard")]
#[doc(inline)]
pub use cacheio_core::Postcard;
#[cfg(feature = "tokio")]
#[doc(inline)]
pub use cacheio_core::{BlockOn, SpawnBlocking};
#[doc(inline)]
pub use cacheio_core::{
    BoxError, CLOCK_LAG, CacheKey, Cacheable, Clock, CoarseClock, Codec, Config, Encode, Entry,
    Error, ErrorKind, Fetched, Form, Json, Key, KeyParts, KeyRule, KeyWriter, LoadContext,
    LoadError, Local, ManualClock, Meta, Object, Operation, Options, Payload, RefreshAhead, Result,
    Source, Stats, Store, SystemClock, Timestamp, Ttl, Value, config, configure, key_text,
};
#[cfg(feature = "macros")]
#[doc(inline)]
pub use cacheio_macros::{CacheKey, Cacheable, cached};
#[cfg(feature = "redis")]
#[doc(inline)]
pub use cacheio_redis::{Redis, RedisBuilder};
#[cfg(any(feature = "memory", feature = "memcached", feature = "redis"))]
pub use factory::CacheFactory;
#[cfg(feature = "memcached")]
pub use memcached::{Memcached, MemcachedBuilder};
#[cfg(feature = "memory")]
pub use memory::{Memory, MemoryBuilder};

#[doc(hidden)]
pub mod __private;
