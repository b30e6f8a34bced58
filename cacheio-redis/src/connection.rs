//! A shared connection to one server: made on first use, replaced when it breaks.
//!
//! - [`send`](Connection::send) sends a request, and once more on a new connection if that is safe.
//! - [`live`](Connection::live) connects; concurrent callers share the attempt and its failure.
//! - [`discard`](Connection::discard) drops a broken connection. Requests on it may still reach the
//!   server, so the next connection first has the server close it ([`ClientId`]).
//! - [`admit`](Connection::admit) and [`record`](Connection::record) are the circuit breaker: when
//!   it opens, [`probe`](Connection::probe) tests the server in the background until it replies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;
use std::{fmt, io};

use cacheio_core::__private::{Attempt, Backoff, Circuit, Opens};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::endpoint::Endpoint;
use crate::failure::{Failure, breaks_connection};
use crate::live_connection::{ClientId, LiveConnection};
use crate::probe_lease::ProbeState;
use crate::request::Request;

/// How long a probe may be late before its runtime counts as blocked.
const MAX_STALL: Duration = Duration::from_secs(1);

pub(crate) struct Connection {
    /// The name of the server in errors and logs.
    name: String,
    endpoint: Endpoint,
    timeout: Duration,
    circuit: Circuit,
    slot: RwLock<Slot>,
    connecting: Mutex<Option<ConnectAttempt>>,
    probe: ProbeState,
}

#[derive(Default)]
struct Slot {
    live: Option<Arc<LiveConnection>>,
    /// Discarded connections from which the server may still read requests of ours.
    unconfirmed: Vec<ClientId>,
}

/// An attempt to connect. A task of its own runs it, because callers that wait for it may be
/// cancelled, or not be polled.
struct ConnectAttempt {
    started_at: Instant,
    outcome: watch::Receiver<ConnectOutcome>,
}

/// None while the attempt is in progress.
type ConnectOutcome = Option<RedisResult<Arc<LiveConnection>>>;

impl Connection {
    pub(crate) fn new(endpoint: Endpoint, timeout: Duration, opens: &Opens) -> Self {
        let name = endpoint.name();
        Self {
            circuit: Circuit::new(name.as_str(), opens),
            name,
            endpoint,
            timeout,
            slot: RwLock::default(),
            connecting: Mutex::default(),
            probe: ProbeState::default(),
        }
    }

