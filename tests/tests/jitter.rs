//! Jitter is drawn for each entry, also in batches: entries stored together do not expire together.

#![cfg(not(shuttle))]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cacheio::store::{Entry, Form, Key, Store};
use cacheio::{Cache, Options, Result};

const COUNT: usize = 1_000;

/// A store that only records the TTLs of its entries.
#[derive(Clone, Debug, Default)]
struct Ttls(Arc<Mutex<Vec<Option<Duration>>>>);

impl Ttls {
    fn distinct(&self) -> usize {
        let ttls = self.0.lock().unwrap();
        assert_eq!(ttls.len(), COUNT);
        ttls.iter().collect::<HashSet<_>>().len()
    }
}

impl Store for Ttls {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, _: &Key<'_>) -> Result<Option<Entry>> {
        Ok(None)
    }

    fn set(&self, _: &Key<'_>, _: Entry, ttl: Option<Duration>) -> Result<()> {
        self.0.lock().unwrap().push(ttl);
        Ok(())
    }

    fn delete(&self, _: &Key<'_>) -> Result<bool> {
        Ok(false)
    }

    fn clear(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

fn options() -> Options {
    Options::new().ttl(Duration::from_secs(3600)).jitter(0.5)
}

#[test]
fn each_entry_of_set_many_has_its_own_jitter() {
    let ttls = Ttls::default();
    let cache = Cache::builder().store(ttls.clone()).build().unwrap();
    let entries = (0..COUNT).map(|key| (key, key));
    cache.set_many_with(entries, options()).unwrap();
    assert!(ttls.distinct() > COUNT * 9 / 10);
}

#[test]
fn each_value_that_a_batch_loads_has_its_own_jitter() {
    let ttls = Ttls::default();
    let cache = Cache::builder().store(ttls.clone()).build().unwrap();
    let load = |keys: Vec<usize>| keys.into_iter().map(|key| (key, key));
    let values = cache.get_or_set_many_with(0..COUNT, options(), load);
    assert_eq!(values.len(), COUNT);
    assert!(ttls.distinct() > COUNT * 9 / 10);
}
