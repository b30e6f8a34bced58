//! Sockets whose reads and writes end by the deadline of a call.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::address::Address;
use super::call::{Call, Driver, PATIENCE};
use super::os_socket::{OsSocket, is_quiet, socket};
use super::resolver::Resolver;
#[cfg(feature = "tokio")]
use super::tokio_socket::TokioSocket;

#[derive(Debug)]
pub(super) enum Socket {
    Blocking(BlockingSocket),
    #[cfg(feature = "tokio")]
    Tokio(TokioSocket),
}

impl Socket {
    pub(super) async fn connect(
        address: &Address,
        resolver: &Resolver,
        call: Call,
    ) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let addresses = resolver.resolve(host, *port, call).await?;
                let mut last =
                    io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
                for (tried, address) in addresses.iter().enumerate() {
                    // An address that does not respond must leave time for the next ones.
                    let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
                    let call = call.at_most(call.time_left()? / untried);
                    match Self::connect_tcp(*address, call).await {
                        Ok(socket) => return Ok(socket),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            #[cfg(unix)]
            Address::Unix(path) => Self::connect_unix(path, call).await,
        }
    }

    async fn connect_tcp(address: SocketAddr, call: Call) -> io::Result<Self> {
        match call.driver {
            Driver::Threads => {
                let socket = OsSocket::connect_tcp(&address, call.time_left()?)?;
                Ok(Self::Blocking(BlockingSocket::new(socket)))
            }
            #[cfg(feature = "tokio")]
            Driver::Tasks => {
                let connecting = call.until_deadline(TokioSocket::connect_tcp(address));
                connecting.await?.map(Self::Tokio)
            }
        }
    }

    #[cfg(unix)]
    async fn connect_unix(path: &std::path::Path, call: Call) -> io::Result<Self> {
        match call.driver {
            Driver::Threads => {
                let socket = OsSocket::connect_unix(path, call.time_left()?)?;
                Ok(Self::Blocking(BlockingSocket::new(socket)))
            }
            #[cfg(feature = "tokio")]
            Driver::Tasks => {
                let connecting = call.until_deadline(TokioSocket::connect_unix(path));
                connecting.await?.map(Self::Tokio)
            }
        }
    }

    /// Reads at least one byte. The end of the stream is an error.
    pub(super) async fn read(&mut self, buffer: &mut [u8], call: Call) -> io::Result<usize> {
        let read = match self {
            Self::Blocking(socket) => socket.run(call, |socket| socket.read(buffer))?,
            #[cfg(feature = "tokio")]
            Self::Tokio(socket) => call.until_deadline(socket.read(buffer)).await??,
        };
        match read {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }

    /// Writes at least one byte.
    pub(super) async fn write(&mut self, bytes: &[u8], call: Call) -> io::Result<usize> {
        let written = match self {
            Self::Blocking(socket) => socket.run(call, |socket| socket.write(bytes))?,
            #[cfg(feature = "tokio")]
            Self::Tokio(socket) => call.until_deadline(socket.write(bytes)).await??,
        };
        match written {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        }
    }

    /// Returns whether there is nothing to read, not even an end of the stream. Does not block, and
    /// costs no round trip.
    pub(super) fn is_quiet(&self) -> bool {
        match self {
            Self::Blocking(socket) => socket!(OsSocket, &socket.socket, socket => is_quiet(socket)),
            #[cfg(feature = "tokio")]
            Self::Tokio(socket) => socket.is_quiet(),
        }
    }

    /// Returns the address of the other end, unless it is a Unix socket.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Blocking(socket) => match &socket.socket {
                OsSocket::Tcp(socket) => socket.peer_addr().ok(),
                #[cfg(unix)]
                OsSocket::Unix(_) => None,
            },
            #[cfg(feature = "tokio")]
            Self::Tokio(socket) => socket.peer(),
        }
    }

    /// Returns whether a caller may use this socket: it suits its driver, and its runtime.
    pub(super) fn suits(&self, driver: Driver) -> bool {
        match (self, driver) {
            (Self::Blocking(_), Driver::Threads) => true,
            #[cfg(feature = "tokio")]
            (Self::Tokio(socket), Driver::Tasks) => socket.suits_caller(),
            #[cfg(feature = "tokio")]
            _ => false,
        }
    }

    pub(super) fn into_os_socket(self) -> io::Result<OsSocket> {
        match self {
            Self::Blocking(socket) => Ok(socket.socket),
            #[cfg(feature = "tokio")]
            Self::Tokio(socket) => socket.into_os_socket(),
        }
    }
}

/// A socket whose calls block.
#[derive(Debug)]
pub(super) struct BlockingSocket {
    socket: OsSocket,
    /// For how long the kernel lets a call block.
    timeout: Duration,
}

/// By how much `timeout` may differ from the time left. Setting it is a system call, which a deadline
/// nearly as far away as the last one does not need.
const TOLERANCE: Duration = Duration::from_millis(15);

/// The longest `timeout`: then it is the same for calls that are interrupted and those that are not.
const MAX_TIMEOUT: Duration = PATIENCE.saturating_sub(TOLERANCE);

impl BlockingSocket {
    fn new(socket: OsSocket) -> Self {
        Self {
            socket,
            // No timeout yet.
            timeout: Duration::MAX,
        }
    }

    /// Repeats a call that the kernel ended early, until it succeeds, fails, or the deadline passes.
    fn run<T>(
        &mut self,
        call: Call,
        mut run: impl FnMut(&OsSocket) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            self.set_timeout(call)?;
            match run(&self.socket) {
                Err(error) if ended_early(&error) => {}
                result => return result,
            }
        }
    }

    /// Sets the socket's timeout, unless it is about right already.
    ///
    /// The kernel's socket timers fire late by up to an eighth. So the timeout is four fifths of the
    /// time left, and a call that it ends is repeated for the rest.
    fn set_timeout(&mut self, call: Call) -> io::Result<()> {
        let left = call.time_left()?;
        let timeout = if left > TOLERANCE { left * 4 / 5 } else { left };
        let timeout = timeout.min(MAX_TIMEOUT);
        if self.timeout.abs_diff(timeout) > TOLERANCE || self.timeout > left {
            self.socket.set_timeout(timeout)?;
            self.timeout = timeout;
        }
        Ok(())
    }
}

/// Returns whether a call ended although it neither succeeded nor failed: by a signal, or by the
/// socket's timeout.
fn ended_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
