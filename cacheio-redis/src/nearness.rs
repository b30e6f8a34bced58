//! Nagle's algorithm: off, unless the server is so near that nothing waits for it.
//!
//! It holds a small write back until the replies to earlier ones have come. Over a network that delays
//! requests. On the same machine there is hardly a delay, and the kernel joins small writes: with 64 callers
//! that gives half as many sets again. But a local address may also be that of a proxy to a server far
//! away, so the times of the replies decide.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How soon a near server replies to a request at best.
const NEAR: Duration = Duration::from_micros(200);

/// Whether a server is near. This is not known before its first reply.
#[derive(Debug, Default)]
pub(crate) struct Nearness(AtomicBool);

impl Nearness {
    /// Records how soon the server has replied at best.
    pub(crate) fn record(&self, shortest_reply: Option<Duration>) {
        let is_near = shortest_reply.is_some_and(|time| time <= NEAR);
        if is_near != self.is_near() {
            self.0.store(is_near, Ordering::Relaxed);
        }
    }

    fn is_near(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A TCP connection, with Nagle's algorithm while its address is local and the server is near.
pub(crate) struct Tcp {
    stream: TcpStream,
    nearness: Arc<Nearness>,
    is_local: bool,
    joins_writes: bool,
}

impl Tcp {
    pub(crate) fn new(stream: TcpStream, nearness: &Arc<Nearness>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            is_local: stream.peer_addr()?.ip().is_loopback(),
            stream,
            nearness: Arc::clone(nearness),
            joins_writes: false,
        })
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let joins_writes = self.is_local && self.nearness.is_near();
        if joins_writes != self.joins_writes {
            self.stream.set_nodelay(!joins_writes)?;
            self.joins_writes = joins_writes;
        }
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn writes_are_joined_while_the_server_is_near() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let nearness = Arc::new(Nearness::default());
        let mut tcp = Tcp::new(stream, &nearness).unwrap();
        for (shortest_reply, is_near) in [
            (None, false),
            (Some(Duration::from_micros(300)), false),
            (Some(Duration::from_micros(50)), true),
            (None, false),
        ] {
            nearness.record(shortest_reply);
            tcp.write_all(b"PING\r\n").await.unwrap();
            assert_eq!(
                tcp.stream.nodelay().unwrap(),
                !is_near,
                "{shortest_reply:?}"
            );
        }
    }
}
