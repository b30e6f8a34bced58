//! The format of entries on a server.
//!
//! The bytes under a key are one of these:
//!
//! 1. **An integer** in ASCII: an optional `-`, digits, and spaces (memcached pads a decremented
//!    number with them). It is read as JSON with every codec, so that counters work with every codec
//!    and other programs can read them. Servers count by themselves with such entries.
//! 2. **A header and a body**, if the first byte is `C1`:
//!
//!    | bytes | content |
//!    | --- | --- |
//!    | 1 | `C1`, with which no UTF-8 text and no `MessagePack` begins |
//!    | 1 | `01`: the version of this layout |
//!    | 2 | the length of the fields, little-endian |
//!    | … | the fields: `id` (1 byte), `length` (1 byte) and content of each; unknown ids are skipped |
//!    | … | the body: the bytes of the codec, if no field says otherwise |
//!
//!    | id | length | field |
//!    | --- | --- | --- |
//!    | 1 | 28 | the end of the TTL, the end of the time as a stale entry, and the creation of the value, in Unix milliseconds (8 bytes each); the load time in milliseconds (4 bytes); all little-endian. Without this field, the entry is live until the server removes it |
//!    | 2 | 16 | the time in milliseconds without a read after which the entry expires, and when a read was last recorded, in Unix milliseconds, or 0 (8 bytes each, little-endian); readers extend the TTL on the server. Only together with field 1 |
//!    | 3 | 0 | the body is an integer |
//!    | 4 | 8 and more | a tag, once for each: its version (8 bytes, little-endian) and its name. The entry is live only while the version is the one on the server |
//!    | 5 | 0 | the body is in the exact format, because the codec does not keep the value |
//!    | 6 | 8 | until when no load replaces the entry after one that failed, in Unix milliseconds, little-endian. Only together with field 1 |
//!
//! 3. **The bytes of the codec**, or of a `bytes::Bytes`, otherwise. With JSON, other programs can read and write them.
//!
//! If the bytes of the codec look like 1 or 2, or are empty, a header without fields is put before them: so no
//! entry is empty.
//!
//! The version of a tag is a random number. It is stored under [a key of its own](crate::KeyRule::of_tag) as
//! text: 16 hexadecimal digits, `.`, when it was stored (seconds of Unix time), `.`, and its TTL in seconds,
//! which is 0 if it has none. A tag without a version is not the tag of any live entry.
//!
//! On Redis a key that is being loaded has another key beside it: the same text and the byte `01`, in a
//! cluster followed by three of the characters `a-zA-Z0-9-_` that move it into the slot of the key. Its value is
//! a random token of 16 hexadecimal digits, or `-` and such a token after a load that left no value.
//!
//! On Memcached an empty item is no entry, but a claim. The item under [another key](crate::KeyRule::of_holder)
//! names the process that loads by a token of 16 hexadecimal digits, or is `-` after a load that left no value.

mod value;
mod written;

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

pub(crate) use self::value::{OwnedBody, with_value};
pub(crate) use self::written::written;
use crate::entry::expiry::Expiry;
use crate::entry::tags::TagVersion;
use crate::{Error, ErrorKind, KeyRule, Result, Timestamp};

const MARK: u8 = 0xC1;
const VERSION: u8 = 1;
/// The id of the field with the times of an [`Expiry`].
const TIMES: u8 = 1;
/// The id of the field with the time without a read, and the last recorded read.
const IDLE: u8 = 2;
/// The id of the field that marks the body as an integer.
const INTEGER: u8 = 3;
/// The id of the fields with a tag each.
const TAG: u8 = 4;
/// The id of the field that marks the body as one in the exact format.
const EXACT: u8 = 5;
/// The id of the field with the time until which no load replaces the entry.
const RETRY_AT: u8 = 6;

/// The longest name of a tag in a header.
const TAG_MAX: usize = u8::MAX as usize - 8;

