//! Values that are stored as they are, whatever the codec: `bytes::Bytes`, also in an `Option`. `None` is stored in the
//! exact format, so that it is not the same as any bytes.

use std::any::{Any, TypeId};
use std::ops::Deref;
use std::sync::Arc;

use crate::Codec;
use crate::entry::wire::Body;

/// The bytes of an entry on a server. A value that is stored as it is becomes a part of them, without a copy.
pub(crate) enum EntryBytes {
    Owned(Vec<u8>),
    #[cfg(feature = "bytes")]
    Shared(bytes::Bytes),
}

/// Returns the bytes of a value that is stored as it is. The compiler evaluates the comparison of types, here and
/// below.
pub(super) fn as_bytes<T: 'static>(value: &T) -> Option<&[u8]> {
    #[cfg(feature = "bytes")]
    {
        let value: &dyn Any = value;
        if let Some(bytes) = value.downcast_ref::<bytes::Bytes>() {
            return Some(bytes);
        }
        if let Some(Some(bytes)) = value.downcast_ref::<Option<bytes::Bytes>>() {
            return Some(bytes);
        }
    }
    let _ = value;
    None
}

/// Returns whether values of a type are stored as they are.
pub(super) fn is_raw<T: 'static>() -> bool {
    is_raw_id(TypeId::of::<T>())
}

#[cfg(feature = "bytes")]
fn is_raw_id(id: TypeId) -> bool {
    id == TypeId::of::<bytes::Bytes>() || id == TypeId::of::<Option<bytes::Bytes>>()
}

#[cfg(not(feature = "bytes"))]
fn is_raw_id(_: TypeId) -> bool {
    false
}

/// Returns a copy of bytes as a value, if it is stored as it is.
pub(super) fn decode<T: Any + Send + Sync>(bytes: &[u8], codec: &dyn Codec) -> Option<Arc<T>> {
    #[cfg(feature = "bytes")]
    if is_raw::<T>() && !(codec as &dyn Any).is::<crate::codec::exact::Exact>() {
        return value(bytes::Bytes::copy_from_slice(bytes));
    }
    let _ = (bytes, codec);
    None
}

#[cfg(feature = "bytes")]
fn value<T: Any + Send + Sync>(bytes: bytes::Bytes) -> Option<Arc<T>> {
    let value: Arc<dyn Any + Send + Sync> = match TypeId::of::<T>() == TypeId::of::<bytes::Bytes>()
    {
        true => Arc::new(bytes),
        false => Arc::new(Some(bytes)),
    };
    value.downcast().ok()
}

impl EntryBytes {
    /// Takes the bytes of an entry that is read as a `T`.
    pub(crate) fn new<T: 'static>(bytes: Vec<u8>) -> Self {
        match is_raw::<T>() {
            #[cfg(feature = "bytes")]
            true => Self::Shared(bytes.into()),
            _ => Self::Owned(bytes),
        }
    }

    /// Returns the value in the body, if it is stored as it is.
    pub(crate) fn value<T: Any + Send + Sync>(&self, body: Body<'_>) -> Option<Arc<T>> {
        match (self, body) {
            #[cfg(feature = "bytes")]
            (Self::Shared(bytes), Body::Encoded(part)) => value(bytes.slice_ref(part)),
            // Memcached pads integers.
            #[cfg(feature = "bytes")]
            (Self::Shared(bytes), Body::Integer(part)) => {
                value(bytes.slice_ref(part.trim_ascii_end()))
            }
            _ => None,
        }
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Owned(bytes) => bytes,
            #[cfg(feature = "bytes")]
            Self::Shared(bytes) => bytes.into(),
        }
    }
}

impl Deref for EntryBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            #[cfg(feature = "bytes")]
            Self::Shared(bytes) => bytes,
        }
    }
}
