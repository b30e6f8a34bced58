//! The sockets of tasks.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::ready;

use cacheio_core::__private::{io_runtime, runtime};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::runtime::{Handle, Id};

#[cfg(unix)]
use super::os_socket::is_quiet;
use super::os_socket::{OsSocket, socket};

#[derive(Debug)]
pub(super) struct TokioSocket {
    socket: Kind,
    /// The runtime that drives the socket: the one that all caches share, or one that may have been
    /// shut down, whose tasks alone may use it.
    runtime: Id,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl TokioSocket {
    pub(super) async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let runtime = io_runtime().map_err(io::Error::other)?;
        let socket = enter(&runtime, TcpStream::connect(address)).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket: Kind::Tcp(socket),
            runtime: runtime.id(),
        })
    }

    #[cfg(unix)]
    pub(super) async fn connect_unix(path: &std::path::Path) -> io::Result<Self> {
        let runtime = io_runtime().map_err(io::Error::other)?;
        let socket = enter(&runtime, UnixStream::connect(path)).await?;
        Ok(Self {
            socket: Kind::Unix(socket),
            runtime: runtime.id(),
        })
    }

    /// Returns whether this caller may use the socket.
    pub(super) fn suits_caller(&self) -> bool {
        let is_of = |runtime: &Handle| runtime.id() == self.runtime;
        runtime().is_ok_and(is_of) || Handle::try_current().is_ok_and(|runtime| is_of(&runtime))
    }

    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        poll_fn(|context| {
            socket!(Kind, &mut self.socket, socket => {
                ready!(Pin::new(socket).poll_read(context, &mut buffer))?;
            });
            Ok(buffer.filled().len()).into()
        })
        .await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| {
            socket!(Kind, &mut self.socket, socket => Pin::new(socket).poll_write(context, bytes))
        })
        .await
    }

    /// Returns the address of the other end, unless it is a Unix socket.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match &self.socket {
            Kind::Tcp(socket) => socket.peer_addr().ok(),
            #[cfg(unix)]
            Kind::Unix(_) => None,
        }
    }

    #[cfg(unix)]
    pub(super) fn is_quiet(&self) -> bool {
        socket!(Kind, &self.socket, socket => is_quiet(socket))
    }

    /// Returns whether nothing was received, as far as the runtime knows.
    #[cfg(not(unix))]
    pub(super) fn is_quiet(&self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut buffer = [0];
        let Kind::Tcp(socket) = &self.socket;
        socket
            .poll_peek(&mut context, &mut ReadBuf::new(&mut buffer))
            .is_pending()
    }

    pub(super) fn into_os_socket(self) -> io::Result<OsSocket> {
        match self.socket {
            Kind::Tcp(socket) => socket.into_std().map(OsSocket::Tcp),
            #[cfg(unix)]
            Kind::Unix(socket) => socket.into_std().map(OsSocket::Unix),
        }
    }
}

/// Polls a future in the context of a runtime.
async fn enter<F: Future>(runtime: &Handle, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _entered = runtime.enter();
        future.as_mut().poll(context)
    })
    .await
}
