//! Loaders of batches: what they return is part of the load, and what they leave out has no value.

#![cfg(not(shuttle))]

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cacheio::store::{Entry, Form, Key, Store};
use cacheio::{AsyncCache, Cache, LoadError, ManualClock, Memory, Options, Result};
use cacheio_tests::watchdog::guarded;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn an_iterator_that_loads_the_keys_of_its_batch_is_refused() {
    guarded(|| {
        let cache = Cache::builder().build().unwrap();
        let inner = cache.clone();
        let results = cache.get_or_set_many([1, 2], |keys: Vec<i32>| {
            let inner = inner.clone();
            keys.into_iter().map(move |key| {
                let nested: Result<i32, LoadError<String>> = inner.get_or_try_set(key, || Ok(7));
                (
                    key,
                    i32::from(matches!(nested, Err(LoadError::Reentrant(_)))),
                )
            })
        });
        assert_eq!(results, [Some(1), Some(1)]);
    });
}

#[test]
fn futures_of_batches_are_send_whatever_their_keys_and_iterators_are() {
    fn is_send<T: Send>(_: T) {}
    let cache = AsyncCache::builder().build().unwrap();
    let ids = [1, 2];
    is_send(cache.get_many::<i32>(ids.iter().map(|id| Rc::new(*id))));
    is_send(cache.get_or_set_many::<i32, i32, _, _>(ids, async |keys| {
        keys.into_iter().map({
            let one = Rc::new(1);
            move |key| (key, *one)
        })
    }));
}

#[test]
fn a_due_key_that_the_loader_leaves_out_is_removed() {
    let clock = Arc::new(ManualClock::new());
    let memory = Memory::builder().clock(Arc::clone(&clock)).build();
    let cache = Cache::builder().store(memory).build().unwrap();
    let options = || Options::new().ttl(MINUTE).refresh_ahead(0.5);
    let loaded = cache.get_or_set_many_with([1], options(), |_| [(1, "old".to_owned())]);
    assert_eq!(loaded, [Some("old".to_owned())]);
    clock.advance(MINUTE * 3 / 4);
    let loaded = cache.get_or_set_many_with([1, 2], options(), |_| [(2, "new".to_owned())]);
    assert_eq!(loaded, [None, Some("new".to_owned())]);
    assert!(!cache.has(1).unwrap());
}

/// A store that returns too few entries.
#[derive(Debug)]
struct Short;

impl Store for Short {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, _: &Key<'_>) -> Result<Option<Entry>> {
        Ok(None)
    }

    fn get_many(&self, _: &[Key<'_>]) -> Result<Vec<Option<Entry>>> {
        Ok(Vec::new())
    }

    fn set(&self, _: &Key<'_>, _: Entry, _: Option<Duration>) -> Result<()> {
        Ok(())
    }

    fn delete(&self, _: &Key<'_>) -> Result<bool> {
        Ok(false)
    }

    fn clear(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

#[test]
fn entries_that_a_store_does_not_return_are_absent() {
    let cache = Cache::builder().store(Short).build().unwrap();
    let loaded = cache.get_or_set_many([1, 2], |keys: Vec<i32>| {
        keys.into_iter().map(|key| (key, key))
    });
    assert_eq!(loaded, [Some(1), Some(2)]);
}
