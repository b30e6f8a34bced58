//! A record of the file of a snapshot.
//!
//! The first byte tells what it is. Numbers are little-endian, times are Unix milliseconds (8 bytes), a text has its
//! length in front (4 bytes).
//!
//! - `00`: the name of a type, up to the end. The types of a file are numbered in the order of these records.
//! - `01`: an entry.
//!
//! | bytes | content of an entry |
//! | --- | --- |
//! | … | its key without the namespace, a text |
//! | 8 | until when the store keeps it |
//! | 4 | the number of the type that its value was stored as |
//! | 1 | 1 if it has metadata, otherwise 0; then the metadata: |
//! | 8, 8 | when it expires unless it is read before; when a load that failed may be retried |
//! | 9 | the policy of refreshing ahead: 0 never, 1 a fraction, 2 XFetch, and its number (`f64`) |
//! | 1 | 1 if it has an expiry, otherwise 0; then the expiry: |
//! | 8, 8, 8 | when it was created, when its TTL ends, until when it may be served stale |
//! | 8, 8 | the load time, and the time without a read after which it expires or `u64::MAX`, in milliseconds |
//! | 4, … | the number of its tags, and their names, texts |
//! | … | after the metadata up to the end: the value, as [on a server](crate::entry::wire) |

use std::time::Duration;

use super::file::damaged;
use crate::entry::expiry::Expiry;
use crate::{RefreshAhead, Result, Timestamp};

const TYPE: u8 = 0;
const ENTRY: u8 = 1;

/// Returns the name in the record of a type; `None` for another record.
pub(crate) fn type_name(record: &[u8]) -> Result<Option<&str>> {
    match record.split_first() {
        Some((&TYPE, name)) => text(name).map(Some),
        _ => Ok(None),
    }
}

/// Writes the record of a type into an empty buffer.
pub(crate) fn write_type(name: &str, record: &mut Vec<u8>) {
    record.push(TYPE);
    record.extend(name.as_bytes());
}

/// An entry. Its times are those of Unix.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SavedEntry<'a> {
    pub(crate) key: &'a str,
    pub(crate) kept_until: Timestamp,
    pub(crate) stored_as: u32,
    pub(crate) meta: Option<SavedMeta<'a>>,
    pub(crate) value: &'a [u8],
}

/// The metadata of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SavedMeta<'a> {
    pub(crate) idle_until: Timestamp,
    pub(crate) retry_at: Timestamp,
    pub(crate) ahead: RefreshAhead,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) tags: Vec<&'a str>,
}

impl<'a> SavedEntry<'a> {
    /// Parses the record of an entry, which may be anything.
    pub(crate) fn parse(record: &'a [u8]) -> Result<Self> {
        let mut fields = Fields(record);
        if fields.byte()? != ENTRY {
            return Err(damaged("a record is of an unknown kind"));
        }
        Ok(Self {
            key: fields.text()?,
            kept_until: fields.time()?,
            stored_as: fields.u32()?,
            meta: match fields.flag()? {
                true => Some(fields.meta()?),
                false => None,
            },
            value: fields.0,
        })
    }

    /// Writes the record into an empty buffer.
    pub(crate) fn write(&self, record: &mut Vec<u8>) {
        record.push(ENTRY);
        put_text(record, self.key);
        put_time(record, self.kept_until);
        record.extend(self.stored_as.to_le_bytes());
        record.push(u8::from(self.meta.is_some()));
        if let Some(meta) = &self.meta {
            meta.write(record);
        }
        record.extend(self.value);
    }
}

impl SavedMeta<'_> {
    fn write(&self, record: &mut Vec<u8>) {
        put_time(record, self.idle_until);
        put_time(record, self.retry_at);
        let (kind, number) = match self.ahead {
            RefreshAhead::Never => (0, 0.0),
            RefreshAhead::Fraction(fraction) => (1, fraction),
            RefreshAhead::XFetch { beta } => (2, beta),
        };
        record.push(kind);
        record.extend(number.to_le_bytes());
        record.push(u8::from(self.expiry.is_some()));
        if let Some(expiry) = self.expiry {
            put_time(record, expiry.created_at);
            put_time(record, expiry.expires_at);
            put_time(record, expiry.stale_until);
            record.extend(millis(expiry.load_time).to_le_bytes());
            let idle = expiry.idle.map_or(u64::MAX, millis);
            record.extend(idle.to_le_bytes());
        }
        record.extend((self.tags.len() as u32).to_le_bytes());
        for tag in &self.tags {
            put_text(record, tag);
        }
    }
}

fn put_text(record: &mut Vec<u8>, text: &str) {
    record.extend((text.len() as u32).to_le_bytes());
    record.extend(text.as_bytes());
}

