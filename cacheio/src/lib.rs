#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod factory;

#[cfg(feature = "async")]
#[doc(inline)]
pub use cacheio_async::{
    AsyncCache, AsyncCacheBuilder, AsyncLoad, AsyncLoadingCache, AsyncTypedCache,
};
#[doc(inline)]
pub use cacheio_core::__reexport::{store, user::*};
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
pub use cacheio_core::{AsyncCacheable, Cacheable};
#[cfg(feature = "macros")]
#[doc(inline)]
pub use cacheio_macros::{AsyncCacheable, CacheKey, Cacheable, async_cached, cached};
#[cfg(feature = "redis")]
#[doc(inline)]
pub use cacheio_sync::{BlockOn, Redis, RedisBuilder, SpawnBlocking};
#[cfg(feature = "sync")]
#[doc(inline)]
pub use cacheio_sync::{Cache, CacheBuilder, LoadingCache, TypedCache};
#[cfg(any(feature = "sync", feature = "async"))]
#[cfg_attr(docsrs, doc(auto_cfg = false))]
#[doc(inline)]
pub use cacheio_sync::{L1, Memory, MemoryBuilder, Removal, RemovalCause};
#[cfg(feature = "memcached")]
#[doc(inline)]
pub use cacheio_sync::{Memcached, MemcachedBuilder};
pub use factory::CacheFactory;

#[cfg(doc)]
pub mod guide;

// Rustdoc would give the public types that are listed here the `cfg`s of these lines if it inlined
// them.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "async")]
    #[doc(no_inline)]
    pub use cacheio_async::__private::*;
    #[cfg(not(any(feature = "sync", feature = "async")))]
    pub use cacheio_core::__private::*;
    #[cfg(feature = "sync")]
    #[doc(no_inline)]
    pub use cacheio_sync::__private::*;
}
