//! Encodes values so that they can be read again.

use std::any::TypeId;
use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use once_cell::sync::Lazy;
use serde_core::{Deserialize, Serialize};

use super::is_json;
use super::reason::reason;
use crate::codec::{Doubts, Finding, Format, check, exact};
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
            // A type may still refuse, or need what the format does not have.
            let encoded = with_codec(value, codec);
            encoded.or_else(|error| exactly(value).map_err(|_| unencodable::<T>(error)))
        }
        Finding::Doubtful(doubts) if format == Format::Json && is_kept_by_json(value, doubts) => {
            with_codec(value, codec).map_err(unencodable::<T>)
        }
        Finding::Doubtful(_) | Finding::Changed => exactly(value).map_err(unencodable::<T>),
        Finding::TooDeep => Err(unencodable::<T>("the value is nested too deep".into())),
    }
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
    exact::decode::<T>(&bytes)?;
    Ok(Encoded::Exact(bytes))
}

/// Returns whether JSON keeps a value in spite of the doubts. This depends on the type: it is tried
/// until it does for one value.
fn is_kept_by_json<T>(value: &T, doubts: Doubts) -> bool
where
    T: Serialize + Deserialize<'static> + 'static,
{
    static KEPT: Lazy<RwLock<HashSet<(TypeId, Doubts)>>> = Lazy::new(RwLock::default);
    let id = (TypeId::of::<T>(), doubts);
    let kept = KEPT.read().unwrap_or_else(PoisonError::into_inner);
    if kept.contains(&id) {
        return true;
    }
    drop(kept);
    let Ok(bytes) = serde_json::to_vec(value) else {
        return false;
    };
    // A reader, because the value must not borrow from the bytes.
    let mut json = serde_json::Deserializer::from_reader(&bytes[..]);
    let is_kept = T::deserialize(&mut json).is_ok();
    if is_kept {
        let mut kept = KEPT.write().unwrap_or_else(PoisonError::into_inner);
        kept.insert(id);
    }
    is_kept
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
