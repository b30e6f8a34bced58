//! Tags of entries on a server.
//!
//! Each tag has a key of its own there, with its version: see [`wire`]. An entry is live while the versions
//! in its header are those on the server. A version that is missing, because the tag was invalidated or the
//! server forgot it, is never the one in a header.
//!
//! A call that names tags asks for their versions together with its keys. An entry with other tags costs
//! one more round trip.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::Engine;
use crate::config::ttl::Lifetime;
use crate::entry::tags::{ServerVersions, Stamps, TagVersion};
use crate::entry::wire;
use crate::key::Key;
use crate::{
    Entry, Error, ErrorKind, Form, Operation, Options, Payload, Replacement, Result, Ttl, TtlChange,
};

/// The shortest TTL of a version, and how many times longer than an entry it lives at least.
const MIN_TTL: Duration = Duration::from_secs(24 * 60 * 60);
const LONGER_THAN_ENTRIES: u32 = 4;

/// How often a version is read again because it was just stored and removed by others.
const MAX_CONFLICTS: usize = 16;

/// The versions of tags on the server, by name.
#[derive(Debug, Default)]
pub(super) struct Versions(HashMap<Box<str>, Option<StoredVersion>>);

/// The version of a tag, as it is stored.
#[derive(Clone, Debug)]
struct StoredVersion {
    version: u64,
    /// Seconds of the store's clock.
    stored_at: u64,
    /// Zero if it has no end.
    ttl: u64,
    entry: Entry,
}

impl StoredVersion {
    fn new(version: u64, stored_at: u64, ttl: u64) -> Self {
        Self {
            version,
            stored_at,
            ttl,
            entry: Entry::bytes(format!("{version:016x}.{stored_at}.{ttl}").into_bytes()),
        }
    }

    /// Reads a version; `None` if something else is stored under the key.
    fn parse(entry: Entry) -> Option<Self> {
        let Payload::Bytes(bytes) = &entry.payload else {
            return None;
        };
        let mut parts = std::str::from_utf8(bytes).ok()?.split('.');
        let version = parts.next().filter(|version| version.len() == 16)?;
        let version = u64::from_str_radix(version, 16).ok()?;
        let stored_at = parts.next()?.parse().ok()?;
        let ttl = parts.next()?.parse().ok()?;
        Some(Self {
            version,
            stored_at,
            ttl,
            entry,
        })
    }

    /// Whether half of the TTL is over, or the TTL is shorter than `wanted`.
    fn must_be_renewed(&self, now: u64, wanted: u64) -> bool {
        self.ttl != 0
            && (wanted == 0
                || wanted > self.ttl
                || now >= self.stored_at.saturating_add(self.ttl / 2))
    }
}

impl Versions {
    /// Returns whether the tags of an entry have these versions.
    fn allow(&self, tags: &[TagVersion]) -> bool {
        tags.iter().all(|tag| {
            let current = self.0.get(&tag.tag).and_then(Option::as_ref);
            current.is_some_and(|current| current.version == tag.version)
        })
    }
}

impl Engine {
    /// Returns the versions of the tags of a call, for an entry that is written now. Tags without a
    /// version get one.
    pub(super) async fn stamp(&self, options: &Options) -> Result<Stamps> {
        let stamps = self.stamp_in_process(options);
        if !self.has_server_tags(options) {
            return Ok(stamps);
        }
        let names = names(&options.tags);
        let mut versions = Versions::default();
        self.read_versions(&names, &mut versions).await?;
        let versions = self.complete_versions(&names, versions, options).await?;
        Ok(stamps.with_versions(versions))
    }

    /// Does the same for a load, which does not fail with the store: its value is not stored then.
    pub(super) async fn stamp_load(&self, options: &Options) -> Stamps {
        match self.stamp(options).await {
            Ok(stamps) => stamps,
            Err(error) => {
                self.on_store_error(&error.during(Operation::Get));
                let stamps = self.stamp_in_process(options);
                stamps.with_versions(ServerVersions::Unknown)
            }
        }
    }

    /// Gives a version to the tags of a load that have none. `read` has the versions that were read with
    /// its keys.
    pub(super) async fn stored_versions(
        &self,
        read: Option<Versions>,
        options: &Options,
    ) -> ServerVersions {
        let Some(read) = read else {
            return ServerVersions::Unknown;
        };
        let names = names(&options.tags);
        let completed = self.complete_versions(&names, read, options);
        completed.await.unwrap_or_else(|error| {
            self.on_store_error(&error.during(Operation::Add));
            ServerVersions::Unknown
        })
    }

    /// Returns the stamps of the tags of a call, without the versions on the server.
    pub(super) fn stamp_in_process(&self, options: &Options) -> Stamps {
        self.shared.tags.stamp(&self.settings.prefix, &options.tags)
    }

    /// Whether a call has tags whose versions are on a server.
    pub(super) fn has_server_tags(&self, options: &Options) -> bool {
        self.driver.form() == Form::Bytes && !options.tags.is_empty()
    }

