//! Loads of many keys at once: still one load a key.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prelude::*;

/// What each run of a loader was asked for.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Vec<String>>>>);

impl Asked {
    /// Makes `"<key>!"` of each key, and notes what it was asked for.
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

pub(crate) async fn a_batch_loads_what_is_missing_at_once<F: Face>(place: Place<F>) {
    let (cache, asked) = (place.cache, Asked::default());
    cache.set("b", "found").await.unwrap();
    let values = cache.get_or_set_many(vec!["a", "b", "c"], async |missing| asked.load(missing));
    assert_eq!(values.await, some(&["a!", "found", "c!"]));
    assert_eq!(asked.runs(), [["a", "c"]]);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 2, 1));
}

pub(crate) async fn a_batch_is_answered_in_its_order_with_duplicates<F: Face>(place: Place<F>) {
    let (cache, asked) = (place.cache, Asked::default());
    cache.set("a", "found").await.unwrap();
    let keys = vec!["c", "a", "b", "c", "a", "c"];
    let values = cache.get_or_set_many(keys, async |missing| asked.load(missing));
    assert_eq!(
        values.await,
        some(&["c!", "found", "b!", "c!", "found", "c!"])
    );
    assert_eq!(asked.runs(), [["c", "b"]], "each key once");
}

pub(crate) async fn an_empty_batch_loads_nothing<F: Face>(place: Place<F>) {
    let (cache, asked) = (place.cache, Asked::default());
    let values = cache.get_or_set_many(Vec::new(), async |missing| asked.load(missing));
    assert_eq!(values.await, some(&[]));
    assert!(asked.runs().is_empty());
}

pub(crate) async fn what_a_batch_loaded_is_stored<F: Face>(place: Place<F>) {
    let (cache, asked) = (place.cache, Asked::default());
    for _ in 0..2 {
        let values = cache.get_or_set_many(vec!["a", "b"], async |missing| asked.load(missing));
        assert_eq!(values.await, some(&["a!", "b!"]));
    }
    assert_eq!(asked.runs().len(), 1);
    assert_eq!(cache.get("a").await.unwrap(), Some(String::from("a!")));
    let again = cache.get_or_set("b", || async { String::from("no") });
    assert_eq!(again.await, "b!");
}

pub(crate) async fn what_the_loader_left_out_is_none_and_not_stored<F: Face>(place: Place<F>) {
    let cache = place.cache;
    let values = cache.get_or_set_many(vec!["a", "b"], async |_| vec![("b", 1)]);
    assert_eq!(values.await, [None, Some(1)]);
    assert!(!cache.has("a").await.unwrap());
    assert_eq!(cache.get_or_set("a", || async { 2 }).await, 2);
}

pub(crate) async fn what_the_loader_was_not_asked_for_is_ignored<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set("found", 1).await.unwrap();
    let loaded = vec![("found", 9), ("other", 9), ("missing", 2)];
    let values = cache.get_or_set_many(vec!["found", "missing"], async |_| loaded.clone());
    assert_eq!(values.await, [Some(1), Some(2)]);
    assert_eq!(cache.get::<i32>("found").await.unwrap(), Some(1));
    assert!(!cache.has("other").await.unwrap());
}

