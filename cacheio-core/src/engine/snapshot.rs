//! The snapshot of a cache in memory: saved on demand and by the last clone of the cache, and loaded when the cache is
//! built.
//!
//! A value is saved as for a server, and is loaded as an [`EncodedValue`], because its type is known only to its reader.
//! The first read as the type that was stored replaces it by the value.
//!
//! Times are saved as Unix time, and go by the clock of the store in the process: an entry ends when it would have ended.
//! If Unix time was set back meanwhile, an entry lives for what was left when it was saved, and no longer.
//!
//! A file is loaded once. Otherwise a program that was killed would load what it had deleted since, when it starts again.
//! It is removed before its entries are loaded, so that a file that needs too much memory does not prevent each start.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::Engine;
use super::driver::Driver;
use super::lookup::CachedValue;
use crate::clock::WallClock;
use crate::entry::expiry::Expiry;
use crate::entry::tags::TagNames;
use crate::entry::wire::OwnedBody;
use crate::key::Key;
use crate::snapshot::file::{self, Found, Identity};
use crate::snapshot::record::{self, SavedEntry, SavedMeta};
use crate::snapshot::{EncodedValue, Saved, Snapshot, Step};
use crate::{
    Clock, Entry, Error, ErrorKind, Meta, Object, Operation, Payload, Result, Store, Timestamp,
    Ttl, TtlChange, Value,
};

/// How many entries are read at once.
const READ_AT_ONCE: usize = 100;

impl Snapshot {
    /// Checks that the cache of a driver can have a snapshot.
    pub(super) fn new(
        path: Option<PathBuf>,
        driver: &Driver,
        is_off: bool,
    ) -> Result<Option<Self>> {
        let Some(path) = path else {
            return Ok(None);
        };
        if driver.immediate().is_none() {
            let message = "only a cache that keeps the values themselves in memory can have a snapshot; a server \
                           keeps its entries when the program ends";
            return Err(Error::new(ErrorKind::Config, message).during(Operation::Build));
        }
        // A file is removed when it is loaded, not a link to it.
        let path = fs::canonicalize(&path).unwrap_or(path);
        file::check_path(&path).map_err(|error| error.during(Operation::Build))?;
        Ok(Some(Self {
            path,
            is_off,
            saving: Mutex::new(()),
        }))
    }
}

/// Converts times between the clock of a store and Unix time.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    now: Timestamp,
    unix_now: Timestamp,
}

impl Clocks {
    /// Returns the clocks after a file was saved. If Unix time is earlier now, no time has passed.
    fn not_before(self, saved_at: Timestamp) -> Self {
        let unix_now = self.unix_now.max(saved_at);
        Self { unix_now, ..self }
    }

    fn to_unix(self, time: Timestamp) -> Timestamp {
        convert(time, self.now, self.unix_now)
    }

    fn of_unix(self, time: Timestamp) -> Timestamp {
        convert(time, self.unix_now, self.now)
    }
}

fn convert(time: Timestamp, now: Timestamp, other_now: Timestamp) -> Timestamp {
    match time {
        Timestamp::MAX => Timestamp::MAX,
        time if time < now => other_now.before(now.since(time)),
        time => other_now.after(time.since(now)),
    }
}

fn converted(expiry: Expiry, convert: impl Fn(Timestamp) -> Timestamp) -> Expiry {
    Expiry {
        created_at: convert(expiry.created_at),
        expires_at: convert(expiry.expires_at),
        stale_until: convert(expiry.stale_until),
        ..expiry
    }
}

/// A snapshot that is being written.
struct Saving<'a> {
    engine: &'a Engine,
    clocks: Clocks,
    file: file::Writer,
    tags: TagNames<'a>,
    /// The numbers of the types that were written, by their names.
    types: HashMap<Box<str>, u32>,
    record: Vec<u8>,
    saved: Saved,
}

