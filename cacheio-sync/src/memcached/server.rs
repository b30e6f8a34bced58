//! One server: its connections, and whether it is asked at all.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cacheio_core::__private::{Attempt, Backoff, Circuit, Opens};

use super::address::Address;
use super::connection::{Connection, Failure};
use super::doubt::Doubt;
use super::pool::{Place, Pool};
use super::protocol::{Answer, Request};
use super::stream::Stream;
use crate::{Error, ErrorKind, Result};

/// One server.
pub(super) struct Server {
    name: String,
    target: Target,
    timeout: Duration,
    pool: Pool,
    circuit: Circuit,
    doubt: Doubt,
}

/// How to reach a server, and to be let in.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) credentials: Option<Credentials>,
    #[cfg(feature = "memcached-tls")]
    pub(super) tls: Option<super::tls::Tls>,
}

#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// What doing a request twice, or late, would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it reads.
    Nothing,
    /// What doing it once does; but late it must not be done.
    Write,
    /// Something else: it is never sent twice.
    Once,
}

impl Server {
    pub(super) fn new(
        target: Target,
        timeout: Duration,
        pool_size: usize,
        opens: &Opens,
    ) -> Arc<Self> {
        let name = format!("memcached at {}", target.address);
        Arc::new(Self {
            circuit: Circuit::new(name.as_str(), opens),
            name,
            target,
            timeout,
            pool: Pool::new(pool_size),
            doubt: Doubt::default(),
        })
    }

    /// When an operation that begins now has to be over.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// One command, and its answer.
    pub(super) fn ask(
        self: &Arc<Self>,
        effect: Effect,
        request: &Request,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let parts = [request.len()];
        let exchange = self.begin(effect, request.bytes(), &parts, deadline)?;
        let answer = exchange.finish(deadline, |connection| match connection.answer(deadline) {
            Err(Failure::Refused(refusal)) if refusal.in_sync() => Ok(Err(refusal)),
            other => other.map(Ok),
        })?;
        answer.map_err(Failure::Refused)
    }

    /// Begins to send a request, in parts that end at `parts`: two of them, and the others when
    /// the answers to those before have come. So both sides never wait for each other to read.
    pub(super) fn begin<'a>(
        self: &'a Arc<Self>,
        effect: Effect,
        request: &'a [u8],
        parts: &'a [usize],
        deadline: Instant,
    ) -> Result<Exchange<'a>, Failure> {
        let began = Instant::now();
        if began >= deadline {
            // Other things took all the time: that says nothing about the server.
            return Err(Failure::TimedOut);
        }
        let attempt = self.circuit.enter().map_err(Failure::Other)?;
        let opened = self.open(effect, window(request, parts), deadline);
        let (place, connection, pooled) = self.judge(attempt, began, opened)?;
        Ok(Exchange {
            server: self,
            effect,
            request,
            parts,
            attempt,
            place,
            connection,
            pooled,
        })
    }

    /// The error that callers see.
    pub(super) fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(refusal) => refusal.into_error(&self.name),
            Failure::TimedOut => Error::new(
                ErrorKind::Timeout,
                format!("{} did not answer within {:?}", self.name, self.timeout),
            ),
            Failure::Broken(source) => Error::new(
                ErrorKind::Unavailable,
                format!("{} cannot be reached, or hung up", self.name),
            )
            .with_source(source),
            Failure::Other(error) => error,
        }
    }

    /// The error for an answer that the protocol does not have there.
    pub(super) fn unexpected(&self, answer: &Answer) -> Error {
        Error::new(
            ErrorKind::Server,
            format!(
                "{} answered {:?}, which makes no sense here",
                self.name, answer.code
            ),
        )
    }

    /// A connection on which the first of a request has been sent; whether it was used before.
    fn open(
        &self,
        effect: Effect,
        first: &[u8],
        deadline: Instant,
    ) -> Result<(Place<'_>, Connection, bool), Failure> {
        if effect != Effect::Nothing {
            self.doubt.settle(deadline)?;
        }
        let (place, idle) = self.pool.take(deadline).map_err(|_| self.busy())?;
        if let Some(mut connection) = idle {
            connection.begin();
            match connection.write(first, deadline) {
                Ok(()) => return Ok((place, connection, true)),
                Err(failure) if !may_repeat(&failure, effect, &connection) => {
                    self.leave(effect, connection);
                    return Err(failure);
                }
                Err(_) => {}
            }
        }
        let connection = self.send_anew(effect, first, deadline)?;
        Ok((place, connection, false))
    }

    /// A new connection on which the first of a request has been sent.
    fn send_anew(
        &self,
        effect: Effect,
        first: &[u8],
        deadline: Instant,
    ) -> Result<Connection, Failure> {
        let mut connection = self.dial(deadline)?;
        connection.begin();
        match connection.write(first, deadline) {
            Ok(()) => Ok(connection),
            Err(failure) => {
                self.leave(effect, connection);
                Err(failure)
            }
        }
    }

    fn dial(&self, deadline: Instant) -> Result<Connection, Failure> {
        let stream = Stream::connect(&self.target.address, deadline)?;
        #[cfg(feature = "memcached-tls")]
        let stream = match &self.target.tls {
            Some(tls) => tls.wrap(stream, &self.target.address, deadline)?,
            None => stream,
        };
        let mut connection = Connection::new(stream);
        if let Some(credentials) = &self.target.credentials {
            self.log_in(&mut connection, credentials, deadline)?;
        }
        Ok(connection)
    }

    /// memcached's authentication for its text protocols: a `set` of any key.
    fn log_in(
        &self,
        connection: &mut Connection,
        Credentials { user, password }: &Credentials,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let value = format!("{user} {password}");
        let request = Request::line(&format!("set auth 0 0 {}\r\n{value}", value.len()));
        connection.write(request.bytes(), deadline)?;
        if connection.line(deadline, |line| line == b"STORED")? {
            return Ok(());
        }
        // Its own words may repeat what was sent.
        Err(Failure::Other(Error::new(
            ErrorKind::Server,
            format!("{} refused the user name or the password", self.name),
        )))
    }

    /// Gives up a connection. What it had to do may be done yet, and is waited for then.
    fn leave(&self, effect: Effect, connection: Connection) {
        if effect != Effect::Nothing && connection.has_sent() {
            self.doubt.park(connection.into_stream());
        }
    }

    fn busy(&self) -> Failure {
        Failure::Other(Error::new(
            ErrorKind::Timeout,
            format!(
                "no connection to {} became free within {:?}; pool_size sets how many there are",
                self.name, self.timeout
            ),
        ))
    }

    /// Says to the circuit how a call ended.
    fn judge<T>(
        self: &Arc<Self>,
        attempt: Attempt,
        began: Instant,
        outcome: Result<T, Failure>,
    ) -> Result<T, Failure> {
        let failed = match &outcome {
            Err(Failure::Broken(error)) => self.circuit.failed(attempt, error),
            // With less time than that, other things have taken it: other servers, or the wait for
            // a connection.
            Err(Failure::TimedOut) if began.elapsed() >= self.timeout / 2 => {
                self.circuit.failed(attempt, "timed out")
            }
            _ => false,
        };
        if failed {
            // After a failure of the network those at rest may be dead and not know it.
            self.pool.clear();
            self.start_probing();
        }
        outcome
    }

    fn start_probing(self: &Arc<Self>) {
        let server = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("cacheio-probe".into());
        if thread.spawn(move || probe(&server)).is_err() {
            // Nobody would ever close it: then the callers find out.
            self.circuit.close();
        }
    }

    /// Whether the server answers, and is through with all that it was sent before.
    fn is_back(&self) -> bool {
        let deadline = self.deadline();
        let answer = || -> Result<Answer, Failure> {
            self.doubt.settle(deadline)?;
            let mut connection = self.dial(deadline)?;
            connection.write(Request::line("mn").bytes(), deadline)?;
            connection.answer(deadline)
        };
        !matches!(answer(), Err(Failure::TimedOut | Failure::Broken(_)))
    }
}

