//! The entries of a store: values and their metadata.

pub(crate) mod expiry;
pub(crate) mod tags;
pub(crate) mod wire;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::entry::expiry::Expiry;
use crate::entry::tags::Stamps;
use crate::{Error, ErrorKind, Object, RefreshAhead, Result, Timestamp, Ttl};

/// A value with its metadata, as a store keeps it under a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub payload: Payload,
    /// The metadata that is checked before the value is returned. Most entries have none.
    pub meta: Option<Arc<Meta>>,
    /// A number that a store may give to an entry that it returns, to recognize it in
    /// [`Store::replace`](crate::Store::replace).
    pub version: Option<u64>,
    /// How long the store keeps the entry, from the request for it on, where
    /// [`Store::get_with_ttls`](crate::Store::get_with_ttls) found that out: [`Ttl::After`] or [`Ttl::Never`],
    /// and never [`Ttl::Default`].
    pub left: Option<Ttl>,
    /// Whether the store tells the L1s of this process of changes of the entry.
    #[doc(hidden)]
    pub is_watched: bool,
    /// Whether the store lets L1s copy the entry. If not, another server may be in charge of it.
    #[doc(hidden)]
    pub may_be_copied: bool,
}

impl Entry {
    /// Returns how long the store keeps the entry, if it is known to have an end.
    pub(crate) fn ends_in(&self) -> Option<Duration> {
        match self.left {
            Some(Ttl::After(left)) => Some(left),
            _ => None,
        }
    }

    /// Creates an entry from the bytes of a value, without metadata.
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
            version: None,
            left: None,
            is_watched: false,
            may_be_copied: true,
        }
    }

    /// Creates an entry from a value, without metadata.
    #[inline]
    pub fn object(object: Arc<dyn Object>) -> Self {
        Self {
            payload: Payload::Object(object),
            meta: None,
            version: None,
            left: None,
            is_watched: false,
            may_be_copied: true,
        }
    }

    /// Returns whether this is the entry that was read, for
    /// [`Store::compare_and_swap`](crate::Store::compare_and_swap): whether the bytes are the same, or the
    /// value and the metadata are the same `Arc`s.
    ///
    /// ```
    /// use cacheio::store::Entry;
    ///
    /// let read = Entry::bytes(b"42".to_vec());
    /// assert!(read.is_same(&read.clone()));
    /// assert!(!read.is_same(&Entry::bytes(b"43".to_vec())));
    /// ```
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.payload, &other.payload) {
            (Payload::Bytes(read), Payload::Bytes(found)) => read == found,
            (Payload::Object(read), Payload::Object(found)) => {
                // A touch changes only the metadata.
                let is_same_meta = match (&self.meta, &other.meta) {
                    (Some(read), Some(found)) => Arc::ptr_eq(read, found),
                    (None, None) => true,
                    _ => false,
                };
                is_same_meta && Arc::ptr_eq(read, found)
            }
            _ => false,
        }
    }

    /// Returns which of the entry's bytes distinguish it from other values under its key, for
    /// [`Store::settle`](crate::Store::settle): where no policy needs a header, all of them. Empty for an
    /// object.
    ///
    /// ```
    /// use cacheio::store::Entry;
    ///
    /// assert_eq!(Entry::bytes(b"value".to_vec()).identity(), 0..5);
    /// ```
    pub fn identity(&self) -> Range<usize> {
        match &self.payload {
            Payload::Bytes(bytes) => wire::creation(bytes),
            Payload::Object(_) => 0..0,
        }
    }

    /// Returns a number that differs between entries under a key, except if no write came between them: if
    /// only a read or a failed load was recorded. `None` if the entry has no header for that.
    #[doc(hidden)]
    pub fn written(&self) -> Option<u64> {
        match &self.payload {
            Payload::Bytes(bytes) => wire::written(bytes),
            Payload::Object(_) => None,
        }
    }
}

/// A change of an entry that was read, for [`Store::replace`](crate::Store::replace).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replacement {
    /// The entry, as the store returned it.
    pub current: Entry,
    /// The entry that replaces it.
    pub new: Entry,
    /// How long the new entry lives.
    pub ttl: TtlChange,
}

