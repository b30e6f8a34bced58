//! The transport: a socket, with TLS over it or without.

use std::io;

use super::call::Call;
use super::socket::Socket;
#[cfg(feature = "memcached-tls")]
use super::tls::Session;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: Socket,
    #[cfg(feature = "memcached-tls")]
    pub(super) session: Option<Box<Session>>,
}

impl Stream {
    /// Returns whether there is a TLS session.
    pub(super) fn has_session(&self) -> bool {
        #[cfg(feature = "memcached-tls")]
        return self.session.is_some();
        #[cfg(not(feature = "memcached-tls"))]
        false
    }

    /// Reads at least one byte. The end of the stream is an error.
    pub(super) async fn read(&mut self, buffer: &mut [u8], call: Call) -> io::Result<usize> {
        #[cfg(feature = "memcached-tls")]
        if let Some(session) = &mut self.session {
            return session.read(&mut self.socket, buffer, call).await;
        }
        self.socket.read(buffer, call).await
    }

    /// Writes at least one byte.
    pub(super) async fn write(&mut self, bytes: &[u8], call: Call) -> io::Result<usize> {
        #[cfg(feature = "memcached-tls")]
        if let Some(session) = &mut self.session {
            return session.write(&mut self.socket, bytes, call).await;
        }
        self.socket.write(bytes, call).await
    }
}
