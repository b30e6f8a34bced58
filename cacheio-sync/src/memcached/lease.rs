//! A connection in use, and what happens to it afterwards.

use memcache::exp::ReturnCode;

use super::call::{Call, Driver, PATIENCE};
use super::connection::Connection;
use super::decoder::Decoder;
use super::failure::Failure;
use super::pool::Permit;
use super::protocol::Request;
use super::retry::Retry;
use super::server::Server;

/// The use of one connection for one exchange.
///
/// Its drop decides what happens to the connection, whether the exchange succeeded, failed, or was
/// dropped with the future of its caller. If all responses were read, the pool keeps the connection.
/// If the server may still carry out a write that was sent on it, it is kept until it has. Any other
/// connection is closed.
pub(super) struct Lease<'a> {
    server: &'a Server,
    retry: Retry,
    connection: Option<Connection>,
    /// The number of the latest connection to the server when the request was sent.
    latest: u64,
    is_answered: bool,
    /// Released after the connection was put back.
    permit: Permit<'a>,
}

impl<'a> Lease<'a> {
    pub(super) fn new(server: &'a Server, retry: Retry, permit: Permit<'a>) -> Self {
        Self {
            server,
            retry,
            connection: None,
            latest: 0,
            is_answered: false,
            permit,
        }
    }

    /// Takes an idle connection from the pool. Returns whether there was one.
    pub(super) fn take_idle(&mut self, driver: Driver) -> bool {
        self.connection = self.server.pool.take_idle(driver, |_| true);
        self.connection.is_some()
    }

    /// Takes an idle connection that is known to lead to the same run of the server as that with a number.
    /// Returns whether there was one.
    pub(super) fn take_idle_of_run(&mut self, driver: Driver, number: u64) -> bool {
        let runs = &self.server.runs;
        let is_same = |connection: &Connection| runs.are_same(connection.number, number);
        self.connection = self.server.pool.take_idle(driver, is_same);
        self.connection.is_some()
    }

    /// Opens a connection. Closes the one before it, which must be dead.
    pub(super) async fn connect(&mut self, call: Call) -> Result<(), Failure> {
        self.connection = None;
        self.server.pool.make_room();
        let mut connection = self.server.endpoint.connect(call).await?;
        connection.number = self.server.runs.open(connection.peer());
        self.connection = Some(connection);
        Ok(())
    }

    /// Begins an exchange with the first bytes of its request.
    pub(super) async fn send(&mut self, bytes: &[u8], call: Call) -> Result<(), Failure> {
        self.latest = self.server.runs.latest();
        let connection = self.connection()?;
        connection.begin_exchange();
        connection.write(bytes, call).await
    }

    /// Says that the next response is outstanding: it may still be lost, as a whole.
    pub(super) fn expect_response(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.expect_response();
        }
    }

    /// Returns the number of the connection.
    pub(super) fn number(&self) -> u64 {
        self.connection
            .as_ref()
            .map_or(0, |connection| connection.number)
    }

    /// Reads an item in an exchange of its own. Returns whether it has this value.
    pub(super) async fn has_value(
        &mut self,
        request: &Request,
        value: &[u8],
        call: Call,
    ) -> Result<bool, Failure> {
        self.send(request.bytes(), call).await?;
        let connection = self.connection()?;
        let response = connection.read(call, Decoder::response).await?;
        connection.end_exchange();
        Ok(request.accepts(&response) && response.value == value)
    }

    pub(super) async fn write(&mut self, bytes: &[u8], call: Call) -> Result<(), Failure> {
        self.connection()?.write(bytes, call).await
    }

    /// Receives until `read` returns something.
    ///
    /// If the server answers other requests meanwhile, the response to this one may have been lost. Then a
    /// no-op after it shows that, if `may_probe` allows one. Otherwise the request occupies the connection
    /// until the deadline.
    pub(super) async fn read<T>(
        &mut self,
        call: Call,
        may_probe: bool,
        mut read: impl FnMut(&mut Decoder) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let mut patience = PATIENCE;
        loop {
            let connection = self.connection()?;
            let waits = may_probe && !connection.has_received();
            let part = if waits { call.at_most(patience) } else { call };
            match connection.read(part, &mut read).await {
                Err(Failure::TimedOut) if waits && call.time_left().is_ok() => {
                    if !connection.has_received() && self.permit.is_overdue() {
                        self.connection()?.probe(call).await?;
                        // The response to the no-op may be lost too.
                        patience *= 2;
                    }
                }
                Err(Failure::Unexpected(ReturnCode::Mn)) if connection.is_probed() => {
                    // The server carries out what it received in order, so this request is no longer to come.
                    connection.end_exchange();
                    return Err(Failure::Lost);
                }
                result => return result,
            }
        }
    }

    /// Says that the exchange is a single request, which tells how fast the server is.
    pub(super) fn measure(&mut self) {
        self.permit.measure();
    }

    /// Says that the request of the exchange is sent again.
    pub(super) fn resent(&mut self) {
        self.permit.resent();
    }

    /// Ends an exchange whose responses were all read.
    pub(super) fn end(&mut self) {
        self.permit.answered();
        self.is_answered = true;
        if let Some(connection) = &mut self.connection {
            connection.end_exchange();
        }
    }

    /// Checks on a new connection that the server responds.
    pub(super) async fn ping(mut self, call: Call) -> Result<(), Failure> {
        self.connect(call).await?;
        self.connection()?.ping(call).await
    }

    pub(super) fn allows_resend(&self, failure: &Failure) -> bool {
        (self.connection.as_ref())
            .is_some_and(|connection| self.retry.allows_resend(failure, connection))
    }

    fn connection(&mut self) -> Result<&mut Connection, Failure> {
        // After a failure to connect, there is none.
        let not_connected = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        Ok(self.connection.as_mut().ok_or_else(not_connected)?)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if self.is_answered {
            self.server.runs.answered(connection.number, self.latest);
        }
        if connection.is_reusable() {
            self.server.pool.put_idle(connection);
        } else if self.retry.is_write() && connection.is_unconfirmed() {
            self.server.unconfirmed.add(connection);
        }
    }
}
