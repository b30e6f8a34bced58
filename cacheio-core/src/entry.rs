//! What stores keep: a value and what is known about it.

pub(crate) mod expiry;
pub(crate) mod tags;
pub(crate) mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::entry::expiry::Expiry;
use crate::entry::tags::Stamps;
use crate::{Object, RefreshAhead, Timestamp};

/// What a store keeps under a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub payload: Payload,
    /// What must be known before it is served, where there is anything to know.
    pub meta: Option<Arc<Meta>>,
}

impl Entry {
    /// An entry that is nothing but its bytes.
    ///
    /// ```
    /// use cacheio::store::{Entry, Payload};
    ///
    /// let entry = Entry::bytes(b"42".to_vec());
    /// assert!(matches!(entry.payload, Payload::Bytes(bytes) if bytes == b"42"));
    /// ```
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self {
            payload: Payload::Bytes(bytes),
            meta: None,
        }
    }

    /// An entry that is nothing but its value.
    #[inline]
    pub fn object(object: Arc<dyn Object>) -> Self {
        Self {
            payload: Payload::Object(object),
            meta: None,
        }
    }
}

/// A value in the form that a store keeps.
#[derive(Clone, Debug)]
pub enum Payload {
    /// The value itself.
    Object(Arc<dyn Object>),
    /// What the codec made of it.
    Bytes(Vec<u8>),
}

/// In which form a store keeps values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// [`Payload::Object`]: the values themselves, in this process.
    Objects,
    /// [`Payload::Bytes`]: what the codec makes of them.
    Bytes,
}

/// What must be known about an entry before it is served.
///
/// Most entries have none. Stores of [`Form::Objects`] keep it beside the value and give it back
/// with it; they never look inside, but for what the methods say.
#[derive(Debug)]
pub struct Meta {
    pub(crate) tags: Stamps,
    pub(crate) expiry: Option<Expiry>,
    /// When it is to be loaded anew while it is live.
    ahead: RefreshAhead,
    /// Until when a load that failed is not tried again; in nanoseconds of the store's clock, as
    /// the next.
    retry_at: AtomicU64,
    /// When it is gone unless it is read before.
    idle_until: AtomicU64,
}

impl Meta {
    pub(crate) fn new(tags: Stamps, expiry: Option<Expiry>, ahead: RefreshAhead) -> Self {
        Self {
            tags,
            expiry,
            ahead,
            retry_at: AtomicU64::new(0),
            idle_until: AtomicU64::new(match expiry {
                Some(Expiry {
                    created_at,
                    idle: Some(idle),
                    ..
                }) => created_at.after(idle).as_nanos(),
                _ => u64::MAX,
            }),
        }
    }

    /// From when on the entry must not be served without a closer look.
    pub fn fast_path_until(&self) -> Timestamp {
        if !self.tags.is_empty() {
            return Timestamp::MIN;
        }
        match self.expiry {
            // Each reading is to be noted.
            Some(expiry) if expiry.idle.is_some() => Timestamp::MIN,
            Some(expiry) => expiry.expires_at.min(expiry.due_from(self.ahead)),
            None => Timestamp::MAX,
        }
    }

    /// Whether the entry is to be kept: none of its tags was invalidated since the value was made,
    /// and it has been read recently, if that is asked for. An atomic load a tag. An entry that is
    /// not to be kept will never be again.
    pub fn is_retained(&self, now: Timestamp) -> bool {
        now < self.idle_until() && self.tags.are_current()
    }

    /// When the entry is gone unless it is read before.
    pub fn idle_until(&self) -> Timestamp {
        Timestamp::from_nanos(self.idle_until.load(Ordering::Acquire))
    }

    /// Whether the entry is live at this time, as far as it is for meta to say: it may be kept
    /// longer than its TTL, for `get` and `get_many` alone to give back.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expiry.is_none_or(|expiry| now < expiry.expires_at) && self.is_retained(now)
    }

    pub(crate) fn record_read(&self, now: Timestamp, idle: Duration) {
        let until = now.after(idle).as_nanos();
        self.idle_until.fetch_max(until, Ordering::AcqRel);
    }

    /// The same for an entry whose TTL, by a touch, is now over at `expires`; and when the entry
    /// is over then.
    #[must_use]
    pub fn touched(&self, expires: Timestamp) -> (Self, Timestamp) {
        let expiry = self.expiry.map(|expiry| expiry.touched(expires));
        let ends = expiry.map_or(expires, |expiry| expiry.stale_until);
        let touched = Self::new(self.tags.clone(), expiry, self.ahead);
        for (new, old) in [
            (&touched.retry_at, &self.retry_at),
            (&touched.idle_until, &self.idle_until),
        ] {
            new.store(old.load(Ordering::Acquire), Ordering::Release);
        }
        (touched, ends)
    }

    pub(crate) fn may_retry(&self, now: Timestamp) -> bool {
        Timestamp::from_nanos(self.retry_at.load(Ordering::Acquire)) <= now
    }

    pub(crate) fn set_retry_at(&self, at: Timestamp) {
        self.retry_at.store(at.as_nanos(), Ordering::Release);
    }
}
