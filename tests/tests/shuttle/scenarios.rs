// The scenarios, for both worlds: see main.rs.

scenario!(a_cold_key_is_loaded_once, cache, {
    let truth = Truth::default();
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (cache, truth) = (cache.clone(), truth.clone());
            go!({ wait!(cache.get_or_set("k", load!({ pause!(); truth.load() }))) })
        })
        .collect();
    for caller in callers {
        assert_eq!(end!(caller), 0);
    }
    assert_eq!(truth.loads(), 1);
});

scenario!(a_failure_is_shared_by_all_waiters, cache, {
    let truth = Truth::default();
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (cache, truth) = (cache.clone(), truth.clone());
            go!({
                let load = load!({ pause!(); Err::<u64, usize>(truth.loads.fetch_add(1, Ordering::SeqCst)) });
                match wait!(cache.get_or_try_set("k", load)) {
                    Err(LoadError::Load(error)) => *error,
                    other => panic!("{other:?}"),
                }
            })
        })
        .collect();
    for caller in callers {
        assert!(end!(caller) < truth.loads());
    }
    assert_eq!(wait!(cache.get::<u64>("k")).unwrap(), None);
});

/// Starts a caller that loads what the origin has, for an entry with a tag.
macro_rules! load_tagged {
    ($cache:ident, $truth:ident) => {
        go!({
            let load = load!({
                let value = $truth.load();
                pause!();
                value
            });
            wait!($cache.get_or_set_with("k", Options::new().tags(["t"]), load));
        })
    };
}

/// Two loaders, and a writer that makes their loads obsolete, twice.
macro_rules! invalidation {
    ($name:ident, $invalidating:ident => $invalidate:expr) => {
        scenario!($name, cache, {
            let truth = Truth::default();
            let loaders: Vec<_> = (0..2)
                .map(|_| {
                    let (cache, truth) = (cache.clone(), truth.clone());
                    load_tagged!(cache, truth)
                })
                .collect();
            let $invalidating = cache.clone();
            for now in 1..=2 {
                truth.becomes(now);
                $invalidate;
                let seen = wait!(cache.get::<u64>("k")).unwrap();
                assert!(seen.is_none_or(|seen| seen == now), "{seen:?} was loaded before {now}");
                if now == 1 {
                    pause!();
                } else {
                    let seen = wait!(cache.get_or_set("k", load!({ truth.load() })));
                    assert_eq!(seen, now);
                }
            }
            for loader in loaders {
                end!(loader);
            }
            assert_eq!(wait!(cache.get::<u64>("k")).unwrap(), Some(2));
        });
    };
}

invalidation!(delete_during_load_is_not_overwritten, cache => wait!(cache.delete("k")).unwrap());
invalidation!(delete_many_during_load_is_not_overwritten, cache => wait!(cache.delete_many(["k", "other"])).unwrap());
invalidation!(clear_during_load_is_not_overwritten, cache => wait!(cache.clear()).unwrap());
invalidation!(tag_invalidation_during_load_is_not_overwritten, cache => wait!(cache.invalidate_tags(["t"])).unwrap());
invalidation!(touch_to_zero_during_load_is_not_overwritten, cache => wait!(cache.touch("k", Duration::ZERO)).unwrap());
invalidation!(set_to_zero_ttl_during_load_is_not_overwritten, cache => wait!(cache.set_with("k", 9, Duration::ZERO)).unwrap());

/// A leader reads again a value that is being invalidated: later callers must not join it.
macro_rules! rereading {
    ($name:ident, $invalidating:ident => $invalidate:expr) => {
        scenario!($name, cache, {
            let truth = Truth::default();
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let (cache, truth) = (cache.clone(), truth.clone());
                    go!({ wait!(cache.get_or_set("k", load!({ truth.load() }))) })
                })
                .collect();
            wait!(cache.set("k", 0_u64)).unwrap();
            truth.becomes(1);
            let $invalidating = cache.clone();
            $invalidate;
            assert_eq!(wait!(cache.get_or_set("k", load!({ truth.load() }))), 1);
            for reader in readers {
                end!(reader);
            }
        });
    };
}

