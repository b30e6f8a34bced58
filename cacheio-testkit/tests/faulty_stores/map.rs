//! A store that is right, or has one fault.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use cacheio_core::{
    Clock, Entry, Error, ErrorKind, Form, Key, Payload, Replacement, Result, ScanPage, Store,
    Timestamp, Ttl, TtlChange, immediate_store,
};
use cacheio_testkit::{Optional, TestEnv};

/// A mistake that an author may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    AddIsNotAtomic,
    AddIsRefusedByAnExpiredEntry,
    BytesAreTakenForText,
    ClearRemovesAll,
    ClearTakesAPattern,
    DeleteIsNotAtomic,
    DeleteReturnsTrue,
    ExpiredEntriesAreReturned,
    GetManySortsItsKeys,
    GetManySkipsMissingKeys,
    IncrementIsNotAtomic,
    IncrementRenewsTheTtl,
    IncrementWraps,
    KeysIgnoreCase,
    KeysAreCut,
    ReplaceIgnoresWhatWasRead,
    ScanForgetsTheRest,
    ScanIgnoresThePrefix,
    SetKeepsTheTtl,
    SetManyUsesTheFirstTtl,
    ShortTtlsAreForever,
    SwapIgnoresWhatWasRead,
    SwapIsNotAtomic,
    SwapLosesTheTtl,
    TakeIsNotAtomic,
    TakeLeavesTheEntry,
    TouchIgnoresTheTtl,
    TouchRevives,
    TtlIsIgnored,
    TtlLeftIsTheWholeTtl,
}

/// A map of bytes with all operations.
#[derive(Debug)]
pub(crate) struct Map {
    entries: Mutex<HashMap<String, Slot>>,
    clock: Arc<dyn Clock>,
    fault: Option<Fault>,
    missing: Option<Optional>,
}

#[derive(Clone, Debug)]
struct Slot {
    bytes: Vec<u8>,
    end: Timestamp,
    ttl: Option<Duration>,
}

impl Slot {
    fn entry(&self) -> Entry {
        Entry::bytes(self.bytes.clone())
    }
}

