//! Gates and loaders that force an order.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// A gate that is closed until it is opened for good. Threads and tasks can wait at it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed gate.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets everybody through, from now on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// Where loaders play: they say when they have begun, and end when they are told to.
#[derive(Clone, Debug)]
pub struct Stage {
    begun: Gate,
    curtain: Gate,
    runs: Arc<AtomicUsize>,
}

impl Stage {
    /// A stage whose loaders end when [`end`](Self::end) is called.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            begun: Gate::new(),
            curtain: Gate::new(),
            runs: Arc::default(),
        }
    }

    /// A stage whose loaders end at once.
    pub fn open() -> Self {
        let stage = Self::new();
        stage.end();
        stage
    }

    /// A loader that makes `value`.
    pub fn loader<T: Send + 'static>(
        &self,
        value: T,
    ) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = T> + Send>> + Send + use<T> {
        let stage = self.clone();
        move || {
            Box::pin(async move {
                stage.play().await;
                value
            })
        }
    }

    /// What every loader does.
    pub async fn play(&self) {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.begun.open();
        self.curtain.pass().await;
    }

    /// Waits until a loader has begun.
    pub async fn begun(&self) {
        self.begun.pass().await;
    }

    /// Lets the loaders end.
    pub fn end(&self) {
        self.curtain.open();
    }

    /// How many loaders have begun.
    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}
