//! One API over the stores of both worlds, for the cases without a cache.

use std::time::Duration;

use cacheio_core::{Encode, Entry, Form, Key, KeyRule, Payload, Result, ScanPage, TtlChange};

use crate::fixture::AnyStore;

/// A store of either world, with entries that are texts. In the world of threads its futures never wait: they
/// block the thread.
#[derive(Clone, Debug)]
pub(crate) struct StoreApi {
    store: AnyStore,
    prefix: String,
}

/// Calls a method of a store.
macro_rules! call {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match &$self.store {
            AnyStore::Threads(store) => store.$method($($argument),*),
            AnyStore::Tasks(store) => store.$method($($argument),*).await,
        }
    };
}

impl StoreApi {
    /// All keys begin with `prefix`, as those of a cache with this namespace.
    pub(crate) fn new(store: AnyStore, prefix: &str) -> Self {
        Self {
            store,
            prefix: format!("{prefix}:"),
        }
    }

    /// Returns the text of a key, as the store gets it.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn form(&self) -> Form {
        match &self.store {
            AnyStore::Threads(store) => store.form(),
            AnyStore::Tasks(store) => store.form(),
        }
    }

    pub(crate) fn key_rule(&self) -> KeyRule {
        match &self.store {
            AnyStore::Threads(store) => store.key_rule(),
            AnyStore::Tasks(store) => store.key_rule(),
        }
    }

    /// Makes an entry in the form of the store.
    fn entry(&self, text: &str) -> Entry {
        match (self.form(), text.parse::<i64>()) {
            (Form::Objects, Ok(integer)) => Entry::object(integer.into_object()),
            (Form::Objects, Err(_)) => Entry::object(text.to_owned().into_object()),
            _ => Entry::bytes(text.as_bytes().to_vec()),
        }
    }

    pub(crate) async fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        let key = self.key(key);
        call!(self.get(&Key::new(&key)))
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<String>> {
        Ok(self.get_entry(key).await?.map(|entry| text(&entry)))
    }

    pub(crate) async fn set(&self, key: &str, value: &str, ttl: Option<Duration>) -> Result<()> {
        self.set_entry(key, self.entry(value), ttl).await
    }

    pub(crate) async fn set_entry(
        &self,
        key: &str,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let key = self.key(key);
        call!(self.set(&Key::new(&key), entry, ttl))
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<bool> {
        let key = self.key(key);
        call!(self.delete(&Key::new(&key)))
    }

    pub(crate) async fn clear(&self, prefix: &str) -> Result<()> {
        let prefix = self.key(prefix);
        call!(self.clear(&prefix))
    }

    pub(crate) async fn add(&self, key: &str, value: &str, ttl: Option<Duration>) -> Result<bool> {
        let key = self.key(key);
        call!(self.add(&Key::new(&key), self.entry(value), ttl))
    }

    pub(crate) async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let key = self.key(key);
        call!(self.increment(&Key::new(&key), by, ttl))
    }

    pub(crate) async fn touch(&self, key: &str, ttl: Option<Duration>) -> Result<bool> {
        let key = self.key(key);
        call!(self.touch(&Key::new(&key), ttl))
    }

    pub(crate) async fn take(&self, key: &str) -> Result<Option<String>> {
        let key = self.key(key);
        Ok(call!(self.take(&Key::new(&key)))?.map(|entry| text(&entry)))
    }

    pub(crate) async fn compare_and_swap(
        &self,
        key: &str,
        current: Option<Entry>,
        new: Option<(&str, TtlChange)>,
    ) -> Result<bool> {
        let key = self.key(key);
        let new = new.map(|(value, ttl)| (self.entry(value), ttl));
        call!(self.compare_and_swap(&Key::new(&key), current, new))
    }

    pub(crate) async fn has(&self, key: &str) -> Result<bool> {
        let key = self.key(key);
        call!(self.has(&Key::new(&key)))
    }

    pub(crate) async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<String>>> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let keys: Vec<_> = keys.iter().map(|key| Key::new(key)).collect();
        Ok(texts(&call!(self.get_many(&keys))?))
    }

    pub(crate) async fn get_with_ttls(&self, keys: &[&str]) -> Result<Vec<Option<Entry>>> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let keys: Vec<_> = keys.iter().map(|key| Key::new(key)).collect();
        call!(self.get_with_ttls(&keys))
    }

    /// The keys are those that [`key`](Self::key) returns.
    pub(crate) async fn scan(
        &self,
        prefix: &str,
        from: Option<String>,
        max: usize,
    ) -> Result<ScanPage> {
        let prefix = self.key(prefix);
        call!(self.scan(&prefix, from, max))
    }

    pub(crate) async fn set_many(&self, entries: &[(&str, &str, Option<Duration>)]) -> Result<()> {
        let keys: Vec<_> = entries.iter().map(|(key, ..)| self.key(key)).collect();
        let entries = keys
            .iter()
            .zip(entries)
            .map(|(key, (_, value, ttl))| (Key::new(key), self.entry(value), *ttl));
        call!(self.set_many(entries.collect()))
    }

    pub(crate) async fn delete_many(&self, keys: &[&str]) -> Result<usize> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let keys: Vec<_> = keys.iter().map(|key| Key::new(key)).collect();
        call!(self.delete_many(&keys))
    }
}

/// Returns the text of an entry.
pub(crate) fn text(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Payload::Object(object) => match object.value().downcast_ref::<String>() {
            Some(text) => text.clone(),
            None => object
                .digits()
                .unwrap_or_else(|| format!("another value: {object:?}")),
        },
        other => panic!("an unknown payload: {other:?}"),
    }
}

pub(crate) fn texts(entries: &[Option<Entry>]) -> Vec<Option<String>> {
    let text = |entry: &Option<Entry>| entry.as_ref().map(text);
    entries.iter().map(text).collect()
}
