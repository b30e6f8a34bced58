//! Looking up keys in memory, without I/O: the hit is a plain function, and everything else is a
//! function of its own, so that the hit stays small.

use std::any::TypeId;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Engine;
use super::lookup::CachedValue;
use crate::key::{Key, KeyBuffer, MissedKey};
use crate::stats::Count;
use crate::value::{FromWord, downcast};
use crate::{CacheKey, FastMiss, Fetched, Form, Options, Source, Value};

/// What a call makes of a value that it finds in memory.
pub trait FromHit {
    type Value: Value;
    type Output;

    /// Returns the function that makes the output from the word of a value, if its type has words.
    fn from_word() -> Option<FromWord<Self::Output>>;

    /// Makes the output from a value that no lock protects.
    fn from_shared(stored: Arc<<Self::Value as Value>::Stored>) -> Self::Output;
}

/// Makes a value of its own.
#[derive(Debug)]
pub struct ByValue<V>(PhantomData<V>);

impl<V: Value> FromHit for ByValue<V> {
    type Value = V;
    type Output = V;

    #[inline]
    fn from_word() -> Option<FromWord<V>> {
        V::from_word()
    }

    #[inline]
    fn from_shared(stored: Arc<V::Stored>) -> V {
        V::from_shared(stored)
    }
}

/// Shares the stored value.
#[derive(Debug)]
pub struct ByArc<V>(PhantomData<V>);

impl<V: Value> FromHit for ByArc<V> {
    type Value = V;
    type Output = Arc<V>;

    #[inline]
    fn from_word() -> Option<FromWord<Arc<V>>> {
        None
    }

    #[inline]
    fn from_shared(stored: Arc<V::Stored>) -> Arc<V> {
        V::shared(stored)
    }
}

/// The result of a look-up in memory in one step.
pub(super) enum Probe<T> {
    /// A live value without metadata that has to be checked.
    Hit(T),
    /// The entry has to be read and checked.
    Inspect,
    Absent,
}