pub(crate) async fn a_failed_batch_keeps_what_was_found<F: Face>(place: Place<F>) {
    let cache = place.cache;
    cache.set("found", 1).await.unwrap();
    let answers = cache
        .get_or_try_set_many(vec!["a", "found", "b", "a"], async |_| {
            Err::<Vec<(&str, i32)>, _>("down")
        })
        .await;
    assert_eq!(answers[1].as_ref().unwrap(), &Some(1));
    let mut errors = [0, 2, 3].map(|at: usize| match &answers[at] {
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

pub(crate) async fn a_batch_waits_for_a_load_of_one_of_its_keys<F: Face>(place: Place<F>) {
    let (cache, asked, stage) = (place.cache, Asked::default(), Stage::new());
    let single = {
        let (cache, load) = (cache.clone(), stage.loader(String::from("alone")));
        F::spawn(async move { cache.get_or_set("b", load).await })
    };
    stage.begun().await;
    let batch = {
        let (cache, asked) = (cache.clone(), asked.clone());
        F::spawn(async move {
            let keys = vec!["a", "b", "c"];
            let load = |missing| std::future::ready(asked.load(missing));
            cache.get_or_set_many(keys, load).await
        })
    };
    // Its own keys are loaded and stored while the other load goes on.
    while !cache.has("c").await.unwrap() {
        F::pause().await;
    }
    assert_eq!(cache.stats().waits, 1);
    stage.end();
    assert_eq!(single.join().await, "alone");
    assert_eq!(batch.join().await, some(&["a!", "alone", "c!"]));
    assert_eq!(asked.runs(), [["a", "c"]]);
}

pub(crate) async fn a_load_waits_for_a_batch_with_its_key<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let batch = {
        let (cache, stage) = (cache.clone(), stage.clone());
        F::spawn(async move {
            let load = |_| {
                let stage = stage.clone();
                async move {
                    stage.play().await;
                    vec![("a", 1), ("b", 2)]
                }
            };
            cache.get_or_set_many(vec!["a", "b"], load).await
        })
    };
    stage.begun().await;
    let single = {
        let cache = cache.clone();
        F::spawn(async move { cache.get_or_set("b", || async { 9 }).await })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    assert_eq!(batch.join().await, [Some(1), Some(2)]);
    assert_eq!(single.join().await, 2);
}

/// Each leads a key that the other waits for: neither waits before it has loaded its own.
pub(crate) async fn batches_that_overlap_load_each_key_once<F: Face>(place: Place<F>) {
    for keys in [["a", "b", "c", "d"], ["e", "f", "g", "h"]] {
        let asked = Asked::default();
        let batches = (0..20).map(|i| {
            let (cache, asked) = (place.cache.clone(), asked.clone());
            let mut keys = keys.to_vec();
            keys.rotate_left(i % 4);
            if i % 2 == 0 {
                keys.reverse();
            }
            F::spawn(async move {
                let load = |missing| std::future::ready(asked.load(missing));
                let values = cache.get_or_set_many(keys.clone(), load).await;
                for (key, value) in keys.iter().zip(values) {
                    assert_eq!(value, Some(format!("{key}!")));
                }
            })
        });
        join_all(batches.collect()).await;
        assert_eq!(asked.all(), keys);
    }
}

pub(crate) async fn a_hundred_batches_load_once<F: Face>(place: Place<F>) {
    let (cache, stage, loaded) = (place.cache, Stage::new(), Arc::new(AtomicUsize::new(0)));
    let batches = (0..100).map(|_| {
        let (cache, stage, loaded) = (cache.clone(), stage.clone(), Arc::clone(&loaded));
        F::spawn(async move {
            let load = |missing: Vec<i32>| {
                let stage = stage.clone();
                loaded.fetch_add(missing.len(), Ordering::SeqCst);
                async move {
                    stage.play().await;
                    missing.into_iter().map(|key| (key, key * 2)).collect()
                }
            };
            cache.get_or_set_many((0..10).collect(), load).await
        })
    });
    let batches = batches.collect();
    // Each key is led by one batch and waited for by 99; two that come at once may share the keys.
    cache.until(|cache| cache.stats().waits == 990).await;
    stage.end();
    for values in join_all(batches).await {
        assert_eq!(values, (0..10).map(|key| Some(key * 2)).collect::<Vec<_>>());
    }
    assert_eq!(loaded.load(Ordering::SeqCst), 10);
}

pub(crate) async fn whoever_waits_for_a_key_that_was_left_out_loads_it<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let batch = {
        let (cache, stage) = (cache.clone(), stage.clone());
        F::spawn(async move {
            let load = |_| {
                let stage = stage.clone();
                async move {
                    stage.play().await;
                    vec![("a", 1)]
                }
            };
            cache.get_or_set_many(vec!["a", "b"], load).await
        })
    };
    stage.begun().await;
    let single = {
        let cache = cache.clone();
        F::spawn(async move { cache.get_or_set("b", || async { 9 }).await })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    assert_eq!(batch.join().await, [Some(1), None]);
    assert_eq!(single.join().await, 9);
}

/// Races E and F.
pub(crate) async fn writes_during_a_batch_load_are_not_overwritten<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let batch = {
        let (cache, stage) = (cache.clone(), stage.clone());
        F::spawn(async move {
            let load = |missing: Vec<&'static str>| {
                let stage = stage.clone();
                async move {
                    stage.play().await;
                    missing.into_iter().map(|key| (key, 1)).collect()
                }
            };
            cache.get_or_set_many(vec!["a", "b", "c"], load).await
        })
    };
    stage.begun().await;
    cache.delete("a").await.unwrap();
    cache.set("b", 2).await.unwrap();
    stage.end();
    assert_eq!(batch.join().await, [Some(1); 3], "the caller's own values");
    let stored = cache.get_many::<i32>(vec!["a", "b", "c"]).await.unwrap();
    assert_eq!(stored, [None, Some(2), Some(1)]);
}

/// Race C.
pub(crate) async fn a_batch_whose_loader_panics_frees_its_keys<F: Face>(place: Place<F>) {
    let (cache, stage) = (place.cache, Stage::new());
    let batch = {
        let (cache, stage) = (cache.clone(), stage.clone());
        F::spawn(async move {
            let load = |_: Vec<&'static str>| {
                let stage = stage.clone();
                async move {
                    stage.play().await;
                    panic!("the loader's own")
                }
            };
            cache
                .get_or_set_many::<_, i32, _>(vec!["a", "b"], load)
                .await
        })
    };
    stage.begun().await;
    let waiter = {
        let cache = cache.clone();
        F::spawn(async move { cache.get_or_set("b", || async { 2 }).await })
    };
    cache.until(|cache| cache.stats().waits == 1).await;
    stage.end();
    assert_eq!(batch.outcome().await.unwrap_err(), "the loader's own");
    assert_eq!(waiter.join().await, 2);
    assert_eq!(cache.get_or_set("a", || async { 1 }).await, 1);
}

