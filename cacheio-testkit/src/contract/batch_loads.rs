//! Loads of many keys at once: still one load for each key.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(a_batch_loads_all_missing_keys_at_once),
        case(a_batch_returns_values_in_key_order_with_duplicates),
        case(an_empty_batch_loads_nothing),
        case(values_loaded_by_a_batch_are_stored),
        case(a_key_that_the_loader_left_out_is_none_and_not_stored),
        case(a_value_for_a_key_that_was_not_requested_is_ignored),
        case(a_failed_batch_returns_its_hits),
        case(a_batch_waits_for_a_load_of_one_of_its_keys),
        case(a_load_waits_for_a_batch_with_its_key),
        case(batches_that_overlap_load_each_key_once),
        case(a_hundred_batches_load_once),
        case(a_waiter_for_a_key_that_was_left_out_loads_it),
        case(batches_share_the_absence_of_a_key),
        case(writes_during_a_batch_load_are_not_overwritten),
        case(a_batch_whose_loader_panics_frees_its_keys),
        case(a_batch_takes_over_from_a_load_that_panics),
        case(a_batch_that_loads_its_own_keys_is_refused),
        case(a_batch_reads_none_and_wrong_types),
        case(a_batch_survives_a_store_that_fails),
    ]
}

/// The keys of each run of a loader.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<Vec<Vec<String>>>>);

impl Requests {
    /// Loads `"<key>!"` for each key, and records the keys.
    fn load(&self, missing: Vec<&'static str>) -> Vec<(&'static str, String)> {
        let keys = missing.iter().map(|key| (*key).to_owned()).collect();
        self.0.lock().unwrap().push(keys);
        let loaded = missing.into_iter().map(|key| (key, format!("{key}!")));
        loaded.collect()
    }

    fn runs(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().clone()
    }

    fn all(&self) -> Vec<String> {
        let mut all = self.runs().concat();
        all.sort();
        all
    }
}

fn some(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).into())).collect()
}

async fn a_batch_loads_all_missing_keys_at_once(fixture: Fixture) {
    let (cache, requests) = (fixture.cache, Requests::default());
    cache.set("b", "found").await.unwrap();
    let values = cache.get_or_set_many(vec!["a", "b", "c"], async |missing| requests.load(missing));
    assert_eq!(values.await, some(&["a!", "found", "c!"]));
    assert_eq!(requests.runs(), [["a", "c"]]);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 2, 1));
}

async fn a_batch_returns_values_in_key_order_with_duplicates(fixture: Fixture) {
    let (cache, requests) = (fixture.cache, Requests::default());
    cache.set("a", "found").await.unwrap();
    let keys = vec!["c", "a", "b", "c", "a", "c"];
    let values = cache.get_or_set_many(keys, async |missing| requests.load(missing));
    assert_eq!(
        values.await,
        some(&["c!", "found", "b!", "c!", "found", "c!"])
    );
    assert_eq!(requests.runs(), [["c", "b"]], "each key once");
}

async fn an_empty_batch_loads_nothing(fixture: Fixture) {
    let (cache, requests) = (fixture.cache, Requests::default());
    let values = cache.get_or_set_many(Vec::new(), async |missing| requests.load(missing));
    assert_eq!(values.await, some(&[]));
    assert!(requests.runs().is_empty());
}

async fn values_loaded_by_a_batch_are_stored(fixture: Fixture) {
    let (cache, requests) = (fixture.cache, Requests::default());
    for _ in 0..2 {
        let values = cache.get_or_set_many(vec!["a", "b"], async |missing| requests.load(missing));
        assert_eq!(values.await, some(&["a!", "b!"]));
    }
    assert_eq!(requests.runs().len(), 1);
    assert_eq!(cache.get("a").await.unwrap(), Some(String::from("a!")));
    let again = cache.get_or_set("b", || async { String::from("no") });
    assert_eq!(again.await, "b!");
}