rereading!(delete_while_a_leader_reads_again, cache => wait!(cache.delete("k")).unwrap());
rereading!(clear_while_a_leader_reads_again, cache => wait!(cache.clear()).unwrap());

scenario!(set_during_load_stays, cache, {
    let loaders: Vec<_> = (0..2)
        .map(|_| {
            let cache = cache.clone();
            go!({ wait!(cache.get_or_set("k", load!({ pause!(); 1_u64 }))) })
        })
        .collect();
    wait!(cache.set("k", 2_u64)).unwrap();
    assert_eq!(wait!(cache.get::<u64>("k")).unwrap(), Some(2));
    for loader in loaders {
        assert!(matches!(end!(loader), 1 | 2));
    }
    assert_eq!(wait!(cache.get::<u64>("k")).unwrap(), Some(2));
});

// Its leader and its waiter record the failure in the entry. Neither must restore a deleted one.
scenario!(a_failed_load_does_not_undo_a_delete, cache, clock, {
    let second = Duration::from_secs(1);
    let options = || Options::ttl(second).stale_for(second * 9);
    wait!(cache.set_with("k", 1_u64, options())).unwrap();
    clock.advance(second * 2);
    let loaders: Vec<_> = [second * 9, Duration::ZERO]
        .into_iter()
        .map(|stale_for| {
            let cache = cache.clone();
            go!({
                let options = Options::ttl(second).stale_for(stale_for);
                let load = load!({ pause!(); Err::<u64, ()>(()) });
                wait!(cache.get_or_try_set_with("k", options, load)).ok()
            })
        })
        .collect();
    wait!(cache.delete("k")).unwrap();
    let load = load!({ Err::<u64, ()>(()) });
    assert!(wait!(cache.get_or_try_set_with("k", options(), load)).is_err());
    for loader in loaders {
        assert!(matches!(end!(loader), None | Some(1)));
    }
    let load = load!({ Err::<u64, ()>(()) });
    assert!(wait!(cache.get_or_try_set_with("k", options(), load)).is_err());
});

scenario!(add_during_load_stays, cache, {
    let loader = {
        let cache = cache.clone();
        go!({ wait!(cache.get_or_set("k", load!({ pause!(); 1_u64 }))) })
    };
    let added = wait!(cache.add("k", 2_u64)).unwrap();
    let expected = if added { 2 } else { 1 };
    assert_eq!(wait!(cache.get::<u64>("k")).unwrap(), Some(expected));
    end!(loader);
    assert_eq!(wait!(cache.get::<u64>("k")).unwrap(), Some(expected));
});

scenario!(increment_during_load_stays, cache, {
    let loader = {
        let cache = cache.clone();
        go!({ wait!(cache.get_or_set("k", load!({ pause!(); 1_i64 }))) })
    };
    let count = wait!(cache.increment("k", 10)).unwrap();
    assert!(matches!(count, 10 | 11));
    end!(loader);
    assert_eq!(wait!(cache.get::<i64>("k")).unwrap(), Some(count));
});

scenario!(update_during_load_stays, cache, {
    let loader = {
        let cache = cache.clone();
        go!({ wait!(cache.get_or_set("k", load!({ pause!(); 1_u64 }))) })
    };
    let add = |old: Option<u64>| Update::Set(old.unwrap_or(0) + 10);
    let updated = wait!(cache.update("k", add)).unwrap().unwrap();
    assert!(matches!(updated, 10 | 11));
    end!(loader);
    assert_eq!(wait!(cache.get::<u64>("k")).unwrap(), Some(updated));
});

scenario!(no_update_is_lost_and_none_is_taken_twice, cache, {
    let updates = [1_u64, 2].map(|by| {
        let cache = cache.clone();
        go!({
            let add = |old: Option<u64>| Update::Set(old.unwrap_or(0) + by);
            wait!(cache.update("k", add)).unwrap().unwrap()
        })
    });
    let taken = wait!(cache.take::<u64>("k")).unwrap().unwrap_or(0);
    for update in updates {
        end!(update);
    }
    let left = wait!(cache.take::<u64>("k")).unwrap().unwrap_or(0);
    assert_eq!(taken + left, 3);
    assert_eq!(wait!(cache.take::<u64>("k")).unwrap(), None);
});

