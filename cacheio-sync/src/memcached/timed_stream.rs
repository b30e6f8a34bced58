//! Reads and writes that end by a deadline, over a [`Stream`].

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::stream::{Stream, time_left};

/// A stream whose calls end by a deadline.
#[derive(Debug)]
pub(super) struct TimedStream {
    stream: Stream,
    /// For how long the kernel lets a call block.
    socket_timeout: Duration,
}

/// By how much `socket_timeout` may differ from the time left. Setting it is a system call, which a
/// deadline nearly as far away as the last one does not need.
const TOLERANCE: Duration = Duration::from_millis(15);

impl TimedStream {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            // No timeout yet.
            socket_timeout: Duration::MAX,
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }

    /// Shuts down the sending half: the server carries out what it got, and then closes.
    pub(super) fn finish_writing(&self) -> io::Result<()> {
        self.stream.finish_writing()
    }

    /// Reads at least one byte. The end of the stream is an error.
    pub(super) fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        match self.run(deadline, |stream| stream.read(buffer))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }

    /// Writes at least one byte.
    pub(super) fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        match self.run(deadline, |stream| stream.write(bytes))? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        }
    }

    /// Sends what TLS still buffers because the socket had no room for it.
    pub(super) fn flush(&mut self, deadline: Instant) -> io::Result<()> {
        loop {
            match self.stream.flush() {
                Err(error) if ended_early(&error) => self.set_socket_timeout(deadline)?,
                result => return result,
            }
        }
    }

    /// Reads and discards everything until the server closes the connection.
    pub(super) fn drain(&mut self, deadline: Instant) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer, deadline) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Repeats a call that the kernel ended early, until it succeeds, fails, or the deadline passes.
    fn run<T>(
        &mut self,
        deadline: Instant,
        mut call: impl FnMut(&mut Stream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            self.set_socket_timeout(deadline)?;
            match call(&mut self.stream) {
                Err(error) if ended_early(&error) => {}
                result => return result,
            }
        }
    }

    /// Sets the socket's timeout, unless it is about right already.
    ///
    /// The kernel's socket timers fire late by up to an eighth. So the timeout is four fifths of the
    /// time left, and a call that it ends is repeated for the rest.
    fn set_socket_timeout(&mut self, deadline: Instant) -> io::Result<()> {
        let left = time_left(deadline)?;
        let timeout = if left > TOLERANCE { left * 4 / 5 } else { left };
        if self.socket_timeout.abs_diff(timeout) > TOLERANCE || self.socket_timeout > left {
            self.stream.set_timeout(timeout)?;
            self.socket_timeout = timeout;
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