async fn a_key_that_the_loader_left_out_is_none_and_not_stored(fixture: Fixture) {
    let cache = fixture.cache;
    let values = cache.get_or_set_many(vec!["a", "b"], async |_| vec![("b", 1)]);
    assert_eq!(values.await, [None, Some(1)]);
    assert!(!cache.has("a").await.unwrap());
    assert_eq!(cache.get_or_set("a", || async { 2 }).await, 2);
}

async fn a_value_for_a_key_that_was_not_requested_is_ignored(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("found", 1).await.unwrap();
    let loaded = vec![("found", 9), ("other", 9), ("missing", 2)];
    let values = cache.get_or_set_many(vec!["found", "missing"], async |_| loaded.clone());
    assert_eq!(values.await, [Some(1), Some(2)]);
    assert_eq!(cache.get::<i32>("found").await.unwrap(), Some(1));
    assert!(!cache.has("other").await.unwrap());
}

async fn a_failed_batch_returns_its_hits(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("found", 1).await.unwrap();
    let results = cache
        .get_or_try_set_many(vec!["a", "found", "b", "a"], async |_| {
            Err::<Vec<(&str, i32)>, _>("down")
        })
        .await;
    assert_eq!(results[1].as_ref().unwrap(), &Some(1));
    let mut errors = [0, 2, 3].map(|at: usize| match &results[at] {
        Err(LoadError::Load(error)) => Arc::clone(error),
        other => panic!("{other:?}"),
    });
    errors.sort();
    assert!(
        errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])),
        "one error"
    );
    assert_eq!(cache.stats().load_errors, 1);
    assert!(!cache.has("a").await.unwrap());
}

async fn a_batch_waits_for_a_load_of_one_of_its_keys(fixture: Fixture) {
    let (cache, requests, gate) = (fixture.cache, Requests::default(), LoaderGate::new());
    let single = {
        let load = gate.loader(String::from("alone"));
        cache.spawn(move |cache| async move { cache.get_or_set("b", load).await })
    };
    gate.started().await;
    let batch = {
        let requests = requests.clone();
        cache.spawn(move |cache| async move {
            let keys = vec!["a", "b", "c"];
            let load = |missing| std::future::ready(requests.load(missing));
            cache.get_or_set_many(keys, load).await
        })
    };
    // The batch loads and stores its own keys while the other load runs.
    while !cache.has("c").await.unwrap() {
        fixture.world.pause().await;
    }
    assert_eq!(cache.stats().waits, 1);
    gate.release();
    assert_eq!(single.join().await, "alone");
    assert_eq!(batch.join().await, some(&["a!", "alone", "c!"]));
    assert_eq!(requests.runs(), [["a", "c"]]);
}

async fn a_load_waits_for_a_batch_with_its_key(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let batch = {
        let gate = gate.clone();
        cache.spawn(move |cache| async move {
            let load = |_| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    vec![("a", 1), ("b", 2)]
                }
            };
            cache.get_or_set_many(vec!["a", "b"], load).await
        })
    };
    gate.started().await;
    let single =
        cache.spawn(move |cache| async move { cache.get_or_set("b", || async { 9 }).await });
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_eq!(batch.join().await, [Some(1), Some(2)]);
    assert_eq!(single.join().await, 2);
}

/// Each batch leads a key that another waits for: no batch waits before it has loaded its own keys.
async fn batches_that_overlap_load_each_key_once(fixture: Fixture) {
    for keys in [["a", "b", "c", "d"], ["e", "f", "g", "h"]] {
        let requests = Requests::default();
        let batches = (0..20).map(|i| {
            let (cache, requests) = (fixture.cache.clone(), requests.clone());
            let mut keys = keys.to_vec();
            keys.rotate_left(i % 4);
            if i % 2 == 0 {
                keys.reverse();
            }
            fixture.world.spawn(async move {
                let load = |missing| std::future::ready(requests.load(missing));
                let values = cache.get_or_set_many(keys.clone(), load).await;
                for (key, value) in keys.iter().zip(values) {
                    assert_eq!(value, Some(format!("{key}!")));
                }
            })
        });
        join_all(batches.collect()).await;
        assert_eq!(requests.all(), keys);
    }
}

