//! What the cache of a namespace may look into: its keys, their number and their weight.
//!
//! Each shard is locked for reading, one at a time, and nothing of a user runs under the lock.

use cacheio_core::{Error, ErrorKind, Result, ScanPage, Usage};

use super::Memory;

/// After how many keys a part of a scan ends, with the shard.
const PART: usize = 1_000;

impl Memory {
    /// Lists the keys of the next shards.
    pub(super) fn keys_from(&self, prefix: &str, from: Option<&str>) -> Result<ScanPage> {
        let first: Option<usize> = from.map_or(Some(0), |shard| shard.parse().ok());
        let first = first.ok_or_else(|| {
            Error::new(ErrorKind::Config, "the scan has no part at this position")
        })?;
        let now = self.clock.now();
        let mut page = ScanPage::default();
        for (at, shard) in self.shards.iter().enumerate().skip(first) {
            if page.keys.len() >= PART {
                page.next = Some(at.to_string());
                break;
            }
            let shard = shard.read();
            let entries = shard.entries(&self.namespace, prefix);
            let retained = entries.filter(|(_, slot)| slot.is_retained(now));
            page.keys.extend(retained.map(|(key, _)| key.to_owned()));
        }
        Ok(page)
    }

    /// Counts and weighs the live entries.
    pub(super) fn usage_of(&self, prefix: &str) -> Usage {
        let now = self.clock.now();
        let mut usage = Usage::default();
        for shard in &*self.shards {
            let shard = shard.read();
            let entries = shard.entries(&self.namespace, prefix);
            for (_, slot) in entries.filter(|(_, slot)| slot.is_live(now)) {
                usage.entries += 1;
                usage.weight += slot.weight();
            }
        }
        usage
    }
}