    /// Reads an entry. One whose tags were invalidated is absent.
    pub(super) async fn read_entry(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let Some(entry) = self.driver.get(key).await? else {
            return Ok(None);
        };
        let is_valid = self.is_valid(&entry).await?;
        Ok(is_valid.then_some(entry))
    }

    /// Reads several entries.
    pub(super) async fn read_entries(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        let mut entries = self.driver.get_many(keys).await?;
        self.remove_invalid(&mut entries, Versions::default())
            .await?;
        Ok(entries)
    }

    /// Reads entries for a load, together with the versions of its tags.
    pub(super) async fn read_with_versions(
        &self,
        keys: &[Key<'_>],
        options: &Options,
    ) -> Result<(Vec<Option<Entry>>, Versions)> {
        let names = names(&options.tags);
        let tag_keys = self.tag_keys(names.iter().map(|name| &**name));
        let all: Vec<_> = keys
            .iter()
            .copied()
            .chain(tag_keys.iter().map(|key| Key::new(key)))
            .collect();
        let mut entries = self.driver.get_many(&all).await?;
        // A store that returns too few entries has none of the others.
        entries.resize(all.len(), None);
        let versions = entries.split_off(keys.len());
        let versions = names.iter().zip(versions).map(|(name, entry)| {
            let name: Box<str> = name.as_ref().into();
            (name, entry.and_then(StoredVersion::parse))
        });
        let versions = Versions(versions.collect());
        let versions = self.remove_invalid(&mut entries, versions).await?;
        Ok((entries, versions))
    }

    /// Whether the tags of an entry have the versions of when it was stored.
    pub(super) async fn is_valid(&self, entry: &Entry) -> Result<bool> {
        let tags = tags_of(entry)?;
        if tags.is_empty() {
            return Ok(true);
        }
        self.note_headers_in_use();
        let mut versions = Versions::default();
        let names = tags.iter().map(|tag| Cow::Borrowed(&*tag.tag));
        self.read_versions(&names.collect::<Vec<_>>(), &mut versions)
            .await?;
        Ok(versions.allow(&tags))
    }

    /// Does the same for several entries.
    pub(super) async fn are_valid(&self, entries: &[Option<Entry>]) -> Result<Vec<bool>> {
        let mut left = entries.to_vec();
        self.remove_invalid(&mut left, Versions::default()).await?;
        let both = entries.iter().zip(&left);
        Ok(both
            .map(|(entry, left)| entry.is_some() == left.is_some())
            .collect())
    }

    /// Removes the entries whose tags were invalidated. One whose header cannot be read stays, for the
    /// decoder to report.
    pub(super) async fn remove_invalid(
        &self,
        entries: &mut [Option<Entry>],
        mut versions: Versions,
    ) -> Result<Versions> {
        let mut tagged = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let tags = entry.as_ref().and_then(|entry| tags_of(entry).ok());
            if let Some(tags) = tags.filter(|tags| !tags.is_empty()) {
                tagged.push((index, tags));
            }
        }
        if tagged.is_empty() {
            return Ok(versions);
        }
        self.note_headers_in_use();
        let mut unknown: Vec<Cow<'_, str>> = Vec::new();
        for tag in tagged.iter().flat_map(|(_, tags)| tags) {
            if !versions.0.contains_key(&tag.tag) && !unknown.iter().any(|name| **name == *tag.tag)
            {
                unknown.push(Cow::Borrowed(&tag.tag));
            }
        }
        self.read_versions(&unknown, &mut versions).await?;
        for (index, tags) in &tagged {
            if !versions.allow(tags) {
                entries[*index] = None;
            }
        }
        Ok(versions)
    }

    /// Invalidates tags on the server: entries with a version that is missing are not live.
    pub(super) async fn remove_versions(&self, tags: &[Cow<'static, str>]) -> Result<()> {
        let names = names(tags);
        let texts = self.tag_keys(names.iter().map(|name| &**name));
        match &*texts {
            [] => Ok(()),
            [text] => self.driver.delete(&Key::new(text)).await.map(drop),
            _ => {
                let keys: Vec<_> = texts.iter().map(|text| Key::new(text)).collect();
                self.driver.delete_many(&keys).await.map(drop)
            }
        }
    }

    fn tag_keys<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let rule = self.driver.key_rule();
        names
            .map(|name| rule.of_tag(&self.key_prefix, name))
            .collect()
    }