scenario!(a_cycle_of_two_loaders_fails_in_one_of_them, cache, {
    let caller = |own: &'static str, other: &'static str| {
        let cache = cache.clone();
        go!({
            let inner = cache.clone();
            let load = load!({
                pause!();
                let other = wait!(inner.get_or_try_set(other, load!({ Ok::<u64, ()>(0) })));
                Ok::<u64, ()>(match other {
                    Ok(_) => 0,
                    Err(LoadError::Reentrant(_)) => 1,
                    Err(error) => panic!("{error:?}"),
                })
            });
            wait!(cache.get_or_try_set(own, load)).unwrap()
        })
    };
    let (a, b) = (caller("a", "b"), caller("b", "a"));
    assert!(end!(a) + end!(b) <= 1);
    assert!(wait!(cache.has("a")).unwrap() && wait!(cache.has("b")).unwrap());
});

scenario!(a_load_is_invalidated_while_a_nested_load_waits_for_it, cache, {
    let outer = {
        let cache = cache.clone();
        go!({
            let inner = cache.clone();
            wait!(cache.get_or_set("outer", load!({ wait!(inner.get_or_set("k", load!({ 1_u64 }))) })))
        })
    };
    let loader = {
        let cache = cache.clone();
        go!({ wait!(cache.get_or_set("k", load!({ pause!(); 1_u64 }))) })
    };
    wait!(cache.delete("k")).unwrap();
    assert_eq!((end!(outer), end!(loader)), (1, 1));
});

scenario!(a_cycle_of_three_loaders_fails, cache, {
    let caller = |own: u64, other: u64| {
        let cache = cache.clone();
        go!({
            let inner = cache.clone();
            let load = load!({ Ok::<u64, ()>(wait!(inner.get_or_try_set(other, load!({ Ok::<u64, ()>(0) }))).unwrap_or(1)) });
            wait!(cache.get_or_try_set(own, load)).unwrap()
        })
    };
    let running = [caller(0, 1), caller(1, 2), caller(2, 0)];
    for one in running {
        assert!(end!(one) <= 1);
    }
});

// One caller loads "c" in "b" in "a", the other loads "a" in "c": the cycle goes through a load
// that another loader runs.
scenario!(a_cycle_through_a_nested_load_fails, cache, {
    let nested = {
        let cache = cache.clone();
        go!({
            let (inner, innermost) = (cache.clone(), cache.clone());
            let c = load!({ Ok::<u64, ()>(wait!(innermost.get_or_try_set("c", load!({ Ok::<u64, ()>(0) }))).unwrap_or(1)) });
            let b = load!({ Ok::<u64, ()>(wait!(inner.get_or_try_set("b", c)).unwrap_or(1)) });
            wait!(cache.get_or_try_set("a", b)).unwrap()
        })
    };
    let back = {
        let cache = cache.clone();
        go!({
            let inner = cache.clone();
            let a = load!({ Ok::<u64, ()>(wait!(inner.get_or_try_set("a", load!({ Ok::<u64, ()>(0) }))).unwrap_or(1)) });
            wait!(cache.get_or_try_set("c", a)).unwrap()
        })
    };
    assert!(end!(nested) + end!(back) <= 2);
});

scenario!(concurrent_writes_of_one_key_are_not_lost, cache, {
    let counting: Vec<_> = (0..2)
        .map(|_| {
            let cache = cache.clone();
            go!({ wait!(cache.increment("k", 1)).unwrap() })
        })
        .collect();
    let seen = wait!(cache.get_or_set("k", load!({ 0_i64 })));
    assert!((0..=2).contains(&seen));
    for one in counting {
        end!(one);
    }
    assert_eq!(wait!(cache.get::<i64>("k")).unwrap(), Some(2));
});

