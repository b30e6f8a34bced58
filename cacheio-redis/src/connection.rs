//! A shared connection to one server: made on first use, replaced when it breaks.
//!
//! - [`send`](Connection::send) sends a request, and once more on a new connection if that is safe, or
//!   if the server turned out to be a replica.
//! - [`live`](Connection::live) connects; concurrent callers share the attempt and its failure.
//! - [`discard`](Connection::discard) drops a broken connection. Requests on it may still reach the
//!   server, so the next connection first has the server close it ([`ClientId`]).
//! - [`admit`](Connection::admit) and [`record`](Connection::record) are the circuit breaker: when
//!   it opens, [`probe`](Connection::probe) tests the server in the background until it replies.
//! - [`turn`](Connection::turn) holds requests back that an overloaded server would answer too late
//!   (`limiter.rs`).

mod connecting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};
use std::{fmt, io};

use cacheio_core::__private::{Attempt, Backoff, Circuit, Opens, runtime};
use cacheio_core::Server;
use redis::{RedisError, RedisResult, Value, cmd};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::commands::Commands;
use crate::endpoint::Endpoint;
use crate::failure::{Failure, breaks_connection, is_from_replica};
use crate::limiter::{Limiter, Reservation};
use crate::live_connection::{ClientId, LiveConnection};
use crate::master_search::MasterSearch;
use crate::open::Observers;
use crate::request::Request;
use crate::tracking::Tracker;

/// How long a probe lasts at most, so that not too many run at the same time.
const MAX_PROBE_TIME: Duration = Duration::from_secs(10);
/// How long an old connection may take to reply when a new one has replied.
const MAX_MOMENT: Duration = Duration::from_millis(100);
/// The longest pause between searches for the master after requests were refused.
const MAX_SEARCH_PAUSE: Duration = Duration::from_millis(300);
/// The longest pause between those of the keeper: the address may be that of a replica for good.
const MAX_KEEPERS_PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Connection {
    /// The name of the server in errors and logs.
    name: String,
    endpoint: Endpoint,
    timeout: Duration,
    circuit: Arc<Circuit>,
    limiter: Arc<Limiter>,
    slot: RwLock<Slot>,
    connecting: Mutex<Option<ConnectAttempt>>,
    /// Whether a task probes the server.
    probing: Arc<AtomicBool>,
    /// That of the store, if it tracks changes on its connections.
    tracker: Option<Arc<Tracker>>,
    /// When a refused request looks for the master.
    master_search: MasterSearch,
    /// When the keeper of tracking looks for the master. It has pauses of its own, because it asks forever.
    keepers_search: MasterSearch,
}

/// A call that the circuit breaker admitted.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    attempt: Attempt,
    /// Its time. Earlier steps of the same call, or other nodes, may have taken most of the timeout: then
    /// it is too little to tell something about the server.
    pub(crate) time: Duration,
}

#[derive(Default)]
struct Slot {
    live: Option<Arc<LiveConnection>>,
    /// Discarded connections from which the server may still read requests of ours.
    unconfirmed: Vec<ClientId>,
}

/// An attempt to connect. A task of its own runs it, because callers that wait for it may be cancelled,
/// or not be polled.
struct ConnectAttempt {
    /// None while it is in progress.
    outcome: watch::Receiver<Option<RedisResult<Arc<LiveConnection>>>>,
    started_at: Instant,
}

impl ConnectAttempt {
    /// Whether the attempt can still succeed. It has the timeout of a call, so one that is older runs on a
    /// runtime that stands still.
    fn is_running(&self, timeout: Duration) -> bool {
        self.outcome.has_changed().is_ok() && self.started_at.elapsed() < timeout
    }
}

impl Connection {
    pub(crate) fn new(endpoint: Endpoint, timeout: Duration, opens: &Opens) -> Self {
        let name = endpoint.name();
        Self {
            circuit: Arc::new(Circuit::new(name.as_str(), opens)),
            limiter: Arc::new(Limiter::new(timeout)),
            name,
            endpoint,
            timeout,
            slot: RwLock::default(),
            connecting: Mutex::default(),
            probing: Arc::default(),
            tracker: None,
            master_search: MasterSearch::new(MAX_SEARCH_PAUSE),
            keepers_search: MasterSearch::new(MAX_KEEPERS_PAUSE),
        }
    }

