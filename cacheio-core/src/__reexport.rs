//! The public items of this crate that `cacheio-sync`, `cacheio-async` and `cacheio` re-export.
//!
//! What belongs to one feature or to one kind of cache is left out: its re-export needs a `cfg` of
//! the crate that makes it, from which rustdoc derives "available on crate feature … only".

/// What the users of a cache need, at the root of those crates.
pub mod user {
    pub use crate::cache_entry::CacheEntry;
    pub use crate::clock::{CLOCK_LAG, Clock, CoarseClock, ManualClock, SystemClock, Timestamp};
    pub use crate::codec::{Codec, Json};
    pub use crate::config::defaults::{Config, config, configure};
    pub use crate::config::file::Settings;
    pub use crate::config::options::Options;
    pub use crate::config::policies::RefreshAhead;
    pub use crate::config::ttl::Ttl;
    pub use crate::error::{BoxError, Error, ErrorKind, LoadError, Operation, Result};
    pub use crate::fetched::{Fetched, LoadContext, Source};
    pub use crate::key::{CacheKey, KeyParts, KeyWriter, ListedKey, key_text};
    pub use crate::snapshot::Saved;
    pub use crate::stats::Stats;
    pub use crate::store::{FailingStore, Null};
    pub use crate::typed::{KeyOf, Loads, LoadsMany, ValueOf};
    pub use crate::update::Update;
    pub use crate::value::{Encode, Local, Value};
}

pub mod store {
    //! What the author of a store needs.
    //!
    //! A store keeps the entries of a cache: implement [`Store`] with blocking methods or
    //! [`AsyncStore`] with futures, and pass it to the cache's builder. A [`Store`] that never
    //! waits, such as one in this process's memory, serves both kinds of caches through
    //! [`immediate_store!`].
    //!
    //! Caches call a store with complete [`Key`]s, and with [`Entry`] values in the [`Form`] that
    //! the store chooses. Single flight, invalidation during loads, codecs and statistics are the
    //! work of the cache.

    pub use crate::entry::{Entry, Form, Meta, Payload, Replacement, TtlChange};
    pub use crate::immediate_store;
    pub use crate::key::{Key, KeyRule};
    pub use crate::store::{
        AsyncStore, BoxFuture, Claim, ClaimMode, Claimed, FastMiss, ScanPage, Server, Settled,
        Settlement, SharedLoads, Store, Usage,
    };
    pub use crate::value::Object;
}
