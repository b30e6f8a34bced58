//! Deadlock detection: which load the current code runs for, and which loads wait for which.
//!
//! A loader that waits for its own key, directly or through the loader of another key, would wait
//! forever. Each load has a scope. While its loader runs (in a thread) or is polled (in a task), its
//! scope is in a thread-local, so calls of the loader are known to belong to its load. Waits between
//! loads are the edges of a graph, and an edge that would close a cycle is refused. Only loaders that
//! call a cache touch the graph.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, PoisonError};

use once_cell::sync::Lazy;

use super::sync::thread_local;

thread_local! {
    static CURRENT: RefCell<Option<Arc<LoadScope>>> = const { RefCell::new(None) };
}

/// From each load to the loads that it waits for. The lock is never held while waiting.
static GRAPH: Lazy<std::sync::Mutex<HashMap<u64, Vec<u64>>>> = Lazy::new(Default::default);

/// A load in progress.
#[derive(Debug)]
pub(crate) struct LoadScope {
    id: u64,
    /// The type of the loader, if it runs in its caller.
    loader: Option<TypeId>,
    /// The number of loads around this one that would have waited for themselves, and run for their
    /// own callers instead.
    unshared: usize,
    parent: Option<Arc<LoadScope>>,
    _edge: Option<WaitEdge>,
}

impl LoadScope {
    /// Creates the scope of a load that the enclosing load waits for.
    pub(crate) fn new(loader: TypeId) -> Arc<Self> {
        let id = next_id();
        let parent = Self::current();
        let edge = parent.as_ref().map(|parent| WaitEdge::add(parent.id, id));
        Arc::new(Self {
            id,
            loader: Some(loader),
            unshared: parent.as_ref().map_or(0, |parent| parent.unshared),
            parent,
            _edge: edge,
        })
    }

    /// Creates the scope of a load that would wait for itself, and runs for its own caller instead.
    /// Returns `None` if `max` such loads are around it.
    pub(crate) fn unshared(loader: TypeId, max: usize) -> Option<Arc<Self>> {
        let scope = Arc::into_inner(Self::new(loader))?;
        let unshared = scope.unshared + 1;
        (unshared <= max).then(|| Arc::new(Self { unshared, ..scope }))
    }

    /// Creates the scope of a load that may go on after the enclosing load has ended.
    pub(crate) fn detached() -> Arc<Self> {
        Arc::new(Self {
            id: next_id(),
            loader: None,
            unshared: 0,
            parent: None,
            _edge: None,
        })
    }

    /// Returns the id of the flights of this load.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the innermost load that the current code runs for.
    fn current() -> Option<Arc<Self>> {
        // While a thread exits, its thread-locals may be destroyed.
        CURRENT.try_with(|current| current.borrow().clone()).ok()?
    }

    /// Whether the current code runs for a load.
    pub(crate) fn is_nested() -> bool {
        Self::current().is_some()
    }

    /// Whether the current code runs for this load.
    pub(crate) fn is_around(id: u64) -> bool {
        Self::current().is_some_and(|scope| scope.ids().any(|around| around == id))
    }

    /// Runs a loader, or a part of a load, in this scope.
    pub(crate) async fn run<F: Future>(self: &Arc<Self>, loader: F) -> F::Output {
        let mut loader = pin!(loader);
        poll_fn(|context| {
            let _entered = Entered::new(self);
            loader.as_mut().poll(context)
        })
        .await
    }

    /// Returns this load and those around it.
    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |scope| scope.parent.as_deref())
    }

    /// Returns the ids of this load and of those around it.
    fn ids(&self) -> impl Iterator<Item = u64> {
        self.all().map(|scope| scope.id)
    }
}

fn next_id() -> u64 {
    static IDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    IDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A wait of one load for another.
#[derive(Debug)]
pub(crate) struct WaitEdge {
    from: u64,
    to: u64,
}

impl WaitEdge {
    fn add(from: u64, to: u64) -> Self {
        let mut graph = GRAPH.lock().unwrap_or_else(PoisonError::into_inner);
        graph.entry(from).or_default().push(to);
        Self { from, to }
    }

    /// Records that the current code waits for the load `to`. Returns `None` outside of loads.
    ///
    /// # Errors
    ///
    /// When that load waits, directly or not, for a load that the current code runs for.
    pub(crate) fn wait_for(to: u64) -> Result<Option<Self>, Cycle> {
        let Some(scope) = LoadScope::current() else {
            return Ok(None);
        };
        let mut graph = GRAPH.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Vec::new();
        let mut next = vec![to];
        while let Some(id) = next.pop() {
            if scope.ids().any(|around| around == id) {
                let own_loader = scope.loader.filter(|_| scope.id == to);
                return Err(Cycle { own_loader });
            }
            if !seen.contains(&id) {
                seen.push(id);
                next.extend(graph.get(&id).into_iter().flatten());
            }
        }
        graph.entry(scope.id).or_default().push(to);
        Ok(Some(Self { from: scope.id, to }))
    }
}

impl Drop for WaitEdge {
    fn drop(&mut self) {
        let mut graph = GRAPH.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waits) = graph.get_mut(&self.from) {
            if let Some(index) = waits.iter().position(|to| *to == self.to) {
                waits.swap_remove(index);
            }
            if waits.is_empty() {
                graph.remove(&self.from);
            }
        }
    }
}

/// A wait would never end.
#[derive(Debug)]
pub(crate) struct Cycle {
    /// The type of the loader that the current code runs in, if it would wait for that loader's load.
    pub(crate) own_loader: Option<TypeId>,
}

/// Makes a scope the thread's current one until it is dropped.
struct Entered(Option<Arc<LoadScope>>);

impl Entered {
    fn new(scope: &Arc<LoadScope>) -> Self {
        let previous = CURRENT.try_with(|current| current.replace(Some(Arc::clone(scope))));
        Self(previous.unwrap_or_default())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let previous = self.0.take();
        let _ = CURRENT.try_with(|current| current.replace(previous));
    }
}