    /// Tracks changes on the connections, for the L1s before the store.
    pub(crate) fn with_tracker(mut self, tracker: &Arc<Tracker>) -> Self {
        self.tracker = Some(Arc::clone(tracker));
        self
    }

    /// Returns whether the server tells of changes of what is read on the current connection.
    pub(crate) fn is_tracked(&self) -> bool {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let live = slot.live.as_ref();
        live.is_some_and(|live| live.is_heard())
    }

    /// Returns whether there must be no copies of what is read on the current connection.
    pub(crate) fn is_refused(&self) -> bool {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let link = slot.live.as_ref().and_then(|live| live.link());
        link.is_some_and(|link| link.is_refused())
    }

    /// Returns the name of the server in errors and logs.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the server's host, or an empty string if it can change.
    pub(crate) fn host(&self) -> String {
        self.endpoint.host().unwrap_or_default().to_owned()
    }

    /// Returns the server as spans name it.
    pub(crate) fn server(&self) -> Server {
        self.endpoint.server()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Admits a call unless the circuit breaker is open, or there is no time left.
    pub(crate) fn admit(self: &Arc<Self>, deadline: Instant) -> Result<Call, Failure> {
        let started_at = Instant::now();
        if deadline <= started_at {
            return Err(Failure::no_time_left(&self.name, self.timeout));
        }
        let attempt = self.circuit.enter().map_err(|error| {
            // The caller that opened the circuit starts no task if its thread is exiting.
            self.probe();
            Failure::Store(error)
        })?;
        Ok(Call {
            attempt,
            time: deadline - started_at,
        })
    }

    /// Waits until a request of this weight may be sent, which it may at once unless the server is
    /// overloaded.
    pub(crate) async fn turn(
        &self,
        weight: impl FnOnce() -> usize,
        deadline: Instant,
    ) -> Result<Option<Reservation>, Failure> {
        if !self.limiter.is_limited() || self.circuit.is_open() {
            return Ok(None);
        }
        let turn = Box::pin(self.limiter.turn(weight(), deadline)).await;
        turn.map_err(|_| Failure::overloaded(&self.name, self.timeout))
    }

    /// Records the result of a call for the circuit breaker. No result means that the call has
    /// timed out.
    pub(crate) fn record<T>(
        self: &Arc<Self>,
        call: Call,
        result: Option<RedisResult<T>>,
    ) -> Result<T, Failure> {
        let failure = match result {
            Some(Ok(reply)) => {
                self.record_reply();
                return Ok(reply);
            }
            Some(Err(error)) if !error.is_io_error() => {
                self.record_reply();
                return Err(Failure::Redis(error));
            }
            Some(Err(error)) => {
                if self.circuit.failed(call.attempt, &error) {
                    self.opened();
                }
                Failure::Store(Failure::Redis(error).into_error(&self.name))
            }
            None => {
                if self.is_enough(call.time) && self.circuit.failed(call.attempt, "timeout") {
                    self.opened();
                }
                Failure::timed_out(&self.name, self.timeout)
            }
        };
        Err(failure)
    }

    /// Returns what observes a new connection.
    fn observers<'a>(&'a self, tracker: Option<&'a Arc<Tracker>>) -> Observers<'a> {
        Observers {
            circuit: &self.circuit,
            nearness: self.limiter.nearness(),
            tracker,
        }
    }

    /// Returns whether a server that responds would have responded in this time: in as long as the latest
    /// reply took, and in a quarter of the timeout.
    fn is_enough(&self, time: Duration) -> bool {
        // A little less, because the deadline may have been set some time ago.
        let quarter = self.timeout * 6 / 25;
        let latest = self.limiter.latest_reply_time().min(self.timeout * 3 / 4);
        time >= quarter.max(latest)
    }

    /// Probes the server after the circuit has opened.
    fn opened(self: &Arc<Self>) {
        self.limiter.release_all();
        self.probe();
    }

    /// Records that the server replied.
    pub(crate) fn record_reply(&self) {
        self.circuit.responded();
    }

    /// Sends a request. Sends it again on a new connection if the old one broke and the request is
    /// idempotent, or if the server is a replica that became one in a failover.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: &Request,
        turn: Option<Reservation>,
    ) -> RedisResult<Value> {
        let live = match self.current() {
            Some(live) => live,
            // Boxed, as are all rare paths, to keep the future of every call small.
            None => Box::pin(self.live()).await?,
        };
        let failure = match self.send_on(&live, request, turn).await {
            Err(error) if breaks_connection(&error) => error,
            Err(error) if is_from_replica(&error) && self.may_look_for_master() => {
                self.discard(&live);
                return Box::pin(self.send_again(request)).await;
            }
            result => return result,
        };
        if request.idempotent {
            return Box::pin(self.send_again(request)).await;
        }
        // One broken connection does not tell that the server is down; a new one does.
        Box::pin(self.live()).await?;
        Err(failure)
    }