fn put_time(record: &mut Vec<u8>, time: Timestamp) {
    let millis = match time {
        Timestamp::MAX => u64::MAX,
        time => time.as_millis(),
    };
    record.extend(millis.to_le_bytes());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The rest of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(truncated()),
        }
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Result<Timestamp> {
        Ok(match self.u64()? {
            u64::MAX => Timestamp::MAX,
            millis => Timestamp::from_millis(millis),
        })
    }

    fn text(&mut self) -> Result<&'a str> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(truncated)?;
        self.0 = rest;
        text(bytes)
    }

    fn meta(&mut self) -> Result<SavedMeta<'a>> {
        Ok(SavedMeta {
            idle_until: self.time()?,
            retry_at: self.time()?,
            ahead: match (self.byte()?, f64::from_le_bytes(self.array()?)) {
                (0, _) => RefreshAhead::Never,
                (1, fraction) => RefreshAhead::Fraction(fraction),
                (2, beta) => RefreshAhead::XFetch { beta },
                _ => return Err(truncated()),
            },
            expiry: match self.flag()? {
                true => Some(self.expiry()?),
                false => None,
            },
            tags: {
                // Not allocated by the number: it may be wrong.
                let count = self.u32()?;
                (0..count).map(|_| self.text()).collect::<Result<_>>()?
            },
        })
    }

    fn expiry(&mut self) -> Result<Expiry> {
        Ok(Expiry {
            created_at: self.time()?,
            expires_at: self.time()?,
            stale_until: self.time()?,
            load_time: Duration::from_millis(self.u64()?),
            idle: match self.u64()? {
                u64::MAX => None,
                millis => Some(Duration::from_millis(millis)),
            },
            read_at: Timestamp::MIN,
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| damaged("a text in it is no text"))
}

fn truncated() -> crate::Error {
    damaged("a record is truncated")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> SavedEntry<'static> {
        let at = |second: u64| Timestamp::from_millis(second * 1_000);
        SavedEntry {
            key: "user:42",
            kept_until: at(30),
            stored_as: 3,
            meta: Some(SavedMeta {
                idle_until: at(25),
                retry_at: Timestamp::MIN,
                ahead: RefreshAhead::Fraction(0.8),
                expiry: Some(Expiry {
                    created_at: at(10),
                    expires_at: at(20),
                    stale_until: at(30),
                    load_time: Duration::from_millis(7),
                    idle: Some(Duration::from_secs(15)),
                    read_at: Timestamp::MIN,
                }),
                tags: vec!["users", "ä"],
            }),
            value: b"{}",
        }
    }

    fn written(entry: &SavedEntry<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        bytes
    }

    fn comes_back(entry: &SavedEntry<'_>) {
        let bytes = written(entry);
        assert_eq!(&SavedEntry::parse(&bytes).unwrap(), entry);
        assert_eq!(type_name(&bytes).unwrap(), None);
    }

    #[test]
    fn a_record_comes_back() {
        comes_back(&entry());
        let meta = entry().meta.map(|meta| SavedMeta {
            expiry: None,
            ahead: RefreshAhead::XFetch { beta: 1.5 },
            tags: Vec::new(),
            ..meta
        });
        comes_back(&SavedEntry { meta, ..entry() });
        comes_back(&SavedEntry {
            meta: None,
            kept_until: Timestamp::MAX,
            ..entry()
        });
        let mut bytes = Vec::new();
        write_type("alloc::string::String", &mut bytes);
        let name = type_name(&bytes).unwrap();
        assert_eq!(name, Some("alloc::string::String"));
        assert!(SavedEntry::parse(&bytes).is_err());
        bytes.push(0xFF);
        assert!(type_name(&bytes).is_err());
    }

    #[test]
    fn a_truncated_record_is_an_error() {
        let bytes = written(&entry());
        // The value is what is left.
        for end in 0..bytes.len() - 2 {
            assert!(SavedEntry::parse(&bytes[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn a_length_allocates_nothing() {
        let meta = entry().meta.map(|meta| SavedMeta {
            tags: Vec::new(),
            ..meta
        });
        let mut bytes = written(&SavedEntry {
            meta,
            value: &[],
            ..entry()
        });
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(SavedEntry::parse(&bytes).is_err());
    }

    /// A file is read by the next version of a program.
    #[test]
    fn the_bytes_stay_the_same() {
        let mut bytes = Vec::new();
        write_type("i64", &mut bytes);
        assert_eq!(bytes, b"\x00i64");
        let plain = SavedEntry {
            key: "k",
            kept_until: Timestamp::MAX,
            stored_as: 3,
            meta: None,
            value: b"7",
        };
        let expected = b"\x01\x01\0\0\0k\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x03\0\0\0\x007";
        assert_eq!(written(&plain), expected);
        let expected = [
            &b"\x01\x07\0\0\0user:42"[..],
            &30_000_u64.to_le_bytes(),
            &3_u32.to_le_bytes(),
            &[1],
            &25_000_u64.to_le_bytes(),
            &0_u64.to_le_bytes(),
            &[1],
            &0.8_f64.to_le_bytes(),
            &[1],
            &10_000_u64.to_le_bytes(),
            &20_000_u64.to_le_bytes(),
            &30_000_u64.to_le_bytes(),
            &7_u64.to_le_bytes(),
            &15_000_u64.to_le_bytes(),
            b"\x02\0\0\0\x05\0\0\0users\x02\0\0\0\xC3\xA4{}",
        ];
        assert_eq!(written(&entry()), expected.concat());
    }
}
