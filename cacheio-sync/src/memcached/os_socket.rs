//! A socket of the standard library: TCP or Unix.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[derive(Debug)]
pub(super) enum OsSocket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// Runs an expression on the socket of either kind.
macro_rules! socket {
    ($kinds:ident, $socket:expr, $name:ident => $do:expr) => {
        match $socket {
            $kinds::Tcp($name) => $do,
            #[cfg(unix)]
            $kinds::Unix($name) => $do,
        }
    };
}
pub(super) use socket;

impl OsSocket {
    pub(super) fn connect_tcp(address: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(address, timeout)?;
        socket.set_nodelay(true)?;
        Ok(Self::Tcp(socket))
    }

    /// Connects with a timeout, which the standard library cannot do for Unix sockets: connecting to
    /// a stopped server blocks as soon as the server's backlog is full.
    #[cfg(unix)]
    pub(super) fn connect_unix(path: &std::path::Path, timeout: Duration) -> io::Result<Self> {
        use rustix::io::{FdFlags, fcntl_setfd};
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket, sockopt};
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(timeout))?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self::Unix(UnixStream::from(socket)))
    }

    /// Sets for how long a call on the socket may block.
    pub(super) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        socket!(Self, self, socket => {
            socket.set_read_timeout(Some(timeout))?;
            socket.set_write_timeout(Some(timeout))
        })
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        socket!(Self, self, socket => { let mut socket = socket; socket.read(buffer) })
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        socket!(Self, self, socket => { let mut socket = socket; socket.write(bytes) })
    }

    /// Shuts down the sending half: the server carries out what it got, and then closes. From then on
    /// reads do not block.
    pub(super) fn finish_writing(&self) -> io::Result<()> {
        socket!(Self, self, socket => {
            socket.set_nonblocking(true)?;
            socket.shutdown(Shutdown::Write)
        })
    }

    /// Reads and discards what the server has sent. Returns whether it has closed the connection.
    pub(super) fn is_closed_by_server(&self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return false,
                    _ => return true,
                },
            }
        }
    }

    /// Closes the connection such that the system discards what it has not sent yet, where it can.
    pub(super) fn reset(self) {
        #[cfg(unix)]
        if let Self::Tcp(socket) = &self {
            // A system that refuses this goes on sending for some minutes.
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
        drop(self);
    }
}

/// Returns whether there is nothing to read on a socket, not even an end of the stream. Does not
/// block, and costs no round trip.
#[cfg(unix)]
pub(super) fn is_quiet(socket: impl std::os::fd::AsFd) -> bool {
    use rustix::net::{RecvFlags, recv};
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = recv(socket, &mut [0_u8; 1], flags);
    peeked.is_err_and(|error| error == rustix::io::Errno::AGAIN)
}

#[cfg(not(unix))]
pub(super) fn is_quiet(socket: &TcpStream) -> bool {
    let quiet = socket.set_nonblocking(true).is_ok()
        && socket
            .peek(&mut [0])
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    socket.set_nonblocking(false).is_ok() && quiet
}
