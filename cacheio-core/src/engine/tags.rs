//! Tags of entries on a server.
//!
//! Each tag has a key of its own there, with its version: see [`wire`]. An entry is live while the versions
//! in its header are those on the server. A version that is missing, because the tag was invalidated or the
//! server forgot it, is never the one in a header.
//!
//! A call that names tags asks for their versions together with its keys. An entry with other tags costs
//! one more round trip, unless their versions are in L1 (`copies.rs`).

mod copies;
mod versions;

pub(super) mod update;

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use self::versions::StoredVersion;
pub(super) use self::versions::Versions;
use super::l1::Read;
use super::{Engine, boxed};
use crate::config::ttl::{Lifetime, lifetime};
use crate::entry::tags::{ServerVersions, Stamps, TagVersion};
use crate::entry::wire;
use crate::key::Key;
use crate::l1::Ticket;
use crate::{Entry, Error, ErrorKind, Form, Operation, Options, Payload, Result, Ttl};

/// The shortest TTL of a version, and how many times longer than an entry it lives at least.
const MIN_TTL: Duration = Duration::from_secs(24 * 60 * 60);
const LONGER_THAN_ENTRIES: u32 = 4;

/// How often a version is read again because it was just stored and removed by others.
const MAX_CONFLICTS: usize = 16;

