//! Client-side tracking: the server tells of changes of the keys that a cache with L1 has read.
//!
//! - A [`Link`] is a connection on which the server tells of changes. Redis sends a push before the reply to
//!   any command that it executes after the change, and the `redis` crate passes pushes on in that order.
//! - [`track`] turns tracking on for a new connection, and tests it: a proxy may swallow pushes.
//! - [`keep`] probes each link, four times in the bound. Only the reply to a probe proves that all pushes of
//!   before have come, and that no other server has taken over what was read here. If the server says that one may
//!   have, nothing that it replies is copied, and the connection is replaced.
//! - The [`Tracker`] of a store passes the changes on to the L1s, and the oldest of these proofs. If one link
//!   gives no proof, all copies are removed.
//!
//! In a cluster, each node tells of changes of the keys in its own slots. A probe of a node proves nothing if
//! the node serves other slots than at the last one ([`OwnSlots`](own_slots::OwnSlots)).
//!
//! Connections of stores without L1 are not tracked. There, a copy in L1 ends by itself.

mod keeper;
mod own_slots;
mod self_test;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use cacheio_core::__private::SharedState;
use redis::{Cmd, PushInfo, PushKind, Value, cmd};

pub(crate) use self::keeper::keep;
pub(crate) use self::self_test::{Tracking, track};
use crate::claim_key::claimed_key;
use crate::drop_queue::DropQueue;
use crate::sentinel::NamedMaster;
use crate::trust::TrustLog;

/// The links of one store, and the L1s before it.
pub(crate) struct Tracker {
    shared: Arc<SharedState>,
    /// Whether the servers are the nodes of a cluster.
    is_of_cluster: bool,
    /// When the latest probe was sent to which the server replied, on each link that is heard.
    heard: Mutex<HashMap<u64, Instant>>,
    /// Copies that were removed. The task of a connection must not drop them.
    removed: Arc<DropQueue>,
    log: Arc<TrustLog>,
}

impl Tracker {
    pub(crate) fn new(shared: Arc<SharedState>, server: String, is_of_cluster: bool) -> Self {
        Self {
            shared,
            is_of_cluster,
            heard: Mutex::default(),
            removed: Arc::default(),
            log: Arc::new(TrustLog::new(server)),
        }
    }

    /// A server does not tell of changes.
    pub(crate) fn cannot_tell(&self, reason: &str) {
        self.log.cannot_tell(reason);
    }

    /// Returns whether new connections are tracked.
    pub(crate) fn is_wanted(&self) -> bool {
        self.shared.max_staleness().is_some()
    }

    /// Creates the link of a connection that is about to be opened.
    pub(crate) fn link(self: &Arc<Self>) -> Arc<Link> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Link {
            tracker: Arc::clone(self),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            test_key: Mutex::default(),
            told_of_test: AtomicBool::new(false),
            is_tracked: AtomicBool::new(false),
            is_heard: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            named_master: OnceLock::new(),
            has_ended: AtomicBool::new(false),
        })
    }

    /// Records that the server has told a link everything up to `sent`.
    fn record(&self, link: &Link, sent: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if link.has_ended() {
            return;
        }
        heard.insert(link.id, sent);
        link.is_heard.store(true, Ordering::SeqCst);
        link.is_refused.store(false, Ordering::SeqCst);
        self.log.heard();
        self.serve(&heard);
    }

    /// Lets the L1s serve copies for as long as all links allow.
    fn serve(&self, heard: &HashMap<u64, Instant>) {
        if let Some(oldest) = heard.values().min() {
            self.removed.push(self.shared.heard(*oldest));
        }
    }

    /// Forgets a link: the copies of what was read on it are removed.
    fn forget(&self, link: &Link) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        link.is_heard.store(false, Ordering::SeqCst);
        if heard.remove(&link.id).is_none() {
            return;
        }
        self.removed.push(self.shared.unheard());
        self.serve(&heard);
        if heard.is_empty()
            && let Some(bound) = self.shared.max_staleness()
        {
            self.log.lost(bound);
        }
    }

    /// The server of a link says that another one may have taken its place: nothing that was read from it is
    /// served.
    fn refused(&self, link: &Link) {
        let was_refused = link.is_refused.swap(true, Ordering::SeqCst);
        self.forget(link);
        if !was_refused {
            self.moved();
        }
    }

    /// Removes all copies: what was read may be on another server now.
    pub(crate) fn moved(&self) {
        self.removed.push(self.shared.moved());
    }
}

/// A connection on which the server tells of changes.
pub(crate) struct Link {
    tracker: Arc<Tracker>,
    id: u64,
    /// The key of the test, while it runs.
    test_key: Mutex<Option<String>>,
    /// Whether the server has told of the change of that key.
    told_of_test: AtomicBool,
    /// Whether the test was passed.
    is_tracked: AtomicBool,
    /// Whether the server has replied to a probe, and to all since.
    is_heard: AtomicBool,
    /// Whether the server has said, since the last probe that proved something, that another one may have taken
    /// its place.
    is_refused: AtomicBool,
    /// The sentinels that say whether the server is still the master.
    named_master: OnceLock<NamedMaster>,
    has_ended: AtomicBool,
}

impl Link {
    /// Takes a message that is no reply. It runs in the task of the connection.
    pub(crate) fn on_push(&self, push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        let Some(Value::Array(keys)) = push.data.first() else {
            // All keys: the server was flushed.
            self.tracker.removed.push(self.tracker.shared.changed_all());
            return;
        };
        for key in keys {
            let Value::BulkString(key) = key else {
                continue;
            };
            // The keys of caches are text.
            let Ok(key) = std::str::from_utf8(key) else {
                continue;
            };
            let test_key = self.test_key.lock().unwrap_or_else(PoisonError::into_inner);
            if test_key.as_deref() == Some(key) {
                self.told_of_test.store(true, Ordering::SeqCst);
                continue;
            }
            drop(test_key);
            match claimed_key(key) {
                Some(claimed) => self.tracker.shared.claim_changed(claimed),
                None => self.tracker.removed.push(self.tracker.shared.changed(key)),
            }
        }
    }

    /// Returns whether the server is known to tell of changes.
    pub(crate) fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::SeqCst)
    }

    /// Returns whether another server may have taken the place of this one: there must be no copies of what it
    /// replies.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::SeqCst)
    }

    /// Sets the sentinels that say whether the server is still the master.
    pub(crate) fn set_named_master(&self, master: NamedMaster) {
        // A link has one connection.
        let _ = self.named_master.set(master);
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Ends the link: its connection is closed, or was replaced.
    pub(crate) fn end(&self) {
        if !self.has_ended.swap(true, Ordering::SeqCst) {
            self.is_refused.store(false, Ordering::SeqCst);
            self.tracker.forget(self);
        }
    }
}

/// Ends a link when the task that drives its connection ends, in whatever way.
pub(crate) struct EndLink(pub(crate) Arc<Link>);

impl Drop for EndLink {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Returns the command before a read, after which the server tells of changes of its keys.
pub(crate) fn caching() -> Cmd {
    let mut caching = cmd("CLIENT");
    caching.arg("CACHING").arg("YES");
    caching
}
