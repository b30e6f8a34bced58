//! The versions of tags, as they are stored on a server.

use std::collections::HashMap;
use std::iter::repeat;
use std::time::Duration;

use crate::entry::tags::TagVersion;
use crate::{Entry, Payload};

/// The versions of tags on the server, by name.
#[derive(Debug, Default)]
pub(in crate::engine) struct Versions(pub(super) HashMap<Box<str>, CurrentVersion>);

/// What was read under the key of a tag.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CurrentVersion {
    pub(super) stored: Option<StoredVersion>,
    /// Whether the server tells when it changes.
    pub(super) is_watched: bool,
}

/// The version of a tag, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredVersion {
    pub(super) version: u64,
    /// Seconds of the store's clock.
    pub(super) stored_at: u64,
    /// Seconds; zero if it has no end.
    pub(super) ttl: u64,
}

impl From<Option<Entry>> for CurrentVersion {
    fn from(entry: Option<Entry>) -> Self {
        Self {
            stored: entry.as_ref().and_then(StoredVersion::parse),
            is_watched: entry.is_some_and(|entry| entry.is_watched),
        }
    }
}

impl StoredVersion {
    pub(super) fn entry(&self) -> Entry {
        let Self {
            version,
            stored_at,
            ttl,
        } = self;
        Entry::bytes(format!("{version:016x}.{stored_at}.{ttl}").into_bytes())
    }

    /// Reads a version; `None` if something else is stored under the key.
    pub(super) fn parse(entry: &Entry) -> Option<Self> {
        let Payload::Bytes(bytes) = &entry.payload else {
            return None;
        };
        let mut parts = std::str::from_utf8(bytes).ok()?.split('.');
        let version = parts.next().filter(|version| version.len() == 16)?;
        Some(Self {
            version: u64::from_str_radix(version, 16).ok()?,
            stored_at: parts.next()?.parse().ok()?,
            ttl: parts.next()?.parse().ok()?,
        })
    }

    pub(super) fn is_half_over(&self, now: u64) -> bool {
        self.ttl != 0 && now >= self.stored_at.saturating_add(self.ttl / 2)
    }

    /// Whether the TTL is not shorter than this one.
    pub(super) fn lives_for(&self, ttl: Option<Duration>) -> bool {
        self.ttl == 0 || ttl.is_some_and(|ttl| ttl.as_secs() <= self.ttl)
    }
}

impl Versions {
    /// Adds what was read under the keys of tags. A store that returns too few entries has none of the
    /// others.
    pub(super) fn add(&mut self, names: &[impl AsRef<str>], entries: Vec<Option<Entry>>) {
        let entries = entries.into_iter().chain(repeat(None));
        for (name, entry) in names.iter().zip(entries) {
            self.insert(name.as_ref(), entry.into());
        }
    }

    pub(super) fn insert(&mut self, name: &str, current: CurrentVersion) {
        self.0.insert(name.into(), current);
    }

    /// Returns the version of a tag, if it has one.
    pub(super) fn stored(&self, name: &str) -> Option<StoredVersion> {
        self.0.get(name).and_then(|found| found.stored)
    }

    /// Returns whether the server tells when one of these tags is invalidated.
    pub(in crate::engine) fn are_watched(&self, names: &[&str]) -> bool {
        let is_watched = |name: &&str| self.0.get(*name).is_some_and(|found| found.is_watched);
        names.iter().all(is_watched)
    }

    /// Returns whether the tags of an entry have these versions.
    pub(super) fn allow(&self, tags: &[TagVersion]) -> bool {
        tags.iter().all(|tag| {
            (self.stored(&tag.tag)).is_some_and(|current| current.version == tag.version)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::engine::attempts::Attempts;

    fn version(version: u64, stored_at: u64, ttl: u64) -> StoredVersion {
        StoredVersion {
            version,
            stored_at,
            ttl,
        }
    }

    #[test]
    fn a_stored_version_is_read_again() {
        let stored = version(0x0123_4567_89AB_CDEF, 1_700_000_000, 86_400);
        let entry = stored.entry();
        let Payload::Bytes(bytes) = &entry.payload else {
            unreachable!("it is stored as bytes");
        };
        assert_eq!(bytes, b"0123456789abcdef.1700000000.86400");
        assert_eq!(StoredVersion::parse(&entry), Some(stored));
        for other in ["", "1", "0123456789abcdef", "0123456789abcdeg.1.1", "a.1.1"] {
            assert!(StoredVersion::parse(&Entry::bytes(other.into())).is_none());
        }
    }

    #[test]
    fn a_version_is_renewed_when_half_of_its_ttl_is_over() {
        let finite = version(1, 1_000, 100);
        assert!(!finite.is_half_over(1_049) && finite.is_half_over(1_050));
        // A clock that is behind renews nothing.
        assert!(!finite.is_half_over(0));
        assert!(!version(1, 1_000, 0).is_half_over(u64::MAX));
        let renewals = Attempts::default();
        let at = |second: u64| Timestamp::from_millis(second * 1_000);
        let every = Duration::from_secs(25);
        assert!(renewals.begin(7, at(1_050), every) && !renewals.begin(7, at(1_074), every));
        assert!(renewals.begin(7, at(1_075), every) && renewals.begin(8, at(1_075), every));
    }

    #[test]
    fn a_version_with_a_shorter_ttl_than_wanted_is_replaced() {
        let ttl = |seconds| Some(Duration::from_secs(seconds));
        let finite = version(1, 1_000, 100);
        assert!(finite.lives_for(ttl(100)) && finite.lives_for(ttl(1)));
        assert!(!finite.lives_for(ttl(101)) && !finite.lives_for(None));
        let endless = version(1, 1_000, 0);
        assert!(endless.lives_for(ttl(101)) && endless.lives_for(None));
    }
}
