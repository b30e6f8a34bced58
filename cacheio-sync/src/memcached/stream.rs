//! The transport: TCP, a Unix socket, or TLS over TCP. Connecting and the TLS handshake.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::address::Address;
#[cfg(feature = "memcached-tls")]
use super::tls::{TlsConfig, TlsStream};

/// A connected socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    #[cfg(feature = "memcached-tls")]
    Tls(Box<TlsStream>),
}

/// Runs an expression on the socket below a stream.
macro_rules! socket {
    ($stream:expr, $socket:ident => $do:expr) => {
        match $stream {
            Stream::Tcp($socket) => $do,
            #[cfg(unix)]
            Stream::Unix($socket) => $do,
            #[cfg(feature = "memcached-tls")]
            Stream::Tls(tls) => {
                let $socket = &tls.sock;
                $do
            }
        }
    };
}

impl Stream {
    pub(super) fn connect(address: &Address, deadline: Instant) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let stream = connect_tcp(host, *port, deadline)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            #[cfg(unix)]
            Address::Unix(path) => Ok(Self::Unix(connect_unix(path, time_left(deadline)?)?)),
        }
    }

    /// Performs the TLS handshake on a TCP stream.
    #[cfg(feature = "memcached-tls")]
    pub(super) fn with_tls(
        self,
        tls: &TlsConfig,
        address: &Address,
        deadline: Instant,
    ) -> io::Result<Self> {
        let (Self::Tcp(mut socket), Address::Tcp { host, .. }) = (self, address) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "TLS needs a TCP connection",
            ));
        };
        let mut session = tls.session(host)?;
        while session.is_handshaking() {
            let left = time_left(deadline)?;
            socket.set_read_timeout(Some(left))?;
            socket.set_write_timeout(Some(left))?;
            session.complete_io(&mut socket)?;
        }
        Ok(Self::Tls(Box::new(TlsStream::new(session, socket))))
    }

    /// Sets for how long a call on the socket may block.
    pub(super) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        socket!(self, socket => {
            socket.set_read_timeout(Some(timeout))?;
            socket.set_write_timeout(Some(timeout))
        })
    }

    /// Shuts down the sending half: the server carries out what it got, and then closes.
    pub(super) fn finish_writing(&self) -> io::Result<()> {
        socket!(self, socket => socket.shutdown(Shutdown::Write))
    }

    /// Returns whether there is nothing to read, not even an end of the stream. Does not block, and
    /// costs no round trip.
    pub(super) fn is_quiet(&self) -> bool {
        #[cfg(unix)]
        {
            use rustix::net::{RecvFlags, recv};
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            let peeked = socket!(self, socket => recv(socket, &mut [0_u8; 1], flags).map(drop));
            peeked.is_err_and(|error| error == rustix::io::Errno::AGAIN)
        }
        #[cfg(not(unix))]
        socket!(self, socket => {
            let quiet = socket.set_nonblocking(true).is_ok()
                && socket
                    .peek(&mut [0])
                    .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            socket.set_nonblocking(false).is_ok() && quiet
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
            #[cfg(feature = "memcached-tls")]
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
            #[cfg(feature = "memcached-tls")]
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.flush(),
            #[cfg(feature = "memcached-tls")]
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Returns the time until `deadline`, or an error if it passed: sockets take a timeout of zero for
/// "forever".
pub(super) fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn connect_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let addresses = resolve(host, port, deadline)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        // An address that does not respond must leave time for the next ones.
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, time_left(deadline)? / untried) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Looks up the addresses of a host anew, since they may change.
fn resolve(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    // The system's resolver has no timeout and may take half a minute, so it runs on a thread.
    let (sender, receiver) = mpsc::sync_channel(1);
    let host = host.to_owned();
    std::thread::Builder::new()
        .name("cacheio-resolve".into())
        .spawn(move || {
            let addresses = (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect);
            let _ = sender.send(addresses);
        })?;
    receiver
        .recv_timeout(time_left(deadline)?)
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Connects with a timeout, which the standard library cannot do for Unix sockets: connecting to a
/// stopped server blocks as soon as the server's backlog is full.
#[cfg(unix)]
fn connect_unix(path: &std::path::Path, timeout: Duration) -> io::Result<UnixStream> {
    use rustix::io::{FdFlags, fcntl_setfd};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket, sockopt};
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(timeout))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}
