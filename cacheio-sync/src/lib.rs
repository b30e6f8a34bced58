#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
mod executor;
mod factory;
#[cfg(feature = "memcached")]
mod memcached;
#[cfg(feature = "memory")]
mod memory;
#[cfg(any(feature = "memcached", feature = "memory"))]
mod scan_position;

pub use cache::{Cache, CacheBuilder, LoadingCache, TypedCache};
#[doc(inline)]
pub use cacheio_core::__reexport::{store, user::*};
#[doc(inline)]
pub use cacheio_core::Cacheable;
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
pub use cacheio_macros::{CacheKey, Cacheable, cached};
#[cfg(feature = "redis")]
#[doc(inline)]
pub use cacheio_redis::{Redis, RedisBuilder};
pub use factory::CacheFactory;
#[cfg(feature = "memcached")]
pub use memcached::{Memcached, MemcachedBuilder};
#[cfg(feature = "memory")]
pub use memory::{L1, Memory, MemoryBuilder, Removal, RemovalCause};

#[doc(hidden)]
pub mod __private;
