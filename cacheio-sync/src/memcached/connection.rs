//! One connection to a server, and the state of the requests that were sent on it.

use std::net::SocketAddr;

use super::call::{Call, Driver};
use super::decoder::Decoder;
use super::failure::Failure;
use super::os_socket::OsSocket;
use super::protocol::Request;
use super::stream::Stream;

#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    decoder: Decoder,
    /// Whether any byte of the current exchange's request may have been sent.
    sent: bool,
    /// Whether any byte of the response to the current exchange was received; of the next one, if there are
    /// several that wait for each other.
    received: bool,
    /// Whether all responses to the requests so far were read, or are known to be lost.
    in_sync: bool,
    /// Whether a no-op was sent after the request.
    is_probed: bool,
    /// The number of the connection among those to its server: see [`ServerRuns`](super::runs::ServerRuns).
    pub(super) number: u64,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            sent: false,
            received: false,
            in_sync: true,
            is_probed: false,
            number: 0,
        }
    }

    /// Returns whether another exchange may use this connection, as far as this side knows.
    pub(super) fn is_reusable(&self) -> bool {
        self.in_sync && self.decoder.is_empty() && !self.is_probed
    }

    /// Returns whether the server has neither closed the connection nor sent unexpected bytes. Costs
    /// a system call, and no round trip.
    pub(super) fn is_quiet(&self) -> bool {
        self.stream.socket.is_quiet()
    }

    /// Returns whether a caller may use this connection.
    pub(super) fn suits(&self, driver: Driver) -> bool {
        self.stream.socket.suits(driver)
    }

    /// Returns the address to which the connection leads, if it has one.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.stream.socket.peer()
    }

    pub(super) fn has_sent(&self) -> bool {
        self.sent
    }

    pub(super) fn has_received(&self) -> bool {
        self.received
    }

    pub(super) fn is_probed(&self) -> bool {
        self.is_probed
    }

    pub(super) fn into_os_socket(self) -> std::io::Result<OsSocket> {
        self.stream.socket.into_os_socket()
    }

    /// Starts an exchange. The connection is not reusable until [`end_exchange`](Self::end_exchange).
    pub(super) fn begin_exchange(&mut self) {
        (self.sent, self.received, self.in_sync) = (false, false, false);
    }

    /// Takes note that a response was read, and another one is outstanding.
    pub(super) fn expect_response(&mut self) {
        self.received = !self.decoder.is_empty();
    }

    /// Returns whether the server may still carry out a request.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.sent && !self.in_sync
    }

    /// Ends an exchange whose responses were all read, or are known to be lost.
    pub(super) fn end_exchange(&mut self) {
        self.in_sync = true;
    }

    /// Runs an exchange that does nothing but cause a response.
    pub(super) async fn ping(&mut self, call: Call) -> Result<(), Failure> {
        self.begin_exchange();
        self.write(Request::line("mn").bytes(), call).await?;
        self.read(call, Decoder::response).await?;
        self.end_exchange();
        Ok(())
    }

    /// Sends a no-op after the request. If its response comes first, that of the request was lost. No other
    /// exchange uses the connection after this one.
    pub(super) async fn probe(&mut self, call: Call) -> Result<(), Failure> {
        self.is_probed = true;
        self.write(Request::line("mn").bytes(), call).await
    }

    pub(super) async fn write(&mut self, mut bytes: &[u8], call: Call) -> Result<(), Failure> {
        // A session may have sent a part when it fails.
        self.sent |= self.stream.has_session();
        while !bytes.is_empty() {
            let written = self.stream.write(bytes, call).await?;
            self.sent = true;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Receives until `read` returns something. `read` returns `None` while bytes are missing.
    pub(super) async fn read<T>(
        &mut self,
        call: Call,
        mut read: impl FnMut(&mut Decoder) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        loop {
            if let Some(result) = read(&mut self.decoder)? {
                return Ok(result);
            }
            let received = self.stream.read(self.decoder.space(), call).await?;
            self.decoder.advance(received);
            self.received = true;
        }
    }
}
