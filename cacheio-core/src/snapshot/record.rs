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

/// A record.
#[derive(Debug, PartialEq)]
pub(crate) enum Record<'a> {
    Type(&'a str),
    Entry(SavedEntry<'a>),
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

impl<'a> Record<'a> {
    /// Parses a record, which may be anything.
    pub(crate) fn parse(record: &'a [u8]) -> Result<Self> {
        let mut fields = Fields(record);
        match fields.byte()? {
            TYPE => Ok(Self::Type(text(fields.0)?)),
            ENTRY => Ok(Self::Entry(SavedEntry {
                key: fields.text()?,
                kept_until: fields.time()?,
                stored_as: fields.u32()?,
                meta: match fields.flag()? {
                    true => Some(fields.meta()?),
                    false => None,
                },
                value: fields.0,
            })),
            _ => Err(damaged("a record is of an unknown kind")),
        }
    }

    /// Writes the record into an empty buffer.
    pub(crate) fn write(&self, record: &mut Vec<u8>) {
        match self {
            Self::Type(name) => {
                record.push(TYPE);
                record.extend(name.as_bytes());
            }
            Self::Entry(entry) => {
                record.push(ENTRY);
                put_text(record, entry.key);
                put_time(record, entry.kept_until);
                record.extend(entry.stored_as.to_le_bytes());
                record.push(u8::from(entry.meta.is_some()));
                if let Some(meta) = &entry.meta {
                    meta.write(record);
                }
                record.extend(entry.value);
            }
        }
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

    fn comes_back(record: &Record<'_>) {
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        assert_eq!(&Record::parse(&bytes).unwrap(), record);
    }

    #[test]
    fn a_record_comes_back() {
        comes_back(&Record::Type("alloc::string::String"));
        comes_back(&Record::Entry(entry()));
        let meta = entry().meta.map(|meta| SavedMeta {
            expiry: None,
            ahead: RefreshAhead::XFetch { beta: 1.5 },
            tags: Vec::new(),
            ..meta
        });
        comes_back(&Record::Entry(SavedEntry { meta, ..entry() }));
        comes_back(&Record::Entry(SavedEntry {
            meta: None,
            kept_until: Timestamp::MAX,
            ..entry()
        }));
    }

    #[test]
    fn a_truncated_record_is_an_error() {
        let mut bytes = Vec::new();
        Record::Entry(entry()).write(&mut bytes);
        // The value is what is left.
        for end in 0..bytes.len() - 2 {
            assert!(Record::parse(&bytes[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn a_length_allocates_nothing() {
        let mut bytes = Vec::new();
        let meta = entry().meta.map(|meta| SavedMeta {
            tags: Vec::new(),
            ..meta
        });
        let value = &[];
        Record::Entry(SavedEntry {
            meta,
            value,
            ..entry()
        })
        .write(&mut bytes);
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Record::parse(&bytes).is_err());
    }
}