impl Engine {
    /// Looks a key up in memory, without I/O. Returns `None` for an absent key.
    ///
    /// # Errors
    ///
    /// Returns the key when its entry has to be [read](Engine::get).
    #[inline]
    pub fn probe<F: FromHit>(
        &self,
        key: &impl CacheKey,
        skip_l1: bool,
    ) -> std::result::Result<Option<F::Output>, MissedKey> {
        if skip_l1 && self.has_l1() {
            return Err(self.missed(key));
        }
        let mut buffer = KeyBuffer::new();
        let composed = self.memory_key(&mut buffer, key);
        match self.look_up_fast::<F>(&composed) {
            Probe::Hit(value) => Ok(Some(value)),
            Probe::Inspect => self.probe_closely::<F>(buffer, key),
            Probe::Absent => {
                self.counters.add(Count::Miss);
                Ok(None)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn probe_closely<F: FromHit>(
        &self,
        mut buffer: KeyBuffer,
        key: &impl CacheKey,
    ) -> std::result::Result<Option<F::Output>, MissedKey> {
        let composed = self.memory_key(&mut buffer, key);
        match self.inspect::<F::Value>(&composed) {
            Some(cached) => {
                let stored = self.hit_in_memory(cached).value;
                Ok(Some(F::from_shared(stored)))
            }
            None => Err(self.missed_in(buffer, key, false)),
        }
    }

    /// Returns a hit in memory that needs no look at its metadata.
    ///
    /// # Errors
    ///
    /// Returns the key when the call has to [load](Engine::load).
    #[inline]
    pub fn probe_hit<F: FromHit>(
        &self,
        key: &impl CacheKey,
    ) -> std::result::Result<F::Output, MissedKey> {
        let mut buffer = KeyBuffer::new();
        let is_absent = match self.look_up_fast::<F>(&self.memory_key(&mut buffer, key)) {
            Probe::Hit(value) => return Ok(value),
            Probe::Inspect => false,
            Probe::Absent => true,
        };
        Err(self.missed_in(buffer, key, is_absent))
    }

    /// Composes a key for a load without a look-up before it.
    pub fn missed(&self, key: &impl CacheKey) -> MissedKey {
        let mut buffer = KeyBuffer::new();
        self.key(&mut buffer, key);
        buffer.into_missed(key, false)
    }

    /// Keeps a key that was composed for a look-up in memory.
    #[cold]
    fn missed_in(&self, mut buffer: KeyBuffer, key: &impl CacheKey, is_absent: bool) -> MissedKey {
        if self.driver.l1().is_some() {
            self.key(&mut buffer, key);
        }
        buffer.into_missed(key, is_absent)
    }

    /// Looks a key up in memory for a loading call: the value is live and not due for a refresh.
    ///
    /// # Errors
    ///
    /// Returns the key when the call has to [load](Engine::load).
    #[inline]
    pub fn probe_to_load<V: Value>(
        &self,
        key: &impl CacheKey,
        options: &Options,
    ) -> std::result::Result<V, MissedKey> {
        let mut buffer = KeyBuffer::new();
        let composed = self.memory_key(&mut buffer, key);
        if options.force_refresh | options.skip_l1 {
            return Err(self.missed_in(buffer, key, false));
        }
        let is_absent = match self.look_up_fast::<ByValue<V>>(&composed) {
            Probe::Hit(value) => return Ok(value),
            Probe::Inspect => match self.inspect_to_load::<V>(&composed, options) {
                Some(cached) => return Ok(V::from_shared(cached.value)),
                None => false,
            },
            Probe::Absent => true,
        };
        Err(self.missed_in(buffer, key, is_absent))
    }

    /// Does the same, and returns the source and the age of the value.
    ///
    /// # Errors
    ///
    /// Returns the key when the call has to [load](Engine::fetch).
    #[inline]
    pub fn probe_to_fetch<V: Value>(
        &self,
        key: &impl CacheKey,
        options: &Options,
    ) -> std::result::Result<Fetched<V>, MissedKey> {
        let mut buffer = KeyBuffer::new();
        let composed = self.memory_key(&mut buffer, key);
        // The other look-ups begin with one that does it.
        if let Some(store) = self.driver.immediate() {
            store.maintain();
        }
        if !(options.force_refresh | options.skip_l1)
            && let Some(cached) = self.inspect_to_load::<V>(&composed, options)
        {
            return Ok(self.fetched(cached, Source::Hit));
        }
        Err(self.missed_in(buffer, key, false))
    }

    #[inline]
    pub(super) fn look_up_fast<F: FromHit>(&self, key: &Key<'_>) -> Probe<F::Output> {
        let Some(store) = self.driver.memory() else {
            return Probe::Inspect;
        };
        let looked_up = match F::from_word() {
            Some(make) => {
                let stored = TypeId::of::<<F::Value as Value>::Stored>();
                store.get_word(key, stored).map(|word| Some(make(word)))
            }
            None => store
                .get_fast(key)
                .map(|object| downcast(object).map(F::from_shared)),
        };
        match looked_up {
            Ok(Some(value)) => {
                self.counters.add(self.memory_hit);
                Probe::Hit(value)
            }
            // The value has another type.
            Ok(None) | Err(FastMiss::Inspect) => Probe::Inspect,
            Err(FastMiss::Absent) => match self.driver.form() {
                Form::Objects => Probe::Absent,
                // The server may have an entry that L1 has not.
                Form::Bytes => Probe::Inspect,
            },
        }
    }

    /// Returns a live value from memory, after a look at its metadata.
    #[cold]
    #[inline(never)]
    fn inspect<V: Value>(&self, key: &Key<'_>) -> Option<CachedValue<V>> {
        let Some(store) = self.driver.immediate() else {
            return self.copy_of_text(key);
        };
        let entry = store.get(key).ok()??;
        let lookup = self.decode_live::<V>(Some(entry));
        let live = lookup.ok()?.live();
        if let Some(cached) = &live {
            self.keep_decoded(key, cached);
        }
        live
    }

    /// Counts a hit in memory.
    fn hit_in_memory<V: Value>(&self, cached: CachedValue<V>) -> CachedValue<V> {
        self.record_read_in_memory(&cached);
        self.counters.add(self.memory_hit);
        cached
    }

    /// Returns a live value from memory that is not due for a refresh, and counts the hit.
    #[cold]
    #[inline(never)]
    fn inspect_to_load<V: Value>(
        &self,
        key: &Key<'_>,
        options: &Options,
    ) -> Option<CachedValue<V>> {
        let cached = self.inspect::<V>(key)?;
        (!self.is_due(key, &cached, options)).then(|| self.hit_in_memory(cached))
    }
}