impl Engine {
    /// Saves the entries of the namespace. Blocks the thread.
    pub fn save_snapshot(&self) -> Result<Saved> {
        let saved = self.write_snapshot();
        saved.map_err(|error| error.during(Operation::SaveSnapshot))
    }

    fn write_snapshot(&self) -> Result<Saved> {
        let Some(snapshot) = &self.snapshot else {
            return Err(Error::new(
                ErrorKind::Config,
                "the cache has no path for a snapshot; set it by `snapshot` of the builder",
            ));
        };
        if snapshot.is_off {
            return Ok(Saved::default());
        }
        let _saving = snapshot
            .saving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let clocks = self.clocks();
        let saved_at = clocks.unix_now.as_millis();
        let mut saving = Saving {
            engine: self,
            clocks,
            file: file::Writer::create(&snapshot.path, self.identity(), saved_at)?,
            tags: TagNames::new(&self.shared.tags, &self.settings.prefix),
            types: HashMap::new(),
            record: Vec::new(),
            saved: Saved::default(),
        };
        saving.add_all(self.store_in_memory()?)?;
        saving.file.finish()?;
        let Saved { entries, left_out } = saving.saved;
        tracing::debug!(
            target: "cacheio",
            namespace = self.namespace(),
            path = %snapshot.path.display(),
            entries,
            left_out,
            "snapshot saved",
        );
        Ok(saving.saved)
    }

    fn store_in_memory(&self) -> Result<&dyn Store> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "the store is not in memory");
        self.driver.immediate().ok_or_else(unsupported)
    }

    /// Loads the snapshot. A cache without it works, so a failure is only logged.
    pub(super) fn load_snapshot(&self) {
        let Some(snapshot) = self.snapshot.as_ref().filter(|snapshot| !snapshot.is_off) else {
            return;
        };
        let path = || tracing::field::display(snapshot.path.display());
        // Memory calls the weigher of the user.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let _step = Step::loading(&self.settings.codec).begin();
            self.read_snapshot(snapshot)
        }));
        let panicked = || Error::new(ErrorKind::Decode, "the weigher of the memory panicked");
        match read.unwrap_or_else(|_| Err(panicked())) {
            Ok(None) => {}
            Ok(Some(entries)) => tracing::info!(
                target: "cacheio",
                namespace = self.namespace(),
                path = path(),
                entries,
                "snapshot loaded",
            ),
            Err(error) => tracing::warn!(
                target: "cacheio",
                namespace = self.namespace(),
                path = path(),
                error = error.message(),
                reason = std::error::Error::source(&error).map(tracing::field::display),
                "snapshot not loaded; the cache starts without it",
            ),
        }
    }

    /// Loads the snapshot and removes its file. Returns how many entries are loaded; `None` if there is no file.
    fn read_snapshot(&self, snapshot: &Snapshot) -> Result<Option<usize>> {
        let Some(mut file) = file::Checked::open(&snapshot.path, self.identity())? else {
            return Ok(None);
        };
        file.remove(&snapshot.path)?;
        let clocks = self
            .clocks()
            .not_before(Timestamp::from_millis(file.saved_at));
        let memory = self.store_in_memory()?;
        let mut entries = 0;
        while let Some(found) = file.next()? {
            entries += usize::from(self.load_entry(memory, clocks, found)?);
        }
        Ok(Some(entries))
    }

    /// Loads an entry. Returns whether it was stored.
    fn load_entry(&self, memory: &dyn Store, clocks: Clocks, found: Found<'_>) -> Result<bool> {
        let SavedEntry {
            key,
            kept_until,
            meta,
            value,
            ..
        } = found.entry;
        let kept_until = clocks.of_unix(kept_until);
        // Later than in `clocks`: to load many entries takes time.
        let now = self.clock.now();
        let ttl = match kept_until {
            Timestamp::MAX => None,
            until if until <= now => return Ok(false),
            until => Some(until.since(now)),
        };
        let object = EncodedValue {
            bytes: value.to_vec(),
            stored_as: found.stored_as,
            codec: Arc::clone(&self.settings.codec),
        };
        let mut entry = Entry::object(Arc::new(object));
        if let Some(saved) = meta {
            let tags = self.shared.tags.stamp(&self.settings.prefix, &saved.tags);
            let expiry = saved.expiry;
            let expiry = expiry.map(|expiry| converted(expiry, |time| clocks.of_unix(time)));
            let meta = Meta::new(tags, expiry, saved.ahead);
            meta.set_idle_until(clocks.of_unix(saved.idle_until));
            meta.set_retry_at(clocks.of_unix(saved.retry_at));
            if !meta.is_retained(now) {
                return Ok(false);
            }
            entry.meta = Some(Arc::new(meta));
        }
        let text = [&self.key_prefix, key].concat();
        // A cache on the same memory may have stored a later value.
        match memory.add(&Key::new(&text), entry, ttl) {
            Err(error) if error.kind() == ErrorKind::TooLarge => Ok(false),
            added => added,
        }
    }

    /// Replaces the value of a snapshot in memory by the one that was decoded, unless another write came first.
    #[inline]
    pub(super) fn keep_decoded<V: Value>(&self, key: &Key<'_>, cached: &CachedValue<V>) {
        if let Some(entry) = &cached.entry
            && let Payload::Object(_) = entry.payload
        {
            let mut decoded = Entry::object(Arc::clone(&cached.value) as _);
            decoded.meta = entry.meta.clone();
            self.replace_in_memory(key, entry, decoded);
        }
    }

    #[cold]
    fn replace_in_memory(&self, key: &Key<'_>, entry: &Entry, decoded: Entry) {
        if let Some(memory) = self.driver.immediate() {
            let new = Some((decoded, TtlChange::Keep));
            let _step = Step::Decoding.begin();
            // If it fails, the next read decodes the value again, or loads it.
            let _ = memory.compare_and_swap(key, Some(entry.clone()), new);
        }
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            now: self.clock.now(),
            unix_now: WallClock.now(),
        }
    }

    fn identity(&self) -> Identity {
        Identity::new(&self.settings.prefix, &format!("{:?}", self.settings.codec))
    }
}