    async fn read_versions(&self, names: &[Cow<'_, str>], versions: &mut Versions) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let texts = self.tag_keys(names.iter().map(|name| &**name));
        let keys: Vec<_> = texts.iter().map(|text| Key::new(text)).collect();
        let mut entries = match &*keys {
            [key] => vec![self.driver.get(key).await?],
            _ => self.driver.get_many(&keys).await?,
        };
        entries.resize(keys.len(), None);
        for (name, entry) in names.iter().zip(entries) {
            let version = entry.and_then(StoredVersion::parse);
            versions.0.insert(name.as_ref().into(), version);
        }
        Ok(())
    }

    /// Gives a version to the tags that have none, and renews the TTL of the others when it is time.
    async fn complete_versions(
        &self,
        names: &[Cow<'_, str>],
        mut versions: Versions,
        options: &Options,
    ) -> Result<ServerVersions> {
        let ttl = self.ttl_of_versions(options);
        let seconds = ttl.map_or(0, |ttl| ttl.as_secs());
        let mut known = Vec::with_capacity(names.len());
        for name in names {
            let text = self.driver.key_rule().of_tag(&self.key_prefix, name);
            let key = Key::new(&text);
            let version = match versions.0.remove(&**name).flatten() {
                Some(version) => {
                    self.renew_version(&key, &version, seconds, ttl).await;
                    version.version
                }
                None => self.add_version(&key, seconds, ttl).await?,
            };
            known.push(TagVersion {
                tag: name.as_ref().into(),
                version,
            });
        }
        Ok(ServerVersions::Known(known.into()))
    }

    /// Stores a new version of a tag, and returns it, or that of another client.
    async fn add_version(&self, key: &Key<'_>, seconds: u64, ttl: Option<Duration>) -> Result<u64> {
        // The randomness of the standard library, which differs between processes.
        let fresh = RandomState::new().hash_one(key.text());
        let fresh = StoredVersion::new(fresh, self.now_in_seconds(), seconds);
        for _ in 0..MAX_CONFLICTS {
            match self.driver.add(key, fresh.entry.clone(), ttl).await {
                Ok(true) => return Ok(fresh.version),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    self.driver.set(key, fresh.entry, ttl).await?;
                    return Ok(fresh.version);
                }
                Err(error) => return Err(error),
            }
            match self.driver.get(key).await?.map(StoredVersion::parse) {
                Some(Some(version)) => return Ok(version.version),
                // Another program has stored something else there.
                Some(None) => {
                    self.driver.delete(key).await?;
                }
                None => {}
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "other clients invalidate the tag again and again; retry later",
        ))
    }

    /// Renews the TTL of a version. If that fails, the version ends early, and its entries with it.
    async fn renew_version(
        &self,
        key: &Key<'_>,
        version: &StoredVersion,
        seconds: u64,
        ttl: Option<Duration>,
    ) {
        let now = self.now_in_seconds();
        if !version.must_be_renewed(now, seconds) {
            return;
        }
        let replacement = Replacement {
            current: version.entry.clone(),
            new: StoredVersion::new(version.version, now, seconds).entry,
            ttl: TtlChange::Set(ttl),
        };
        match self.driver.replace(key, replacement).await {
            Err(error) if error.kind() != ErrorKind::Unsupported => {
                self.on_store_error(&error.during(Operation::Touch));
            }
            _ => {}
        }
    }

    /// Returns how long a version of a tag lives whose entries are stored with these options.
    fn ttl_of_versions(&self, options: &Options) -> Option<Duration> {
        match self.lifetime(options.ttl, options) {
            Lifetime::Live(None) => None,
            Lifetime::Live(Some(ttl)) => {
                let whole = ttl.saturating_add(self.stale_for(options));
                let ttl = whole.saturating_mul(LONGER_THAN_ENTRIES).max(MIN_TTL);
                Some(ttl.min(Ttl::MAX))
            }
            Lifetime::Zero => Some(MIN_TTL),
        }
    }

    fn now_in_seconds(&self) -> u64 {
        self.clock.now().as_millis() / 1_000
    }
}

/// Returns the names of tags as they are in headers, each once.
fn names<'a>(tags: &'a [Cow<'static, str>]) -> Vec<Cow<'a, str>> {
    let mut names: Vec<Cow<'_, str>> = Vec::with_capacity(tags.len());
    for tag in tags {
        let name = wire::tag_name(tag);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Returns the tags in the header of an entry on a server.
fn tags_of(entry: &Entry) -> Result<Vec<TagVersion>> {
    match &entry.payload {
        Payload::Bytes(bytes) => wire::tags(bytes),
        Payload::Object(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_version_is_read_again() {
        let stored = StoredVersion::new(0x0123_4567_89AB_CDEF, 1_700_000_000, 86_400);
        let Payload::Bytes(bytes) = &stored.entry.payload else {
            unreachable!("it is stored as bytes");
        };
        assert_eq!(bytes, b"0123456789abcdef.1700000000.86400");
        let read = StoredVersion::parse(stored.entry.clone()).expect("a version");
        assert_eq!(
            (read.version, read.stored_at, read.ttl),
            (stored.version, stored.stored_at, stored.ttl)
        );
        for other in ["", "1", "0123456789abcdef", "0123456789abcdeg.1.1", "a.1.1"] {
            assert!(StoredVersion::parse(Entry::bytes(other.into())).is_none());
        }
    }

    #[test]
    fn a_version_is_renewed_when_half_of_its_ttl_is_over_or_it_is_too_short() {
        let version = StoredVersion::new(1, 1_000, 100);
        assert!(!version.must_be_renewed(1_049, 100));
        assert!(version.must_be_renewed(1_050, 100));
        assert!(version.must_be_renewed(1_000, 101) && version.must_be_renewed(1_000, 0));
        // A clock that is behind renews nothing.
        assert!(!version.must_be_renewed(0, 100));
        assert!(!StoredVersion::new(1, 1_000, 0).must_be_renewed(u64::MAX, 0));
    }
}
