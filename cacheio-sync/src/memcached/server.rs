//! One server: sends requests to it through its pool, and sends nothing while it does not respond.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cacheio_core::__private::{Attempt, Backoff, Circuit, Opens};

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::pool::{Permit, Pool};
use super::protocol::{Request, Response};
use super::retry::Retry;
use super::unconfirmed::UnconfirmedWrites;
use crate::{Error, ErrorKind, Result};

pub(super) struct Server {
    /// The name of the server in errors and logs.
    name: String,
    endpoint: Endpoint,
    timeout: Duration,
    pool: Pool,
    circuit: Circuit,
    unconfirmed: UnconfirmedWrites,
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
            pool: Pool::new(max_connections),
            unconfirmed: UnconfirmedWrites::default(),
        })
    }

    /// Returns the deadline of an operation that starts now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs one command and returns its response.
    pub(super) fn execute(
        self: &Arc<Self>,
        retry: Retry,
        request: &Request,
        deadline: Instant,
    ) -> Result<Response, Failure> {
        let exchange = self.begin(retry, request, deadline)?;
        let response = exchange.finish(deadline, |connection| {
            match connection.read_response(deadline) {
                // The connection is still usable, so this must not end the exchange as failed.
                Err(Failure::Server(error)) if error.is_in_sync() => Ok(Err(error)),
                other => other.map(Ok),
            }
        })?;
        response.map_err(Failure::Server)
    }

    /// Starts an exchange: takes a connection and sends the first window of the request.
    pub(super) fn begin<'a>(
        self: &'a Arc<Self>,
        retry: Retry,
        request: &'a Request,
        deadline: Instant,
    ) -> Result<Exchange<'a>, Failure> {
        let started = Instant::now();
        if started >= deadline {
            // Something else took all the time: this says nothing about the server.
            return Err(Failure::TimedOut);
        }
        let attempt = self.circuit.enter().map_err(Failure::Other)?;
        let sent = self.send(retry, request.first_window(), deadline);
        let (permit, connection, pooled) = self.record_outcome(attempt, started, sent)?;
        Ok(Exchange {
            server: self,
            retry,
            request,
            attempt,
            permit,
            connection,
            pooled,
        })
    }

    /// Returns the error that callers get for a failure.
    pub(super) fn error(&self, failure: Failure) -> Error {
        failure.into_error(&self.name, self.timeout)
    }

    /// Returns the error for a response that does not fit its command.
    pub(super) fn unexpected(&self, response: &Response) -> Error {
        Error::new(
            ErrorKind::Server,
            format!(
                "unexpected response {:?} from {}; is this memcached 1.6 or later?",
                response.code, self.name
            ),
        )
    }

    /// Sends the first window of a request. Returns the connection, and whether it was pooled.
    fn send(
        &self,
        retry: Retry,
        window: &[u8],
        deadline: Instant,
    ) -> Result<(Permit<'_>, Connection, bool), Failure> {
        if retry.is_write() {
            self.unconfirmed.confirm_all(deadline)?;
        }
        let (permit, idle) = self
            .pool
            .acquire(deadline)
            .map_err(|_| self.no_free_connection())?;
        if let Some(mut connection) = idle {
            connection.begin_exchange();
            match connection.write(window, deadline) {
                Ok(()) => return Ok((permit, connection, true)),
                Err(failure) if retry.allows_resend(&failure, &connection) => {}
                Err(failure) => {
                    self.abandon(retry, connection);
                    return Err(failure);
                }
            }
        }
        let connection = self.send_on_new_connection(retry, window, deadline)?;
        Ok((permit, connection, false))
    }

    fn send_on_new_connection(
        &self,
        retry: Retry,
        window: &[u8],
        deadline: Instant,
    ) -> Result<Connection, Failure> {
        let mut connection = self.endpoint.connect(deadline)?;
        connection.begin_exchange();
        match connection.write(window, deadline) {
            Ok(()) => Ok(connection),
            Err(failure) => {
                self.abandon(retry, connection);
                Err(failure)
            }
        }
    }

    /// Gives up a connection whose exchange failed. The server may still carry out a write that was
    /// sent on it.
    fn abandon(&self, retry: Retry, connection: Connection) {
        if retry.is_write() && connection.has_sent() {
            self.unconfirmed.add(connection.into_stream());
        }
    }

    fn no_free_connection(&self) -> Failure {
        Failure::Other(Error::new(
            ErrorKind::Timeout,
            format!(
                "all {} connections to {} were in use for {:?}; raise `connections` or `timeout`",
                self.pool.max_connections(),
                self.name,
                self.timeout
            ),
        ))
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

    /// Returns whether the server responds, and has processed everything that was sent to it.
    fn is_responding(&self) -> bool {
        let deadline = self.deadline();
        let response = || -> Result<Response, Failure> {
            self.unconfirmed.confirm_all(deadline)?;
            let mut connection = self.endpoint.connect(deadline)?;
            connection.write(Request::line("mn").bytes(), deadline)?;
            connection.read_response(deadline)
        };
        !matches!(response(), Err(Failure::TimedOut | Failure::Broken(_)))
    }
}

/// Probes a server until it responds, or until its store was dropped.
fn probe(server: &Weak<Server>) {
    let mut backoff = Backoff::new();
    loop {
        std::thread::sleep(backoff.next());
        let Some(server) = server.upgrade() else {
            return;
        };
        if server.is_responding() {
            server.circuit.close();
            return;
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
    retry: Retry,
    request: &'a Request,
    attempt: Attempt,
    permit: Permit<'a>,
    connection: Connection,
    pooled: bool,
}

impl Exchange<'_> {
    /// Reads the responses and sends the rest of the request.
    ///
    /// Calls `read` once for each part of the request, to read the responses to this part. Returns
    /// the result of the last call.
    pub(super) fn finish<T>(
        mut self,
        deadline: Instant,
        mut read: impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let mut outcome = self.read_parts(deadline, &mut read);
        if let Err(failure) = &outcome
            && self.pooled
            && self.retry.allows_resend(failure, &self.connection)
        {
            if let Err(failure) = self.resend(deadline) {
                // The pooled connection is dead: the server cannot carry out anything from it.
                return self
                    .server
                    .record_outcome(self.attempt, started, Err(failure));
            }
            outcome = self.read_parts(deadline, &mut read);
        }
        match &outcome {
            Ok(_) => {
                self.server.circuit.responded();
                self.connection.end_exchange();
                self.permit.give_back(self.connection);
            }
            Err(failure) => {
                if matches!(failure, Failure::Server(_)) {
                    self.server.circuit.responded();
                }
                self.server.abandon(self.retry, self.connection);
            }
        }
        self.server.record_outcome(self.attempt, started, outcome)
    }

    fn resend(&mut self, deadline: Instant) -> Result<(), Failure> {
        let window = self.request.first_window();
        self.connection = self
            .server
            .send_on_new_connection(self.retry, window, deadline)?;
        Ok(())
    }

    fn read_parts<T>(
        &mut self,
        deadline: Instant,
        read: &mut impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut part = 0;
        loop {
            let responses = read(&mut self.connection)?;
            if let Some(bytes) = self.request.next_part(part) {
                self.connection.write(bytes, deadline)?;
            }
            part += 1;
            if part >= self.request.part_count() {
                return Ok(responses);
            }
        }
    }
}
