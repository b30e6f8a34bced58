//! Reads under `ttl_idle`.
//!
//! In memory the metadata of an entry records when it was last read. On a server, the header of the
//! entry does. A read is recorded there only if the last recorded one is an eighth of the idle time
//! ago, whichever process it came from; so the server keeps the entry up to an eighth longer.

use std::time::Duration;

use super::lookup::CachedValue;
use super::{Engine, boxed};
use crate::entry::expiry::Expiry;
use crate::entry::wire;
use crate::key::Key;
use crate::{Entry, Operation, Payload, Replacement, Timestamp, TtlChange, Value};

impl Engine {
    /// Records that live entries were read, if they expire when they are not.
    pub(super) async fn record_reads<'a, V: Value>(
        &self,
        reads: impl IntoIterator<Item = (Key<'a>, &'a CachedValue<V>)>,
    ) {
        let mut replacements = Vec::new();
        for (key, cached) in reads {
            self.record_read_in_memory(cached);
            self.keep_decoded(&key, cached);
            let Some((entry, expiry, idle)) = changeable(cached) else {
                continue;
            };
            let now = self.clock.now();
            if expiry.must_record_read(now)
                && self.unrecorded_reads.begin(key.hash(), now, idle / 8)
                && let Some(replacement) = read_at(entry, expiry, now)
            {
                replacements.push((key, replacement));
            }
        }
        if !replacements.is_empty() {
            boxed(|| self.record_on_server(replacements)).await;
        }
    }

    async fn record_on_server(&self, mut replacements: Vec<(Key<'_>, Replacement)>) {
        let hashes: Vec<_> = replacements.iter().map(|(key, _)| key.hash()).collect();
        let recorded = match replacements.len() {
            1 => {
                let (key, replacement) = replacements.remove(0);
                let recorded = self.driver.replace(&key, replacement).await.map(drop);
                recorded.map_err(|error| self.in_operation(error, Operation::Touch, &key))
            }
            _ => {
                let recorded = self.driver.replace_many(replacements).await;
                recorded.map_err(|error| error.during(Operation::Touch))
            }
        };
        match recorded {
            Ok(()) => self.unrecorded_reads.end(&hashes),
            Err(error) => self.on_store_error(&error),
        }
    }

    /// Records a read in memory.
    pub(super) fn record_read_in_memory<V: Value>(&self, cached: &CachedValue<V>) {
        if let Some(meta) = &cached.meta
            && let Some(idle) = cached.expiry.and_then(|expiry| expiry.idle)
        {
            meta.record_read(self.clock.now(), idle);
        }
    }
}

/// Returns an entry on a server whose read may have to be recorded.
fn changeable<V: Value>(cached: &CachedValue<V>) -> Option<(&Entry, Expiry, Duration)> {
    let (entry, expiry) = (cached.entry.as_deref()?, cached.expiry?);
    let is_on_server = matches!(entry.payload, Payload::Bytes(_));
    is_on_server.then_some((entry, expiry, expiry.idle?))
}

/// Returns the change of an entry that was read at `now`.
fn read_at(entry: &Entry, expiry: Expiry, now: Timestamp) -> Option<Replacement> {
    let Payload::Bytes(bytes) = &entry.payload else {
        return None;
    };
    let read = Expiry {
        read_at: now,
        ..expiry
    };
    Some(Replacement {
        current: entry.clone(),
        new: Entry::bytes(wire::with_expiry(bytes, read).ok()?),
        ttl: TtlChange::Set(read.retention(now)),
    })
}
