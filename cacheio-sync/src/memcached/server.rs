//! One server: sends requests to it through its pool, and sends nothing while it does not respond.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cacheio_core::__private::{Attempt, Backoff, Circuit, Opens, poll_ready};
use memcache::exp::{MetaOp, ReturnCode};

use super::call::{Call, Driver};
use super::decoder::Decoder;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::lease::Lease;
use super::pool::{NoPermit, Pool};
use super::protocol::{Request, Response, ServerError};
use super::retry::Retry;
use super::runs::ServerRuns;
use super::unconfirmed::UnconfirmedWrites;
use crate::{Error, ErrorKind, Result};

pub(super) struct Server {
    /// The name of the server in errors and logs.
    name: String,
    pub(super) endpoint: Endpoint,
    timeout: Duration,
    pub(super) pool: Pool,
    circuit: Circuit,
    pub(super) unconfirmed: UnconfirmedWrites,
    pub(super) runs: ServerRuns,
}

/// What a look at a key finds: see [`Request::look`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    Nothing,
    /// An empty item, which is a claim, with its CAS number.
    Claim(u64),
    Entry,
}

/// The next response to a request with a look.
enum Next<T> {
    Looked,
    Last(Result<T, ServerError>),
}

impl Looked {
    /// Reads the response to a look; `None` if it is one to another command.
    fn read(response: &Response) -> Option<Self> {
        match (response.code, response.size) {
            (ReturnCode::En, _) => Some(Self::Nothing),
            (ReturnCode::Hd, Some(0)) => Some(Self::Claim(response.cas.unwrap_or_default())),
            (ReturnCode::Hd, Some(_)) => Some(Self::Entry),
            _ => None,
        }
    }
}

/// How an exchange ended whose responses were all read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// The number of the connection.
    pub(super) connection: u64,
    /// Whether the request was sent twice.
    pub(super) is_resent: bool,
}

/// Where a CAS number came from.
#[derive(Debug)]
pub(super) struct Origin {
    /// The number of the connection.
    pub(super) connection: u64,
    /// Reads an item that this run of the server has, and no other.
    pub(super) proof: Request,
    /// The value of the item.
    pub(super) proven_by: Vec<u8>,
}

/// How long a server that works normally takes at most to confirm a write.
const CONFIRMATION: Duration = Duration::from_millis(20);

/// How long a server that responds to other requests may take to confirm a write. If it takes longer,
/// it has not received the write.
const CONFIRMATION_MAX: Duration = Duration::from_millis(200);

/// How long an attempt to reach a server that does not respond lasts while a longer one is running.
const SHORT_ATTEMPT: Duration = Duration::from_secs(1);

impl Origin {
    /// Returns an origin whose run of the server has an item with this value.
    pub(super) fn new(connection: u64, key: &str, value: &[u8]) -> Result<Self> {
        let mut proof = Request::default();
        proof.command(MetaOp::Get, key)?.flag("v").token().end();
        Ok(Self {
            connection,
            proof,
            proven_by: value.to_vec(),
        })
    }
}

impl Server {
    pub(super) fn new(
        endpoint: Endpoint,
        timeout: Duration,
        max_connections: usize,
        opens: &Opens,
    ) -> Arc<Self> {
        let name = endpoint.to_string();
        Arc::new(Self {
            circuit: Circuit::new(name.as_str(), opens),
            name,
            endpoint,
            timeout,
            pool: Pool::new(max_connections, timeout),
            unconfirmed: UnconfirmedWrites::default(),
            runs: ServerRuns::default(),
        })
    }

