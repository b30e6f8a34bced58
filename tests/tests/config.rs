//! The global defaults. This is its own binary with one test, because they are global.

#![cfg(not(shuttle))]

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::{ErrorKind, ManualClock, Ttl, config, configure};
use cacheio_sync::{Cache, Memory};

const TEN_MINUTES: Duration = Duration::from_secs(600);

fn memory(clock: &Arc<ManualClock>) -> Memory {
    Memory::builder().clock(Arc::clone(clock)).build()
}

fn entries(cache: &Cache) -> usize {
    for key in 0..10_000 {
        cache.set(key, key).unwrap();
    }
    cache
        .get_many::<i32>(0..10_000)
        .unwrap()
        .into_iter()
        .flatten()
        .count()
}

#[test]
fn a_cache_takes_the_defaults_when_it_is_built() {
    assert_eq!(
        (config().default_ttl, config().default_threshold),
        (Duration::from_secs(300), 500)
    );
    let clock = Arc::new(ManualClock::new());
    let before = Cache::builder().store(memory(&clock)).build().unwrap();
    assert!((400..=500).contains(&entries(&before)));

    configure(|c| {
        c.default_ttl = TEN_MINUTES;
        c.default_threshold = 100;
    })
    .unwrap();
    assert_eq!(
        (config().default_ttl, config().default_threshold),
        (TEN_MINUTES, 100)
    );
    let after = Cache::builder().store(memory(&clock)).build().unwrap();
    assert_eq!(entries(&after), 100);
    assert!(entries(&before) >= 400, "what is built is built");

    before.set("k", 1).unwrap();
    after.set("k", 1).unwrap();
    clock.advance(Duration::from_secs(300));
    assert!(!before.has("k").unwrap() && after.has("k").unwrap());
    clock.advance(Duration::from_secs(300));
    assert!(!after.has("k").unwrap());

    refused_settings_change_nothing();
    a_default_ttl_above_the_maximum_means_never();
    a_change_that_panics_changes_nothing();
    a_change_may_use_the_configuration();
    settings_that_a_change_leaves_alone_are_kept();
}

fn a_default_ttl_above_the_maximum_means_never() {
    configure(|c| c.default_ttl = Duration::MAX).unwrap();
    let clock = Arc::new(ManualClock::new());
    let cache = Cache::builder().store(memory(&clock)).build().unwrap();
    cache.set("k", 1).unwrap();
    clock.advance(Ttl::MAX * 2);
    assert!(cache.has("k").unwrap());
}

fn refused_settings_change_nothing() {
    let before = config();
    let refused = [
        configure(|c| c.default_ttl = Duration::ZERO),
        configure(|c| {
            c.default_ttl = Duration::from_secs(1);
            c.default_threshold = 0;
        }),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
        assert_eq!(config(), before);
    }
}

/// Fails instead of hanging.
fn ends_soon(run: impl FnOnce() + Send + 'static) {
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        run();
        ended.send(()).unwrap();
    });
    end.recv_timeout(Duration::from_secs(10))
        .expect("it hangs or panics");
}

fn a_change_may_use_the_configuration() {
    configure(|c| c.default_ttl = TEN_MINUTES).unwrap();
    ends_soon(|| {
        configure(|c| c.default_ttl = config().default_ttl * 2).unwrap();
        assert_eq!(config().default_ttl, TEN_MINUTES * 2);
        configure(|_| drop(Cache::builder().store(Memory::new()).build().unwrap())).unwrap();
    });
    ends_soon(|| {
        configure(|c| {
            configure(|inner| inner.default_threshold = 9).unwrap();
            c.default_ttl = TEN_MINUTES;
        })
        .unwrap();
        let config = config();
        assert_eq!(
            (config.default_ttl, config.default_threshold),
            (TEN_MINUTES, 9)
        );
    });
}

fn settings_that_a_change_leaves_alone_are_kept() {
    let (started, start) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let slow = std::thread::spawn(move || {
        configure(|c| {
            started.send(()).unwrap();
            released.recv().unwrap();
            c.default_threshold = 11;
        })
    });
    start.recv().unwrap();
    ends_soon(|| configure(|c| c.default_ttl = TEN_MINUTES * 3).unwrap());
    release.send(()).unwrap();
    slow.join().unwrap().unwrap();
    let config = config();
    assert_eq!(
        (config.default_ttl, config.default_threshold),
        (TEN_MINUTES * 3, 11)
    );
}

fn a_change_that_panics_changes_nothing() {
    let before = config();
    let change = || {
        configure(|c| {
            c.default_threshold = 7;
            panic!("while configuring")
        })
    };
    assert!(std::panic::catch_unwind(change).is_err());
    assert_eq!(config(), before);
    configure(|c| c.default_threshold = 8).unwrap();
    assert_eq!(config().default_threshold, 8);
}
