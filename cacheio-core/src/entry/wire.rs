//! The format of entries on a server.
//!
//! The bytes under a key are one of these:
//!
//! 1. **An integer** in ASCII: an optional `-`, digits, and spaces (memcached pads a decremented
//!    number with them). It is read as JSON with every codec, so that counters work with every codec
//!    and other programs can read them.
//! 2. **A header and a body**, if the first byte is `C1`:
//!
//!    | bytes | content |
//!    | --- | --- |
//!    | 1 | `C1`, with which no UTF-8 text and no `MessagePack` begins |
//!    | 1 | `01`: the version of this layout |
//!    | 2 | the length of the fields, little-endian |
//!    | … | the fields: `id` (1 byte), `length` (1 byte) and content of each; unknown ids are skipped |
//!    | … | the body: the bytes of the codec, also for an integer |
//!
//!    | id | length | field |
//!    | --- | --- | --- |
//!    | 1 | 28 | the end of the TTL, the end of the time as a stale entry, and the creation of the value, in Unix milliseconds (8 bytes each); the load time in milliseconds (4 bytes); all little-endian. Without this field, the entry is live until the server removes it |
//!    | 2 | 8 | the time in milliseconds without a read after which the entry expires; readers extend the TTL on the server. Only together with field 1 |
//!
//! 3. **The bytes of the codec**, otherwise. With JSON, other programs can read and write them.
//!
//! If the bytes of the codec look like 1 or 2, a header without fields is put before them.

use std::time::Duration;

use crate::entry::expiry::Expiry;
use crate::{Error, ErrorKind, Timestamp};

const MARK: u8 = 0xC1;
const VERSION: u8 = 1;
/// The id of the field with the times of an [`Expiry`].
const TIMES: u8 = 1;
/// The id of the field with the time without a read.
const IDLE: u8 = 2;