/// Returns the entry of a value of a snapshot, if it was decoded as the type that was stored.
#[cold]
pub(super) fn entry_of_snapshot<V: Value>(
    object: &Arc<dyn Object>,
    cached: &CachedValue<V>,
) -> Option<Arc<Entry>> {
    let encoded = EncodedValue::of(&**object)?;
    (Object::type_name(&*cached.value) == &*encoded.stored_as).then(|| {
        let mut entry = Entry::object(Arc::clone(object));
        entry.meta = cached.meta.clone();
        Arc::new(entry)
    })
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(snapshot) = self.snapshot.as_ref().filter(|snapshot| !snapshot.is_off) else {
            return;
        };
        // Encoding runs the code of users' types.
        let saved = catch_unwind(AssertUnwindSafe(|| self.save_snapshot()));
        let panicked = || Error::new(ErrorKind::Encode, "encoding a value panicked");
        if let Err(error) = saved.unwrap_or_else(|_| Err(panicked())) {
            tracing::warn!(
                target: "cacheio",
                namespace = self.namespace(),
                path = %snapshot.path.display(),
                error = error.message(),
                reason = std::error::Error::source(&error).map(tracing::field::display),
                "snapshot not saved when the cache was dropped",
            );
        }
    }
}

impl Saving<'_> {
    /// Adds all entries that the store keeps.
    fn add_all(&mut self, memory: &dyn Store) -> Result<()> {
        let mut from = None;
        loop {
            let page = memory.scan(&self.engine.key_prefix, from, usize::MAX)?;
            for texts in page.keys.chunks(READ_AT_ONCE) {
                let keys: Vec<_> = texts.iter().map(|text| Key::new(text)).collect();
                let now = self.engine.clock.now();
                let entries = memory.get_with_ttls(&keys)?;
                for (text, entry) in texts.iter().zip(entries) {
                    if let Some(entry) = entry {
                        let is_added = self.add(self.engine.own_text(text), &entry, now)?;
                        match is_added {
                            true => self.saved.entries += 1,
                            false => self.saved.left_out += 1,
                        }
                    }
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Adds an entry that was read at `now`. Returns whether it can be saved.
    fn add(&mut self, key: &str, entry: &Entry, now: Timestamp) -> Result<bool> {
        let kept_until = match entry.left {
            Some(Ttl::After(left)) => self.clocks.to_unix(now.after(left)),
            Some(Ttl::Never) => Timestamp::MAX,
            _ => return Ok(false),
        };
        let Some((value, type_name)) = self.encoded(entry) else {
            return Ok(false);
        };
        let stored_as = self.type_number(type_name)?;
        let meta = match entry.meta.as_deref() {
            Some(meta) => {
                let Some(tags) = self.tags.of(&meta.tags) else {
                    return Ok(false);
                };
                let expiry = meta.expiry;
                Some(SavedMeta {
                    idle_until: self.clocks.to_unix(meta.idle_until()),
                    retry_at: self.clocks.to_unix(meta.retry_at()),
                    ahead: meta.ahead,
                    expiry: expiry
                        .map(|expiry| converted(expiry, |time| self.clocks.to_unix(time))),
                    tags,
                })
            }
            None => None,
        };
        self.record.clear();
        let saved = SavedEntry {
            key,
            kept_until,
            stored_as,
            meta,
            value: &value,
        };
        saved.write(&mut self.record);
        self.file.add(&self.record)
    }

    /// Returns the value of an entry as on a server, and the name of its type; `None` if it cannot be encoded.
    fn encoded<'e>(&self, entry: &'e Entry) -> Option<(Cow<'e, [u8]>, &'e str)> {
        let Payload::Object(object) = &entry.payload else {
            return None;
        };
        if let Some(encoded) = EncodedValue::of(&**object) {
            return Some((Cow::Borrowed(&encoded.bytes), &encoded.stored_as));
        }
        let body = OwnedBody::of(&**object, &*self.engine.settings.codec).ok()?;
        Some((Cow::Owned(body.sealed()), Object::type_name(&**object)))
    }

    /// Returns the number of a type in the file.
    fn type_number(&mut self, name: &str) -> Result<u32> {
        if let Some(number) = self.types.get(name) {
            return Ok(*number);
        }
        self.record.clear();
        record::write_type(name, &mut self.record);
        self.file.add(&self.record)?;
        let number = self.types.len() as u32;
        self.types.insert(name.into(), number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn times_come_back_on_another_clock() {
        let at = |seconds| Timestamp::MIN.after(SECOND * seconds);
        let saving = Clocks {
            now: at(1_000),
            unix_now: at(5_000),
        };
        let loading = Clocks {
            now: at(100),
            unix_now: at(5_010),
        };
        let moved = |time| loading.of_unix(saving.to_unix(time));
        assert_eq!(moved(at(1_060)), at(150));
        assert_eq!(moved(at(990)), at(80));
        assert_eq!(moved(at(1_010)), at(100));
        // Before the clock began.
        assert_eq!(moved(at(100)), Timestamp::MIN);
        assert_eq!(moved(Timestamp::MAX), Timestamp::MAX);
    }
    #[test]
    fn a_clock_that_was_set_back_prolongs_nothing() {
        let at = |seconds| Timestamp::MIN.after(SECOND * seconds);
        let saved_at = at(5_000);
        let expires_at = at(5_060);
        for (unix_now, left) in [(1_000, 60), (5_000, 60), (5_020, 40), (5_070, 0)] {
            let clocks = Clocks {
                now: at(100),
                unix_now: at(unix_now),
            };
            let expires_at = clocks.not_before(saved_at).of_unix(expires_at);
            assert_eq!(expires_at.since(clocks.now), SECOND * left, "{unix_now}");
        }
    }
}
