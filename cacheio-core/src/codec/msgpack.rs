use rmp_serde::decode::Error as DecodeError;
use serde_core::Deserialize;

use super::bounded::Bounded;
use super::{Codec, Format, invalid};
use crate::error::BoxError;

/// [MessagePack](https://msgpack.org), as `rmp-serde` writes it: a binary format like JSON, smaller
/// and faster.
///
/// A struct is a map of its fields by name: fields can be added and reordered, and programs in other
/// languages can read them.
///
/// A cache stores what this format cannot express, such as `Some(None)`, in a format of its own.
/// Values that are nested more than 128 levels deep (an option is a level) are an error.
///
/// ```
/// use cacheio::{Codec, MessagePack};
///
/// assert_eq!(MessagePack.encode(&("a", true))?, b"\x92\xA1a\xC3");
/// # Ok::<(), cacheio::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

impl Codec for MessagePack {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, BoxError> {
        let mut bytes = Vec::with_capacity(128);
        let mut msgpack = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
        serde_core::Serialize::serialize(value, &mut msgpack)?;
        Ok(bytes)
    }

    fn decode(
        &self,
        bytes: &[u8],
        read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let mut msgpack = rmp_serde::Deserializer::from_read_ref(bytes);
        Bounded::read(&mut msgpack, bytes.len(), read)?;
        // The deserializer has no position: only a further read shows whether all bytes were read.
        match u8::deserialize(&mut msgpack) {
            Err(DecodeError::InvalidMarkerRead(_)) => Ok(()),
            _ => Err(invalid("there are bytes after the value")),
        }
    }

    fn format(&self) -> Option<Format> {
        Some(Format::MessagePack)
    }
}
