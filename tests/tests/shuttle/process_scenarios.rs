// The scenarios with several processes, for both worlds: see main.rs and processes.rs.

/// A scenario, and the mistakes of a server that it must notice, each with the name of its test.
macro_rules! process_scenario {
    ($name:ident on $count:literal, $takes_over:expr, $processes:ident, $body:block
        $($mistake:ident is noticed by $noticed:ident)*
    ) => {
        #[test]
        fn $name() {
            check(|| {
                let $processes = open_processes($count, Mistake::None, $takes_over);
                run!($body)
            });
        }

        $(#[test]
        fn $noticed() {
            must_fail(|| {
                let $processes = open_processes($count, Mistake::$mistake, $takes_over);
                run!($body)
            });
        })*
    };
}

process_scenario!(processes_load_a_cold_key_once on 2, TakesOver::Never, processes, {
    let truth = Truth::default();
    // The first process has two callers.
    let callers: Vec<_> = [0, 0, 1]
        .into_iter()
        .map(|process| {
            let (cache, truth) = (processes[process].clone(), truth.clone());
            go!({ wait!(cache.get_or_set("k", load!({ pause!(); truth.load() }))) })
        })
        .collect();
    for caller in callers {
        assert_eq!(end!(caller), 0);
    }
    assert_eq!(truth.loads(), 1);
});

/// Loaders in two processes, and a writer in a third one that makes their loads obsolete, twice.
macro_rules! invalidation_by_another_process {
    ($name:ident, $writer:ident => $write:expr, $($noticed:tt)*) => {
        process_scenario!($name on 3, TakesOver::Sometimes, processes, {
            let truth = Truth::default();
            let loaders: Vec<_> = (0..2)
                .map(|process: usize| {
                    let (cache, truth) = (processes[process].clone(), truth.clone());
                    go!({
                        let load = load!({
                            let value = truth.load();
                            pause!();
                            value
                        });
                        wait!(cache.get_or_set("k", load));
                    })
                })
                .collect();
            let $writer = processes[2].clone();
            for now in 1..=2 {
                truth.becomes(now);
                $write;
                let seen = wait!($writer.get::<u64>("k")).unwrap();
                assert!(seen.is_none_or(|seen| seen == now), "{seen:?} was loaded before {now}");
                pause!();
            }
            for loader in loaders {
                end!(loader);
            }
            let seen = wait!(processes[0].get::<u64>("k")).unwrap();
            assert!(seen.is_none_or(|seen| seen == 2), "{seen:?} was loaded before 2");
            let load = load!({ truth.load() });
            assert_eq!(wait!(processes[1].get_or_set("k", load)), 2);
        } $($noticed)*);
    };
}

invalidation_by_another_process!(
    delete_in_another_process_is_not_overwritten, cache => wait!(cache.delete("k")).unwrap(),
    IgnoresTheClaim is noticed by a_value_that_is_stored_without_its_claim_is_noticed
    EndsClaimsAfterWrites is noticed by a_delete_that_ends_claims_too_late_is_noticed
);
invalidation_by_another_process!(
    clear_in_another_process_is_not_overwritten, cache => wait!(cache.clear()).unwrap(),
    EndsClaimsAfterWrites is noticed by a_clear_that_ends_claims_too_late_is_noticed
);

process_scenario!(set_in_another_process_stays on 3, TakesOver::Sometimes, processes, {
    let loaders: Vec<_> = (0..2)
        .map(|process: usize| {
            let cache = processes[process].clone();
            go!({ wait!(cache.get_or_set("k", load!({ pause!(); 1_u64 }))) })
        })
        .collect();
    wait!(processes[2].set("k", 2_u64)).unwrap();
    assert_eq!(wait!(processes[2].get::<u64>("k")).unwrap(), Some(2));
    for loader in loaders {
        assert!(matches!(end!(loader), 1 | 2));
    }
    assert_eq!(wait!(processes[0].get::<u64>("k")).unwrap(), Some(2));
} IgnoresTheEntry is noticed by a_value_that_is_stored_over_a_newer_one_is_noticed);

// Those that waited for it load together, and one of them stores its value.
process_scenario!(a_failed_load_delays_no_other_process on 2, TakesOver::Never, processes, {
    let failing = {
        let cache = processes[0].clone();
        go!({
            let load = load!({ pause!(); Err::<u64, ()>(()) });
            wait!(cache.get_or_try_set("k", load)).ok()
        })
    };
    let loaders: Vec<_> = [1, 1, 0]
        .into_iter()
        .map(|process: usize| {
            let cache = processes[process].clone();
            go!({ wait!(cache.get_or_set("k", load!({ pause!(); 1_u64 }))) })
        })
        .collect();
    assert!(matches!(end!(failing), None | Some(1)));
    for loader in loaders {
        assert_eq!(end!(loader), 1);
    }
    assert_eq!(wait!(processes[1].get::<u64>("k")).unwrap(), Some(1));
});