    /// Returns the name of the server in errors and logs.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the server's host, or an empty string if it can change.
    pub(crate) fn host(&self) -> String {
        self.endpoint.host().unwrap_or_default().to_owned()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Admits a call unless the circuit breaker is open. Must be called on a runtime.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Attempt, Failure> {
        self.circuit.enter().map_err(|error| {
            // The task that probed may have ended with its runtime.
            self.probe();
            Failure::Store(error)
        })
    }

    /// Records the result of a call for the circuit breaker. No result means that the call has
    /// timed out.
    pub(crate) fn record<T>(
        self: &Arc<Self>,
        attempt: Attempt,
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
                if self.circuit.failed(attempt, &error) {
                    self.probe();
                }
                Failure::Store(Failure::Redis(error).into_error(&self.name))
            }
            None => {
                if self.circuit.failed(attempt, "timeout") {
                    self.probe();
                }
                Failure::timed_out(&self.name, self.timeout)
            }
        };
        Err(failure)
    }

    /// Records that the server replied.
    pub(crate) fn record_reply(&self) {
        self.circuit.responded();
    }

    /// Sends a request. Sends it again on a new connection if the old one broke and the request is
    /// idempotent, or if the server is no longer the master.
    pub(crate) async fn send(self: &Arc<Self>, request: &Request) -> RedisResult<Value> {
        let live = match self.current() {
            Some(live) => live,
            // Boxed, as are all rare paths, to keep the future of every call small.
            None => Box::pin(self.live()).await?,
        };
        match self.send_on(&live, request).await {
            Err(error) if breaks_connection(&error) && request.idempotent => {}
            Err(error) if self.has_moved(&error) => {}
            result => return result,
        }
        Box::pin(async {
            let live = self.live().await?;
            self.send_on(&live, request).await
        })
        .await
    }

    async fn send_on(&self, live: &Arc<LiveConnection>, request: &Request) -> RedisResult<Value> {
        let result = live.send(&request.commands).await;
        if let Err(error) = &result
            && self.must_reconnect_after(error)
        {
            self.discard(live);
        }
        result
    }

    /// Returns whether the connection that gave this error must be replaced.
    pub(crate) fn must_reconnect_after(&self, error: &RedisError) -> bool {
        breaks_connection(error) || self.has_moved(error)
    }

    /// Returns whether the server refused because it is no longer the master, and the sentinels know
    /// another one.
    fn has_moved(&self, error: &RedisError) -> bool {
        self.endpoint.can_move()
            && matches!(
                error.kind(),
                ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
            )
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
        // Two tries, because the first attempt may have ended with the runtime of another caller.
        for _ in 0..2 {
            let mut outcome = {
                let mut connecting = self.connecting();
                if let Some(live) = self.current() {
                    return Ok(live);
                }
                match &*connecting {
                    Some(attempt) if attempt.is_running(self.timeout) => attempt.outcome.clone(),
                    _ => connecting.insert(self.start_connecting()).outcome.clone(),
                }
            };
            if let Ok(outcome) = outcome.wait_for(Option::is_some).await
                && let Some(outcome) = &*outcome
            {
                return outcome.clone();
            }
        }
        Err(io::Error::from(io::ErrorKind::ConnectionAborted).into())
    }

    fn start_connecting(self: &Arc<Self>) -> ConnectAttempt {
        let started_at = Instant::now();
        let (publish, outcome) = watch::channel(None);
        let connection = Arc::clone(self);
        tokio::spawn(async move {
            let connected = timeout(connection.timeout, connection.connect()).await;
            let elapsed = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
            let connected = connected.unwrap_or_else(elapsed);
            let mut connecting = connection.connecting();
            // If the runtime was blocked for long, another attempt has replaced this one.
            if connecting
                .as_ref()
                .is_some_and(|attempt| attempt.started_at == started_at)
            {
                *connecting = None;
                if let Ok(live) = &connected {
                    connection.slot().live = Some(Arc::clone(live));
                }
                publish.send_replace(Some(connected));
            }
        });
        ConnectAttempt {
            started_at,
            outcome,
        }
    }

    /// Connects, and has the server close the discarded connections, so that no request on them
    /// takes effect after a request on this one.
    async fn connect(&self) -> RedisResult<Arc<LiveConnection>> {
        let opened = self.endpoint.connect(self.timeout).await;
        let opened = opened.map_err(|error| self.endpoint.without_password(error))?;
        let unconfirmed = self.slot().unconfirmed.clone();
        let live = LiveConnection::prepare(opened, &unconfirmed).await?;
        self.slot()
            .unconfirmed
            .retain(|client_id| !unconfirmed.contains(client_id));
        Ok(Arc::new(live))
    }

    /// Drops a connection, if it is still the current one.
    pub(crate) fn discard(&self, live: &Arc<LiveConnection>) {
        let mut slot = self.slot();
        if slot
            .live
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, live))
        {
            slot.live = None;
            if let Some(client_id) = &live.client_id
                && self.may_still_be_read(live)
            {
                slot.unconfirmed.push(client_id.clone());
            }
        }
    }

    /// Returns whether the server may still execute requests on a discarded connection. It does not
    /// if it closed the connection itself and both are on one machine.
    fn may_still_be_read(&self, live: &LiveConnection) -> bool {
        self.endpoint.is_remote() || !live.close_state.is_by_server()
    }

    /// Starts a task that tests the server until it replies, unless one is running.
    fn probe(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let max_round = self.timeout.saturating_mul(2).saturating_add(MAX_STALL);
        let Some(mut lease) = self.probe.acquire(max_round) else {
            return;
        };
        let connection = Arc::downgrade(self);
        runtime.spawn(async move {
            let mut delays = Backoff::new();
            loop {
                sleep(delays.next()).await;
                // The store may have been dropped.
                let Some(connection) = connection.upgrade() else {
                    return;
                };
                if !lease.renew() {
                    return;
                }
                if let Ok(Ok(())) = timeout(connection.timeout, connection.revive()).await {
                    connection.circuit.close();
                    return;
                }
            }
        });
    }

    /// Waits until the server replies: on the current connection, or on a new one that replaces it.
    ///
    /// A server that was paused replies on the old connection, after all requests sent before. Only
    /// a connection that is dead without notice is replaced.
    async fn revive(self: &Arc<Self>) -> RedisResult<()> {
        let Some(old) = self.current() else {
            return self.live().await?.ping().await;
        };
        let old_replies = old.ping();
        tokio::pin!(old_replies);
        let new_replies = async {
            let mut connection = self.endpoint.connect(self.timeout).await?.connection;
            connection.send_packed_command(&cmd("PING")).await
        };
        tokio::select! {
            biased;
            reply = &mut old_replies => {
                if reply.is_err() {
                    self.discard(&old);
                }
                return reply;
            }
            reply = new_replies => { reply?; }
        }
        // The server replies to others. The old connection gets a moment to reply, too.
        match timeout(self.timeout / 10, &mut old_replies).await {
            Ok(Ok(())) => Ok(()),
            _ => {
                self.discard(&old);
                self.live().await.map(drop)
            }
        }
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

impl ConnectAttempt {
    /// Returns whether it can still succeed: its runtime has neither ended nor blocked for long.
    fn is_running(&self, timeout: Duration) -> bool {
        self.outcome.has_changed().is_ok() && self.started_at.elapsed() < timeout
    }
}
