//! What the cache of a namespace may look into: its keys, their number and their weight.
//!
//! Each shard is locked for reading, one at a time, and nothing of a user runs under the lock.

use cacheio_core::{Result, ScanPage, Usage};

use super::Memory;
use crate::scan_position::{MIN_KEYS, Position};

impl Memory {
    /// Lists the keys of the next shards: about `max` of them. A shard has no order in which it could be continued.
    pub(super) fn keys_from(
        &self,
        prefix: &str,
        from: Option<&str>,
        max: usize,
    ) -> Result<ScanPage> {
        let Position { at: first, max } = Position::new(from, max)?;
        let now = self.clock.now();
        let mut page = ScanPage::default();
        for (at, shard) in self.shards.iter().enumerate().skip(first) {
            if page.keys.len() >= MIN_KEYS {
                page.next = Some(Position::at_beginning_of(at));
                break;
            }
            let shard = shard.read();
            let entries = shard.entries(&self.namespace, prefix);
            let mut retained = entries.filter(|(_, slot)| slot.is_retained(now));
            let keys = retained.by_ref().take(max);
            page.keys.extend(keys.map(|(key, _)| key.to_owned()));
            if retained.next().is_some() {
                page.next = Some(Position { at, max }.again());
                break;
            }
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
