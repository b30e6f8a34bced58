//! What the cache of a namespace may look into: its keys, their number and their weight.
//!
//! Each shard is locked for reading, one at a time, and nothing of a user runs under the lock.

use cacheio_core::{Error, ErrorKind, Result, ScanPage, Usage};

use super::Memory;

/// A part of a scan has this many keys at least, unless it is the last one.
const PART: usize = 1_000;

impl Memory {
    /// Lists the keys of the next shards: about `max` of them. A shard has no order in which it could be continued, so one
    /// that has more is begun again, for four times as many. The position is the shard, and how many of its keys to list.
    pub(super) fn keys_from(
        &self,
        prefix: &str,
        from: Option<&str>,
        max: usize,
    ) -> Result<ScanPage> {
        let (first, again) = match from {
            None => (0, 0),
            Some(from) => position(from)?,
        };
        // Some keys have no live entry.
        let max = max.saturating_add(max / 4).max(PART).max(again);
        let now = self.clock.now();
        let mut page = ScanPage::default();
        for (at, shard) in self.shards.iter().enumerate().skip(first) {
            if page.keys.len() >= PART {
                page.next = Some(format!("{at} 0"));
                break;
            }
            let shard = shard.read();
            let entries = shard.entries(&self.namespace, prefix);
            let mut retained = entries.filter(|(_, slot)| slot.is_retained(now));
            let keys = retained.by_ref().take(max);
            page.keys.extend(keys.map(|(key, _)| key.to_owned()));
            if retained.next().is_some() {
                page.next = Some(format!("{at} {}", max.saturating_mul(4)));
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

/// Returns a position that a part of a scan has ended with.
fn position(from: &str) -> Result<(usize, usize)> {
    let (shard, max) = from.split_once(' ').unwrap_or_default();
    match (shard.parse(), max.parse()) {
        (Ok(shard), Ok(max)) => Ok((shard, max)),
        _ => Err(Error::new(
            ErrorKind::Config,
            "the scan has no part at this position",
        )),
    }
}
