#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
#[cfg(any(feature = "memory", feature = "memcached", feature = "redis"))]
mod factory;
mod runtime;

pub use cache::{AsyncCache, AsyncCacheBuilder};
#[cfg(any(feature = "zstd", feature = "lz4"))]
#[doc(inline)]
pub use cacheio_core::Compressed;
#[cfg(feature = "msgpack")]
#[doc(inline)]
pub use cacheio_core::MessagePack;
#[cfg(feature = "postcard")]
#[doc(inline)]
pub use cacheio_core::Postcard;
#[doc(inline)]
pub use cacheio_core::{
    AsyncCacheable, AsyncStore, BoxError, BoxFuture, CLOCK_LAG, CacheKey, Clock, CoarseClock,
    Codec, Config, Encode, Entry, Error, ErrorKind, Fetched, Form, Json, Key, KeyParts, KeyRule,
    KeyWriter, LoadContext, LoadError, Local, ManualClock, Meta, Object, Operation, Options,
    Payload, RefreshAhead, Result, Source, Stats, Store, SystemClock, Timestamp, Ttl, Value,
    config, configure, immediate_store, key_text,
};
#[cfg(feature = "tokio")]
#[doc(inline)]
pub use cacheio_core::{BlockOn, SpawnBlocking};
#[cfg(feature = "macros")]
#[doc(inline)]
pub use cacheio_macros::{AsyncCacheable, CacheKey, async_cached, cached};
#[cfg(feature = "redis")]
#[doc(inline)]
pub use cacheio_redis::{Redis, RedisBuilder};
#[cfg(feature = "memcached")]
#[doc(inline)]
pub use cacheio_sync::{Memcached, MemcachedBuilder};
#[cfg(feature = "memory")]
pub use cacheio_sync::{Memory, MemoryBuilder};
#[cfg(any(feature = "memory", feature = "memcached", feature = "redis"))]
pub use factory::CacheFactory;

#[doc(hidden)]
pub mod __private;