/// The body of an entry, by how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    /// An integer in ASCII.
    Integer(&'a [u8]),
    /// The bytes of the codec.
    Encoded(&'a [u8]),
    /// A value in the exact format.
    Exact(&'a [u8]),
}

impl<'a> Body<'a> {
    /// Returns the field that marks the body, and its bytes.
    fn parts(self) -> (Option<u8>, &'a [u8]) {
        match self {
            Body::Integer(bytes) => (Some(INTEGER), bytes),
            Body::Encoded(bytes) => (None, bytes),
            Body::Exact(bytes) => (Some(EXACT), bytes),
        }
    }
}

/// Where the parts of an entry with a header are.
#[derive(Default)]
struct Header {
    times: Option<Range<usize>>,
    idle: Option<Range<usize>>,
    tags: Vec<Range<usize>>,
    retry_at: Option<Range<usize>>,
    is_integer: bool,
    is_exact: bool,
    body: usize,
}

/// Returns the bytes to store for a value that is not an integer.
pub(crate) fn seal(encoded: Vec<u8>) -> Vec<u8> {
    let is_distinct = !encoded.is_empty() && encoded[0] != MARK && !is_integer(&encoded);
    if is_distinct {
        return encoded;
    }
    let mut bytes = Vec::with_capacity(4 + encoded.len());
    bytes.extend([MARK, VERSION, 0, 0]);
    bytes.extend(encoded);
    bytes
}

/// Returns the bytes to store for a value in the exact format.
pub(crate) fn seal_exact(exact: &[u8]) -> Vec<u8> {
    [&[MARK, VERSION, 2, 0, EXACT, 0], exact].concat()
}

/// Returns the bytes to store for a value with an expiry.
pub(crate) fn seal_with(expiry: Expiry, body: Body<'_>) -> Vec<u8> {
    let (mark, body) = body.parts();
    let mut bytes = Vec::with_capacity(54 + body.len());
    bytes.extend([MARK, VERSION, 0, 0, TIMES, 28]);
    bytes.extend(times_field(expiry));
    if let Some(idle) = idle_field(expiry) {
        bytes.extend([IDLE, 16]);
        bytes.extend(idle);
    }
    if let Some(mark) = mark {
        bytes.extend([mark, 0]);
    }
    // At most 50 bytes.
    bytes[2] = (bytes.len() - 4) as u8;
    bytes.extend(body);
    bytes
}

/// Returns the name of a tag in headers.
pub(crate) fn tag_name(tag: &str) -> Cow<'_, str> {
    KeyRule::Wire { max: TAG_MAX }.legal(tag)
}

/// Returns the bytes of an entry with these tags.
pub(crate) fn with_tags(bytes: &[u8], tags: &[TagVersion]) -> Result<Vec<u8>> {
    let added: usize = tags.iter().map(|tag| 10 + tag.tag.len()).sum();
    let body = match open(bytes)? {
        // Bytes that need no header as long as they have no tags.
        (body, _) if bytes.first() != Some(&MARK) => match body {
            Body::Integer(_) => &[MARK, VERSION, 2, 0, INTEGER, 0][..],
            Body::Encoded(_) | Body::Exact(_) => &[MARK, VERSION, 0, 0][..],
        },
        _ => &[],
    };
    let bytes = [body, bytes].concat();
    let (start, rest) = bytes.split_at(4);
    let length = usize::from(u16::from_le_bytes([start[2], start[3]])) + added;
    let length = u16::try_from(length).map_err(|_| {
        Error::new(
            ErrorKind::TooLarge,
            "the names of the tags of an entry have more than 65,000 bytes",
        )
    })?;
    let mut tagged = Vec::with_capacity(bytes.len() + added);
    tagged.extend(&start[..2]);
    tagged.extend(length.to_le_bytes());
    for tag in tags {
        let name = tag.tag.as_bytes();
        let content = u8::try_from(8 + name.len()).map_err(|_| truncated())?;
        tagged.extend([TAG, content]);
        tagged.extend(tag.version.to_le_bytes());
        tagged.extend(name);
    }
    tagged.extend(rest);
    Ok(tagged)
}

/// Returns the tags of an entry.
///
/// # Errors
///
/// Returns an error when the header cannot be read.
pub(crate) fn tags(bytes: &[u8]) -> Result<Vec<TagVersion>> {
    let Some(header) = parse(bytes)? else {
        return Ok(Vec::new());
    };
    let tags = header.tags.into_iter().map(|at| {
        let (version, tag) = bytes[at].split_first_chunk::<8>().ok_or_else(truncated)?;
        let tag = std::str::from_utf8(tag).map_err(|_| truncated())?;
        Ok(TagVersion {
            tag: tag.into(),
            version: u64::from_le_bytes(*version),
        })
    });
    tags.collect()
}

/// Returns the bytes of an entry with other times in its header. Their number does not change.
pub(crate) fn with_expiry(bytes: &[u8], expiry: Expiry) -> Result<Vec<u8>> {
    let header = parse(bytes)?.unwrap_or_default();
    let mut bytes = bytes.to_vec();
    if let Some(times) = header.times.filter(|times| times.len() == 28) {
        bytes[times].copy_from_slice(&times_field(expiry));
    }
    if let (Some(at), Some(idle)) = (header.idle, idle_field(expiry))
        && at.len() == idle.len()
    {
        bytes[at].copy_from_slice(&idle);
    }
    Ok(bytes)
}

/// Returns until when no load replaces an entry; [`Timestamp::MIN`] if no load of it failed.
pub(crate) fn retry_at(bytes: &[u8]) -> Timestamp {
    let field = parse(bytes)
        .ok()
        .flatten()
        .and_then(|header| header.retry_at);
    let millis = field.and_then(|at| bytes[at].try_into().ok());
    millis.map_or(Timestamp::MIN, |millis| {
        Timestamp::from_millis(u64::from_le_bytes(millis))
    })
}

/// Returns the bytes of an entry that no load replaces until `at`. An entry without times has none.
pub(crate) fn with_retry_at(bytes: &[u8], at: Timestamp) -> Result<Vec<u8>> {
    let header = parse(bytes)?.unwrap_or_default();
    if header.times.is_none() {
        return Ok(bytes.to_vec());
    }
    let millis = at.as_millis().to_le_bytes();
    if let Some(field) = header.retry_at.filter(|field| field.len() == millis.len()) {
        let mut bytes = bytes.to_vec();
        bytes[field].copy_from_slice(&millis);
        return Ok(bytes);
    }
    let (fields, body) = bytes.split_at(header.body);
    let length = u16::try_from(fields.len() - 4 + 10).map_err(|_| truncated())?;
    let length = length.to_le_bytes();
    let (start, fields) = fields.split_at(4);
    let field = [&[RETRY_AT, 8], &millis[..]].concat();
    Ok([&start[..2], &length, fields, &field, body].concat())
}

/// Returns how many of the first bytes distinguish an entry from those that were or will be stored
/// under its key: its header if that has times, otherwise all.
pub(crate) fn identity_len(bytes: &[u8]) -> usize {
    match parse(bytes) {
        Ok(Some(Header {
            times: Some(_),
            body,
            ..
        })) => body,
        _ => bytes.len(),
    }
}

/// Returns which bytes distinguish a stored value from others under its key: the time at which it was
/// created, and its load time, if the entry has a header with times; otherwise all. A touch and a read
/// do not change them.
pub(crate) fn creation(bytes: &[u8]) -> Range<usize> {
    match parse(bytes) {
        Ok(Some(Header {
            times: Some(times), ..
        })) if times.len() == 28 => times.start + 16..times.end,
        _ => 0..bytes.len(),
    }
}

/// Parses the bytes of an entry, which may be anything.
pub(crate) fn open(bytes: &[u8]) -> Result<(Body<'_>, Option<Expiry>)> {
    if is_integer(bytes) {
        return Ok((Body::Integer(bytes), None));
    }
    let Some(header) = parse(bytes)? else {
        return Ok((Body::Encoded(bytes), None));
    };
    let body = &bytes[header.body..];
    let body = match header.is_integer {
        true if is_integer(body) => Body::Integer(body),
        true => return Err(truncated()),
        false if header.is_exact => Body::Exact(body),
        false => Body::Encoded(body),
    };
    let mut expiry = match header.times {
        Some(at) => Some(times(&bytes[at]).ok_or_else(truncated)?),
        None => None,
    };
    if let Some(at) = header.idle {
        let (idle, read_at) = bytes[at].split_first_chunk::<8>().ok_or_else(truncated)?;
        let read_at = read_at.try_into().map_err(|_| truncated())?;
        if let Some(expiry) = &mut expiry {
            expiry.idle = Some(Duration::from_millis(u64::from_le_bytes(*idle)));
            expiry.read_at = Timestamp::from_millis(u64::from_le_bytes(read_at));
        }
    }
    Ok((body, expiry))
}

/// Finds the parts of an entry; `None` if it has no header.
fn parse(bytes: &[u8]) -> Result<Option<Header>> {
    let Some((&MARK, rest)) = bytes.split_first() else {
        return Ok(None);
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
    let mut fields = rest.get(..length).ok_or_else(truncated)?;
    let mut header = Header {
        body: 4 + length,
        ..Header::default()
    };
    while let Some(([id, length], rest)) = fields.split_first_chunk::<2>() {
        let length = usize::from(*length);
        let start = header.body - rest.len();
        fields = rest.get(length..).ok_or_else(truncated)?;
        match *id {
            TIMES => header.times = Some(start..start + length),
            IDLE => header.idle = Some(start..start + length),
            INTEGER => header.is_integer = true,
            TAG => {
                let field = bytes.get(start..start + length).ok_or_else(truncated)?;
                let (_, tag) = field.split_first_chunk::<8>().ok_or_else(truncated)?;
                std::str::from_utf8(tag).map_err(|_| truncated())?;
                header.tags.push(start..start + length);
            }
            EXACT => header.is_exact = true,
            RETRY_AT => header.retry_at = Some(start..start + length),
            _ => {}
        }
    }
    match fields {
        [] => Ok(Some(header)),
        _ => Err(truncated()),
    }
}

fn times_field(expiry: Expiry) -> [u8; 28] {
    let mut field = [0; 28];
    for (at, time) in [expiry.expires_at, expiry.stale_until, expiry.created_at]
        .into_iter()
        .enumerate()
    {
        field[at * 8..][..8].copy_from_slice(&time.as_millis().to_le_bytes());
    }
    let load_time = u32::try_from(expiry.load_time.as_millis()).unwrap_or(u32::MAX);
    field[24..].copy_from_slice(&load_time.to_le_bytes());
    field
}

fn idle_field(expiry: Expiry) -> Option<[u8; 16]> {
    let idle = u64::try_from(expiry.idle?.as_millis()).unwrap_or(u64::MAX);
    let mut field = [0; 16];
    field[..8].copy_from_slice(&idle.to_le_bytes());
    field[8..].copy_from_slice(&expiry.read_at.as_millis().to_le_bytes());
    Some(field)
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
        read_at: Timestamp::MIN,
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
    fn bytes_that_look_like_an_integer_or_a_header_and_none_get_a_header() {
        for encoded in [&b"5"[..], b"", b"-17", b"5  ", b"\xC1", b"\xC1\x01\x00\x00"] {
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
    fn an_integer_with_an_expiry_is_read_as_an_integer() {
        let expiry = Expiry::new(
            Timestamp::from_millis(5),
            Duration::ZERO,
            None,
            Duration::ZERO,
        );
        let bytes = seal_with(expiry, Body::Integer(b"-17"));
        assert_eq!(open(&bytes).unwrap(), (Body::Integer(b"-17"), Some(expiry)));
        let damaged = [&bytes[..], b"x"].concat();
        assert_eq!(open(&damaged).unwrap_err().kind(), ErrorKind::Decode);
    }

    #[test]
    fn a_value_in_the_exact_format_is_read_as_such() {
        let expiry = Expiry::new(
            Timestamp::from_millis(5),
            Duration::ZERO,
            None,
            Duration::ZERO,
        );
        for bytes in [&b"5"[..], b"", b"\xC1"] {
            assert_eq!(
                open(&seal_exact(bytes)).unwrap(),
                (Body::Exact(bytes), None)
            );
            let sealed = seal_with(expiry, Body::Exact(bytes));
            assert_eq!(open(&sealed).unwrap(), (Body::Exact(bytes), Some(expiry)));
        }
    }

    #[test]
    fn other_times_change_nothing_but_the_times() {
        let second = Duration::from_secs(1);
        let now = Timestamp::from_millis(1_000);
        let expiry = Expiry {
            idle: Some(second),
            ..Expiry::new(now, second, Some(second), second)
        };
        let mut bytes = seal_with(expiry, Body::Encoded(b"body"));
        // A field of a later version.
        bytes.splice(4..4, *b"\x63\x02ab");
        bytes[2] += 4;
        let later = Expiry {
            read_at: now.after(second),
            ..expiry.touched(now.after(second * 9))
        };
        let changed = with_expiry(&bytes, later).unwrap();
        assert_eq!(
            open(&changed).unwrap(),
            (Body::Encoded(b"body"), Some(later))
        );
        assert_eq!((changed.len(), &changed[..8]), (bytes.len(), &bytes[..8]));
        assert_eq!(identity_len(&bytes), bytes.len() - 4);
        assert_eq!(identity_len(b"body"), 4);
        let creation_of = |bytes: &[u8]| bytes[creation(bytes)].to_vec();
        assert_eq!(creation_of(&changed), creation_of(&bytes));
        assert_eq!(creation_of(&bytes).len(), 12);
        assert_eq!(creation(b"body"), 0..4);
    }

    #[test]
    fn tags_change_nothing_but_the_header() {
        let versions = [
            TagVersion {
                tag: "users".into(),
                version: u64::MAX,
            },
            TagVersion {
                tag: "".into(),
                version: 7,
            },
        ];
        let expiry = Expiry::new(
            Timestamp::from_millis(5),
            Duration::ZERO,
            None,
            Duration::ZERO,
        );
        for bytes in [
            b"{}".to_vec(),
            b"17".to_vec(),
            Vec::new(),
            seal(b"5".to_vec()),
            seal_exact(b"exact"),
            seal_with(expiry, Body::Integer(b"-1")),
            seal_with(expiry, Body::Encoded(b"body")),
        ] {
            assert!(tags(&bytes).unwrap().is_empty());
            let tagged = with_tags(&bytes, &versions).unwrap();
            assert_eq!(open(&tagged).unwrap(), open(&bytes).unwrap());
            assert_eq!(tags(&tagged).unwrap(), versions);
        }
        let golden = with_tags(b"{}", &versions[..1]).unwrap();
        assert_eq!(
            golden,
            b"\xC1\x01\x0F\x00\x04\x0D\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFusers{}"
        );
        assert_eq!(tag_name(&"x".repeat(300)).len(), TAG_MAX);
        let too_many = vec![versions[0].clone(); 5_000];
        assert_eq!(
            with_tags(b"{}", &too_many).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        let short = b"\xC1\x01\x03\x00\x04\x01a{}";
        assert_eq!(tags(short).unwrap_err().kind(), ErrorKind::Decode);
        assert_eq!(open(short).unwrap_err().kind(), ErrorKind::Decode);
        let no_text = b"\xC1\x01\x0B\x00\x04\x0912345678\xFF7";
        assert_eq!(open(no_text).unwrap_err().kind(), ErrorKind::Decode);
    }

    #[test]
    fn a_failed_load_changes_only_the_header() {
        let second = Duration::from_secs(1);
        let now = Timestamp::from_millis(1_000);
        let expiry = Expiry::new(now, second, Some(second), second);
        for body in [
            Body::Encoded(b"body"),
            Body::Integer(b"7"),
            Body::Exact(b""),
        ] {
            let bytes = seal_with(expiry, body);
            assert_eq!(retry_at(&bytes), Timestamp::MIN);
            let failed = with_retry_at(&bytes, now.after(second)).unwrap();
            assert_eq!(retry_at(&failed), now.after(second));
            assert_eq!(open(&failed).unwrap(), (body, Some(expiry)));
            assert_eq!(failed.len(), bytes.len() + 10);
            let again = with_retry_at(&failed, now.after(second * 2)).unwrap();
            assert_eq!(retry_at(&again), now.after(second * 2));
            assert_eq!(open(&again).unwrap(), (body, Some(expiry)));
            assert_eq!(again.len(), failed.len());
        }
        for without_times in [&b"7"[..], b"text", b"\xC1\x01\x00\x00text"] {
            assert_eq!(with_retry_at(without_times, now).unwrap(), without_times);
            assert_eq!(retry_at(without_times), Timestamp::MIN);
        }
        let wrong_length = b"\xC1\x01\x03\x00\x06\x01atext";
        assert_eq!(retry_at(wrong_length), Timestamp::MIN);
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