/// Asks a server again and again until it answers or nobody wants to know any more.
fn probe(server: &Weak<Server>) {
    let mut backoff = Backoff::new();
    loop {
        std::thread::sleep(backoff.next());
        let Some(server) = server.upgrade() else {
            return;
        };
        if server.is_back() {
            server.circuit.close();
            return;
        }
    }
}

/// Whether the first of a request can be sent anew: a connection from the pool was dead already.
fn may_repeat(failure: &Failure, effect: Effect, connection: &Connection) -> bool {
    let broke =
        matches!(failure, Failure::Broken(error) if error.kind() != io::ErrorKind::InvalidData);
    broke && !connection.has_heard() && (effect != Effect::Once || !connection.has_sent())
}

/// What is sent of a request before any answer is read.
fn window<'a>(request: &'a [u8], parts: &[usize]) -> &'a [u8] {
    match parts.get(1).or(parts.first()) {
        Some(end) => &request[..*end],
        None => request,
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.target.address)
    }
}

/// A request that was begun.
pub(super) struct Exchange<'a> {
    server: &'a Arc<Server>,
    effect: Effect,
    request: &'a [u8],
    parts: &'a [usize],
    attempt: Attempt,
    place: Place<'a>,
    connection: Connection,
    pooled: bool,
}

impl Exchange<'_> {
    /// Reads the answers, by `deadline`: `read` reads those to one part, and what it gives for the
    /// last counts.
    pub(super) fn finish<T>(
        mut self,
        deadline: Instant,
        mut read: impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let mut outcome = self.talk(deadline, &mut read);
        if let Err(failure) = &outcome
            && self.pooled
            && may_repeat(failure, self.effect, &self.connection)
        {
            let first = window(self.request, self.parts);
            outcome = match self.server.send_anew(self.effect, first, deadline) {
                Ok(connection) => {
                    self.connection = connection;
                    self.talk(deadline, &mut read)
                }
                // Nothing of this connection's is left to be done: it broke.
                Err(failure) => return self.server.judge(self.attempt, began, Err(failure)),
            };
        }
        match &outcome {
            Ok(_) => {
                self.server.circuit.answered();
                self.connection.done();
                self.place.give_back(self.connection);
            }
            Err(failure) => {
                if matches!(failure, Failure::Refused(_)) {
                    self.server.circuit.answered();
                }
                self.server.leave(self.effect, self.connection);
            }
        }
        self.server.judge(self.attempt, began, outcome)
    }

    fn talk<T>(
        &mut self,
        deadline: Instant,
        read: &mut impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut part = 0;
        loop {
            let answers = read(&mut self.connection)?;
            if let Some([from, to]) = self.parts.get(part + 1..part + 3) {
                self.connection.write(&self.request[*from..*to], deadline)?;
            }
            part += 1;
            if part >= self.parts.len() {
                return Ok(answers);
            }
        }
    }
}
