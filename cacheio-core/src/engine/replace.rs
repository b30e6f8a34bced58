//! Operations on entries whose header a server does not understand: it is read here, and the entry is
//! replaced only if it is still the one that was read.
//!
//! A server keeps an entry that has expired for as long as it may be served stale. To these
//! operations it is absent, as it is in memory.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use super::Engine;
use super::tags::Versions;
use crate::entry::expiry::Expiry;
use crate::entry::wire::{self, Body, OwnedBody};
use crate::error::overflow;
use crate::key::{Key, KeyBuffer};
use crate::store::store_time::StoreTime;
use crate::{
    CacheKey, Entry, Error, ErrorKind, Form, Operation, Payload, Replacement, Result, Timestamp,
    Ttl, TtlChange,
};

/// How often an entry is read again because another client has changed it.
pub(super) const MAX_CONFLICTS: usize = 1_000;

impl Engine {
    /// Whether there is a live entry.
    pub(super) async fn is_live(&self, key: &Key<'_>) -> Result<bool> {
        if !self.reads_headers() {
            return self.driver.has(key).await;
        }
        let entry = self.read_entry(key, true).await?.entry;
        Ok(entry.is_some_and(|entry| !self.has_expired(&entry)))
    }

    /// Returns whether an entry on a server is not live: it has expired, or one of its tags was
    /// invalidated.
    async fn is_over(&self, entry: &Entry) -> Result<bool> {
        Ok(self.has_expired(entry) || !self.is_valid(entry).await?)
    }

    /// Returns whether an entry on a server has expired by its header, and is only kept as a stale
    /// one.
    pub(super) fn has_expired(&self, entry: &Entry) -> bool {
        expiry_of(entry).is_some_and(|expiry| expiry.expires_at <= self.clock.now())
    }

    /// Returns what is left of the TTL of a live entry.
    pub async fn ttl(&self, key: impl CacheKey) -> Result<Option<Ttl>> {
        let mut buffer = KeyBuffer::new();
        let key = self.key(&mut buffer, &key);
        let time = StoreTime::default();
        let left = pin!(self.ttl_in_store(&key));
        let left = self.driver.timed(&time, left).await;
        left.map_err(|error| self.in_operation(error, Operation::Ttl, &key))
    }

    async fn ttl_in_store(&self, key: &Key<'_>) -> Result<Option<Ttl>> {
        let read = self.driver.get_with_ttls(std::slice::from_ref(key)).await?;
        let Some(entry) = read.into_iter().next().flatten() else {
            return Ok(None);
        };
        let Some(left) = self.left_of(&entry)? else {
            return Ok(None);
        };
        Ok(self.is_valid(&entry).await?.then_some(left))
    }