    /// Starts a call whose time begins now.
    pub(super) fn call(&self, driver: Driver) -> Call {
        Call::new(driver, self.timeout)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs one command, and returns what `read` makes of its response: `None` if the response does
    /// not fit the command.
    pub(super) async fn execute<T>(
        self: &Arc<Self>,
        retry: Retry,
        request: &Request,
        call: Call,
        mut read: impl FnMut(&mut Response) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut exchange = self.begin(retry, request, call).await?;
        exchange.measure();
        let outcome = exchange.read(call, |decoder| match decoder.response() {
            Ok(None) => Ok(None),
            Ok(Some(mut response)) => {
                let output = (request.accepts(&response))
                    .then(|| read(&mut response))
                    .flatten();
                let output = output.ok_or(Failure::Unexpected(response.code))?;
                Ok(Some(Ok(output)))
            }
            // The connection is still usable, so this must not end the exchange as failed.
            Err(Failure::Server(error)) if error.is_in_sync() => Ok(Some(Err(error))),
            Err(failure) => Err(failure),
        });
        let outcome = outcome.await?;
        exchange.end();
        outcome.map_err(Failure::Server)
    }

    /// Runs a command behind one that looks at its key. Returns what `read` makes of the response, and of
    /// what was found; nothing if the response to the first command was lost.
    pub(super) async fn execute_after_look<T>(
        self: &Arc<Self>,
        retry: Retry,
        request: &Request,
        call: Call,
        read: impl Fn(&Response, Option<Looked>) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut exchange = self.begin(retry, request, call).await?;
        exchange.measure();
        let mut looked = None;
        let mut next = |decoder: &mut Decoder| match decoder.response() {
            Ok(None) => Ok(None),
            Ok(Some(response)) => {
                let unexpected = Failure::Unexpected(response.code);
                if !request.accepts(&response) {
                    return Err(unexpected);
                }
                if let Some(found) = Looked::read(&response) {
                    looked = Some(found);
                    return Ok(Some(Next::Looked));
                }
                let output = read(&response, looked).ok_or(unexpected)?;
                Ok(Some(Next::Last(Ok(output))))
            }
            // It is that to the last command, after which the connection is still usable.
            Err(Failure::Server(error)) if error.is_in_sync() && looked.is_some() => {
                Ok(Some(Next::Last(Err(error))))
            }
            Err(failure) => Err(failure),
        };
        loop {
            match exchange.read(call, &mut next).await? {
                // If the request is sent again, this comes again.
                Next::Looked => exchange.lease.expect_response(),
                Next::Last(outcome) => {
                    exchange.end();
                    return outcome.map_err(Failure::Server);
                }
            }
        }
    }

    /// Starts an exchange: takes a connection and sends the first window of the request.
    pub(super) async fn begin<'a>(
        self: &'a Arc<Self>,
        retry: Retry,
        request: &'a Request,
        call: Call,
    ) -> Result<Exchange<'a>, Failure> {
        let sending = self.send(retry, request.first_window(), call);
        self.begin_by(sending, request, call).await
    }

    /// Starts an exchange that compares CAS numbers from an earlier one. It is never sent twice.
    ///
    /// Fails with [`Failure::OtherRun`] if the server may have been restarted in between.
    pub(super) async fn begin_on_same_run<'a>(
        self: &'a Arc<Self>,
        origin: &Origin,
        request: &'a Request,
        call: Call,
    ) -> Result<Exchange<'a>, Failure> {
        let sending = async {
            let sent = self.send_on_same_run(origin, request.first_window(), call);
            Ok((sent.await?, false))
        };
        self.begin_by(sending, request, call).await
    }

    /// Starts an exchange by a future that sends the first window, and returns the connection, and whether it was
    /// pooled.
    async fn begin_by<'a>(
        self: &'a Arc<Self>,
        sending: impl Future<Output = Result<(Lease<'a>, bool), Failure>>,
        request: &'a Request,
        call: Call,
    ) -> Result<Exchange<'a>, Failure> {
        // If something else took all the time, this says nothing about the server.
        call.time_left()?;
        let started = Instant::now();
        let attempt = self.circuit.enter().map_err(Failure::Other)?;
        let (lease, pooled) = self.record_outcome(attempt, started, sending.await)?;
        Ok(Exchange {
            server: self,
            request,
            attempt,
            lease,
            pooled,
            is_resent: false,
            reading_since: None,
        })
    }

    /// Returns the error that callers get for a failure.
    pub(super) fn error(&self, failure: Failure) -> Error {
        failure.into_error(&self.name, self.timeout)
    }

    /// Sends the first window of a request. Returns the connection, and whether it was pooled.
    async fn send(
        &self,
        retry: Retry,
        window: &[u8],
        call: Call,
    ) -> Result<(Lease<'_>, bool), Failure> {
        if retry.is_write() {
            self.confirm_writes(call).await?;
        }
        let mut lease = self.lease(retry, call).await?;
        if lease.take_idle(call.driver) {
            match lease.send(window, call).await {
                Ok(()) => return Ok((lease, true)),
                Err(failure) if lease.allows_resend(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        lease.connect(call).await?;
        lease.send(window, call).await?;
        Ok((lease, false))
    }

    async fn send_on_same_run(
        &self,
        origin: &Origin,
        window: &[u8],
        call: Call,
    ) -> Result<Lease<'_>, Failure> {
        self.confirm_writes(call).await?;
        let mut lease = self.lease(Retry::Never, call).await?;
        if !lease.take_idle_of_run(call.driver, origin.connection) {
            lease.connect(call).await?;
            let proof = lease.has_value(&origin.proof, &origin.proven_by, call);
            if !proof.await? {
                return Err(Failure::OtherRun);
            }
        }
        lease.send(window, call).await?;
        Ok(lease)
    }

    async fn lease(&self, retry: Retry, call: Call) -> Result<Lease<'_>, Failure> {
        let permit = self.pool.acquire(call).await;
        let permit = permit.map_err(|reason| self.no_free_connection(&reason))?;
        // The circuit may have opened during the wait.
        self.circuit.enter().map_err(Failure::Other)?;
        Ok(Lease::new(self, retry, permit))
    }

    /// Waits until the server has carried out all writes that were sent to it, or has lost them.
    async fn confirm_writes(&self, call: Call) -> Result<(), Failure> {
        while !self.unconfirmed.is_empty() {
            // One caller asks the server for all.
            match self.unconfirmed.lead() {
                Some(_leader) => self.ask_for_confirmation(call).await?,
                None => self.unconfirmed.leader_ended(call).await?,
            }
            // It would be the next write without a response.
            if self.pool.is_too_late(call) {
                return Err(self.no_free_connection(&NoPermit::Overloaded));
            }
        }
        Ok(())
    }

    async fn ask_for_confirmation(&self, call: Call) -> Result<(), Failure> {
        while !self.unconfirmed.is_empty() {
            let confirmed = self.unconfirmed.confirmed(call.at_most(CONFIRMATION));
            if confirmed.await.is_ok() {
                return Ok(());
            }
            // Either the server hangs, and this does not succeed either, or the network has lost one
            // of the connections.
            let before = Instant::now();
            self.lease(Retry::Read, call).await?.ping(call).await?;
            let confirmed = self.unconfirmed.confirmed(call.at_most(CONFIRMATION_MAX));
            if confirmed.await.is_err() {
                call.time_left()?;
                self.unconfirmed.give_up(before);
            }
        }
        Ok(())
    }

    fn no_free_connection(&self, reason: &NoPermit) -> Failure {
        let (name, timeout) = (&self.name, self.timeout);
        let message = match reason {
            NoPermit::TimedOut => format!(
                "all {} connections to {name} were in use for {timeout:?}; raise `connections` or `timeout`",
                self.pool.max_connections(),
            ),
            NoPermit::Overloaded => format!(
                "{name} has more requests than it answers within {timeout:?}; this one was not sent"
            ),
        };
        Failure::Other(Error::new(ErrorKind::Timeout, message))
    }

    /// Tells the circuit breaker about a failure of the server, and returns the outcome.
    fn record_outcome<T>(
        self: &Arc<Self>,
        attempt: Attempt,
        started: Instant,
        outcome: Result<T, Failure>,
    ) -> Result<T, Failure> {
        let opened = match &outcome {
            Err(Failure::Broken(error)) => self.circuit.failed(attempt, error),
            // If the server had less than half of the timeout, something else took the rest: other
            // servers, or the wait for a permit.
            Err(Failure::TimedOut) if started.elapsed() >= self.timeout / 2 => {
                self.circuit.failed(attempt, "timed out")
            }
            _ => false,
        };
        if opened {
            // After a network failure the idle connections may be dead without a sign of it.
            self.pool.clear();
            self.start_probing();
        }
        outcome
    }

    fn start_probing(self: &Arc<Self>) {
        let server = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("cacheio-probe".into());
        if thread.spawn(move || probe(&server)).is_err() {
            // Without a probe nothing would ever close the circuit: let the next callers try.
            self.circuit.close();
        }
    }

    /// Returns whether the server responds within a time.
    fn is_responding(&self, time: Duration) -> bool {
        let call = self.call(Driver::Threads).at_most(time);
        let response = poll_ready(async {
            let mut connection = self.endpoint.connect(call).await?;
            connection.ping(call).await
        });
        !matches!(response, Err(Failure::TimedOut | Failure::Broken(_)))
    }
}