    async fn send_again(self: &Arc<Self>, request: &Request) -> RedisResult<Value> {
        let live = self.live().await?;
        self.send_on(&live, request, None).await
    }

    async fn send_on(
        &self,
        live: &Arc<LiveConnection>,
        request: &Request,
        turn: Option<Reservation>,
    ) -> RedisResult<Value> {
        let result = self.exchange(live, &request.commands(), turn).await;
        match result {
            Err(error) => {
                if breaks_connection(&error) {
                    self.discard(live);
                }
                Err(error)
            }
            Ok(reply) => match refused_by_replica(&reply) {
                Some(error) => Err(error),
                None => Ok(reply),
            },
        }
    }

    /// Sends commands on a connection and waits for the reply. `turn` holds the reservations for them.
    pub(crate) async fn exchange<T>(
        &self,
        live: &LiveConnection,
        commands: &Commands,
        turn: T,
    ) -> RedisResult<Value> {
        let sent = self.limiter.begin(commands.weight());
        drop(turn);
        let result = live.send(commands).await;
        if !result.as_ref().is_err_and(breaks_connection) {
            sent.answered();
        }
        result
    }

    /// Returns whether to look for the master now, after a server refused as a replica. There are
    /// pauses in between, because the address may be that of a replica for good.
    pub(crate) fn may_look_for_master(&self) -> bool {
        self.master_search.may_begin()
    }

    /// Returns the same for a server that refused no request of a caller, after longer pauses.
    pub(crate) fn may_look_for_master_unasked(&self) -> bool {
        self.keepers_search.may_begin()
    }

    /// Returns the live connection if there is one.
    pub(crate) fn current(&self) -> Option<Arc<LiveConnection>> {
        let live = Arc::clone(
            self.slot
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .live
                .as_ref()?,
        );
        if !live.close_state.is_closed() {
            return Some(live);
        }
        self.discard(&live);
        None
    }

    /// Returns the live connection, and connects if there is none.
    async fn live(self: &Arc<Self>) -> RedisResult<Arc<LiveConnection>> {
        // Two tries, because the first attempt may end with the runtime of a caller.
        for is_second in [false, true] {
            let mut outcome = {
                let mut connecting = self.connecting();
                if let Some(live) = self.current() {
                    return Ok(live);
                }
                match &*connecting {
                    Some(attempt) if attempt.is_running(self.timeout) => attempt.outcome.clone(),
                    // The runtime of the attempt may stand still or end at any time, so the next one does
                    // not depend on that of a caller.
                    stale => {
                        let on_shared = is_second || stale.is_some();
                        let attempt = self.start_connecting(on_shared)?;
                        connecting.insert(attempt).outcome.clone()
                    }
                }
            };
            if let Ok(Some(outcome)) = outcome.wait_for(Option::is_some).await.as_deref() {
                return outcome.clone();
            }
        }
        Err(io::Error::from(io::ErrorKind::ConnectionAborted).into())
    }

    /// Drops a connection, if it is still the current one.
    pub(crate) fn discard(&self, live: &Arc<LiveConnection>) {
        let mut slot = self.slot();
        let current = slot.live.as_ref();
        if !current.is_some_and(|current| Arc::ptr_eq(current, live)) {
            return;
        }
        slot.live = None;
        self.limiter.reset();
        if let Some(client_id) = &live.client_id
            && self.may_still_be_read(live)
        {
            slot.unconfirmed.push(client_id.clone());
        }
        drop(slot);
        self.end_tracking(live);
    }

