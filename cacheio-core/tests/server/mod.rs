//! A server in memory, a cache on it, and values to store.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cacheio_core::__private::{BuilderSettings, Driver, Engine, Executor, poll_ready};
use cacheio_core::{
    BoxFuture, Clock, Codec, Entry, Error, ErrorKind, Form, Key, ManualClock, Options, Payload,
    Result, Store, Value,
};
use serde::{Deserialize, Serialize};

/// A server whose time is always one hour after the beginning of 1970.
#[derive(Debug, Default)]
pub(crate) struct Server(Mutex<HashMap<String, Vec<u8>>>);

impl Store for Server {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let bytes = self.0.lock().unwrap().get(key.text()).cloned();
        Ok(bytes.map(Entry::bytes))
    }

    fn set(&self, key: &Key<'_>, entry: Entry, _: Option<Duration>) -> Result<()> {
        let Payload::Bytes(bytes) = entry.payload else {
            panic!("this store takes bytes");
        };
        self.0.lock().unwrap().insert(key.text().to_owned(), bytes);
        Ok(())
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        Ok(self.0.lock().unwrap().remove(key.text()).is_some())
    }

    fn clear(&self, _: &str) -> Result<()> {
        self.0.lock().unwrap().clear();
        Ok(())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(ManualClock::new())
    }
}

/// An executor that runs nothing in the background.
#[derive(Debug)]
struct NoBackground;

impl Executor for NoBackground {
    fn spawn(
        &self,
        load: BoxFuture<'static, ()>,
        _: Option<Instant>,
    ) -> Result<(), BoxFuture<'static, ()>> {
        Err(load)
    }

    fn sleep_until(&self, _: Instant) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

/// A cache of a single entry, whose bytes on the server tests can read and write.
#[derive(Debug)]
pub(crate) struct Wire {
    server: Arc<Server>,
    cache: Engine,
}

impl Wire {
    const KEY: &str = "key";

    pub(crate) fn new(codec: Arc<dyn Codec>) -> Self {
        let server = Arc::new(Server::default());
        let mut settings = BuilderSettings::default();
        settings.set_codec(codec);
        let store: Arc<dyn Store> = server.clone();
        Self {
            server,
            cache: Engine::new(Driver::for_threads(store, Arc::new(NoBackground)), settings)
                .unwrap(),
        }
    }

    /// Stores a value, and returns its bytes.
    pub(crate) fn write<V: Value>(&self, value: V) -> Vec<u8> {
        self.write_with(value, &Options::new())
    }

    pub(crate) fn write_with<V: Value>(&self, value: V, options: &Options) -> Vec<u8> {
        poll_ready(self.cache.set(Self::KEY, value, options)).unwrap();
        let entries = self.server.0.lock().unwrap();
        entries.values().next().unwrap().clone()
    }

    /// Reads bytes as a value. Returns an error too if they are those of an expired entry.
    pub(crate) fn read<V: Value<Stored = V>>(&self, bytes: &[u8]) -> Result<Arc<V>> {
        let mut entries = self.server.0.lock().unwrap();
        entries.insert(format!("cacheio:{}", Self::KEY), bytes.to_vec());
        drop(entries);
        let expired = || Error::new(ErrorKind::Decode, "the entry has expired");
        poll_ready(self.cache.get::<V>(self.cache.missed(&Self::KEY), false))?.ok_or_else(expired)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) customer: String,
    pub(crate) paid: bool,
    pub(crate) note: Option<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) state: State,
    pub(crate) labels: BTreeMap<String, i64>,
    pub(crate) raw: Vec<u8>,
    pub(crate) place: (f64, f32),
    pub(crate) initial: char,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) price: f64,
    pub(crate) quantity: i32,
    pub(crate) discount: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum State {
    Open,
    Reason(String),
    Shipped { carrier: String, days: u8 },
    Returned(i16, Option<Box<State>>),
}