/// Probes a server until it responds, or until its store was dropped.
///
/// An attempt does not wait for the one before, because what was sent into a broken network may never get a
/// response: so the server is used soon after its return, however long the timeout is. One attempt at
/// a time has as long as any call, for a server that is slow; the others are short, so that few run at
/// the same time.
fn probe(server: &Weak<Server>) {
    let mut backoff = Backoff::new();
    let has_responded = Arc::new(AtomicBool::new(false));
    let is_long_running = Arc::new(AtomicBool::new(false));
    loop {
        std::thread::sleep(backoff.next());
        let Some(server) = server
            .upgrade()
            .filter(|_| !has_responded.load(Ordering::SeqCst))
        else {
            return;
        };
        let is_long = !is_long_running.swap(true, Ordering::SeqCst);
        let (responded, long_running) = (Arc::clone(&has_responded), Arc::clone(&is_long_running));
        let attempt = move || {
            let time = if is_long {
                server.timeout
            } else {
                SHORT_ATTEMPT
            };
            let is_responding = server.is_responding(time);
            if is_long {
                long_running.store(false, Ordering::SeqCst);
            }
            if is_responding && !responded.swap(true, Ordering::SeqCst) {
                server.circuit.close();
            }
        };
        let thread = std::thread::Builder::new().name("cacheio-probe".into());
        if thread.spawn(attempt).is_err() {
            // The next attempt may find a thread.
            is_long_running.fetch_and(!is_long, Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.endpoint.address)
    }
}

/// A request whose first window was sent, and whose responses are to be read.
pub(super) struct Exchange<'a> {
    server: &'a Arc<Server>,
    request: &'a Request,
    attempt: Attempt,
    lease: Lease<'a>,
    pooled: bool,
    is_resent: bool,
    reading_since: Option<Instant>,
}

