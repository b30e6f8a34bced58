//! Values as bytes.

#[cfg(any(feature = "msgpack", feature = "postcard"))]
mod bounded;
#[cfg(any(feature = "zstd", feature = "lz4"))]
mod compressed;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "msgpack")]
mod msgpack;
mod named;
#[cfg(feature = "postcard")]
mod postcard;
#[cfg(feature = "zstd")]
mod zstd;

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

/// How values become bytes: for stores on servers, and in memory where another type is asked for
/// than was stored.
///
/// The methods are what [`erased_serde`] makes of serde's traits, so that a codec is an object:
/// give it to a cache with `Cache::builder().codec(…)`.
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
    /// The bytes of a value.
    ///
    /// # Errors
    ///
    /// When the value has no such form.
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, BoxError>;

    /// Hands `read` what reads `bytes`, and checks that nothing is left over. The bytes may be
    /// anything: they come from a server.
    ///
    /// # Errors
    ///
    /// Those of `read`, and when the bytes are not of this codec.
    fn decode(
        &self,
        bytes: &[u8],
        read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError>;
}

/// JSON in UTF-8, as `serde_json` writes it: readable by `redis-cli`, and by Python's aiocache.
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
}
