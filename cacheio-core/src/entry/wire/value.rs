//! Another value for an entry that keeps the rest of its header.

use super::{Body, EXACT, INTEGER, MARK, VERSION, parse, seal, seal_exact, truncated};
use crate::Result;

/// Returns the bytes of an entry with another value. All fields of the header stay but those that say what
/// the value is.
pub(crate) fn with_value(bytes: &[u8], value: Body<'_>) -> Result<Vec<u8>> {
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
        return Ok(match value {
            Body::Integer(digits) => digits.to_vec(),
            Body::Encoded(encoded) => seal(encoded.to_vec()),
            Body::Exact(exact) => seal_exact(exact),
        });
    }
    let (mark, body) = value.parts();
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
                let changed = with_value(&bytes, new).unwrap();
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
                let changed = with_value(&old, new).unwrap();
                assert_eq!(open(&changed).unwrap(), (new, None));
            }
            let counter = with_value(&old, Body::Integer(b"-17")).unwrap();
            assert_eq!(counter, b"-17", "servers count with it");
        }
    }

    #[test]
    fn a_damaged_header_is_an_error() {
        for damaged in [&b"\xC1"[..], b"\xC1\x01\x01\x00\x63{}", b"\xC1\x02\x00\x00"] {
            assert!(with_value(damaged, Body::Encoded(b"body")).is_err());
        }
    }
}
