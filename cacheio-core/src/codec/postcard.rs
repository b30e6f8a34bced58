use super::bounded::Bounded;
use super::{Codec, Format, invalid};
use crate::error::BoxError;

/// [Postcard](https://postcard.jamesmunns.com): the smallest and fastest format, for Rust programs
/// that share their types.
///
/// The bytes do not describe their type. Reading them as another type, or as a struct whose fields
/// have changed since, returns an error *or a wrong value*: change the namespace with the types.
///
/// Types that need a self-describing format cannot be read, such as `serde_json::Value` and types with
/// `#[serde(tag = …)]`, `#[serde(untagged)]`, `#[serde(flatten)]` or `#[serde(skip_serializing_if = …)]`. To read such an
/// entry is an error of kind [`Decode`](crate::ErrorKind::Decode): use another codec for it.
///
/// Values that are nested more than 128 levels deep (an option is a level) are an error.
///
/// ```
/// use cacheio::{Codec, Postcard};
///
/// assert_eq!(Postcard.encode(&("a", true))?, b"\x01a\x01");
/// # Ok::<(), cacheio::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

/// The number of elements that take no bytes, such as `()`, that a value may have.
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
        // The messages of this format are constant.
        let read = Bounded::read(&mut postcard, elements, read);
        read.map_err(|error| invalid(error.to_string()))?;
        if postcard.finalize()?.is_empty() {
            Ok(())
        } else {
            Err(invalid("there are bytes after the value"))
        }
    }

    fn format(&self) -> Option<Format> {
        Some(Format::Postcard)
    }
}
