//! Encodes values so that they can be read again.

use serde_core::{Deserialize, Serialize};

use super::is_json;
use super::reason::reason;
use crate::codec::{Finding, Format, check, exact};
use crate::{BoxError, Codec, Error, ErrorKind, Result};

/// The bytes of a value.
#[derive(Debug)]
pub enum Encoded {
    /// Those of the codec.
    Codec(Vec<u8>),
    /// Those of the exact format, because the codec does not keep the value.
    Exact(Vec<u8>),
}

/// Encodes a value with a codec, or exactly if the codec does not keep it.
pub(super) fn encode<T>(value: &T, codec: &dyn Codec) -> Result<Encoded>
where
    T: Serialize + Deserialize<'static> + 'static,
{
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
            with_codec_if_kept(value, codec, format, is_same)
        }
        Finding::Merged => {
            let bytes = exact::encode(value).map_err(unencodable::<T>)?;
            let is_same = |back: &T| exact::encode(back).is_ok_and(|back| back == bytes);
            with_codec_if_kept(value, codec, format, is_same)
        }
        Finding::Changed => exactly(value).map_err(unencodable::<T>),
        Finding::TooDeep => Err(unencodable::<T>("the value is nested too deep".into())),
    }
}

/// Encodes a value with a codec if the value can be read back, and exactly otherwise.
fn with_codec_if_kept<T>(
    value: &T,
    codec: &dyn Codec,
    format: Format,
    is_same: impl FnOnce(&T) -> bool,
) -> Result<Encoded>
where
    T: Serialize + Deserialize<'static>,
{
    let is_kept = match read_back::<T>(value, format) {
        ReadBack::Value(back) => is_same(&back),
        ReadBack::Failed => false,
        ReadBack::Borrows => true,
    };
    match is_kept {
        true => with_codec(value, codec),
        false => exactly(value),
    }
    .map_err(unencodable::<T>)
}

/// The result of encoding and decoding a value.
enum ReadBack<T> {
    Value(T),
    Failed,
    /// The type can only be read from bytes that live as long as the value.
    Borrows,
}

fn read_back<T: Serialize + Deserialize<'static>>(value: &T, format: Format) -> ReadBack<T> {
    // A value that is read from a reader does not borrow.
    let read = match format {
        Format::Json => serde_json::to_vec(value)
            .and_then(|bytes| {
                T::deserialize(&mut serde_json::Deserializer::from_reader(&bytes[..]))
            })
            .map_err(BoxError::from),
        #[cfg(feature = "msgpack")]
        Format::MessagePack => crate::MessagePack.encode(value).and_then(|bytes| {
            Ok(T::deserialize(&mut rmp_serde::Deserializer::new(
                &bytes[..],
            ))?)
        }),
        _ => return ReadBack::Failed,
    };
    match read {
        Ok(value) => ReadBack::Value(value),
        Err(error) if is_borrowed(&error) => ReadBack::Borrows,
        Err(_) => ReadBack::Failed,
    }
}

/// Whether a value was not read because its type borrows from the bytes.
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
    let bytes = exact::encode(value)?;
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
