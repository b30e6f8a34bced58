//! Client-side tracking: the server tells of changes of the keys that a cache with L1 has read.
//!
//! - A [`Link`] is a connection on which the server tells of changes. Redis sends a push before the reply to
//!   any command that it executes after the change, and the `redis` crate passes pushes on in that order.
//! - [`track`] turns tracking on for a new connection, and tests it: a proxy may swallow pushes.
//! - [`keep`] asks on each link, four times in the bound, whether the server may be written to: a master that
//!   was demoted or isolated goes on replying to reads. Only such a reply proves that all pushes of before have
//!   come.
//! - The [`Tracker`] of a store passes the changes on to the L1s, and the oldest of these proofs.
//!
//! Connections of stores without L1 are not tracked, nor are those of clusters and of masters behind
//! sentinels. There, a copy in L1 ends by itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use cacheio_core::__private::{RemovedCopies, SharedState, runtime, within};
use redis::{Cmd, Pipeline, PushInfo, PushKind, RedisResult, ServerErrorKind, Value, cmd};
use tokio::time::sleep;

use crate::claim_key::claim_key;
use crate::commands::Commands;
use crate::connection::Connection;
use crate::failure::is_from_replica;
use crate::live_connection::LiveConnection;

/// The oldest version whose tracking is reliable: before it, scripts told the connection that ran them, and
/// pushes could come within a reply (redis#11052, redis#8935).
const OLDEST: [u64; 3] = [7, 0, 5];

/// The pause of a keeper while there is no L1.
const WITHOUT_L1: Duration = Duration::from_secs(1);

/// The keeper asks as often as for this bound at least, so that a demoted master is noticed.
const MAX_BOUND: Duration = Duration::from_secs(60);

/// Counts as a write, so that the server refuses it where it may not be written to, and changes nothing.
const WRITE_PROBE: &str = "#!lua\nreturn 1";

/// The links of one store, and the L1s before it.
pub(crate) struct Tracker {
    shared: Arc<SharedState>,
    /// When the latest probe was sent to which the server replied, on each link that is heard.
    heard: Mutex<HashMap<u64, Instant>>,
    /// Copies that were removed and are about to be dropped.
    removed: Mutex<RemovedCopies>,
}

impl Tracker {
    pub(crate) fn new(shared: Arc<SharedState>) -> Self {
        Self {
            shared,
            heard: Mutex::default(),
            removed: Mutex::default(),
        }
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
            passed_test: AtomicBool::new(false),
            is_heard: AtomicBool::new(false),
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
        if let Some(oldest) = heard.values().min() {
            self.shared.heard(*oldest);
        }
    }

    /// Forgets a link: the copies of what was read on it are removed.
    fn forget(self: &Arc<Self>, link: &Link) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        link.is_heard.store(false, Ordering::SeqCst);
        if heard.remove(&link.id).is_none() {
            return;
        }
        let removed = self.shared.unheard();
        if let Some(oldest) = heard.values().min() {
            self.shared.heard(*oldest);
        }
        drop(heard);
        self.drop_later(removed);
    }

    /// Drops values on a thread on which code of the user may run. The task of a connection is none.
    fn drop_later(self: &Arc<Self>, removed: RemovedCopies) {
        if removed.is_empty() {
            return;
        }
        let Ok(runtime) = runtime() else {
            return;
        };
        let mut pending = self.pending();
        let is_idle = pending.is_empty();
        pending.extend(removed);
        drop(pending);
        if is_idle {
            let tracker = Arc::clone(self);
            runtime.spawn_blocking(move || {
                let removed = std::mem::take(&mut *tracker.pending());
                // Not while the lock is held.
                drop(removed);
            });
        }
    }

    fn pending(&self) -> MutexGuard<'_, RemovedCopies> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on which the server tells of changes.
