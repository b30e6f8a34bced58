//! Codecs convert values to bytes and back.

#[cfg(any(feature = "msgpack", feature = "postcard"))]
mod bounded;
mod check;
#[cfg(any(feature = "zstd", feature = "lz4"))]
mod compressed;
pub(crate) mod exact;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "msgpack")]
mod msgpack;
mod named;
#[cfg(feature = "postcard")]
mod postcard;
#[cfg(any(feature = "zstd", feature = "lz4"))]
mod room;
#[cfg(feature = "zstd")]
mod zstd;

pub use self::check::Format;
pub(crate) use self::check::{Finding, check};
#[cfg(any(feature = "zstd", feature = "lz4"))]
use self::compressed::Algorithm;
#[cfg(any(feature = "zstd", feature = "lz4"))]
pub use self::compressed::Compressed;
#[cfg(feature = "msgpack")]
pub use self::msgpack::MessagePack;
pub(crate) use self::named::codec_by_name;
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;

use std::any::Any;
use std::fmt::Debug;

use crate::error::BoxError;

/// Converts values to bytes and back: for a server, and in memory when a value is read as another
/// type than it was stored as.
///
/// The methods use the traits of [`erased_serde`] in place of serde's own, so that a codec can be a
/// trait object. Pass it to a cache with `Cache::builder().codec(…)`.
///
/// Errors and logs of a cache show no values. Of a codec's error they show only the parts of serde's
/// messages that come from the type, and an [`Error`](crate::Error) of this crate as it is.
///
/// ```
/// use cacheio::{BoxError, Codec};
///
/// /// JSON with line breaks.
/// #[derive(Debug)]
/// struct Pretty;
///
/// impl Codec for Pretty {
///     fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, BoxError> {
///         Ok(serde_json::to_vec_pretty(value)?)
///     }
///
///     fn decode(
///         &self,
///         bytes: &[u8],
///         read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError>,
///     ) -> Result<(), BoxError> {
///         let mut json = serde_json::Deserializer::from_slice(bytes);
///         read(&mut <dyn erased_serde::Deserializer>::erase(&mut json))?;
///         Ok(json.end()?)
///     }
/// }
/// ```
pub trait Codec: Any + Debug + Send + Sync {
    /// Returns the bytes of a value.
    ///
    /// # Errors
    ///
    /// Returns an error when the format cannot express the value.
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, BoxError>;

    /// Calls `read` with a deserializer of `bytes`, and checks that no bytes are left after the value.
    ///
    /// The bytes come from a server and may be anything: do not panic, and do not allocate more than
    /// in proportion to their length.
    ///
    /// # Errors
    ///
    /// Returns the error of `read`, or an error when the bytes are not valid in this format.
    fn decode(
        &self,
        bytes: &[u8],
        read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError>;

    /// Returns the format of the bytes, if its limits are known.
    #[doc(hidden)]
    fn format(&self) -> Option<Format> {
        None
    }
}

/// JSON, as `serde_json` writes it: readable in `redis-cli`, and by Python's aiocache.
///
/// A cache stores what JSON cannot express, such as `NaN`, `Some(None)` and maps whose keys are tuples, in
/// a format of its own. Values that are nested more than 127 levels deep are an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Codec for Json {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, BoxError> {
        Ok(serde_json::to_vec(value)?)
    }

    fn decode(
        &self,
        bytes: &[u8],
        read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        read(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut json))?;
        Ok(json.end()?)
    }

    fn format(&self) -> Option<Format> {
        Some(Format::Json)
    }
}

/// Returns the error for bytes that are not valid in a format. Unlike a foreign error, it is shown.
#[cfg(any(
    feature = "msgpack",
    feature = "postcard",
    feature = "zstd",
    feature = "lz4"
))]
fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> BoxError {
    crate::Error::new(crate::ErrorKind::Decode, message).into()
}

/// Returns the error for compressed bytes whose content is larger than the limit.
#[cfg(any(feature = "zstd", feature = "lz4"))]
fn too_large(bytes: u64, max: usize) -> BoxError {
    invalid(format!(
        "the decompressed value would take {bytes} bytes; at most {max} are allowed \
         (`max_decompressed`)"
    ))
}
