//! What stores keep: a value and what is known about it.

use std::sync::Arc;

use crate::tags::Stamps;
use crate::{Object, Timestamp};

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
/// Most entries have none. Stores keep it and never look inside, but for two questions:
/// [`attend_at`](Self::attend_at), the moment until which the entry is served without asking
/// more, and [`is_valid`](Self::is_valid).
#[derive(Clone, Debug)]
pub struct Meta {
    pub(crate) tags: Stamps,
}

impl Meta {
    /// From when on the entry must not be served without asking [`is_valid`](Self::is_valid).
    pub fn attend_at(&self) -> Timestamp {
        if self.tags.is_empty() {
            Timestamp::MAX
        } else {
            Timestamp::MIN
        }
    }

    /// Whether none of the entry's tags was invalidated since the value was made. An atomic load
    /// a tag.
    pub fn is_valid(&self) -> bool {
        self.tags.are_current()
    }
}