impl Map {
    pub(crate) fn new(env: &TestEnv, fault: Option<Fault>, missing: Option<Optional>) -> Self {
        Self {
            entries: Mutex::default(),
            clock: env.clock(),
            fault,
            missing,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Lets others run between two steps that should be one.
    fn pause(&self, fault: Fault) {
        if self.has(fault) {
            thread::sleep(Duration::from_micros(300));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.entries.lock().unwrap()
    }

    fn supports(&self, operation: Optional) -> Result<()> {
        match self.missing == Some(operation) {
            true => Err(Error::new(
                ErrorKind::Unsupported,
                "this store does not support it",
            )),
            false => Ok(()),
        }
    }

    fn key(&self, key: &Key<'_>) -> String {
        match self.fault {
            Some(Fault::KeysIgnoreCase) => key.text().to_lowercase(),
            Some(Fault::KeysAreCut) => key.text().chars().take(100).collect(),
            _ => key.text().to_owned(),
        }
    }

    fn slot(&self, entry: Entry, ttl: Option<Duration>) -> Slot {
        let Payload::Bytes(mut bytes) = entry.payload else {
            panic!("a store of bytes gets bytes");
        };
        if self.has(Fault::BytesAreTakenForText) {
            bytes = String::from_utf8_lossy(&bytes).into_owned().into_bytes();
        }
        Slot {
            bytes,
            end: self.end(ttl),
            ttl,
        }
    }

    fn end(&self, ttl: Option<Duration>) -> Timestamp {
        let is_short = |ttl: Duration| ttl < Duration::from_millis(1);
        match ttl {
            Some(_) if self.has(Fault::TtlIsIgnored) => Timestamp::MAX,
            Some(ttl) if self.has(Fault::ShortTtlsAreForever) && is_short(ttl) => Timestamp::MAX,
            Some(ttl) => self.clock.now().after(ttl),
            None => Timestamp::MAX,
        }
    }

    fn is_live(&self, slot: &Slot) -> bool {
        self.clock.now() < slot.end
    }

    fn live(&self, key: &Key<'_>) -> Option<Slot> {
        let entries = self.lock();
        let slot = entries.get(&self.key(key));
        slot.filter(|slot| self.is_live(slot)).cloned()
    }

    fn put(&self, key: &Key<'_>, slot: Slot) {
        self.lock().insert(self.key(key), slot);
    }

    fn swap(
        &self,
        key: &Key<'_>,
        current: Option<&Entry>,
        new: Option<(Entry, TtlChange)>,
        ignored: bool,
    ) -> bool {
        // Without the fault, one lock holds for both steps.
        let mut entries = (!self.has(Fault::SwapIsNotAtomic)).then(|| self.lock());
        let found = match &entries {
            Some(entries) => entries.get(&self.key(key)).cloned(),
            None => self.lock().get(&self.key(key)).cloned(),
        };
        let found = found.filter(|slot| self.is_live(slot));
        let is_same = match (&found, current) {
            (Some(slot), Some(current)) => slot.entry().is_same(current),
            (found, current) => found.is_none() && current.is_none(),
        };
        if !is_same && !ignored {
            return false;
        }
        self.pause(Fault::SwapIsNotAtomic);
        let slot = new.map(|(entry, ttl)| {
            let mut slot = self.slot(entry, ttl.of_new());
            if let (TtlChange::Keep, Some(found), false) =
                (ttl, found, self.has(Fault::SwapLosesTheTtl))
            {
                slot = Slot {
                    bytes: slot.bytes,
                    ..found
                };
            }
            slot
        });
        let entries = entries.get_or_insert_with(|| self.lock());
        match slot {
            Some(slot) => drop(entries.insert(self.key(key), slot)),
            None => drop(entries.remove(&self.key(key))),
        }
        true
    }
}

impl Store for Map {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        if self.has(Fault::ExpiredEntriesAreReturned) {
            return Ok(self.lock().get(&self.key(key)).map(Slot::entry));
        }
        Ok(self.live(key).map(|slot| slot.entry()))
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        let mut slot = self.slot(entry, ttl);
        if let (Some(old), true) = (self.live(key), self.has(Fault::SetKeepsTheTtl)) {
            slot.end = old.end;
        }
        self.put(key, slot);
        Ok(())
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        if self.has(Fault::DeleteIsNotAtomic) {
            let live = self.live(key).is_some();
            self.pause(Fault::DeleteIsNotAtomic);
            self.lock().remove(&self.key(key));
            return Ok(live);
        }
        let removed = self.lock().remove(&self.key(key));
        Ok(removed.is_some_and(|slot| self.is_live(&slot)) || self.has(Fault::DeleteReturnsTrue))
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        let matches = |key: &str| match self.fault {
            Some(Fault::ClearRemovesAll) => true,
            // `_` of SQL's LIKE is any character.
            Some(Fault::ClearTakesAPattern) => {
                let mut characters = key.chars();
                prefix
                    .chars()
                    .all(|c| characters.next().is_some_and(|k| c == '_' || c == k))
            }
            _ => key.starts_with(prefix),
        };
        self.lock().retain(|key, _| !matches(key));
        Ok(())
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        self.supports(Optional::Add)?;
        let slot = self.slot(entry, ttl);
        if self.has(Fault::AddIsNotAtomic) {
            if self.live(key).is_some() {
                return Ok(false);
            }
            self.pause(Fault::AddIsNotAtomic);
            self.put(key, slot);
            return Ok(true);
        }
        let mut entries = self.lock();
        let counts =
            |old: &Slot| self.is_live(old) || self.has(Fault::AddIsRefusedByAnExpiredEntry);
        if entries.get(&self.key(key)).is_some_and(counts) {
            return Ok(false);
        }
        entries.insert(self.key(key), slot);
        Ok(true)
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        self.supports(Optional::Increment)?;
        loop {
            let old = self.live(key);
            let text = old
                .as_ref()
                .map_or("0".into(), |slot| String::from_utf8_lossy(&slot.bytes));
            let count: i64 = text
                .parse()
                .map_err(|_| Error::new(ErrorKind::WrongType, "it is not an integer"))?;
            let sum = match self.has(Fault::IncrementWraps) {
                true => Some(count.wrapping_add(by)),
                false => count.checked_add(by),
            };
            let sum = sum.ok_or_else(|| Error::new(ErrorKind::Overflow, "it is too large"))?;
            let mut slot = self.slot(Entry::bytes(sum.to_string().into_bytes()), ttl);
            if let (Some(old), false) = (&old, self.has(Fault::IncrementRenewsTheTtl)) {
                slot.end = old.end;
            }
            if self.has(Fault::IncrementIsNotAtomic) {
                self.pause(Fault::IncrementIsNotAtomic);
                self.put(key, slot);
                return Ok(sum);
            }
            let mut entries = self.lock();
            let now = entries
                .get(&self.key(key))
                .filter(|slot| self.is_live(slot));
            if now.map(|slot| &slot.bytes) == old.as_ref().map(|slot| &slot.bytes) {
                entries.insert(self.key(key), slot);
                return Ok(sum);
            }
        }
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        self.supports(Optional::Touch)?;
        let end = self.end(ttl);
        let mut entries = self.lock();
        let slot = entries.get_mut(&self.key(key));
        let live = slot.filter(|slot| self.is_live(slot) || self.has(Fault::TouchRevives));
        let found = live.is_some();
        if let (Some(slot), false) = (live, self.has(Fault::TouchIgnoresTheTtl)) {
            (slot.end, slot.ttl) = (end, ttl);
        }
        Ok(found)
    }

    fn take(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        self.supports(Optional::Take)?;
        let taken = match self.fault {
            Some(Fault::TakeLeavesTheEntry) => self.live(key),
            Some(Fault::TakeIsNotAtomic) => {
                let live = self.live(key);
                self.pause(Fault::TakeIsNotAtomic);
                self.lock().remove(&self.key(key));
                live
            }
            _ => self.lock().remove(&self.key(key)),
        };
        Ok(taken
            .filter(|slot| self.is_live(slot))
            .map(|slot| slot.entry()))
    }

    fn compare_and_swap(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        self.supports(Optional::Update)?;
        Ok(self.swap(
            key,
            current.as_ref(),
            new,
            self.has(Fault::SwapIgnoresWhatWasRead),
        ))
    }

    fn replace(&self, key: &Key<'_>, replacement: Replacement) -> Result<bool> {
        let new = Some((replacement.new, replacement.ttl));
        let ignored = self.has(Fault::ReplaceIgnoresWhatWasRead);
        Ok(self.swap(key, Some(&replacement.current), new, ignored))
    }

    fn get_many(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        let mut keys: Vec<_> = keys.iter().collect();
        if self.has(Fault::GetManySortsItsKeys) {
            keys.sort_by_key(|key| key.text());
        }
        let entries = keys.into_iter().map(|key| Store::get(self, key));
        let mut entries: Vec<_> = entries.collect::<Result<_>>()?;
        if self.has(Fault::GetManySkipsMissingKeys) {
            entries.retain(Option::is_some);
        }
        Ok(entries)
    }

    fn get_with_ttls(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        if self.missing == Some(Optional::TtlLeft) {
            return Store::get_many(self, keys);
        }
        let entry = |key: &Key<'_>| {
            let slot = self.live(key)?;
            let mut entry = slot.entry();
            let left = slot.end.since(self.clock.now());
            entry.left = Some(match slot.ttl {
                Some(ttl) if self.has(Fault::TtlLeftIsTheWholeTtl) => Ttl::After(ttl),
                _ if slot.end == Timestamp::MAX => Ttl::Never,
                _ => Ttl::After(left),
            });
            Some(entry)
        };
        Ok(keys.iter().map(entry).collect())
    }

    /// Lists seven keys at a time. Positions are keys.
    fn scan(&self, prefix: &str, from: Option<String>, _: usize) -> Result<ScanPage> {
        self.supports(Optional::Keys)?;
        let entries = self.lock();
        let is_listed = |key: &String| {
            (key.starts_with(prefix) || self.has(Fault::ScanIgnoresThePrefix))
                && from.as_ref().is_none_or(|from| key >= from)
        };
        let mut keys: Vec<_> = entries.keys().filter(|key| is_listed(key)).collect();
        keys.sort_unstable();
        let next = keys.get(7).map(|key| (*key).clone());
        let next = next.filter(|_| !self.has(Fault::ScanForgetsTheRest));
        keys.truncate(7);
        Ok(ScanPage::new(keys.into_iter().cloned().collect(), next))
    }

    fn set_many(&self, entries: Vec<(Key<'_>, Entry, Option<Duration>)>) -> Result<()> {
        let first = entries.first().and_then(|(_, _, ttl)| *ttl);
        for (key, entry, ttl) in entries {
            let ttl = match self.has(Fault::SetManyUsesTheFirstTtl) {
                true => first,
                false => ttl,
            };
            Store::set(self, &key, entry, ttl)?;
        }
        Ok(())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }
}

immediate_store!(Map);
