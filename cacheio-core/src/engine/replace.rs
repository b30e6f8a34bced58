//! Operations on entries whose header a server does not understand: it is read here, and the entry is
//! replaced only if it is still the one that was read.
//!
//! A server keeps an entry that has expired for as long as it may be served stale. To these
//! operations it is absent, as it is in memory.

use std::time::Duration;

use super::Engine;
use crate::entry::expiry::Expiry;
use crate::entry::wire;
use crate::key::Key;
use crate::{Entry, Error, ErrorKind, Payload, Replacement, Result, Timestamp, TtlChange};

/// How often an entry is read again because another client has changed it.
const MAX_CONFLICTS: usize = 1_000;

impl Engine {
    /// Whether there is a live entry.
    pub(super) async fn is_live(&self, key: &Key<'_>) -> Result<bool> {
        if !self.reads_headers() {
            return self.driver.has(key).await;
        }
        let entry = self.driver.get(key).await?;
        Ok(entry.is_some_and(|entry| !self.has_expired(&entry)))
    }

    /// Returns whether an entry on a server has expired by its header, and is only kept as a stale
    /// one.
    fn has_expired(&self, entry: &Entry) -> bool {
        expiry_of(entry).is_some_and(|expiry| expiry.expires_at <= self.clock.now())
    }

    /// Gives a live entry another TTL.
    pub(super) async fn touch_in_store(
        &self,
        key: &Key<'_>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        if !self.reads_headers() {
            return self.driver.touch(key, ttl).await;
        }
        for _ in 0..MAX_CONFLICTS {
            let Some(entry) = self.driver.get(key).await? else {
                return Ok(false);
            };
            let expiry = expiry_of(&entry).filter(|expiry| !expiry.is_age_only());
            let (Some(expiry), Payload::Bytes(bytes)) = (expiry, &entry.payload) else {
                return self.driver.touch(key, ttl).await;
            };
            let now = self.clock.now();
            if expiry.expires_at <= now {
                return Ok(false);
            }
            let touched = expiry.touched(ttl.map_or(Timestamp::MAX, |ttl| now.after(ttl)));
            let replacement = Replacement {
                new: Entry::bytes(wire::with_expiry(bytes, touched)?),
                ttl: TtlChange::Set(touched.retention(now)),
                current: entry,
            };
            if self.driver.replace(key, replacement).await? {
                return Ok(true);
            }
        }
        Err(too_many_conflicts())
    }
}

fn too_many_conflicts() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "other clients change the entry again and again; retry later",
    )
}

/// Returns the expiry in the header of an entry on a server.
fn expiry_of(entry: &Entry) -> Option<Expiry> {
    match &entry.payload {
        Payload::Bytes(bytes) => wire::open(bytes).ok()?.1,
        Payload::Object(_) => None,
    }
}