impl Engine {
    pub async fn invalidate_tags<T: Into<Cow<'static, str>>>(
        &self,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        let tags: Vec<_> = tags.into_iter().map(Into::into).collect();
        // Loads of this process that began before the end of this call do not end after it as if they
        // were new. Also if the call is dropped: the server may have carried it out.
        let _invalidation = Invalidation {
            engine: self,
            tags: &tags,
        };
        match self.driver.form() {
            Form::Objects => Ok(()),
            Form::Bytes => {
                let removed = self.remove_versions(&tags).await;
                removed.map_err(|error| error.during(Operation::InvalidateTags))
            }
        }
    }

    /// Returns the versions of the tags of a call, for an entry that is written now. Tags without a
    /// version get one.
    pub(super) async fn stamp(&self, options: &Options) -> Result<Stamps> {
        let stamps = self.stamp_in_process(options);
        if !self.has_server_tags(options) {
            return Ok(stamps);
        }
        let names = names(&options.tags);
        let mut versions = Versions::default();
        self.read_versions(&names, &mut versions, false).await?;
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
        let (tags, prefix) = (&self.shared.tags, &self.settings.prefix);
        match self.driver.form() {
            Form::Objects => tags.stamp(prefix, &options.tags),
            Form::Bytes => tags.stamp(prefix, &names(&options.tags)),
        }
    }

    /// Whether a call has tags whose versions are on a server.
    pub(super) fn has_server_tags(&self, options: &Options) -> bool {
        self.driver.form() == Form::Bytes && !options.tags.is_empty()
    }

    /// Reads an entry. One whose tags were invalidated is absent.
    pub(super) async fn read_entry(&self, key: &Key<'_>, skip_l1: bool) -> Result<Read> {
        let keys = std::slice::from_ref(key);
        let tickets = self.tickets_to_read(keys, skip_l1);
        if tickets.iter().flatten().any(Option::is_some) {
            let read = boxed(|| self.read_with_tickets(keys, tickets)).await?;
            return Ok(read.into_iter().next().unwrap_or_default());
        }
        let Some(entry) = self.driver.get(key).await? else {
            return Ok(Read::default());
        };
        let is_valid = self.is_valid_for(&entry, tickets.is_some()).await?;
        Ok(Read::from(is_valid.then_some(entry)))
    }

    /// Reads several entries.
    pub(super) async fn read_entries(&self, keys: &[Key<'_>], skip_l1: bool) -> Result<Vec<Read>> {
        let tickets = self.tickets_to_read(keys, skip_l1);
        self.read_with_tickets(keys, tickets).await
    }

    async fn read_with_tickets(
        &self,
        keys: &[Key<'_>],
        tickets: Option<Vec<Option<Ticket>>>,
    ) -> Result<Vec<Read>> {
        let is_any_copied = tickets.iter().flatten().any(Option::is_some);
        let mut entries = self.get_entries(keys, is_any_copied).await?;
        let mut versions = Versions::default();
        self.remove_invalid(&mut entries, &mut versions, tickets.is_some())
            .await?;
        Ok(self.reads(entries, tickets, &versions))
    }

    /// Reads entries for a load, together with the versions of its tags.
    pub(super) async fn read_with_versions(
        &self,
        keys: &[Key<'_>],
        options: &Options,
    ) -> Result<(Vec<Read>, Versions)> {
        let names = names(&options.tags);
        let texts = self.tag_keys(&names);
        let mut all = keys.to_vec();
        all.extend(texts.iter().map(|text| Key::new(text)));
        let tickets = self.tickets_to_read(keys, options.skip_l1);
        let tickets_of_tags = self.tickets(&all[keys.len()..], options.skip_l1);
        let has_l1 = tickets.is_some();
        let mut entries = self.get_entries(&all, has_l1).await?;
        let mut versions = Versions::default();
        let read = entries.split_off(keys.len().min(entries.len()));
        if let Some(tickets) = tickets_of_tags {
            self.copy_versions(&all[keys.len()..], &tickets, &read);
        }
        versions.add(&names, read);
        self.remove_invalid(&mut entries, &mut versions, has_l1)
            .await?;
        Ok((self.reads(entries, tickets, &versions), versions))
    }

    /// Reads an entry that is touched. One whose tags were invalidated is absent; the versions of the tags
    /// of another are renewed.
    pub(super) async fn read_to_touch(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let Some(entry) = self.driver.get(key).await? else {
            return Ok(None);
        };
        let tags = tags_of(&entry);
        if tags.is_empty() {
            return Ok(Some(entry));
        }
        let versions = boxed(|| self.versions_of(&tags, false)).await?;
        if !versions.allow(&tags) {
            return Ok(None);
        }
        for (name, found) in &versions.0 {
            if let Some(version) = found.stored {
                let text = self.tag_key(name);
                self.renew_version(&Key::new(&text), version).await;
            }
        }
        Ok(Some(entry))
    }

    /// Whether the tags of an entry have the versions of when it was stored. One whose header cannot be read
    /// counts as valid, for the decoder to report.
    pub(super) async fn is_valid(&self, entry: &Entry) -> Result<bool> {
        self.is_valid_for(entry, false).await
    }

    /// Does the same for a call that uses L1, if `in_l1`: the versions there count.
    async fn is_valid_for(&self, entry: &Entry, in_l1: bool) -> Result<bool> {
        let tags = tags_of(entry);
        if tags.is_empty() {
            return Ok(true);
        }
        let versions = boxed(|| self.versions_of(&tags, in_l1)).await?;
        Ok(versions.allow(&tags))
    }

    async fn versions_of(&self, tags: &[TagVersion], in_l1: bool) -> Result<Versions> {
        self.note_headers_in_use();
        let names: Vec<_> = tags.iter().map(|tag| &*tag.tag).collect();
        let mut versions = Versions::default();
        self.read_versions(&names, &mut versions, in_l1).await?;
        Ok(versions)
    }

    /// Returns the indexes of the entries whose tags were invalidated. `versions` holds those that are known,
    /// and afterwards all.
    pub(super) async fn invalid_among(
        &self,
        entries: &[Option<Entry>],
        versions: &mut Versions,
        in_l1: bool,
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
        let unknown: Vec<_> = unknown.into_iter().collect();
        boxed(|| self.read_versions(&unknown, versions, in_l1)).await?;
        let invalid = tagged.iter().filter(|(_, tags)| !versions.allow(tags));
        Ok(invalid.map(|(index, _)| *index).collect())
    }

    /// Removes the entries whose tags were invalidated.
    pub(super) async fn remove_invalid(
        &self,
        entries: &mut [Option<Entry>],
        versions: &mut Versions,
        in_l1: bool,
    ) -> Result<()> {
        let invalid = self.invalid_among(entries, versions, in_l1);
        for index in invalid.await? {
            entries[index] = None;
        }
        Ok(())
    }

    /// Invalidates tags on the server: entries with a version that is missing are not live.
    async fn remove_versions(&self, tags: &[Cow<'static, str>]) -> Result<()> {
        let texts = self.tag_keys(&names(tags));
        if texts.is_empty() {
            return Ok(());
        }
        self.note_headers_in_use();
        let keys: Vec<_> = texts.iter().map(|text| Key::new(text)).collect();
        let _copies = self.remove_copies(&keys);
        match &*keys {
            [key] => self.driver.delete(key).await.map(drop),
            keys => self.driver.delete_many(keys).await.map(drop),
        }
    }

    fn tag_key(&self, name: &str) -> String {
        self.driver.key_rule().of_tag(&self.key_prefix, name)
    }

    pub(super) fn tag_keys(&self, names: &[impl AsRef<str>]) -> Vec<String> {
        let keys = names.iter().map(|name| self.tag_key(name.as_ref()));
        keys.collect()
    }

    /// Reads the versions of tags; for a call that uses L1 from there, if they are there.
    async fn read_versions(
        &self,
        names: &[impl AsRef<str>],
        versions: &mut Versions,
        in_l1: bool,
    ) -> Result<()> {
        if in_l1 {
            return boxed(|| self.read_copied_versions(names, versions)).await;
        }
        let texts = self.tag_keys(names);
        let keys: Vec<_> = texts.iter().map(|text| Key::new(text)).collect();
        let entries = match &*keys {
            [] => return Ok(()),
            [key] => vec![self.driver.get(key).await?],
            _ => self.driver.get_many(&keys).await?,
        };
        versions.add(names, entries);
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
            let text = self.tag_key(name);
            let key = Key::new(&text);
            let found = versions.0.remove(&**name).unwrap_or_default();
            let version = match found.stored {
                Some(version) if version.lives_for(ttl) => {
                    self.renew_version(&key, version).await;
                    version.version
                }
                // The entries with the old version are misses.
                Some(_) => {
                    let fresh = self.fresh_version(&key, ttl);
                    let _copies = self.remove_copies(std::slice::from_ref(&key));
                    self.driver.set(&key, fresh.entry(), ttl).await?;
                    fresh.version
                }
                None => self.add_version(&key, ttl).await?.version,
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
        self.stored_now(RandomState::new().hash_one(seed), ttl)
    }

    fn stored_now(&self, version: u64, ttl: Option<Duration>) -> StoredVersion {
        StoredVersion {
            version,
            stored_at: self.now_in_seconds(),
            ttl: ttl.map_or(0, |ttl| ttl.as_secs()),
        }
    }

    /// Stores a new version of a tag, and returns it, or that of another client.
    async fn add_version(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<StoredVersion> {
        let fresh = self.fresh_version(key, ttl);
        // No copy depends on a version that is missing, so none has to be removed.
        for _ in 0..MAX_CONFLICTS {
            let is_added = match self.driver.add(key, fresh.entry(), ttl).await {
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    self.set_version(key, fresh, ttl).await?;
                    false
                }
                added => added?,
            };
            if is_added {
                return Ok(fresh);
            }
            let found = self.driver.get(key).await?;
            match found.as_ref().map(StoredVersion::parse) {
                Some(Some(version)) => return Ok(version),
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
        fresh: StoredVersion,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let found = self.driver.get(key).await?;
        match found.as_ref().and_then(StoredVersion::parse) {
            Some(_) => Ok(()),
            None => {
                // It may overwrite that of another client.
                let _copies = self.remove_copies(std::slice::from_ref(key));
                self.driver.set(key, fresh.entry(), ttl).await
            }
        }
    }

    /// Renews the TTL of a version, when half of it is over. If that fails, the version ends early, and its
    /// entries with it. It is never written again: that could undo an invalidation.
    async fn renew_version(&self, key: &Key<'_>, version: StoredVersion) {
        let every = Duration::from_secs(version.ttl / 4);
        if !version.is_half_over(self.now_in_seconds())
            || !(self.version_renewals).begin(key.hash(), self.clock.now(), every)
        {
            return;
        }
        let ttl = Duration::from_secs(version.ttl);
        // The server forgets to tell of a key that its own connection writes.
        let _copies = self.remove_copies(std::slice::from_ref(key));
        if let Err(error) = self.driver.touch(key, Some(ttl)).await {
            self.on_store_error(&error.during(Operation::Touch));
        }
    }

    /// Returns how long a version of a tag lives whose entries are stored with these options.
    fn ttl_of_versions(&self, options: &Options) -> Option<Duration> {
        match lifetime(options.ttl, self.settings.default_ttl, 0.0, 0.0) {
            Lifetime::Live(ttl) => {
                version_ttl(ttl.map(|ttl| ttl.saturating_add(self.stale_for(options))))
            }
            Lifetime::Zero => Some(MIN_TTL),
        }
    }

    fn now_in_seconds(&self) -> u64 {
        self.clock.now().as_millis() / 1_000
    }
}

/// Returns how long the version of a tag lives at least, if an entry with the tag is kept for this long.
fn version_ttl(kept_for: Option<Duration>) -> Option<Duration> {
    let ttl = kept_for?.saturating_mul(LONGER_THAN_ENTRIES).max(MIN_TTL);
    Some(ttl.min(Ttl::MAX))
}

/// Invalidates tags in this process when it is dropped.
struct Invalidation<'a> {
    engine: &'a Engine,
    tags: &'a [Cow<'static, str>],
}

impl Drop for Invalidation<'_> {
    fn drop(&mut self) {
        let Engine {
            shared,
            settings,
            driver,
            ..
        } = self.engine;
        match driver.form() {
            Form::Objects => shared.tags.invalidate(&settings.prefix, self.tags),
            Form::Bytes => (shared.tags).invalidate(&settings.prefix, &names(self.tags)),
        }
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

/// Returns the tags in the header of an entry on a server; none if it cannot be read.
pub(super) fn tags_of(entry: &Entry) -> Vec<TagVersion> {
    match &entry.payload {
        Payload::Bytes(bytes) => wire::tags(bytes).unwrap_or_default(),
        Payload::Object(_) => Vec::new(),
    }
}