async fn a_hundred_batches_load_once(fixture: Fixture) {
    let (cache, gate, loaded) = (
        fixture.cache,
        LoaderGate::new(),
        Arc::new(AtomicUsize::new(0)),
    );
    let batches = (0..100).map(|_| {
        let (gate, loaded) = (gate.clone(), Arc::clone(&loaded));
        cache.spawn(move |cache| async move {
            let load = |missing: Vec<i32>| {
                let gate = gate.clone();
                loaded.fetch_add(missing.len(), Ordering::SeqCst);
                async move {
                    gate.pass().await;
                    missing.into_iter().map(|key| (key, key * 2)).collect()
                }
            };
            cache.get_or_set_many((0..10).collect(), load).await
        })
    });
    let batches = batches.collect();
    // Each key has one leader and 99 waiters; batches that start at once may share the keys.
    cache.until(|cache| cache.stats().waits == 990).await;
    gate.release();
    for values in join_all(batches).await {
        assert_eq!(values, (0..10).map(|key| Some(key * 2)).collect::<Vec<_>>());
    }
    assert_eq!(loaded.load(Ordering::SeqCst), 10);
}

async fn a_waiter_for_a_key_that_was_left_out_loads_it(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let batch = {
        let gate = gate.clone();
        cache.spawn(move |cache| async move {
            let load = |_| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    vec![("a", 1)]
                }
            };
            cache.get_or_set_many(vec!["a", "b"], load).await
        })
    };
    gate.started().await;
    let single =
        cache.spawn(move |cache| async move { cache.get_or_set("b", || async { 9 }).await });
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_eq!(batch.join().await, [Some(1), None]);
    assert_eq!(single.join().await, 9);
}

async fn writes_during_a_batch_load_are_not_overwritten(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let batch = {
        let gate = gate.clone();
        cache.spawn(move |cache| async move {
            let load = |missing: Vec<&'static str>| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    missing.into_iter().map(|key| (key, 1)).collect()
                }
            };
            cache.get_or_set_many(vec!["a", "b", "c"], load).await
        })
    };
    gate.started().await;
    cache.delete("a").await.unwrap();
    cache.set("b", 2).await.unwrap();
    gate.release();
    assert_eq!(batch.join().await, [Some(1); 3], "the caller's own values");
    let stored = cache.get_many::<i32>(vec!["a", "b", "c"]).await.unwrap();
    assert_eq!(stored, [None, Some(2), Some(1)]);
}

async fn a_batch_whose_loader_panics_frees_its_keys(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let batch = {
        let gate = gate.clone();
        cache.spawn(move |cache| async move {
            let load = |_: Vec<&'static str>| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    panic!("the loader's own")
                }
            };
            cache
                .get_or_set_many::<_, i32, _>(vec!["a", "b"], load)
                .await
        })
    };
    gate.started().await;
    let waiter =
        cache.spawn(move |cache| async move { cache.get_or_set("b", || async { 2 }).await });
    cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_eq!(batch.outcome().await.unwrap_err(), "the loader's own");
    assert_eq!(waiter.join().await, 2);
    assert_eq!(cache.get_or_set("a", || async { 1 }).await, 1);
}

async fn a_batch_takes_over_from_a_load_that_panics(fixture: Fixture) {
    let (cache, requests, gate) = (fixture.cache, Requests::default(), LoaderGate::new());
    let panicking = {
        let gate = gate.clone();
        cache.spawn(move |cache| async move {
            let load = || async {
                gate.pass().await;
                panic!("the loader's own")
            };
            cache.get_or_set::<String, _>("b", load).await
        })
    };
    gate.started().await;
    let batch = {
        let requests = requests.clone();
        cache.spawn(move |cache| async move {
            let load = |missing| std::future::ready(requests.load(missing));
            cache.get_or_set_many(vec!["a", "b"], load).await
        })
    };
    while requests.runs().is_empty() {
        fixture.world.pause().await;
    }
    gate.release();
    assert!(panicking.outcome().await.is_err());
    assert_eq!(batch.join().await, some(&["a!", "b!"]));
    assert_eq!(requests.all(), ["a", "b"]);
}