pub(crate) async fn a_batch_takes_over_from_a_load_that_panics<F: Face>(place: Place<F>) {
    let (cache, asked, stage) = (place.cache, Asked::default(), Stage::new());
    let panicking = {
        let (cache, stage) = (cache.clone(), stage.clone());
        F::spawn(async move {
            let load = || async {
                stage.play().await;
                panic!("the loader's own")
            };
            cache.get_or_set::<String, _>("b", load).await
        })
    };
    stage.begun().await;
    let batch = {
        let (cache, asked) = (cache.clone(), asked.clone());
        F::spawn(async move {
            let load = |missing| std::future::ready(asked.load(missing));
            cache.get_or_set_many(vec!["a", "b"], load).await
        })
    };
    while asked.runs().is_empty() {
        F::pause().await;
    }
    stage.end();
    assert!(panicking.outcome().await.is_err());
    assert_eq!(batch.join().await, some(&["a!", "b!"]));
    assert_eq!(asked.all(), ["a", "b"]);
}

/// Race G.
pub(crate) async fn a_batch_that_asks_for_its_own_keys_is_refused<F: Face>(place: Place<F>) {
    let cache = &place.cache;
    let is_reentrant = |error: &LoadError<()>| match error {
        LoadError::Reentrant(error) => error.kind() == ErrorKind::Reentrant,
        _ => false,
    };
    let answers = cache.get_or_try_set_many(vec!["a", "b"], |_| async move {
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
    let values: Vec<_> = answers.await.into_iter().map(Result::unwrap).collect();
    assert_eq!(values, [Some(1), Some(2)]);
    assert_eq!(cache.get::<i32>("other").await.unwrap(), Some(3));
}

pub(crate) async fn a_batch_reads_none_and_wrong_types<F: Face>(place: Place<F>) {
    let cache = place.cache;
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

pub(crate) async fn a_batch_survives_a_store_that_fails<F: Face>(place: Place<F>) {
    let (cache, breaker) = place.breakable();
    let asked = Asked::default();
    breaker.all_fail(true);
    for _ in 0..2 {
        let values = cache.get_or_set_many(vec!["a", "b"], async |missing| asked.load(missing));
        assert_eq!(values.await, some(&["a!", "b!"]));
    }
    assert_eq!(asked.runs().len(), 2);
    // A reading and a writing of each.
    assert_eq!(cache.stats().store_errors, 4);
    breaker.all_fail(false);
    let values = cache.get_or_set_many(vec!["a", "b"], async |missing| asked.load(missing));
    assert_eq!(values.await, some(&["a!", "b!"]));
    assert_eq!(cache.get("a").await.unwrap(), Some(String::from("a!")));
}