/// What becomes of the TTL of an entry that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlChange {
    /// The entry ends when it would have ended.
    Keep,
    /// The entry lives for this long from now on; `None` means forever.
    Set(Option<Duration>),
}

impl TtlChange {
    /// Returns the TTL of an entry that replaces none. There is none to keep, so such an entry never expires.
    pub fn of_new(self) -> Option<Duration> {
        match self {
            Self::Set(ttl) => ttl,
            Self::Keep => None,
        }
    }
}

impl Replacement {
    /// Returns whether an entry is the one to replace.
    pub fn replaces(&self, entry: &Entry) -> bool {
        self.current.is_same(entry)
    }

    /// Returns the arguments of [`Store::compare_and_swap`](crate::Store::compare_and_swap) for it.
    pub(crate) fn swap(self) -> (Option<Entry>, Option<(Entry, TtlChange)>) {
        (Some(self.current), Some((self.new, self.ttl)))
    }

    /// Returns how long the new entry lives from `now` on, for a store that cannot keep a TTL.
    pub(crate) fn ttl_to_set(&self, now: Timestamp) -> Result<Option<Duration>> {
        let expiry = match (self.ttl, &self.new.payload) {
            (TtlChange::Set(ttl), _) => return Ok(ttl),
            (TtlChange::Keep, Payload::Bytes(bytes)) => wire::open(bytes)?.1,
            (TtlChange::Keep, Payload::Object(_)) => None,
        };
        match expiry {
            Some(expiry) if !expiry.is_age_only() => Ok(expiry.retention(now)),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                "this store does not support `replace`, which has to keep a TTL",
            )),
        }
    }

    /// Returns how many of the first bytes of [`current`](Self::current) a store has to compare with
    /// the stored entry, besides the length.
    ///
    /// All bytes must be equal, but the header that a cache puts in front of some values is enough
    /// when the rest does not change: it holds the time at which the value was stored. What follows the
    /// compared bytes is then also the end of the new entry, whose header may have another length.
    pub fn compared(&self) -> usize {
        let (Payload::Bytes(current), Payload::Bytes(new)) =
            (&self.current.payload, &self.new.payload)
        else {
            return 0;
        };
        let identity = wire::identity_len(current);
        match current[identity..] == new[wire::identity_len(new)..] {
            true => identity,
            false => current.len(),
        }
    }
}

/// A value in the [`Form`] of its store. `Debug` does not show the value.
#[derive(Clone)]
#[non_exhaustive]
pub enum Payload {
    /// The value itself.
    Object(Arc<dyn Object>),
    /// The bytes of the value, in a format that the cache decides.
    Bytes(Vec<u8>),
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => f.debug_tuple("Object").field(object).finish(),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

/// The form in which a store keeps values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// The values themselves, in the memory of this process: [`Payload::Object`].
    Objects,
    /// Bytes: [`Payload::Bytes`].
    Bytes,
}

/// The metadata of an entry: its tags and the times of its life.
///
/// A store of [`Form::Objects`] keeps it with the value and returns it with the value. It uses only
/// the methods of this type. A store of [`Form::Bytes`] gets entries without metadata.
#[derive(Debug)]
pub struct Meta {
    pub(crate) tags: Stamps,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) ahead: RefreshAhead,
    /// When a failed load may be retried, in nanoseconds of the store's clock.
    retry_at: AtomicU64,
    /// When the entry expires unless it is read before, in nanoseconds of the store's clock.
    idle_until: AtomicU64,
    origin: Origin,
}

