use super::Codec;
use super::bounded::Bounded;
use crate::error::BoxError;

/// [Postcard](https://postcard.jamesmunns.com): the smallest and the fastest, for Rust programs
/// that share their types.
///
/// The bytes do not say what they are. Reading them as another type than was stored, or as a
/// struct whose fields have changed since, gives an error *or a wrong value*: change the namespace
/// with the types. And what needs to look at the bytes first cannot be read: `serde_json::Value`,
/// `#[serde(untagged)]`, `#[serde(flatten)]`, `#[serde(skip_serializing_if = …)]` and the like.
///
/// Values nested more than 128 deep, options included, are not read.
///
/// ```
/// use cacheio::{Codec, Postcard};
///
/// assert_eq!(Postcard.encode(&("a", true))?, b"\x01a\x01");
/// # Ok::<(), cacheio::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

/// How many elements without bytes of their own, such as `()`, one value may have.
const EMPTY_ELEMENTS: usize = 1 << 12;

impl Codec for Postcard {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, BoxError> {
        Ok(postcard::to_allocvec(value)?)
    }

    fn decode(
        &self,
        bytes: &[u8],
        read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let mut postcard = postcard::Deserializer::from_bytes(bytes);
        let elements = bytes.len().saturating_add(EMPTY_ELEMENTS);
        Bounded::read(&mut postcard, elements, read)?;
        if postcard.finalize()?.is_empty() {
            Ok(())
        } else {
            Err("bytes are left over behind the value".into())
        }
    }
}
