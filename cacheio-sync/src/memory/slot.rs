//! The entry of a key.

use std::any::TypeId;
use std::sync::Arc;

use cacheio_core::{Entry, Meta, Object, Timestamp};

use super::removal::RemovalCause;

/// A value and its metadata. It is kept small: the cost of a hit is the number of cache
/// lines that it touches.
#[derive(Clone)]
pub(super) struct Slot {
    /// Until this time the value is served without a look at the rest. [`Timestamp::MIN`] for an entry with tags.
    fast_path_until: Timestamp,
    object: Arc<dyn Object>,
    /// The [word](Object::word) of the value.
    word: u64,
    /// None for most entries: they weigh 1, and expire at `fast_path_until`.
    details: Option<Box<Details>>,
}

#[derive(Clone)]
struct Details {
    meta: Option<Arc<Meta>>,
    expires_at: Timestamp,
    weight: u64,
}

impl Slot {
    pub(super) fn new(
        object: Arc<dyn Object>,
        meta: Option<Arc<Meta>>,
        expires_at: Timestamp,
        weight: u64,
    ) -> Self {
        let has_details = meta.is_some() || weight != 1;
        let mut slot = Self {
            fast_path_until: expires_at,
            word: object.word(),
            object,
            details: has_details.then(|| {
                Box::new(Details {
                    meta,
                    expires_at,
                    weight,
                })
            }),
        };
        slot.set_expiry(expires_at);
        slot
    }

    /// Sets the time at which the store's TTL is over.
    pub(super) fn set_expiry(&mut self, expires_at: Timestamp) {
        self.fast_path_until = expires_at;
        if let Some(details) = &mut self.details {
            details.expires_at = expires_at;
            if let Some(meta) = &details.meta {
                self.fast_path_until = match meta.has_tags() {
                    true => Timestamp::MIN,
                    false => expires_at.min(meta.fast_path_until()),
                };
            }
        }
    }

    /// Replaces the TTL.
    pub(super) fn touch(&mut self, expires_at: Timestamp) {
        let mut until = expires_at;
        if let Some(details) = &mut self.details
            && let Some(meta) = &details.meta
        {
            let (touched, stale_until) = meta.touched(expires_at);
            details.meta = Some(Arc::new(touched));
            until = stale_until;
        }
        self.set_expiry(until);
    }

    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at() && self.meta().is_none_or(|meta| meta.is_live(now))
    }

    /// Whether the entry is live, or is kept past its TTL.
    pub(super) fn is_retained(&self, now: Timestamp) -> bool {
        now < self.expires_at() && self.meta().is_none_or(|meta| meta.is_retained(now))
    }

    /// Returns a time until which the entry is retained, even if it is not read again; `None` if it is no longer
    /// retained.
    pub(super) fn retained_at(&self, now: Timestamp) -> Option<Timestamp> {
        // Then the details are not looked at, which are elsewhere in the memory.
        match now < self.fast_path_until {
            true => Some(self.fast_path_until),
            false => self.is_retained(now).then(|| self.retained_until()),
        }
    }

    /// Returns why an entry is removed: it may have ended before what removes it now.
    pub(super) fn cause(&self, now: Timestamp, cause: RemovalCause) -> RemovalCause {
        // At the earliest time, only a tag can have ended it.
        let is_invalidated = |meta: &Arc<Meta>| !meta.is_retained(Timestamp::MIN);
        if self.meta().is_some_and(is_invalidated) {
            return RemovalCause::Invalidated;
        }
        match self.is_retained(now) {
            true => cause,
            false => RemovalCause::Expired,
        }
    }

    /// The time at which the store's TTL of the entry is over.
    pub(super) fn expires_at(&self) -> Timestamp {
        self.details
            .as_ref()
            .map_or(self.fast_path_until, |details| details.expires_at)
    }

    /// The time until which the entry is retained if it is not read again.
    pub(super) fn retained_until(&self) -> Timestamp {
        let expires_at = self.expires_at();
        self.meta()
            .map_or(expires_at, |meta| meta.idle_until().min(expires_at))
    }

    #[inline]
    pub(super) fn weight(&self) -> u64 {
        self.details.as_ref().map_or(1, |details| details.weight)
    }

    #[inline]
    pub(super) fn object(&self) -> &Arc<dyn Object> {
        &self.object
    }

    pub(super) fn into_object(self) -> Arc<dyn Object> {
        self.object
    }

    /// The word of the value, if it has this type.
    #[inline]
    pub(super) fn word(&self, stored: TypeId) -> Option<u64> {
        ((*self.object).type_id() == stored).then_some(self.word)
    }

    /// The address of the value, which distinguishes it from all other values.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.object).cast::<()>() as usize
    }

    pub(super) fn meta(&self) -> Option<&Arc<Meta>> {
        self.details.as_ref()?.meta.as_ref()
    }

    /// The time until which the value is served without a look at more than its tags.
    #[inline]
    pub(super) fn fast_path_until(&self) -> Timestamp {
        match self.fast_path_until {
            Timestamp::MIN => self.tagged_until(),
            until => until,
        }
    }

    /// The same for an entry that may have tags.
    #[inline(never)]
    fn tagged_until(&self) -> Timestamp {
        let meta = self.meta().filter(|meta| meta.has_current_tags());
        meta.map_or(Timestamp::MIN, |meta| {
            self.expires_at().min(meta.fast_path_until())
        })
    }

    pub(super) fn entry(&self) -> Entry {
        let mut entry = Entry::object(Arc::clone(&self.object));
        entry.meta = self.meta().cloned();
        entry
    }
}