pub(crate) struct Link {
    tracker: Arc<Tracker>,
    id: u64,
    /// The key of the test, while it runs.
    test_key: Mutex<Option<String>>,
    passed_test: AtomicBool,
    /// Whether the server has replied to a probe, and to all since.
    is_heard: AtomicBool,
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
            self.tracker.drop_later(self.tracker.shared.changed_all());
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
                self.passed_test.store(true, Ordering::SeqCst);
                continue;
            }
            drop(test_key);
            self.tracker.drop_later(self.tracker.shared.changed(key));
        }
    }

    /// Returns whether the server is known to tell of changes.
    pub(crate) fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::SeqCst)
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Ends the link: its connection is closed, or was replaced.
    pub(crate) fn end(&self) {
        if !self.has_ended.swap(true, Ordering::SeqCst) {
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

/// Turns tracking on for a new connection. Returns whether the server tells of changes.
pub(crate) async fn track(live: &LiveConnection, link: &Link) -> RedisResult<bool> {
    let Some(prefix) = link.tracker.shared.l1_prefix() else {
        return Ok(false);
    };
    // Random, so that no other client changes it, and in the form that no key of a user has.
    let random = RandomState::new().hash_one(link.id);
    let key = claim_key(&format!("{prefix}{random:016x}"));
    let test_key = || link.test_key.lock().unwrap_or_else(PoisonError::into_inner);
    *test_key() = Some(key.clone());
    let tracking = |mode: &[&str]| {
        let mut command = cmd("CLIENT");
        command.arg("TRACKING").arg(mode);
        command
    };
    let mut exists = cmd("EXISTS");
    exists.arg(&key);
    let mut set = cmd("SET");
    set.arg(&key).arg(1).arg("PX").arg(1);
    let mut pipeline = Pipeline::new();
    for command in [
        tracking(&["ON", "OPTIN"]),
        caching(),
        exists,
        set,
        tracking(&["OFF"]),
        tracking(&["ON", "OPTIN", "NOLOOP"]),
        cmd("HELLO"),
    ] {
        pipeline.add_command(command);
    }
    let replies = live.send_all(&pipeline).await?;
    *test_key() = None;
    let has_failed = replies
        .iter()
        .any(|reply| matches!(reply, Value::ServerError(_)));
    let is_new = replies
        .last()
        .and_then(version)
        .is_some_and(|version| version >= OLDEST);
    Ok(!has_failed && is_new && link.passed_test.load(Ordering::SeqCst))
}

/// Returns the command before a read, after which the server tells of changes of its keys.
pub(crate) fn caching() -> Cmd {
    let mut caching = cmd("CLIENT");
    caching.arg("CACHING").arg("YES");
    caching
}

/// Returns the version in the reply to HELLO.
fn version(hello: &Value) -> Option<[u64; 3]> {
    let Value::Map(fields) = hello else {
        return None;
    };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let version = fields
        .iter()
        .find(|(name, _)| text(name).as_deref() == Some("version"))?;
    let version = text(&version.1)?;
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let mut part = || parts.next().flatten();
    Some([part()?, part()?, part()?])
}

/// Probes a link as long as its connection is used.
pub(crate) fn keep(connection: &Arc<Connection>, live: &Arc<LiveConnection>, link: &Arc<Link>) {
    let Ok(runtime) = runtime() else {
        return;
    };
    let (connection, live, link) = (
        Arc::downgrade(connection),
        Arc::downgrade(live),
        Arc::clone(link),
    );
    runtime.spawn(async move {
        let mut uses_role = false;
        while let Some(pause) = probe(&connection, &live, &link, &mut uses_role).await {
            sleep(pause).await;
        }
        link.end();
    });
}

/// Probes a link once. Returns how long to wait for the next time; `None` if the connection is gone.
async fn probe(
    connection: &Weak<Connection>,
    live: &Weak<LiveConnection>,
    link: &Link,
    uses_role: &mut bool,
) -> Option<Duration> {
    let live = live.upgrade()?;
    if live.close_state.is_closed() || link.has_ended() {
        return None;
    }
    let Some(bound) = link.tracker.shared.max_staleness() else {
        return Some(WITHOUT_L1);
    };
    let bound = bound.min(MAX_BOUND);
    let sent = Instant::now();
    let command = match uses_role {
        true => cmd("ROLE"),
        false => {
            let mut eval = cmd("EVAL");
            eval.arg(WRITE_PROBE).arg(0);
            eval
        }
    };
    let timeout = connection.upgrade()?.timeout();
    let is_replica = match within(
        sent + bound.min(timeout),
        live.send(&Commands::one(command)),
    )
    .await
    {
        Some(Ok(reply)) if !*uses_role || is_master(&reply) => {
            link.tracker.record(link, sent);
            return Some(bound / 4);
        }
        Some(Ok(_)) => true,
        Some(Err(error)) if refuses(&error) && !*uses_role => {
            *uses_role = true;
            return Some(Duration::ZERO);
        }
        // This user may ask neither way: copies end by themselves.
        Some(Err(error)) if refuses(&error) => return None,
        Some(Err(error)) => is_from_replica(&error),
        // It replies late or never: what it had to tell may be on its way.
        None => false,
    };
    link.tracker.forget(link);
    // Others may be writing to another server.
    if is_replica {
        let connection = connection.upgrade()?;
        if connection.may_look_for_master() {
            connection.discard(&live);
            return None;
        }
    }
    Some(bound / 4)
}

fn is_master(role: &Value) -> bool {
    let Value::Array(parts) = role else {
        return false;
    };
    matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master")
}

/// Returns whether the server does not execute the command for this user at all.
fn refuses(error: &redis::RedisError) -> bool {
    let is_refused = error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoPerm);
    is_refused || error.to_string().contains("unknown command")
}
