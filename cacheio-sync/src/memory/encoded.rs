//! Encoded values, in memory that keeps them as a server does.

use std::any::Any;

use cacheio_core::__private::Encoded;
use cacheio_core::{Codec, Entry, Object, Result};

/// The bytes of an entry.
#[derive(Debug)]
pub(super) struct EncodedObject(pub(super) Vec<u8>);

/// Returns the entry of an object.
pub(super) fn entry(object: &dyn Object) -> Option<Entry> {
    let bytes = object.value().downcast_ref::<Vec<u8>>()?;
    Some(Entry::bytes(bytes.clone()))
}

impl Object for EncodedObject {
    fn encode_to_keep(&self, _: &dyn Codec) -> Result<Encoded> {
        Ok(Encoded::Codec(self.0.clone()))
    }

    fn digits(&self) -> Option<String> {
        let text = std::str::from_utf8(&self.0).ok()?;
        let is_integer = !text.starts_with('+') && text.parse::<i64>().is_ok();
        is_integer.then(|| text.to_owned())
    }

    fn is_none(&self) -> bool {
        false
    }

    fn type_name(&self) -> &'static str {
        "value that was encoded"
    }

    fn value(&self) -> &(dyn Any + Send + Sync) {
        &self.0
    }
}
