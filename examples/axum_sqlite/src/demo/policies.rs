//! The policies of the cache, which the page switches on and off.

use std::sync::Arc;
use std::time::Duration;

use cacheio::{AsyncCache, Memory, Redis};
use serde::{Deserialize, Serialize};

const TTL: Duration = Duration::from_secs(5);

/// Which policies are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the page"
)]
pub struct Policies {
    /// Serves an expired value if the load fails or is slow.
    pub stale_for: bool,
    /// Retries failed loads sooner than after 30 s.
    pub retry_after: bool,
    /// Loads again before the TTL is over, in the background.
    pub refresh_ahead: bool,
    /// Callers wait for a short time if there is a stale value.
    pub soft_timeout: bool,
    /// Callers wait for a limited time in any case.
    pub hard_timeout: bool,
    /// Spreads the TTLs.
    pub jitter: bool,
    /// Memory before Redis.
    pub l1: bool,
}

/// Where the entries are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Redis(Redis),
    Memory(Arc<Memory>),
}

impl Policies {
    /// All policies.
    pub const ALL: Self = Self {
        stale_for: true,
        retry_after: true,
        refresh_ahead: true,
        soft_timeout: true,
        hard_timeout: true,
        jitter: true,
        l1: true,
    };

    /// Builds a cache with these policies. The entries of the one before stay.
    pub(crate) fn build(self, place: &Place) -> cacheio::Result<AsyncCache> {
        let mut cache = AsyncCache::builder().namespace("shop").default_ttl(TTL);
        cache = match place {
            Place::Redis(redis) => cache.store(redis.clone()),
            Place::Memory(memory) => cache.store(Arc::clone(memory)),
        };
        if self.l1 && matches!(place, Place::Redis(_)) {
            cache = cache.l1(Memory::with_capacity(1_000));
        }
        if self.stale_for {
            cache = cache.stale_for(Duration::from_secs(60));
        }
        // It needs a value to serve meanwhile.
        if self.retry_after && (self.stale_for || self.refresh_ahead) {
            cache = cache.retry_after(Duration::from_secs(2));
        }
        if self.refresh_ahead {
            cache = cache.refresh_ahead(0.6);
        }
        // It needs a stale value to serve.
        if self.soft_timeout && self.stale_for {
            cache = cache.soft_timeout(Duration::from_millis(50));
        }
        if self.hard_timeout {
            cache = cache.hard_timeout(Duration::from_millis(500));
        }
        if self.jitter {
            cache = cache.jitter(0.2);
        }
        cache.build()
    }
}