    /// Returns what is left of the TTL of an entry that the store returned with it; none if it is not live.
    pub(super) fn left_of(&self, entry: &Entry) -> Result<Option<Ttl>> {
        let kept_for = match entry.left {
            Some(Ttl::After(left)) => left,
            Some(_) => Duration::MAX,
            None => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "this store does not support `ttl`",
                ));
            }
        };
        let now = self.clock.now();
        let ends_at = match (&entry.payload, &entry.meta) {
            (Payload::Bytes(bytes), _) => wire::open(bytes)?.1.map(|expiry| expiry.expires_at),
            (Payload::Object(_), meta) => meta.as_ref().map(|meta| meta.ends_at()),
        };
        let left = match ends_at {
            None | Some(Timestamp::MAX) => kept_for,
            // The store may keep it longer, as a stale entry.
            Some(ends_at) if ends_at <= now => return Ok(None),
            Some(ends_at) => kept_for.min(ends_at.since(now)),
        };
        Ok(Some(match left {
            Duration::MAX => Ttl::Never,
            left => Ttl::After(left.max(Duration::from_millis(1))),
        }))
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
            let Some(entry) = self.read_to_touch(key).await? else {
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

    /// Stores an entry if there is no live one.
    pub(super) async fn add_to_store(
        &self,
        key: &Key<'_>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        if !self.reads_headers() {
            return self.driver.add(key, entry, ttl).await;
        }
        for _ in 0..MAX_CONFLICTS {
            if self.driver.add(key, entry.clone(), ttl).await? {
                return Ok(true);
            }
            let Some(current) = self.driver.get(key).await? else {
                continue;
            };
            if !self.is_over(&current).await? {
                return Ok(false);
            }
            let replacement = Replacement {
                current,
                new: entry.clone(),
                ttl: TtlChange::Set(ttl),
            };
            if self.driver.replace(key, replacement).await? {
                return Ok(true);
            }
        }
        Err(too_many_conflicts())
    }

    /// Removes an entry. Returns whether it was live.
    pub(super) async fn delete_from_store(&self, key: &Key<'_>) -> Result<bool> {
        let mut was_over = false;
        if self.reads_headers()
            && let Some(entry) = readable(self.driver.get(key).await)?.flatten()
        {
            // If the tags cannot be read, the entry is deleted all the same.
            was_over = self.is_over(&entry).await.unwrap_or_default();
        }
        Ok(self.driver.delete(key).await? && !was_over)
    }

    /// Removes several entries. Returns how many were live.
    pub(super) async fn delete_many_from_store(&self, keys: &[Key<'_>]) -> Result<usize> {
        // Each key is deleted once.
        let mut over = HashSet::new();
        if self.reads_headers() {
            let entries = readable(self.driver.get_many(keys).await)?.unwrap_or_default();
            let versions = &mut Versions::default();
            let invalid = self.invalid_among(&entries, versions, false);
            // If the tags cannot be read, the entries are deleted all the same.
            let invalid = invalid.await.unwrap_or_default();
            for (index, (key, entry)) in keys.iter().zip(&entries).enumerate() {
                let has_expired = entry.as_ref().is_some_and(|entry| self.has_expired(entry));
                if has_expired || invalid.contains(&index) {
                    over.insert(key.text());
                }
            }
        }
        let deleted = self.driver.delete_many(keys).await?;
        Ok(deleted.saturating_sub(over.len()))
    }

    /// Adds to a counter. The store counts by itself where it can.
    pub(super) async fn increment_in_store(
        &self,
        key: &Key<'_>,
        by: i64,
        ttl: Option<Duration>,
    ) -> Result<i64> {
        for _ in 0..MAX_CONFLICTS {
            let refused = match self.driver.increment(key, by, ttl).await {
                Err(error)
                    if error.kind() == ErrorKind::WrongType
                        && self.driver.form() == Form::Bytes =>
                {
                    error
                }
                counted => return counted,
            };
            let Some(current) = self.driver.get(key).await? else {
                continue;
            };
            let is_over = self.is_over(&current).await?;
            let Some((count, replacement)) = incremented(current, is_over, by, ttl)? else {
                return Err(refused);
            };
            if self.driver.replace(key, replacement).await? {
                return Ok(count);
            }
        }
        Err(too_many_conflicts())
    }
}

/// Adds to an entry whose header the store does not understand; `None` if it is no integer.
fn incremented(
    current: Entry,
    is_over: bool,
    by: i64,
    ttl: Option<Duration>,
) -> Result<Option<(i64, Replacement)>> {
    let Payload::Bytes(bytes) = &current.payload else {
        return Ok(None);
    };
    let Ok((body, _)) = wire::open(bytes) else {
        return Ok(None);
    };
    let (count, new, ttl) = if is_over {
        (by, by.to_string().into_bytes(), TtlChange::Set(ttl))
    } else {
        let Body::Integer(digits) = body else {
            return Ok(None);
        };
        let digits = std::str::from_utf8(digits.trim_ascii_end()).unwrap_or_default();
        let Ok(count) = digits.parse::<i64>() else {
            return Ok(None);
        };
        let sum = count.checked_add(by).ok_or_else(overflow)?;
        let new = wire::with_value(bytes, OwnedBody::Integer(sum.to_string()))?;
        (sum, new, TtlChange::Keep)
    };
    let new = Entry::bytes(new);
    Ok(Some((count, Replacement { current, new, ttl })))
}

/// Returns what was read; `None` if it cannot be read, but can still be deleted.
fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable) => {
            Err(error)
        }
        read => Ok(read.ok()),
    }
}

pub(super) fn too_many_conflicts() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "other clients change the entry again and again; retry later",
    )
}

/// Returns the expiry in the header of an entry on a server.
pub(super) fn expiry_of(entry: &Entry) -> Option<Expiry> {
    match &entry.payload {
        Payload::Bytes(bytes) => wire::open(bytes).ok()?.1,
        Payload::Object(_) => None,
    }
}
