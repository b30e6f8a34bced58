//! How an entry looks on a server.
//!
//! What stands under a key is one of three:
//!
//! 1. **An integer** in ASCII: `-`, digits, and any spaces after them (memcached leaves some behind
//!    when it decrements). It is read as JSON, whatever the codec: so counters count under every
//!    codec, and integers are readable for everybody.
//! 2. **A header and a body**, if the first byte is `C1`:
//!
//!    | bytes | what |
//!    | --- | --- |
//!    | 1 | `C1`: no UTF-8 text and no `MessagePack` begins so |
//!    | 1 | `01`: the version of this layout |
//!    | 2 | the length of the fields, little-endian |
//!    | … | the fields, each `id` (1 byte), `length` (1 byte), and its bytes; unknown ids are skipped |
//!    | … | what the codec made of the value, integers too |
//!
//!    | id | length | field |
//!    | --- | --- | --- |
//!    | 1 | 28 | when the TTL is over, when the entry must not be served any more, and when its value was made: Unix time in milliseconds (8 bytes each); how many milliseconds its load took (4 bytes); all little-endian. An entry without is live as long as it is there |
//!    | 2 | 8 | how many milliseconds nobody may read the entry, or it is gone: readers move its TTL on the server; only beside field 1 |
//!
//! 3. **What the codec made of the value**, and nothing else: with JSON what other programs read
//!    and write too.
//!
//! What a codec writes that only looks like 1 or 2 gets a header without fields.

use std::time::Duration;

use crate::entry::expiry::Expiry;
use crate::{Error, ErrorKind, Timestamp};

const MARK: u8 = 0xC1;
const VERSION: u8 = 1;
/// The id of the field with the moments of a expiry.
const SPAN: u8 = 1;
/// The id of the field that says for how long nobody may read it.
const IDLE: u8 = 2;

/// A body, and how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    /// An integer in ASCII.
    Integer(&'a [u8]),
    /// What the codec made of the value.
    Encoded(&'a [u8]),
}

/// The bytes to store for what a codec made of a value that is no integer.
pub(crate) fn seal(encoded: Vec<u8>) -> Vec<u8> {
    if encoded.first() != Some(&MARK) && !is_integer(&encoded) {
        return encoded;
    }
    let mut bytes = Vec::with_capacity(4 + encoded.len());
    bytes.extend([MARK, VERSION, 0, 0]);
    bytes.extend(encoded);
    bytes
}

/// The bytes to store for what a codec made of a value about which more must be known.
pub(crate) fn seal_with(expiry: Expiry, encoded: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(44 + encoded.len());
    let length = if expiry.idle.is_some() { 40 } else { 30 };
    bytes.extend([MARK, VERSION, length, 0, SPAN, 28]);
    for moment in [expiry.expires_at, expiry.stale_until, expiry.created_at] {
        bytes.extend(moment.as_millis().to_le_bytes());
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

/// Takes stored bytes apart. They may be anything.
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
            "what is stored has a header of another version of cacheio; get_or_set and set replace it",
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
            SPAN => expiry = Some(moments(field).ok_or_else(truncated)?),
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

fn moments(field: &[u8]) -> Option<Expiry> {
    let (expires_at, field) = field.split_first_chunk::<8>()?;
    let (stale_until, field) = field.split_first_chunk::<8>()?;
    let (created_at, load_time) = field.split_first_chunk::<8>()?;
    let moment = |bytes: &[u8; 8]| match u64::from_le_bytes(*bytes) {
        // What never comes has lost its last digits.
        never if never >= Timestamp::MAX.as_millis() => Timestamp::MAX,
        millis => Timestamp::from_millis(millis),
    };
    let load_time = u32::from_le_bytes(load_time.try_into().ok()?);
    Some(Expiry {
        expires_at: moment(expires_at),
        stale_until: moment(stale_until),
        created_at: moment(created_at),
        load_time: Duration::from_millis(load_time.into()),
        idle: None,
    })
}

fn truncated() -> Error {
    Error::new(
        ErrorKind::Decode,
        "what is stored has a header that is cut off; get_or_set and set replace it",
    )
}

/// Whether a codec's bytes would be taken for an integer.
fn is_integer(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let digits = digits.trim_ascii_end();
    digits.first().is_some_and(u8::is_ascii_digit) && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_integer_nor_header_stands_as_it_is() {
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
    fn what_only_looks_like_an_integer_or_a_header_gets_one() {
        for encoded in [&b"5"[..], b"-17", b"5  ", b"\xC1", b"\xC1\x01\x00\x00"] {
            let sealed = seal(encoded.to_vec());
            assert_eq!(sealed, [b"\xC1\x01\x00\x00", encoded].concat());
            assert_eq!(open(&sealed).unwrap(), (Body::Encoded(encoded), None));
        }
    }

    #[test]
    fn an_integer_is_read_with_what_memcached_leaves_behind_it() {
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
    fn a_header_that_is_cut_off_is_an_error() {
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