impl Exchange<'_> {
    /// Receives until `read` returns something. If the pooled connection turns out to be dead, or the response
    /// was lost, sends the request again on a new one.
    pub(super) async fn read<T>(
        &mut self,
        call: Call,
        mut read: impl FnMut(&mut Decoder) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let mut since = *self.reading_since.get_or_insert_with(Instant::now);
        let may_probe = self.request.may_be_probed();
        let mut outcome = self.lease.read(call, may_probe, &mut read).await;
        if let Err(failure) = &outcome
            && (self.pooled || matches!(failure, Failure::Lost))
            && self.lease.allows_resend(failure)
        {
            self.pooled = false;
            self.is_resent = true;
            since = *self.reading_since.insert(Instant::now());
            self.lease.resent();
            outcome = match self.resend(call).await {
                Ok(()) => self.lease.read(call, may_probe, read).await,
                Err(failure) => Err(failure),
            };
        }
        if outcome.as_ref().is_err_and(Failure::is_response) {
            self.server.circuit.responded();
        }
        self.server.record_outcome(self.attempt, since, outcome)
    }

    /// Returns whether the whole request was sent.
    pub(super) fn is_one_part(&self) -> bool {
        self.request.part_count() <= 1
    }

    async fn resend(&mut self, call: Call) -> Result<(), Failure> {
        self.lease.connect(call).await?;
        self.lease.send(self.request.first_window(), call).await
    }

    /// Reads the responses to all parts of the request, and sends the rest of it. Calls `read` until
    /// it has returned something for each part.
    pub(super) async fn finish(
        mut self,
        call: Call,
        mut read: impl FnMut(&mut Decoder) -> Result<Option<()>, Failure>,
    ) -> Result<Ended, Failure> {
        for part in 0..self.request.part_count() {
            self.read(call, &mut read).await?;
            if let Some(bytes) = self.request.next_part(part) {
                let sent = self.lease.write(bytes, call).await;
                let since = self.reading_since.unwrap_or_else(Instant::now);
                self.server.record_outcome(self.attempt, since, sent)?;
            }
        }
        let ended = Ended {
            connection: self.lease.number(),
            is_resent: self.is_resent,
        };
        self.end();
        Ok(ended)
    }

    /// Says that the exchange is a single request, which tells how fast the server is.
    pub(super) fn measure(&mut self) {
        self.lease.measure();
    }

    /// Ends an exchange whose responses were all read.
    pub(super) fn end(mut self) {
        self.server.circuit.responded();
        self.lease.end();
    }
}