/// Where an entry in memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It was written there.
    Written,
    /// It is a copy of an entry on a server, in L1. The TTL in memory limits its life; the expiry is by the
    /// server's clock, and tells its age.
    Copied {
        /// Whether each look-up has to check the text of the key.
        has_replaced_key: bool,
    },
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
            origin: Origin::Written,
        }
    }

    /// Creates the metadata of a copy in L1.
    pub(crate) fn of_copy(tags: Stamps, expiry: Option<Expiry>, has_replaced_key: bool) -> Self {
        Self {
            origin: Origin::Copied { has_replaced_key },
            ..Self::new(tags, expiry, RefreshAhead::Never)
        }
    }

    /// Returns until when the entry can be served without checking more of its metadata than its
    /// [tags](Self::has_tags).
    pub fn fast_path_until(&self) -> Timestamp {
        match (self.origin, self.expiry) {
            (Origin::Copied { has_replaced_key }, _) => match has_replaced_key {
                true => Timestamp::MIN,
                false => Timestamp::MAX,
            },
            // Each read has to be recorded.
            (Origin::Written, Some(expiry)) if expiry.idle.is_some() => Timestamp::MIN,
            (Origin::Written, Some(expiry)) => expiry.expires_at.min(expiry.due_from(self.ahead)),
            (Origin::Written, None) => Timestamp::MAX,
        }
    }

    /// Returns whether the entry has tags.
    pub fn has_tags(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Returns whether no tag of the entry has been invalidated.
    ///
    /// Once this is `false`, it stays `false`. Costs one atomic load per tag.
    pub fn has_current_tags(&self) -> bool {
        self.tags.are_current()
    }

    /// Returns whether the store must keep the entry: none of its tags has been invalidated, and
    /// [`idle_until`](Self::idle_until) is not over.
    ///
    /// Once this is `false`, it stays `false`. Costs one atomic load per tag.
    pub fn is_retained(&self, now: Timestamp) -> bool {
        now < self.idle_until() && self.has_current_tags()
    }

    /// Returns when the entry expires unless it is read before; [`Timestamp::MAX`] if idle entries do
    /// not expire.
    pub fn idle_until(&self) -> Timestamp {
        Timestamp::from_nanos(self.idle_until.load(Ordering::Acquire))
    }

    /// Returns whether the entry is live by its metadata.
    ///
    /// A store may keep an entry after the expiry in its metadata, as a stale one. Then only `get` and
    /// `get_many` return it; all other methods of the store treat it as absent.
    pub fn is_live(&self, now: Timestamp) -> bool {
        let is_over = self.origin == Origin::Written
            && self.expiry.is_some_and(|expiry| expiry.expires_at <= now);
        !is_over && self.is_retained(now)
    }

    /// Returns when the entry ends if it is not read again: its TTL, or the time without a read.
    pub(crate) fn ends_at(&self) -> Timestamp {
        let expires_at = self
            .expiry
            .map_or(Timestamp::MAX, |expiry| expiry.expires_at);
        expires_at.min(self.idle_until())
    }

    pub(crate) fn record_read(&self, now: Timestamp, idle: Duration) {
        let until = now.after(idle).as_nanos();
        self.idle_until.fetch_max(until, Ordering::AcqRel);
    }

    /// Returns the metadata of this entry after a touch with the new expiry `expires`, and until when
    /// the store must keep the entry.
    #[must_use]
    pub fn touched(&self, expires: Timestamp) -> (Self, Timestamp) {
        let expiry = self.expiry.map(|expiry| expiry.touched(expires));
        let keep_until = expiry.map_or(expires, |expiry| expiry.stale_until);
        let touched = Self {
            origin: self.origin,
            ..Self::new(self.tags.clone(), expiry, self.ahead)
        };
        for (new, old) in [
            (&touched.retry_at, &self.retry_at),
            (&touched.idle_until, &self.idle_until),
        ] {
            new.store(old.load(Ordering::Acquire), Ordering::Release);
        }
        (touched, keep_until)
    }

    pub(crate) fn may_retry(&self, now: Timestamp) -> bool {
        self.retry_at() <= now
    }

    pub(crate) fn retry_at(&self) -> Timestamp {
        Timestamp::from_nanos(self.retry_at.load(Ordering::Acquire))
    }

    /// Sets when the entry expires unless it is read before.
    pub(crate) fn set_idle_until(&self, until: Timestamp) {
        self.idle_until.store(until.as_nanos(), Ordering::Release);
    }

    pub(crate) fn set_retry_at(&self, at: Timestamp) {
        self.retry_at.store(at.as_nanos(), Ordering::Release);
    }
}
