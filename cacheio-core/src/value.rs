//! The values of a cache.

mod encode;
pub(crate) mod integer;
pub(crate) mod raw;
mod reason;
mod word;

use std::any::{Any, type_name};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde_core::Serialize;
use serde_core::de::{Deserialize, DeserializeOwned};

pub use self::encode::Encoded;
use self::reason::reason;
pub use self::word::FromWord;
pub(crate) use self::word::{from_word, to_word};
use crate::{Codec, Error, ErrorKind, Json, Result};

/// A value to store in a cache: `Serialize + Deserialize + Send + Sync + 'static`, or [`Local`], or a
/// reference to such a value that is `Clone`.
///
/// A value that is passed by reference is cloned to be kept in memory. `By` tells how a value is passed, and is never written.
/// A `&'static str` is stored as a `String`; of any other `&str`, pass `text.to_owned()`, and of a slice
/// `slice.to_vec()`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a cache",
    label = "neither `Serialize + Deserialize + Send + Sync + 'static` nor `Local<_>`",
    note = "derive serde's `Serialize` and `Deserialize` for it, or wrap it in `Local`, which keeps it in this process",
    note = "a value that is passed by reference is cloned: derive `Clone` too, or pass it by value",
    note = "for an `Arc`, turn on the feature `rc` of serde; for `bytes::Bytes`, the feature `bytes` of cacheio"
)]
pub trait Encode<By = ByValue>: Send + Sync {
    /// Returns the value as memory keeps it.
    #[doc(hidden)]
    fn into_object(self) -> Arc<dyn Object>;

    /// Returns the value to be encoded.
    #[doc(hidden)]
    fn as_object(&self) -> &dyn Object;
}

/// Marks a value that is passed as it is.
#[doc(hidden)]
#[derive(Debug)]
pub struct ByValue(());

/// Marks a value that is passed by reference.
#[doc(hidden)]
#[derive(Debug)]
pub struct ByReference(());

/// A type that can be read from a cache: `Serialize + DeserializeOwned + Clone + Send + Sync + 'static`,
/// or [`Local`].
///
/// The bounds are the same for memory and servers, so that the store of a cache can be changed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a cache",
    label = "neither `Serialize + DeserializeOwned + Clone + Send + Sync + 'static` nor `Local<_>`",
    note = "derive `Clone` and serde's `Serialize` and `Deserialize` for it, or wrap it in `Local`, which keeps it in this process",
    note = "for an `Arc`, turn on the feature `rc` of serde; for `bytes::Bytes`, the feature `bytes` of cacheio"
)]
pub trait Value: Encode + Clone + 'static {
    /// The type that memory keeps.
    #[doc(hidden)]
    type Stored: Object;

    #[doc(hidden)]
    fn into_stored(self) -> Arc<Self::Stored>;

    /// Returns the value, without copying it where `stored` is its only owner.
    #[doc(hidden)]
    fn from_stored(stored: Arc<Self::Stored>) -> Self;

    /// Returns a copy of a value that memory keeps.
    #[doc(hidden)]
    fn from_shared(stored: Arc<Self::Stored>) -> Self;

    /// Returns the function that makes a value from its [word](Object::word), if the type has one.
    #[doc(hidden)]
    fn from_word() -> Option<FromWord<Self>>;

    #[doc(hidden)]
    fn shared(stored: Arc<Self::Stored>) -> Arc<Self>;

    #[doc(hidden)]
    fn decode(bytes: &[u8], codec: &dyn Codec) -> Result<Arc<Self::Stored>>;
}

/// A value in memory, with the conversions that a store and the cache need.
pub trait Object: Any + Send + Sync {
    /// Encodes the value with a codec.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Encode`] when the codec cannot express the value, and
    /// [`ErrorKind::Unsupported`] for a [`Local`].
    fn encode(&self, codec: &dyn Codec) -> Result<Vec<u8>> {
        match self.encode_to_keep(codec)? {
            Encoded::Codec(bytes) => Ok(bytes),
            Encoded::Exact(_) => Err(Error::new(
                ErrorKind::Encode,
                format!(
                    "the codec does not keep a value of type `{}`",
                    self.type_name()
                ),
            )),
        }
    }

    /// Encodes the value so that it can be read again.
    #[doc(hidden)]
    fn encode_to_keep(&self, codec: &dyn Codec) -> Result<Encoded>;

    /// Returns the decimal digits of the value, if it serializes as an integer.
    fn digits(&self) -> Option<String>;

    /// Returns whether the value serializes as `None`.
    fn is_none(&self) -> bool;

    /// Returns the name of the value's type, for messages.
    fn type_name(&self) -> &'static str;

    /// Returns the value that was stored; for a [`Local`], the value in it.
    fn value(&self) -> &(dyn Any + Send + Sync);

    /// Returns the value as a word, if its type is one of the standard library that fits into a word.
    #[doc(hidden)]
    fn word(&self) -> u64 {
        0
    }
}

impl fmt::Debug for dyn Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

// `Deserialize` is not implemented for `&T`, so that the compiler always finds out how a value is passed.
impl<T: Serialize + Deserialize<'static> + Send + Sync + 'static> Encode for T {
    fn into_object(self) -> Arc<dyn Object> {
        match (&self as &dyn Any).downcast_ref::<&'static str>() {
            Some(text) => Arc::new((*text).to_owned()),
            None => Arc::new(self),
        }
    }

    fn as_object(&self) -> &dyn Object {
        self
    }
}

impl<T: Encode + Clone> Encode<ByReference> for &T {
    fn into_object(self) -> Arc<dyn Object> {
        self.clone().into_object()
    }