// Batches that lead each other's keys, and a single caller: each key is loaded once.
scenario!(batches_that_overlap_load_each_key_once, cache, {
    let (a, b) = (Truth::default(), Truth::default());
    let mut batches = Vec::new();
    for keys in [["a", "b"], ["b", "a"]] {
        let (cache, a, b) = (cache.clone(), a.clone(), b.clone());
        batches.push(go!({
            let load = load_many!(missing => {
                pause!();
                let load = |key| (key, if key == "a" { a.load() } else { b.load() });
                missing.into_iter().map(load).collect::<Vec<_>>()
            });
            assert_eq!(wait!(cache.get_or_set_many(keys, load)), [Some(0); 2]);
        }));
    }
    let single = wait!(cache.get_or_set("b", load!({ pause!(); b.load() })));
    assert_eq!(single, 0);
    for batch in batches {
        end!(batch);
    }
    assert_eq!((a.loads(), b.loads()), (1, 1));
});

// A batch and a single caller, and a writer that makes their loads obsolete, twice.
scenario!(writes_during_a_batch_are_not_overwritten, cache, {
    let truth = Truth::default();
    let batch = {
        let (cache, truth) = (cache.clone(), truth.clone());
        go!({
            let load = load_many!(missing => {
                let value = truth.load();
                pause!();
                missing.into_iter().map(|key| (key, value)).collect::<Vec<_>>()
            });
            wait!(cache.get_or_set_many(["k", "other"], load));
        })
    };
    for now in 1..=2 {
        truth.becomes(now);
        match now {
            1 => drop(wait!(cache.delete("k")).unwrap()),
            _ => drop(wait!(cache.delete_many(["other", "k"])).unwrap()),
        }
        let seen = wait!(cache.get::<u64>("k")).unwrap();
        assert!(seen.is_none_or(|seen| seen == now), "{seen:?} was loaded before {now}");
        if now == 2 {
            let load = load_many!(missing => {
                let value = truth.load();
                missing.into_iter().map(|key| (key, value)).collect::<Vec<_>>()
            });
            assert_eq!(wait!(cache.get_or_set_many(["other", "k"], load)), [Some(2); 2]);
        }
    }
    end!(batch);
    assert_eq!(wait!(cache.get::<u64>("k")).unwrap(), Some(2));
});

// A batch that waits for a key gets what its load gave: a value, or the absence of one.
scenario!(batches_share_the_absence_of_a_key, cache, {
    let leaving = {
        let cache = cache.clone();
        go!({
            let load = load_many!(missing => {
                pause!();
                missing.into_iter().filter(|key| *key == "a").map(|key| (key, 1_u64)).collect::<Vec<_>>()
            });
            wait!(cache.get_or_set_many(["a", "b"], load))
        })
    };
    let load = load_many!(missing => {
        missing.into_iter().map(|key| (key, 2_u64)).collect::<Vec<_>>()
    });
    let values = wait!(cache.get_or_set_many(["b", "a"], load));
    assert!(matches!(values[..], [None | Some(2), Some(1 | 2)]), "{values:?}");
    let left = end!(leaving);
    assert!(matches!(left[..], [Some(1 | 2), None | Some(2)]), "{left:?}");
    // A caller that got no value has waited for the load that had none.
    assert!(values[0].is_some() || left[1].is_none(), "{values:?}, {left:?}");
    assert_eq!(wait!(cache.get::<u64>("b")).unwrap(), values[0]);
});

