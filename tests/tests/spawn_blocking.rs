//! The adapter that runs a blocking store on tokio's threads for blocking work.

#![cfg(not(shuttle))]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cacheio_sync::store::{AsyncStore as _, Entry, Form, Key, Store};
use cacheio_sync::{ErrorKind, Result, SpawnBlocking};
use cacheio_tests::watchdog::guarded;
use tokio::runtime::Builder;

/// A store that counts its calls.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<AtomicUsize>);

impl Counting {
    fn call<T>(&self, output: T) -> Result<T> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(output)
    }
}

impl Store for Counting {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, _: &Key<'_>) -> Result<Option<Entry>> {
        self.call(None)
    }

    fn set(&self, _: &Key<'_>, _: Entry, _: Option<Duration>) -> Result<()> {
        self.call(())
    }

    fn delete(&self, _: &Key<'_>) -> Result<bool> {
        self.call(false)
    }

    fn clear(&self, _: &str) -> Result<()> {
        self.call(())
    }
}

/// Occupies the only thread of a runtime until the sender is dropped.
fn occupy() -> Sender<()> {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    tokio::task::spawn_blocking(move || released.lock().unwrap().recv());
    release
}

#[test]
fn a_call_whose_caller_gave_up_before_it_began_never_begins() {
    guarded(|| {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let calls = Counting::default();
            let store = SpawnBlocking::new(calls.clone()).timeout(Duration::from_millis(5));
            let release = occupy();
            let began = Instant::now();
            for _ in 0..20 {
                let error = store.get(&Key::new("k")).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout);
                let error = store.delete(&Key::new("k")).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout);
            }
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{:?}",
                began.elapsed()
            );
            drop(release);
            let store = SpawnBlocking::new(calls.clone());
            store.delete(&Key::new("k")).await.unwrap();
            assert_eq!(calls.0.load(Ordering::SeqCst), 1);
        });
    });
}
