//! Counts transfers as responses of the server, so that a call that is too large for its timeout, or
//! that waits behind others whose callers gave up, is not taken for the server's silence.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cacheio_core::__private::Circuit;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many received bytes count as a response. A server that sends less within a timeout is as slow
/// as one that does not respond.
const RECEIVED_PER_RESPONSE: usize = 128;
/// How many sent bytes do. The system takes some before the server reads them.
const SENT_PER_RESPONSE: usize = 64 * 1024;

/// A stream whose progress the circuit breaker of its server sees.
pub(crate) struct Progress<S> {
    stream: S,
    circuit: Arc<Circuit>,
    received: usize,
    sent: usize,
}

impl<S> Progress<S> {
    pub(crate) fn new(stream: S, circuit: &Arc<Circuit>) -> Self {
        Self {
            stream,
            circuit: Arc::clone(circuit),
            received: 0,
            sent: 0,
        }
    }

    fn count_received(&mut self, bytes: usize) {
        self.received += bytes;
        if self.received >= RECEIVED_PER_RESPONSE {
            self.received = 0;
            self.circuit.responded();
        }
    }

    fn count_sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= SENT_PER_RESPONSE {
            self.sent = 0;
            self.circuit.responded();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Progress<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.count_received(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Progress<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, buffer))?;
        self.count_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
