//! Values as the bodies of entries.

use std::sync::Arc;

use super::{Body, EXACT, INTEGER, MARK, VERSION, parse, seal, seal_exact, truncated};
use crate::codec::exact::Exact;
use crate::value::Encoded;
use crate::{Codec, Json, Object, Result, Value};

impl Body<'_> {
    /// Decodes the value.
    pub(crate) fn decode<V: Value>(self, codec: &dyn Codec) -> Result<Arc<V::Stored>> {
        match self {
            Self::Integer(digits) => V::decode(digits, &Json),
            Self::Encoded(encoded) => V::decode(encoded, codec),
            Self::Exact(exact) => V::decode(exact, &Exact),
        }
    }
}

/// A body that owns its bytes.
pub(crate) enum OwnedBody {
    Integer(String),
    Encoded(Vec<u8>),
    Exact(Vec<u8>),
}

impl OwnedBody {
    /// Encodes a value: an integer as its digits under every codec, another value by the codec.
    pub(crate) fn of(object: &dyn Object, codec: &dyn Codec) -> Result<Self> {
        if let Some(digits) = object.digits() {
            return Ok(Self::Integer(digits));
        }
        Ok(match object.encode_to_keep(codec)? {
            Encoded::Codec(bytes) => Self::Encoded(bytes),
            Encoded::Exact(bytes) => Self::Exact(bytes),
        })
    }

    pub(crate) fn as_body(&self) -> Body<'_> {
        match self {
            Self::Integer(digits) => Body::Integer(digits.as_bytes()),
            Self::Encoded(bytes) => Body::Encoded(bytes),
            Self::Exact(bytes) => Body::Exact(bytes),
        }
    }

    /// Returns the bytes of an entry without fields but those that say what the value is.
    pub(crate) fn sealed(self) -> Vec<u8> {
        match self {
            Self::Integer(digits) => digits.into_bytes(),
            Self::Encoded(bytes) => seal(bytes),
            Self::Exact(bytes) => seal_exact(&bytes),
        }
    }
}

/// Returns the bytes of an entry with another value. All fields of the header stay but those that say what
/// the value is.
pub(crate) fn with_value(bytes: &[u8], value: OwnedBody) -> Result<Vec<u8>> {
    let mut fields = Vec::new();
    if let Some(header) = parse(bytes)? {
        let mut rest = &bytes[4..header.body];
        while let [id, length, ..] = rest {
            let length = 2 + usize::from(*length);
            let (field, next) = rest.split_at_checked(length).ok_or_else(truncated)?;
            if !matches!(*id, INTEGER | EXACT) {
                fields.extend_from_slice(field);
            }
            rest = next;
        }
    }
    if fields.is_empty() {
        return Ok(value.sealed());
    }
    let (mark, body) = value.as_body().parts();
    fields.extend(mark.into_iter().flat_map(|mark| [mark, 0]));
    let length = u16::try_from(fields.len()).map_err(|_| truncated())?;
    Ok([&[MARK, VERSION], &length.to_le_bytes()[..], &fields, body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::entry::expiry::Expiry;
    use crate::entry::tags::TagVersion;
    use crate::entry::wire::{open, retry_at, seal_with, tags, with_retry_at, with_tags};
    use std::time::Duration;

    const BODIES: [Body<'_>; 6] = [
        Body::Integer(b"-17"),
        Body::Encoded(b"body"),
        // It looks like an integer.
        Body::Encoded(b"5"),
        Body::Encoded(b""),
        Body::Exact(b"exact"),
        Body::Exact(b"5"),
    ];

    fn owned(body: Body<'_>) -> OwnedBody {
        match body {
            Body::Integer(digits) => OwnedBody::Integer(String::from_utf8(digits.into()).unwrap()),
            Body::Encoded(bytes) => OwnedBody::Encoded(bytes.into()),
            Body::Exact(bytes) => OwnedBody::Exact(bytes.into()),
        }
    }

    #[test]
    fn another_value_changes_nothing_but_the_value() {
        let second = Duration::from_secs(1);
        let now = Timestamp::from_millis(1_000);
        let expiry = Expiry {
            idle: Some(second),
            ..Expiry::new(now, second, Some(second), second)
        };
        let versions = [TagVersion {
            tag: "users".into(),
            version: 7,
        }];
        for old in BODIES {
            let bytes = with_tags(&seal_with(expiry, old), &versions).unwrap();
            let bytes = with_retry_at(&bytes, now).unwrap();
            for new in BODIES {
                let changed = with_value(&bytes, owned(new)).unwrap();
                assert_eq!(open(&changed).unwrap(), (new, Some(expiry)));
                assert_eq!(tags(&changed).unwrap(), versions);
                assert_eq!(retry_at(&changed), now);
            }
        }
    }

    #[test]
    fn a_value_without_a_header_is_stored_as_by_set() {
        for old in [b"17".to_vec(), b"{}".to_vec(), seal(b"5".to_vec())] {
            for new in BODIES {
                let changed = with_value(&old, owned(new)).unwrap();
                assert_eq!(open(&changed).unwrap(), (new, None));
            }
            let counter = with_value(&old, owned(Body::Integer(b"-17"))).unwrap();
            assert_eq!(counter, b"-17", "servers count with it");
        }
    }

    #[test]
    fn a_damaged_header_is_an_error() {
        for damaged in [&b"\xC1"[..], b"\xC1\x01\x01\x00\x63{}", b"\xC1\x02\x00\x00"] {
            assert!(with_value(damaged, owned(Body::Encoded(b"body"))).is_err());
        }
    }
}