async fn a_batch_that_loads_its_own_keys_is_refused(fixture: Fixture) {
    let cache = &fixture.cache;
    let is_reentrant = |error: &LoadError<()>| match error {
        LoadError::Reentrant(error) => error.kind() == ErrorKind::Reentrant,
        _ => false,
    };
    let results = cache.get_or_try_set_many(vec!["a", "b"], |_| async move {
        let single = cache
            .get_or_try_set("b", || async { Ok::<i32, ()>(9) })
            .await;
        assert!(is_reentrant(&single.unwrap_err()));
        let nested = cache.get_or_try_set_many(vec!["other", "a"], async |missing| {
            assert_eq!(missing, ["other"]);
            Ok::<_, ()>(vec![("other", 3)])
        });
        let nested: Vec<Result<Option<i32>, _>> = nested.await;
        assert_eq!(nested[0].as_ref().unwrap(), &Some(3));
        assert!(is_reentrant(nested[1].as_ref().unwrap_err()));
        Ok::<_, ()>(vec![("a", 1), ("b", 2)])
    });
    let values: Vec<_> = results.await.into_iter().map(Result::unwrap).collect();
    assert_eq!(values, [Some(1), Some(2)]);
    assert_eq!(cache.get::<i32>("other").await.unwrap(), Some(3));
}

async fn a_batch_reads_none_and_wrong_types(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("none", None::<i32>).await.unwrap();
    cache.set("text", "no integer").await.unwrap();
    let keys = vec!["none", "text"];
    let load = async |missing: Vec<&'static str>| {
        assert_eq!(missing, ["text"]);
        vec![("text", Some(7))]
    };
    let values = cache.get_or_set_many(keys, load).await;
    assert_eq!(values, [Some(None), Some(Some(7))]);
    assert_eq!(cache.get::<i32>("text").await.unwrap(), Some(7));
    assert_eq!(cache.stats().store_errors, 1);
}

async fn a_batch_survives_a_store_that_fails(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    let requests = Requests::default();
    faults.fail_all(true);
    for _ in 0..2 {
        let values = cache.get_or_set_many(vec!["a", "b"], async |missing| requests.load(missing));
        assert_eq!(values.await, some(&["a!", "b!"]));
        cache.clear_l1();
    }
    assert_eq!(requests.runs().len(), 2);
    // One read and one write for each key.
    assert_eq!(cache.stats().store_errors, 4);
    faults.fail_all(false);
    let values = cache.get_or_set_many(vec!["a", "b"], async |missing| requests.load(missing));
    assert_eq!(values.await, some(&["a!", "b!"]));
    assert_eq!(cache.get("a").await.unwrap(), Some(String::from("a!")));
}

async fn batches_share_the_absence_of_a_key(fixture: Fixture) {
    let (cache, gate) = (fixture.cache, LoaderGate::new());
    let batch = |cache: &CacheApi| {
        let gate = gate.clone();
        cache.spawn(move |cache| async move {
            let load = |_| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    vec![(2, "two".to_owned())]
                }
            };
            cache.get_or_set_many(vec![1, 2, 3], load).await
        })
    };
    let leader = batch(&cache);
    gate.started().await;
    let mut batches: Vec<_> = (0..49).map(|_| batch(&cache)).collect();
    cache.until(|cache| cache.stats().waits == 49 * 3).await;
    gate.release();
    batches.push(leader);
    for values in join_all(batches).await {
        assert_eq!(values, [None, Some("two".to_owned()), None]);
    }
    assert_eq!(gate.runs(), 1);
}
