//! Operations on an entry that depend on what it is.

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::overflow;
use cacheio_core::{Entry, Error, ErrorKind, Form, Key, Object, Result, Timestamp, Ttl, TtlChange};

use super::encoded::EncodedObject;
use super::slot::Slot;
use super::{Memory, expiry};

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
        self.take_turns();
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

    /// Adds to the integer of an entry.
    pub(super) fn increment_entry(
        &self,
        key: &Key<'_>,
        by: i64,
        ttl: Option<Duration>,
    ) -> Result<i64> {
        let (at, shard) = self.locate(key);
        loop {
            // The value's type converts it to an integer, and the weigher weighs it: both are
            // users' code, which must not run while a lock is held.
            let now = self.clock.now();
            let seen = shard
                .read()
                .peek(&at)
                .filter(|slot| slot.is_live(now))
                .map(|slot| Arc::clone(slot.object()));
            let count = match &seen {
                None => by,
                Some(object) => incremented(&**object, by)?,
            };
            let object = self.counter(count);
            let weight = self.weight_of(key, &*object);
            let done = self.change(shard, |shard, removed| {
                let live = shard.peek(&at).filter(|slot| slot.is_live(now));
                let (meta, expires_at) = match (live, &seen) {
                    (None, None) => (None, expiry(now, ttl)),
                    (Some(slot), Some(seen)) if Arc::ptr_eq(slot.object(), seen) => {
                        (slot.meta().cloned(), slot.expires_at())
                    }
                    // Another write came first.
                    _ => return Ok(false),
                };
                let slot = Slot::new(object, meta, expires_at, weight);
                self.insert(&at, slot, now, shard, removed)?;
                Ok(true)
            });
            if done? {
                return Ok(count);
            }
        }
    }

    /// Returns a counter as an object.
    fn counter(&self, count: i64) -> Arc<dyn Object> {
        match self.shared.form {
            Form::Bytes => Arc::new(EncodedObject(count.to_string().into_bytes())),
            _ => Arc::new(count),
        }
    }
}

/// Adds to a stored integer.
fn incremented(object: &dyn Object, by: i64) -> Result<i64> {
    let integer = match object.value().downcast_ref::<i64>() {
        Some(integer) => Some(*integer),
        None => object.digits().and_then(|digits| digits.parse().ok()),
    };
    let integer = integer.ok_or_else(|| {
        Error::new(
            ErrorKind::WrongType,
            format!(
                "what is stored is a `{}`, not an integer of 64 bits",
                object.type_name()
            ),
        )
    })?;
    integer.checked_add(by).ok_or_else(overflow)
}
