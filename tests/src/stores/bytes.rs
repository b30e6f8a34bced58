//! A map of bytes with expiry, which replaces a server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cacheio_core::{
    Clock, Entry, Error, ErrorKind, Form, Key, Payload, Replacement, Result, ScanPage, Store,
    Timestamp, Ttl, TtlChange,
};

use crate::fixture::TestEnv;

/// A map of bytes with expiry, which replaces a server.
#[derive(Debug)]
pub struct Bytes {
    clock: Arc<dyn Clock>,
    entries: Mutex<HashMap<String, (Vec<u8>, Timestamp)>>,
}

impl Bytes {
    pub(super) fn new(env: &TestEnv) -> Self {
        Self {
            clock: env.clock(),
            entries: Mutex::default(),
        }
    }

    /// Locks the entries, and removes those that have expired.
    fn live(&self) -> MutexGuard<'_, HashMap<String, (Vec<u8>, Timestamp)>> {
        let now = self.clock.now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (_, expires)| now < *expires);
        entries
    }

    fn expires(&self, ttl: Option<Duration>) -> Timestamp {
        assert_ne!(
            ttl,
            Some(Duration::ZERO),
            "stores are never given a TTL of zero"
        );
        ttl.map_or(Timestamp::MAX, |ttl| self.clock.now().after(ttl))
    }

    fn checked<'a>(key: &Key<'a>) -> &'a str {
        let key = key.text();
        assert!(
            (1..=250).contains(&key.len()),
            "no server accepts this key: {} bytes",
            key.len()
        );
        assert!(
            key.bytes().all(|byte| byte > b' ' && byte != 0x7F),
            "no server accepts this key: {key:?}"
        );
        key
    }
}

fn into_bytes(entry: Entry) -> Vec<u8> {
    assert!(entry.meta.is_none(), "stores of bytes never get meta");
    match entry.payload {
        Payload::Bytes(bytes) => bytes,
        other => panic!("stores of bytes only get bytes: {other:?}"),
    }
}

impl Store for Bytes {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        Ok(self
            .live()
            .get(Self::checked(key))
            .map(|(bytes, _)| Entry::bytes(bytes.clone())))
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        let expires = self.expires(ttl);
        self.live()
            .insert(Self::checked(key).to_owned(), (into_bytes(entry), expires));
        Ok(())
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        Ok(self.live().remove(Self::checked(key)).is_some())
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        if prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a shared server is never flushed: give the cache a namespace",
            ));
        }
        self.live().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    fn add(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<bool> {
        let expires = self.expires(ttl);
        let mut entries = self.live();
        if entries.contains_key(Self::checked(key)) {
            return Ok(false);
        }
        entries.insert(key.text().to_owned(), (into_bytes(entry), expires));
        Ok(true)
    }

    fn increment(&self, key: &Key<'_>, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let expires = self.expires(ttl);
        let mut entries = self.live();
        let (bytes, _) = entries
            .entry(Self::checked(key).to_owned())
            .or_insert_with(|| (b"0".to_vec(), expires));
        let count = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        let count = count.ok_or_else(|| {
            Error::new(
                ErrorKind::WrongType,
                "the stored value is not an integer of 64 bits",
            )
        })?;
        let count = count.checked_add(by).ok_or_else(|| {
            Error::new(
                ErrorKind::Overflow,
                "the counter would leave the range of i64",
            )
        })?;
        *bytes = count.to_string().into_bytes();
        Ok(count)
    }

    fn touch(&self, key: &Key<'_>, ttl: Option<Duration>) -> Result<bool> {
        let expires = self.expires(ttl);
        match self.live().get_mut(Self::checked(key)) {
            Some((_, end)) => {
                *end = expires;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn take(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let taken = self.live().remove(Self::checked(key));
        Ok(taken.map(|(bytes, _)| Entry::bytes(bytes)))
    }

    fn compare_and_swap(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        let mut entries = self.live();
        let found = entries.get(Self::checked(key));
        if found.map(|(bytes, _)| bytes) != current.map(into_bytes).as_ref() {
            return Ok(false);
        }
        match new {
            None => entries.remove(key.text()),
            Some((entry, ttl)) => {
                let end = match (ttl, found) {
                    (TtlChange::Keep, Some((_, end))) => *end,
                    (TtlChange::Keep, None) => self.expires(None),
                    (TtlChange::Set(ttl), _) => self.expires(ttl),
                };
                entries.insert(key.text().to_owned(), (into_bytes(entry), end))
            }
        };
        Ok(true)
    }

    fn replace(&self, key: &Key<'_>, replacement: Replacement) -> Result<bool> {
        let new = (replacement.new, replacement.ttl);
        self.compare_and_swap(key, Some(replacement.current), Some(new))
    }

    fn get_with_ttls(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        let (now, entries) = (self.clock.now(), self.live());
        let get = |key: &Key<'_>| {
            let (bytes, end) = entries.get(Self::checked(key))?;
            let mut entry = Entry::bytes(bytes.clone());
            entry.left = Some(match *end {
                Timestamp::MAX => Ttl::Never,
                end => Ttl::After(end.since(now)),
            });
            Some(entry)
        };
        Ok(keys.iter().map(get).collect())
    }

    /// Lists seven keys at a time, and each first one twice, as a server may. Positions are keys.
    fn scan(&self, prefix: &str, from: Option<String>, _: usize) -> Result<ScanPage> {
        if prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a shared server is not listed: give the cache a namespace",
            ));
        }
        let entries = self.live();
        let mut keys: Vec<_> = entries
            .keys()
            .filter(|key| key.starts_with(prefix) && from.as_ref().is_none_or(|from| *key >= from))
            .cloned()
            .collect();
        keys.sort_unstable();
        let next = keys.get(7).cloned();
        keys.truncate(7);
        keys.extend(keys.first().cloned());
        Ok(ScanPage::new(keys, next))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }
}
