//! The versions of tags in L1, where the server tells when they change.
//!
//! The key of a tag is a key as others: its version becomes a copy by a ticket, and a change of the key removes
//! it, together with the copies of the entries with the tag. So an entry that is read needs no other round trip for
//! its tags, and the copy of it is watched as long as they are.
//!
//! A version of which the server does not tell does not become a copy: an entry that is checked by it could be
//! older than the bound, once by its own copy and once by that of the version.

use std::sync::Arc;
use std::time::Duration;

use super::Versions;
use super::versions::{CurrentVersion, StoredVersion};
use crate::engine::Engine;
use crate::entry::tags::Stamps;
use crate::l1::{CopyTerms, Ticket};
use crate::{Entry, Key, RefreshAhead, Result};

/// The number, the time and the TTL of a [`StoredVersion`], as L1 keeps them.
type CopiedVersion = (u64, u64, u64);

impl Engine {
    /// Reads the versions of tags from L1, and the others from the server.
    pub(super) async fn read_copied_versions(
        &self,
        names: &[impl AsRef<str>],
        versions: &mut Versions,
    ) -> Result<()> {
        let texts = self.tag_keys(names);
        let (mut missing, mut keys) = (Vec::new(), Vec::new());
        for (name, text) in names.iter().zip(&texts) {
            let key = Key::new(text);
            match self.copied_version(&key) {
                Some(current) => versions.insert(name.as_ref(), current),
                None => {
                    missing.push(name);
                    keys.push(key);
                }
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        let tickets = self.tickets(&keys, false).unwrap_or_default();
        let read = self.driver.get_with_ttls(&keys).await?;
        self.copy_versions(&keys, &tickets, &read);
        versions.add(&missing, read);
        Ok(())
    }

    fn copied_version(&self, key: &Key<'_>) -> Option<CurrentVersion> {
        let (version, stored_at, ttl) = *self.copy::<CopiedVersion>(key, false)?.value;
        let stored = StoredVersion {
            version,
            stored_at,
            ttl,
        };
        Some(CurrentVersion {
            stored: Some(stored),
            is_watched: true,
        })
    }

    /// Copies versions that were read, if the server tells when they change.
    pub(super) fn copy_versions(
        &self,
        keys: &[Key<'_>],
        tickets: &[Ticket],
        read: &[Option<Entry>],
    ) {
        let Some(l1) = self.driver.l1() else {
            return;
        };
        for ((key, ticket), entry) in keys.iter().zip(tickets).zip(read) {
            let Some(entry) = entry.as_ref().filter(|entry| entry.is_watched) else {
                continue;
            };
            let Some(stored) = StoredVersion::parse(entry).filter(|_| ticket.is_watched) else {
                continue;
            };
            let copied: CopiedVersion = (stored.version, stored.stored_at, stored.ttl);
            let terms = CopyTerms {
                left: entry.ends_in(),
                expiry: None,
                now: self.clock.now(),
                refresh_ahead: RefreshAhead::Never,
                is_watched: true,
                unconfirmed_for: Duration::ZERO,
            };
            let stamps = Stamps::default();
            l1.store(
                &self.shared.l1s,
                key,
                ticket,
                Arc::new(copied),
                stamps,
                &terms,
            );
        }
    }
}
