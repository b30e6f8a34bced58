//! Loaders that tests start and release, so that the order of events is fixed without sleeping.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// A latch that is opened once. Threads and tasks can wait for it.
#[derive(Clone, Debug)]
struct Latch(Arc<watch::Sender<bool>>);

impl Latch {
    fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    fn open(&self) {
        self.0.send_replace(true);
    }

    async fn wait(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A gate that loaders wait at: a test learns that a loader has started, and decides when it ends.
#[derive(Clone, Debug)]
pub struct LoaderGate {
    started: Latch,
    released: Latch,
    runs: Arc<AtomicUsize>,
}

impl LoaderGate {
    /// Creates a gate whose loaders end when [`release`](Self::release) is called.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            started: Latch::closed(),
            released: Latch::closed(),
            runs: Arc::default(),
        }
    }

    /// Creates a gate whose loaders end at once.
    pub fn open() -> Self {
        let gate = Self::new();
        gate.release();
        gate
    }

    /// Creates a loader that passes the gate and returns `value`.
    pub fn loader<T: Send + 'static>(
        &self,
        value: T,
    ) -> impl FnOnce() -> Pin<Box<dyn Future<Output = T> + Send>> + Send + use<T> {
        let gate = self.clone();
        move || {
            Box::pin(async move {
                gate.pass().await;
                value
            })
        }
    }

    /// Counts a run, reports the start, and waits for the release: the body of each loader.
    pub async fn pass(&self) {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.started.open();
        self.released.wait().await;
    }

    /// Waits until a loader has started.
    pub async fn started(&self) {
        self.started.wait().await;
    }

    /// Lets the loaders end.
    pub fn release(&self) {
        self.released.open();
    }

    /// Returns how many loaders have started.
    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}
