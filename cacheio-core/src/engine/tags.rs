//! Tags of entries on a server.
//!
//! Each tag has a key of its own there, with its version: see [`wire`]. An entry is live while the versions
//! in its header are those on the server. A version that is missing, because the tag was invalidated or the
//! server forgot it, is never the one in a header.
//!
//! A call that names tags asks for their versions together with its keys. An entry with other tags costs
//! one more round trip.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Engine, boxed};
use crate::config::ttl::{Lifetime, lifetime};
use crate::entry::tags::{ServerVersions, Stamps, TagVersion};
use crate::entry::wire;
use crate::key::Key;
use crate::{Entry, Error, ErrorKind, Form, Operation, Options, Payload, Result, Ttl};

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

    fn is_half_over(&self, now: u64) -> bool {
        self.ttl != 0 && now >= self.stored_at.saturating_add(self.ttl / 2)
    }

    /// Whether the TTL is not shorter than this one.
    fn lives_for(&self, ttl: Option<Duration>) -> bool {
        self.ttl == 0 || ttl.is_some_and(|ttl| ttl.as_secs() <= self.ttl)
    }
}

/// When this process last renewed versions, in seconds, by the hash of the key.
#[derive(Debug, Default)]
pub(super) struct RenewedVersions(Mutex<HashMap<u64, u64>>);

/// The most versions to remember. When they are exceeded, all are forgotten, which costs round trips and
/// nothing else.
const MAX_RENEWED: usize = 4_096;

impl RenewedVersions {
    /// Returns whether the last renewal is longer ago than `every`, and if so begins one.
    fn begin(&self, key: u64, now: u64, every: u64) -> bool {
        let mut renewed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed
            .get(&key)
            .is_some_and(|last| now < last.saturating_add(every))
        {
            return false;
        }
        if renewed.len() >= MAX_RENEWED {
            renewed.clear();
        }
        renewed.insert(key, now);
        true
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
        if !self.has_server_tags(options) {
            return self.stamp_in_process(options);
        }
        match boxed(|| self.stamp(options)).await {
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
        let completed = boxed(|| self.complete_versions(&names, read, options));
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
        let versions = &mut Versions::default();
        self.remove_invalid(&mut entries, versions).await?;
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
        let mut versions = Versions(versions.collect());
        self.remove_invalid(&mut entries, &mut versions).await?;
        Ok((entries, versions))
    }

    /// Whether the tags of an entry have the versions of when it was stored. One whose header cannot be read
    /// counts as valid, for the decoder to report.
    pub(super) async fn is_valid(&self, entry: &Entry) -> Result<bool> {
        let tags = tags_of(entry);
        if tags.is_empty() {
            return Ok(true);
        }
        let versions = boxed(|| self.versions_of(&tags)).await?;
        Ok(versions.allow(&tags))
    }

    async fn versions_of(&self, tags: &[TagVersion]) -> Result<Versions> {
        self.note_headers_in_use();
        let names: Vec<_> = tags.iter().map(|tag| Cow::Borrowed(&*tag.tag)).collect();
        let mut versions = Versions::default();
        self.read_versions(&names, &mut versions).await?;
        Ok(versions)
    }

    /// Returns the indexes of the entries whose tags were invalidated. `versions` holds those that are known,
    /// and afterwards all.
    pub(super) async fn invalid_among(
        &self,
        entries: &[Option<Entry>],
        versions: &mut Versions,
    ) -> Result<HashSet<usize>> {
        let mut tagged = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let tags = entry.as_ref().map(tags_of).unwrap_or_default();
            if !tags.is_empty() {
                tagged.push((index, tags));
            }
        }
        if tagged.is_empty() {
            return Ok(HashSet::new());
        }
        self.note_headers_in_use();
        let unknown: HashSet<&str> = tagged
            .iter()
            .flat_map(|(_, tags)| tags)
            .map(|tag| &*tag.tag)
            .filter(|tag| !versions.0.contains_key(*tag))
            .collect();
        let unknown: Vec<_> = unknown.into_iter().map(Cow::Borrowed).collect();
        boxed(|| self.read_versions(&unknown, versions)).await?;
        let invalid = tagged.iter().filter(|(_, tags)| !versions.allow(tags));
        Ok(invalid.map(|(index, _)| *index).collect())
    }

    /// Removes the entries whose tags were invalidated.
    pub(super) async fn remove_invalid(
        &self,
        entries: &mut [Option<Entry>],
        versions: &mut Versions,
    ) -> Result<()> {
        for index in self.invalid_among(entries, versions).await? {
            entries[index] = None;
        }
        Ok(())
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
        let mut known = Vec::with_capacity(names.len());
        for name in names {
            let text = self.driver.key_rule().of_tag(&self.key_prefix, name);
            let key = Key::new(&text);
            let version = match versions.0.remove(&**name).flatten() {
                Some(version) if version.lives_for(ttl) => {
                    self.renew_version(&key, &version).await;
                    version.version
                }
                // The entries with the old version are misses.
                Some(_) => {
                    let fresh = self.fresh_version(&key, ttl);
                    self.driver.set(&key, fresh.entry, ttl).await?;
                    fresh.version
                }
                None => self.add_version(&key, ttl).await?,
            };
            known.push(TagVersion {
                tag: name.as_ref().into(),
                version,
            });
        }
        Ok(ServerVersions::Known(known.into()))
    }

