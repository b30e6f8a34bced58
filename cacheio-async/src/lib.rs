#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
mod executor;
mod factory;

pub use cache::{AsyncCache, AsyncCacheBuilder, AsyncLoad, AsyncLoadingCache, AsyncTypedCache};
#[doc(inline)]
pub use cacheio_core::__reexport::{store, user::*};
#[doc(inline)]
pub use cacheio_core::AsyncCacheable;
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
#[cfg(feature = "macros")]
#[doc(inline)]
pub use cacheio_macros::{AsyncCacheable, CacheKey, async_cached, cached};
#[cfg(feature = "redis")]
#[doc(inline)]
pub use cacheio_redis::{Redis, RedisBuilder};
#[cfg(feature = "memory")]
#[doc(inline)]
pub use cacheio_sync::{L1, Memory, MemoryBuilder, Removal, RemovalCause};
#[cfg(feature = "memcached")]
#[doc(inline)]
pub use cacheio_sync::{Memcached, MemcachedBuilder};
pub use factory::CacheFactory;

#[doc(hidden)]
pub mod __private;