scenario!(a_cold_key_is_fetched_once, cache, {
    let truth = Truth::default();
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (cache, truth) = (cache.clone(), truth.clone());
            go!({
                let load = load_behind!({
                    pause!();
                    truth.load()
                });
                wait!(cache.fetch("k", load)).unwrap()
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(end!(caller), 0);
    }
    assert_eq!(truth.loads(), 1);
});

scenario!(refreshes_are_invalidated_as_loads_are, cache, {
    let truth = Truth::default();
    // The entry is always due for a refresh.
    let options = Options::new().refresh_ahead(1e-12);
    let first = truth.clone();
    let load = load!({ first.load() });
    wait!(cache.get_or_set_with("k", options.clone(), load));
    let got = {
        let (cache, truth, options) = (cache.clone(), truth.clone(), options.clone());
        go!({
            let load = load!({
                let value = truth.load();
                pause!();
                value
            });
            wait!(cache.get_or_set_with("k", options, load));
        })
    };
    let fetched = {
        let (cache, truth) = (cache.clone(), truth.clone());
        go!({
            let load = load_behind!({
                let value = truth.load();
                pause!();
                value
            });
            wait!(cache.fetch_with("k", options, load)).unwrap();
        })
    };
    for now in 1..=2 {
        truth.becomes(now);
        wait!(cache.delete("k")).unwrap();
        let seen = wait!(cache.get::<u64>("k")).unwrap();
        assert!(seen.is_none_or(|seen| seen == now), "{seen:?} was loaded before {now}");
    }
    end!(got);
    end!(fetched);
    let seen = wait!(cache.get::<u64>("k")).unwrap();
    assert!(seen.is_none_or(|seen| seen == 2), "{seen:?} was loaded before 2");
});

/// Two caches with an L1 each, readers of both, and a writer that uses one after the other.
macro_rules! copies {
    ($name:ident, ($cache:ident, $value:ident) => $body:expr) => {
        scenario!($name, [one, other], {
            wait!(one.set("k", 0_u64)).unwrap();
            let readers: Vec<_> = [&one, &other]
                .into_iter()
                .map(|cache| {
                    let cache = cache.clone();
                    go!({
                        for _ in 0..2 {
                            wait!(cache.get::<u64>("k")).unwrap();
                        }
                    })
                })
                .collect();
            for ($value, $cache) in [(1_u64, one.clone()), (2, other.clone())] {
                $body;
                for cache in [&one, &other] {
                    let seen = wait!(cache.get::<u64>("k")).unwrap();
                    assert!(seen.is_none_or(|seen| seen == $value), "{seen:?} was read after {}", $value);
                }
            }
            for reader in readers {
                end!(reader);
            }
            for cache in [&one, &other] {
                let seen = wait!(cache.get::<u64>("k")).unwrap();
                assert!(seen.is_none_or(|seen| seen == 2), "{seen:?} was read after 2");
            }
        });
    };
}

copies!(no_copy_outlives_a_set, (cache, value) => wait!(cache.set("k", value)).unwrap());
copies!(no_copy_outlives_a_set_many, (cache, value) => wait!(cache.set_many([("k", value)])).unwrap());
copies!(no_copy_outlives_a_delete, (cache, value) => wait!(cache.delete("k")).unwrap());
copies!(no_copy_outlives_a_clear, (cache, value) => wait!(cache.clear()).unwrap());
copies!(no_copy_outlives_a_load, (cache, value) => {
    wait!(cache.get_or_set_with("k", Options::new().force_refresh(), load!({ value })))
});

scenario!(a_load_that_loses_against_a_delete_is_not_copied, [one, other], {
    let truth = Truth::default();
    let loaders: Vec<_> = [&one, &other]
        .into_iter()
        .map(|cache| {
            let (cache, truth) = (cache.clone(), truth.clone());
            load_tagged!(cache, truth)
        })
        .collect();
    for now in 1..=2 {
        truth.becomes(now);
        match now {
            1 => drop(wait!(one.delete("k")).unwrap()),
            _ => wait!(other.invalidate_tags(["t"])).unwrap(),
        }
        for cache in [&one, &other] {
            let seen = wait!(cache.get::<u64>("k")).unwrap();
            assert!(seen.is_none_or(|seen| seen == now), "{seen:?} was loaded before {now}");
        }
    }
    for loader in loaders {
        end!(loader);
    }
    for cache in [&one, &other] {
        let seen = wait!(cache.get::<u64>("k")).unwrap();
        assert!(seen.is_none_or(|seen| seen == 2), "{seen:?} was loaded before 2");
    }
});