/// The body of an entry, by how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    /// An integer in ASCII.
    Integer(&'a [u8]),
    /// The bytes of the codec.
    Encoded(&'a [u8]),
}

/// Returns the bytes to store for a value that is not an integer.
pub(crate) fn seal(encoded: Vec<u8>) -> Vec<u8> {
    if encoded.first() != Some(&MARK) && !is_integer(&encoded) {
        return encoded;
    }
    let mut bytes = Vec::with_capacity(4 + encoded.len());
    bytes.extend([MARK, VERSION, 0, 0]);
    bytes.extend(encoded);
    bytes
}

/// Returns the bytes to store for a value with an expiry.
pub(crate) fn seal_with(expiry: Expiry, encoded: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(44 + encoded.len());
    let length = if expiry.idle.is_some() { 40 } else { 30 };
    bytes.extend([MARK, VERSION, length, 0, TIMES, 28]);
    for time in [expiry.expires_at, expiry.stale_until, expiry.created_at] {
        bytes.extend(time.as_millis().to_le_bytes());
    }
    let load_time = u32::try_from(expiry.load_time.as_millis()).unwrap_or(u32::MAX);
    bytes.extend(load_time.to_le_bytes());
    if let Some(idle) = expiry.idle {
        let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        bytes.extend([IDLE, 8]);
        bytes.extend(idle.to_le_bytes());
    }
    bytes.extend(encoded);
    bytes
}

/// Parses the bytes of an entry, which may be anything.
pub(crate) fn open(bytes: &[u8]) -> Result<(Body<'_>, Option<Expiry>), Error> {
    if is_integer(bytes) {
        return Ok((Body::Integer(bytes), None));
    }
    let Some((&MARK, rest)) = bytes.split_first() else {
        return Ok((Body::Encoded(bytes), None));
    };
    let (version, rest) = rest.split_first().ok_or_else(truncated)?;
    if *version != VERSION {
        return Err(Error::new(
            ErrorKind::Decode,
            "the stored entry was written by another version of cacheio; get_or_set and set replace it",
        ));
    }
    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (mut fields, body) = rest.split_at_checked(length).ok_or_else(truncated)?;
    let mut expiry = None;
    let mut idle = None;
    while let Some(([id, length], rest)) = fields.split_first_chunk::<2>() {
        let (field, rest) = rest
            .split_at_checked(usize::from(*length))
            .ok_or_else(truncated)?;
        match *id {
            TIMES => expiry = Some(times(field).ok_or_else(truncated)?),
            IDLE => {
                let millis = field.try_into().map_err(|_| truncated())?;
                idle = Some(Duration::from_millis(u64::from_le_bytes(millis)));
            }
            _ => {}
        }
        fields = rest;
    }
    match fields {
        [] => Ok((
            Body::Encoded(body),
            expiry.map(|expiry| Expiry { idle, ..expiry }),
        )),
        _ => Err(truncated()),
    }
}

fn times(field: &[u8]) -> Option<Expiry> {
    let (expires_at, field) = field.split_first_chunk::<8>()?;
    let (stale_until, field) = field.split_first_chunk::<8>()?;
    let (created_at, load_time) = field.split_first_chunk::<8>()?;
    let time = |bytes: &[u8; 8]| match u64::from_le_bytes(*bytes) {
        // `Timestamp::MAX` was rounded down to milliseconds.
        never if never >= Timestamp::MAX.as_millis() => Timestamp::MAX,
        millis => Timestamp::from_millis(millis),
    };
    let load_time = u32::from_le_bytes(load_time.try_into().ok()?);
    Some(Expiry {
        expires_at: time(expires_at),
        stale_until: time(stale_until),
        created_at: time(created_at),
        load_time: Duration::from_millis(load_time.into()),
        idle: None,
    })
}

fn truncated() -> Error {
    Error::new(
        ErrorKind::Decode,
        "the header of the stored entry is truncated; get_or_set and set replace it",
    )
}

/// Returns whether bytes look like an integer.
fn is_integer(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let digits = digits.trim_ascii_end();
    digits.first().is_some_and(u8::is_ascii_digit) && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_stored_unchanged() {
        for encoded in [
            &b"{\"a\":1}"[..],
            b"",
            b"-",
            b"1.5",
            b"\"7\"",
            b"\x00\x01",
            b"12a",
            b" 1",
        ] {
            assert_eq!(seal(encoded.to_vec()), encoded);
            assert_eq!(open(encoded).unwrap(), (Body::Encoded(encoded), None));
        }
    }

    #[test]
    fn bytes_that_look_like_an_integer_or_a_header_get_a_header() {
        for encoded in [&b"5"[..], b"-17", b"5  ", b"\xC1", b"\xC1\x01\x00\x00"] {
            let sealed = seal(encoded.to_vec());
            assert_eq!(sealed, [b"\xC1\x01\x00\x00", encoded].concat());
            assert_eq!(open(&sealed).unwrap(), (Body::Encoded(encoded), None));
        }
    }

    #[test]
    fn an_integer_is_read_with_the_padding_of_memcached() {
        for integer in [&b"5"[..], b"-17", b"9 ", b"9999999999999999999999"] {
            assert_eq!(open(integer).unwrap(), (Body::Integer(integer), None));
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let bytes = b"\xC1\x01\x06\x00\x63\x02ab\x64\x00{}";
        assert_eq!(open(bytes).unwrap(), (Body::Encoded(b"{}"), None));
    }

    #[test]
    fn a_truncated_header_is_an_error() {
        let whole = b"\xC1\x01\x04\x00\x63\x02ab";
        for end in 1..whole.len() {
            assert_eq!(open(&whole[..end]).unwrap_err().kind(), ErrorKind::Decode);
        }
        for wrong in [
            &b"\xC1\x02\x00\x00{}"[..],
            b"\xC1\x01\x01\x00\x63{}",
            b"\xC1\x01\x02\x00\x63\x01{}",
        ] {
            assert_eq!(open(wrong).unwrap_err().kind(), ErrorKind::Decode);
        }
    }
}