    /// Removes the copies of what was read on a connection that is no longer the current one: the next one may lead to
    /// another server.
    fn end_tracking(&self, old: &LiveConnection) {
        old.end_link();
        if let Some(tracker) = &self.tracker {
            tracker.moved();
        }
    }

    /// Returns whether the server may still execute requests on a discarded connection. It does not
    /// if it closed the connection itself and both are on one machine.
    fn may_still_be_read(&self, live: &LiveConnection) -> bool {
        self.endpoint.is_remote() || !live.close_state.is_by_server()
    }

    /// Starts a task that tests the server until it replies, unless one is running.
    ///
    /// An attempt has as long as any call. The next one does not wait for it, because what was sent
    /// into a broken network may never get a reply: so the server is used soon after its return,
    /// however long the timeout is.
    fn probe(self: &Arc<Self>) {
        let Ok(runtime) = runtime() else {
            return;
        };
        if self.probing.swap(true, Ordering::SeqCst) {
            return;
        }
        let probing = ClearOnDrop(Arc::clone(&self.probing));
        let connection = Arc::downgrade(self);
        runtime.spawn(async move {
            let _probing = probing;
            let mut delays = Backoff::new();
            let mut attempts = JoinSet::new();
            let mut next = Box::pin(sleep(delays.next()));
            loop {
                tokio::select! {
                    () = &mut next => {}
                    Some(replied) = attempts.join_next() => match replied {
                        Ok(true) => return,
                        _ => continue,
                    },
                }
                next.set(sleep(delays.next()));
                let Some(connection) = connection.upgrade() else {
                    return;
                };
                // Only the attempts and this round use it: the store was dropped.
                if Arc::strong_count(&connection) <= attempts.len() + 1 {
                    return;
                }
                attempts.spawn(async move { connection.attempt_to_revive().await });
            }
        });
    }

    /// Closes the circuit if the server replies, and returns whether it does.
    async fn attempt_to_revive(self: Arc<Self>) -> bool {
        match timeout(self.timeout.min(MAX_PROBE_TIME), self.revive()).await {
            Ok(Ok(())) => {}
            // The server refuses, for example the password: callers get this error.
            Ok(Err(error)) if !error.is_io_error() => {}
            Ok(Err(_)) | Err(_) => return false,
        }
        self.circuit.close();
        true
    }

    /// Waits until the server replies: on the current connection, or on a new one, which is closed
    /// again. The next caller connects anew, on its own runtime.
    ///
    /// A server that was paused replies on the old connection, after all requests sent before. Only
    /// a connection that is dead without notice is discarded, or one whose runtime is blocked.
    async fn revive(&self) -> RedisResult<()> {
        let Some(old) = self.current() else {
            return self.connect().await?.ping().await;
        };
        let old_replies = old.ping();
        tokio::pin!(old_replies);
        let new_replies = async {
            let opened = self.endpoint.connect(self.timeout, self.observers(None));
            let opened = opened.await?;
            let mut connection = opened.connection.clone();
            connection.send_packed_command(&cmd("PING")).await
        };
        let replied = tokio::select! {
            biased;
            reply = &mut old_replies => {
                if reply.is_err() {
                    self.discard(&old);
                }
                return reply;
            }
            replied = new_replies => match replied {
                Err(error) if error.is_io_error() => return Err(error),
                replied => replied,
            },
        };
        // The server replies to others, if only that it refuses them. The old connection gets a moment to reply, too.
        let moment = (self.timeout / 10).min(MAX_MOMENT);
        if let Ok(Ok(())) = timeout(moment, &mut old_replies).await {
            return Ok(());
        }
        self.discard(&old);
        replied.map(drop)
    }

    fn connecting(&self) -> MutexGuard<'_, Option<ConnectAttempt>> {
        self.connecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self) -> RwLockWriteGuard<'_, Slot> {
        self.slot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

/// Clears a flag, in whatever way its task ends.
struct ClearOnDrop(Arc<AtomicBool>);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Returns the error of a request on several keys, of which a replica refused some.
fn refused_by_replica(reply: &Value) -> Option<RedisError> {
    let Value::Array(replies) = reply else {
        return None;
    };
    replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => {
            let error = RedisError::from(error.clone());
            is_from_replica(&error).then_some(error)
        }
        _ => None,
    })
}
