//! The tags of an entry that is updated.

use std::time::Duration;

use super::{MAX_CONFLICTS, StoredVersion, Versions, names, version_ttl};
use crate::engine::Engine;
use crate::engine::replace::too_many_conflicts;
use crate::entry::tags::TagVersion;
use crate::key::Key;
use crate::{Entry, Options, Result, TtlChange};

/// What an update reads.
pub(in crate::engine) struct ReadToUpdate {
    /// What the store returns, live or not.
    pub(in crate::engine) entry: Option<Entry>,
    /// Whether none of its tags was invalidated.
    pub(in crate::engine) is_valid: bool,
    pub(in crate::engine) versions: Versions,
}

impl Engine {
    /// Reads an entry, together with the versions of the tags of the call.
    pub(in crate::engine) async fn read_to_update(
        &self,
        key: &Key<'_>,
        options: &Options,
    ) -> Result<ReadToUpdate> {
        let mut versions = Versions::default();
        if !self.has_server_tags(options) {
            let entry = self.driver.get(key).await?;
            let is_valid = self.is_valid_by(&entry, &mut versions).await?;
            return Ok(ReadToUpdate {
                entry,
                is_valid,
                versions,
            });
        }
        let names = names(&options.tags);
        let texts = self.tag_keys(&names);
        let mut keys = vec![*key];
        keys.extend(texts.iter().map(|text| Key::new(text)));
        let mut read = self.driver.get_many(&keys).await?.into_iter();
        let entry = read.next().flatten();
        versions.add(&names, read.collect());
        let mut is_valid = self.is_valid_by(&entry, &mut versions).await?;
        if !is_valid {
            // The versions may be from before the entry, if they are on another server.
            versions = Versions::default();
            self.read_versions(&names, &mut versions, false).await?;
            is_valid = self.is_valid_by(&entry, &mut versions).await?;
        }
        Ok(ReadToUpdate {
            entry,
            is_valid,
            versions,
        })
    }

    async fn is_valid_by(&self, entry: &Option<Entry>, versions: &mut Versions) -> Result<bool> {
        let invalid = self.invalid_among(std::slice::from_ref(entry), versions, false);
        Ok(invalid.await?.is_empty())
    }

    /// Returns the versions of the tags of the call, for a new entry. Tags without a version get one.
    ///
    /// Call it before the closure of the update: an invalidation while that runs holds for the new value, too.
    pub(in crate::engine) async fn versions_of_new(
        &self,
        versions: &mut Versions,
        options: &Options,
    ) -> Result<Vec<TagVersion>> {
        if !self.has_server_tags(options) {
            return Ok(Vec::new());
        }
        let ttl = self.ttl_of_versions(options);
        let mut tags = Vec::new();
        for name in names(&options.tags) {
            let version = match versions.stored(&name) {
                Some(version) => version,
                None => {
                    let text = self.tag_key(&name);
                    self.add_version(&Key::new(&text), ttl).await?
                }
            };
            versions.insert(&name, Some(version.entry()).into());
            tags.push(TagVersion {
                tag: name.as_ref().into(),
                version: version.version,
            });
        }
        Ok(tags)
    }

    /// Lets the versions of tags live for as long as an entry that is kept for `kept_for`.
    pub(in crate::engine) async fn prolong_versions(
        &self,
        tags: &[TagVersion],
        versions: &Versions,
        kept_for: Option<Duration>,
    ) -> Result<()> {
        let ttl = version_ttl(kept_for);
        for tag in tags {
            let Some(version) = versions.stored(&tag.tag) else {
                continue;
            };
            let text = self.tag_key(&tag.tag);
            let key = Key::new(&text);
            match version.lives_for(ttl) {
                true => self.renew_version(&key, version).await,
                false => self.prolong_version(&key, version.version, ttl).await?,
            }
        }
        Ok(())
    }

    /// Gives a version a longer TTL. If the tag was invalidated it stays so, and with it the new entry.
    async fn prolong_version(
        &self,
        key: &Key<'_>,
        version: u64,
        ttl: Option<Duration>,
    ) -> Result<()> {
        for _ in 0..MAX_CONFLICTS {
            let Some(current) = self.driver.get(key).await? else {
                return Ok(());
            };
            match StoredVersion::parse(&current) {
                Some(found) if found.version == version && !found.lives_for(ttl) => {}
                _ => return Ok(()),
            }
            let longer = self.stored_now(version, ttl).entry();
            let new = Some((longer, TtlChange::Set(ttl)));
            // The server forgets to tell of a key that its own connection writes.
            let _copies = self.remove_copies(std::slice::from_ref(key));
            if (self.driver.compare_and_swap(key, Some(current), new)).await? {
                return Ok(());
            }
        }
        Err(too_many_conflicts())
    }
}
