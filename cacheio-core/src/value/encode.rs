//! Encodes values so that they can be read again.

use serde_core::{Deserialize, Serialize};

use super::reason::reason;
use super::{is_json, raw};
use crate::codec::{Finding, Format, check, exact};
use crate::{BoxError, Codec, Error, ErrorKind, Result};

/// The bytes of a value.
#[derive(Debug)]
pub enum Encoded {
    /// Those of the codec, or of a value that is stored as it is.
    Codec(Vec<u8>),
    /// Those of the exact format, because the codec does not keep the value.
    Exact(Vec<u8>),
}

/// Encodes a value with a codec, or exactly if the codec does not keep it.
pub(super) fn encode<T>(value: &T, codec: &dyn Codec) -> Result<Encoded>
where
    T: Serialize + Deserialize<'static> + 'static,
{
    if let Some(bytes) = raw::as_bytes(value) {
        return Ok(Encoded::Codec(bytes.to_vec()));
    }
    if raw::is_raw::<T>() {
        return exactly(value).map_err(unencodable::<T>);
    }
    let Some(format) = codec.format() else {
        return with_codec(value, codec).map_err(unencodable::<T>);
    };
    match check(value, format) {
        Finding::Kept => {
            let encoded = with_codec(value, codec);
            encoded.or_else(|error| match format {
                // It does not write what has an unknown number of elements.
                Format::Postcard if !error.is::<Error>() => {
                    exactly(value).map_err(|_| unencodable::<T>(error))
                }
                _ => Err(unencodable::<T>(error)),
            })
        }
        Finding::Doubtful(doubts) => {
            let is_same = |back: &T| check(back, format) == Finding::Doubtful(doubts);
            match kept_by_codec(value, codec, format, is_same) {
                Some(encoded) => encoded,
                None => exactly(value),
            }
            .map_err(unencodable::<T>)
        }
        Finding::Merged => {
            let bytes = exact::encode(value).map_err(unencodable::<T>)?;
            let is_same = |back: &T| exact::encode(back).is_ok_and(|back| back == bytes);
            match kept_by_codec(value, codec, format, is_same) {
                Some(encoded) => encoded,
                None => readable::<T>(bytes),
            }
            .map_err(unencodable::<T>)
        }
        Finding::Changed => exactly(value).map_err(unencodable::<T>),
        Finding::TooDeep => Err(unencodable::<T>("the value is nested too deep".into())),
    }
}

/// Encodes a value with a codec, or returns `None` if the value that is read back is not the same.
fn kept_by_codec<T>(
    value: &T,
    codec: &dyn Codec,
    format: Format,
    is_same: impl FnOnce(&T) -> bool,
) -> Option<Result<Encoded, BoxError>>
where
    T: Serialize + Deserialize<'static>,
{
    // A value that is read from a reader does not borrow.
    let (bytes, back) = match format {
        Format::Json => {
            let bytes = serde_json::to_vec(value).ok()?;
            let mut json = serde_json::Deserializer::from_reader(&bytes[..]);
            let back = T::deserialize(&mut json).map_err(BoxError::from);
            (bytes, back)
        }
        #[cfg(feature = "msgpack")]
        Format::MessagePack => {
            let bytes = crate::MessagePack.encode(value).ok()?;
            let mut msgpack = rmp_serde::Deserializer::new(&bytes[..]);
            let back = T::deserialize(&mut msgpack).map_err(BoxError::from);
            (bytes, back)
        }
        _ => return None,
    };
    let is_kept = match back {
        Ok(back) => is_same(&back),
        Err(error) => is_borrowed(&error),
    };
    is_kept.then(|| match is_json(codec) {
        true => Ok(Encoded::Codec(bytes)),
        // It may compress the bytes of the format.
        false => with_codec(value, codec),
    })
}

/// Whether a value was not read only because its type borrows from the bytes.
fn is_borrowed(error: &BoxError) -> bool {
    error.to_string().contains("expected a borrowed ")
}

fn with_codec<T: Serialize>(value: &T, codec: &dyn Codec) -> Result<Encoded, BoxError> {
    let bytes = match is_json(codec) {
        true => serde_json::to_vec(value)?,
        false => codec.encode(value)?,
    };
    Ok(Encoded::Codec(bytes))
}

fn exactly<T: Serialize + Deserialize<'static>>(value: &T) -> Result<Encoded, BoxError> {
    readable::<T>(exact::encode(value)?)
}

/// Returns a value in the exact format, if it can be read as a `T`.
fn readable<T: Deserialize<'static>>(bytes: Vec<u8>) -> Result<Encoded, BoxError> {
    match exact::decode::<T>(&bytes) {
        Err(error) if !is_borrowed(&error) => Err(error),
        _ => Ok(Encoded::Exact(bytes)),
    }
}

fn unencodable<T>(error: BoxError) -> Error {
    Error::new(
        ErrorKind::Encode,
        format!(
            "a value of type `{}` cannot be encoded so that it can be read again",
            std::any::type_name::<T>()
        ),
    )
    .with_source(reason(error))
}