    fn as_object(&self) -> &dyn Object {
        (**self).as_object()
    }
}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Value for T {
    type Stored = T;

    #[inline]
    fn into_stored(self) -> Arc<T> {
        Arc::new(self)
    }

    #[inline]
    fn from_stored(stored: Arc<T>) -> T {
        Arc::unwrap_or_clone(stored)
    }

    #[inline]
    fn from_shared(stored: Arc<T>) -> T {
        // Not unwrapped: memory nearly always keeps it, and to find out costs more than a clone.
        T::clone(&stored)
    }

    #[inline]
    fn from_word() -> Option<FromWord<T>> {
        from_word()
    }

    #[inline]
    fn shared(stored: Arc<T>) -> Arc<T> {
        stored
    }

    fn decode(bytes: &[u8], codec: &dyn Codec) -> Result<Arc<T>> {
        if let Some(value) = raw::decode(bytes, codec) {
            return Ok(value);
        }
        if is_json(codec) {
            return serde_json::from_slice(bytes)
                .map(Arc::new)
                .map_err(|error| unreadable::<T>().with_source(reason(error.into())));
        }
        let mut value = None;
        codec
            .decode(bytes, &mut |deserializer| {
                value = Some(erased_serde::deserialize::<T>(deserializer)?);
                Ok(())
            })
            .map_err(|error| unreadable::<T>().with_source(reason(error)))?;
        value.map(Arc::new).ok_or_else(unreadable::<T>)
    }
}

/// Returns whether the codec is [`Json`]. It is then called without `erased_serde`, which makes
/// reading four times as fast.
fn is_json(codec: &dyn Codec) -> bool {
    let codec: &dyn Any = codec;
    codec.is::<Json>()
}

pub(crate) fn unreadable<T>() -> Error {
    Error::new(
        ErrorKind::Decode,
        format!(
            "the stored value cannot be read as `{}`; get_or_set and set replace it",
            type_name::<T>()
        ),
    )
}

impl<T: Serialize + Deserialize<'static> + Send + Sync + 'static> Object for T {
    fn encode_to_keep(&self, codec: &dyn Codec) -> Result<Encoded> {
        encode::encode(self, codec)
    }

    fn digits(&self) -> Option<String> {
        integer::digits(self)
    }

    fn is_none(&self) -> bool {
        integer::is_none(self)
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }

    fn value(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn word(&self) -> u64 {
        to_word(self).unwrap_or_default()
    }
}

/// Returns the object as a `T`, if it is one.
#[inline]
pub(crate) fn downcast<T: Object>(object: Arc<dyn Object>) -> Option<Arc<T>> {
    let any: Arc<dyn Any + Send + Sync> = object;
    any.downcast().ok()
}

/// A shared value that stays in this process, for types without serde.
///
/// Every operation of a cache in memory accepts it. To store it on a server is an error of kind
/// [`Unsupported`](ErrorKind::Unsupported). A clone shares the value, as with an [`Arc`].
///
/// ```
/// use cacheio::Local;
///
/// struct Template { /* compiled, no serde */ }
///
/// let template = Local::new(Template {});
/// let same = template.clone();
/// ```
pub struct Local<T>(Arc<Shared<T>>);

/// The shared part of a [`Local`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Shared<T>(pub(crate) T);

impl<T> Local<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared(value)))
    }
}

impl<T: Clone> Local<T> {
    /// Returns the value; clones it if it is shared.
    ///
    /// ```
    /// use cacheio::{CacheFactory, Local};
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set("answer", Local::new(42))?;
    /// let answer = cache.get::<Local<i32>>("answer")?.map(Local::into_inner);
    /// assert_eq!(answer, Some(42));
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn into_inner(self) -> T {
        match Arc::try_unwrap(self.0) {
            Ok(shared) => shared.0,
            Err(shared) => shared.0.clone(),
        }
    }
}

impl<T> Deref for Local<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.0
    }
}

impl<T> Clone for Local<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<T> for Local<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Local").field(&**self).finish()
    }
}

impl<T: PartialEq> PartialEq for Local<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Local<T> {}

impl<T: Send + Sync + 'static> Encode for Local<T> {
    fn into_object(self) -> Arc<dyn Object> {
        self.0
    }

    fn as_object(&self) -> &dyn Object {
        &*self.0
    }
}

impl<T: Send + Sync + 'static> Value for Local<T> {
    type Stored = Shared<T>;

    #[inline]
    fn into_stored(self) -> Arc<Shared<T>> {
        self.0
    }

    #[inline]
    fn from_stored(stored: Arc<Shared<T>>) -> Self {
        Self(stored)
    }

    #[inline]
    fn from_shared(stored: Arc<Shared<T>>) -> Self {
        Self(stored)
    }

    #[inline]
    fn from_word() -> Option<FromWord<Self>> {
        None
    }

    fn shared(stored: Arc<Shared<T>>) -> Arc<Self> {
        Arc::new(Self(stored))
    }

    fn decode(_: &[u8], _: &dyn Codec) -> Result<Arc<Shared<T>>> {
        Err(unreadable::<Self>())
    }
}

impl<T: Send + Sync + 'static> Object for Shared<T> {
    fn encode_to_keep(&self, _: &dyn Codec) -> Result<Encoded> {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "a `Local<{}>` cannot be stored on a server; use a type with serde's `Serialize` and \
                 `Deserialize`, or a cache in memory",
                type_name::<T>()
            ),
        ))
    }

    fn digits(&self) -> Option<String> {
        None
    }

    fn is_none(&self) -> bool {
        false
    }

    fn type_name(&self) -> &'static str {
        type_name::<Local<T>>()
    }

    fn value(&self) -> &(dyn Any + Send + Sync) {
        &self.0
    }

    fn word(&self) -> u64 {
        to_word(&self.0).unwrap_or_default()
    }
}
