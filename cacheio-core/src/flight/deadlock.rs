//! Which loads are under way "around" the code that runs now, and who waits for whom.
//!
//! A loader that waits for its own key, directly or through the loader of another key, would wait
//! for ever. Each load is a scope; while a loader runs (a thread) or is polled (a task), its scope
//! is the thread's current one, so that what it asks of a cache is known to be asked on its
//! behalf. Waits between loads are edges of a graph; an edge that would close a circle is refused.
//! Only loaders that use a cache themselves ever touch the graph.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, PoisonError};

use once_cell::sync::Lazy;

use crate::flight::sync::thread_local;

thread_local! {
    static CURRENT: RefCell<Option<Arc<LoadScope>>> = const { RefCell::new(None) };
}

/// From a load to the loads it waits for. Never held across anything that waits.
static GRAPH: Lazy<std::sync::Mutex<HashMap<u64, Vec<u64>>>> = Lazy::new(Default::default);

/// A load under way.
#[derive(Debug)]
pub(crate) struct LoadScope {
    id: u64,
    parent: Option<Arc<LoadScope>>,
    _edge: Option<WaitEdge>,
}

impl LoadScope {
    /// The scope of a load that starts now; the load around it waits for it.
    pub(crate) fn new() -> Arc<Self> {
        let id = next_id();
        let parent = Self::current();
        let edge = parent.as_ref().map(|parent| WaitEdge::add(parent.id, id));
        Arc::new(Self {
            id,
            parent,
            _edge: edge,
        })
    }

    /// The scope of a load that may go on when the one around it has ended: it is waited for, if
    /// at all, as another's.
    pub(crate) fn detached() -> Arc<Self> {
        Arc::new(Self {
            id: next_id(),
            parent: None,
            _edge: None,
        })
    }

    /// What the flights of this load are known by.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The innermost load around the code that runs now.
    pub(crate) fn current() -> Option<Arc<Self>> {
        // While the thread ends, nothing is around it any more.
        CURRENT.try_with(|current| current.borrow().clone()).ok()?
    }

    /// Whether the code that runs now is run by this load.
    pub(crate) fn is_around(id: u64) -> bool {
        Self::current().is_some_and(|scope| scope.chain().any(|around| around == id))
    }

    /// Runs a loader in this scope, or what follows it.
    pub(crate) async fn run<F: Future>(self: &Arc<Self>, loader: F) -> F::Output {
        let mut loader = pin!(loader);
        poll_fn(|context| {
            let _entered = Entered::new(self);
            loader.as_mut().poll(context)
        })
        .await
    }

    fn chain(&self) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(self), |scope| scope.parent.as_deref()).map(|scope| scope.id)
    }
}

fn next_id() -> u64 {
    static IDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    IDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// The wait of the load around the code that runs now, if there is one, for another load.
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

    /// Notes that the code that runs now waits for the load `to`.
    ///
    /// # Errors
    ///
    /// When that load waits, in the end, for a load around this code.
    pub(crate) fn wait_for(to: u64) -> Result<Option<Self>, Cycle> {
        let Some(scope) = LoadScope::current() else {
            return Ok(None);
        };
        let mut graph = GRAPH.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Vec::new();
        let mut ahead = vec![to];
        while let Some(id) = ahead.pop() {
            if scope.chain().any(|around| around == id) {
                return Err(Cycle);
            }
            if !seen.contains(&id) {
                seen.push(id);
                ahead.extend(graph.get(&id).into_iter().flatten());
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
            if let Some(at) = waits.iter().position(|to| *to == self.to) {
                waits.swap_remove(at);
            }
            if waits.is_empty() {
                graph.remove(&self.from);
            }
        }
    }
}

/// Waiting would never end.
#[derive(Debug)]
pub(crate) struct Cycle;

/// While it lives, a scope is the thread's current one.
struct Entered(Option<Arc<LoadScope>>);

impl Entered {
    fn new(scope: &Arc<LoadScope>) -> Self {
        let entered = CURRENT.try_with(|current| current.replace(Some(Arc::clone(scope))));
        Self(entered.unwrap_or_default())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let around = self.0.take();
        let _ = CURRENT.try_with(|current| current.replace(around));
    }
}
