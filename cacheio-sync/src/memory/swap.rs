//! Operations on an entry that depend on what it is.

use cacheio_core::{Entry, Key, Result, Timestamp, Ttl, TtlChange};

use super::Memory;

impl Memory {
    /// Changes what a key holds if that is still `current`. Returns whether it was.
    pub(super) fn swap(
        &self,
        key: &Key<'_>,
        current: Option<&Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        let now = self.clock.now();
        let new = new.map(|(entry, ttl)| {
            let slot = self.slot(key, entry, ttl.of_new(), now)?;
            Ok((slot, ttl))
        });
        let new = new.transpose()?;
        let (key, shard) = self.locate(key);
        self.change(shard, |shard, removed| {
            let found = shard.peek(&key).filter(|slot| slot.is_retained(now));
            let is_current = match (current, found) {
                (Some(current), Some(found)) => current.is_same(&self.entry(found)),
                (None, None) => true,
                _ => false,
            };
            match (is_current, new) {
                (true, Some((mut slot, ttl))) => {
                    if let (TtlChange::Keep, Some(found)) = (ttl, found) {
                        slot.set_expiry(found.expires_at());
                    }
                    self.insert(&key, slot, now, shard, removed)?;
                }
                (true, None) => {
                    shard.remove(&key, now, removed);
                }
                (false, Some((slot, _))) => removed.push(slot),
                (false, None) => {}
            }
            Ok(is_current)
        })
    }

    /// Removes an entry, and returns it if it was live.
    pub(super) fn take_entry(&self, key: &Key<'_>) -> Option<Entry> {
        let now = self.clock.now();
        let (key, shard) = self.locate(key);
        self.change(shard, |shard, removed| {
            let live = shard.peek(&key).filter(|slot| slot.is_live(now));
            let entry = live.map(|slot| self.entry(slot));
            shard.remove(&key, now, removed);
            entry
        })
    }

    /// Returns an entry with what is left of its TTL. It does not count as a use of the entry.
    pub(super) fn get_with_ttl(&self, key: &Key<'_>) -> Option<Entry> {
        let now = self.clock.now();
        let (key, shard) = self.locate(key);
        let shard = shard.read();
        let slot = shard.peek(&key).filter(|slot| slot.is_retained(now))?;
        let mut entry = self.entry(slot);
        entry.left = Some(match slot.expires_at() {
            Timestamp::MAX => Ttl::Never,
            expires_at => Ttl::After(expires_at.since(now)),
        });
        Some(entry)
    }
}
