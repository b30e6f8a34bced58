//! The store that the documentation of [`Store`] shows: only what is required.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cacheio_core::{Entry, Form, Key, Result, Store};

/// A map in this process, without the optional operations.
#[derive(Debug, Default)]
pub struct Map(Mutex<HashMap<String, (Entry, Option<Instant>)>>);

impl Store for Map {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let map = self.0.lock().unwrap();
        let live = map
            .get(key.text())
            .filter(|(_, end)| end.is_none_or(|end| Instant::now() < end));
        Ok(live.map(|(entry, _)| entry.clone()))
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        // An entry whose TTL is too long for the clock never expires.
        let end = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        let mut map = self.0.lock().unwrap();
        map.insert(key.text().to_owned(), (entry, end));
        Ok(())
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        let removed = self.0.lock().unwrap().remove(key.text());
        Ok(removed.is_some_and(|(_, end)| end.is_none_or(|end| Instant::now() < end)))
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        self.0
            .lock()
            .unwrap()
            .retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }
}
