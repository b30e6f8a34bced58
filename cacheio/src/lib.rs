#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "sync", feature = "async"))]
mod factory;

#[cfg(feature = "async")]
#[doc(inline)]
pub use cacheio_async::{AsyncCache, AsyncCacheBuilder};
#[cfg(all(feature = "redis", feature = "async", not(feature = "sync")))]
#[doc(inline)]
pub use cacheio_async::{BlockOn, Redis, RedisBuilder, SpawnBlocking};
#[cfg(all(feature = "memcached", feature = "async", not(feature = "sync")))]
#[doc(inline)]
pub use cacheio_async::{Memcached, MemcachedBuilder};
#[cfg(all(feature = "async", not(feature = "sync")))]
#[doc(inline)]
pub use cacheio_async::{Memory, MemoryBuilder};
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
    AsyncCacheable, AsyncStore, BoxError, BoxFuture, CLOCK_LAG, CacheKey, Cacheable, Clock,
    CoarseClock, Codec, Config, Encode, Entry, Error, ErrorKind, Fetched, Form, Json, Key,
    KeyParts, KeyRule, KeyWriter, LoadContext, LoadError, Local, ManualClock, Meta, Object,
    Operation, Options, Payload, RefreshAhead, Result, Source, Stats, Store, SystemClock,
    Timestamp, Ttl, Value, config, configure, immediate_store, key_text,
};
#[cfg(feature = "macros")]
#[doc(inline)]
pub use cacheio_macros::{AsyncCacheable, CacheKey, Cacheable, async_cached, cached};
#[cfg(all(feature = "redis", feature = "sync"))]
#[doc(inline)]
pub use cacheio_sync::{BlockOn, Redis, RedisBuilder, SpawnBlocking};
#[cfg(feature = "sync")]
#[doc(inline)]
pub use cacheio_sync::{Cache, CacheBuilder, Memory, MemoryBuilder};
#[cfg(all(feature = "memcached", feature = "sync"))]
#[doc(inline)]
pub use cacheio_sync::{Memcached, MemcachedBuilder};
#[cfg(any(feature = "sync", feature = "async"))]
pub use factory::CacheFactory;

#[cfg(doc)]
pub mod guide;

#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "async")]
    pub use cacheio_async::__private::*;
    #[cfg(not(any(feature = "sync", feature = "async")))]
    pub use cacheio_core::__private::*;
    #[cfg(feature = "sync")]
    pub use cacheio_sync::__private::*;
}