    fn fresh_version(&self, key: &Key<'_>, ttl: Option<Duration>) -> StoredVersion {
        // The randomness of the standard library is copied by a `fork`.
        let seed = (key.text(), std::process::id(), SystemTime::now());
        let version = RandomState::new().hash_one(seed);
        StoredVersion::new(version, self.now_in_seconds(), seconds(ttl))
    }

    /// Stores a new version of a tag, and returns it, or that of another client.
    async fn add_version(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<u64> {
        let fresh = self.fresh_version(key, ttl);
        for _ in 0..MAX_CONFLICTS {
            let is_added = match self.driver.add(key, fresh.entry.clone(), ttl).await {
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    self.set_version(key, &fresh, ttl).await?;
                    false
                }
                added => added?,
            };
            if is_added {
                return Ok(fresh.version);
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

    /// Stores a version in a store without `add`, unless another caller has just done so.
    async fn set_version(
        &self,
        key: &Key<'_>,
        fresh: &StoredVersion,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let found = self.driver.get(key).await?;
        match found.and_then(StoredVersion::parse) {
            Some(_) => Ok(()),
            None => self.driver.set(key, fresh.entry.clone(), ttl).await,
        }
    }

    /// Renews the TTL of a version, when half of it is over. If that fails, the version ends early, and its
    /// entries with it. It is never written again: that could undo an invalidation.
    async fn renew_version(&self, key: &Key<'_>, version: &StoredVersion) {
        let now = self.now_in_seconds();
        if !version.is_half_over(now) {
            return;
        }
        if !self
            .renewed_versions
            .begin(key.hash(), now, version.ttl / 4)
        {
            return;
        }
        let ttl = Duration::from_secs(version.ttl);
        if let Err(error) = self.driver.touch(key, Some(ttl)).await {
            self.on_store_error(&error.during(Operation::Touch));
        }
    }

    /// Renews the versions of the tags of an entry that is touched.
    pub(super) async fn renew_versions_of(&self, entry: &Entry) {
        let tags = tags_of(entry);
        if tags.is_empty() {
            return;
        }
        let Ok(versions) = self.versions_of(&tags).await else {
            return;
        };
        for (name, version) in &versions.0 {
            if let Some(version) = version {
                let text = self.driver.key_rule().of_tag(&self.key_prefix, name);
                self.renew_version(&Key::new(&text), version).await;
            }
        }
    }

    /// Takes note of tags on a server: entries with a header are in use.
    pub(super) fn note_server_tags(&self, tags: &[Cow<'static, str>]) {
        if self.driver.form() == Form::Bytes && !tags.is_empty() {
            self.note_headers_in_use();
        }
    }

    /// Returns how long a version of a tag lives whose entries are stored with these options.
    fn ttl_of_versions(&self, options: &Options) -> Option<Duration> {
        match lifetime(options.ttl, self.settings.default_ttl, 0.0, 0.0) {
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

fn seconds(ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, |ttl| ttl.as_secs())
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

/// Returns the tags in the header of an entry on a server; none if it cannot be read.
fn tags_of(entry: &Entry) -> Vec<TagVersion> {
    match &entry.payload {
        Payload::Bytes(bytes) => wire::tags(bytes).unwrap_or_default(),
        Payload::Object(_) => Vec::new(),
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
    fn a_version_is_renewed_when_half_of_its_ttl_is_over() {
        let version = StoredVersion::new(1, 1_000, 100);
        assert!(!version.is_half_over(1_049) && version.is_half_over(1_050));
        // A clock that is behind renews nothing.
        assert!(!version.is_half_over(0));
        assert!(!StoredVersion::new(1, 1_000, 0).is_half_over(u64::MAX));
        let renewed = RenewedVersions::default();
        assert!(renewed.begin(7, 1_050, 25) && !renewed.begin(7, 1_074, 25));
        assert!(renewed.begin(7, 1_075, 25) && renewed.begin(8, 1_075, 25));
    }

    #[test]
    fn a_version_with_a_shorter_ttl_than_wanted_is_replaced() {
        let ttl = |seconds| Some(Duration::from_secs(seconds));
        let version = StoredVersion::new(1, 1_000, 100);
        assert!(version.lives_for(ttl(100)) && version.lives_for(ttl(1)));
        assert!(!version.lives_for(ttl(101)) && !version.lives_for(None));
        let endless = StoredVersion::new(1, 1_000, 0);
        assert!(endless.lives_for(ttl(101)) && endless.lives_for(None));
    }
}
