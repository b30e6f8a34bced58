//! One connection to a server: sends requests, and reads responses from a buffer.

use std::time::Instant;

use super::failure::Failure;
use super::protocol::{Head, Response};
use super::stream::Stream;
use super::timed_stream::TimedStream;

#[derive(Debug)]
pub(super) struct Connection {
    stream: TimedStream,
    /// Received bytes. Those from `start` to `end` have not been decoded yet.
    input: Box<[u8]>,
    start: usize,
    end: usize,
    /// Whether any byte of the current exchange's request was sent.
    sent: bool,
    /// Whether any byte of the current exchange's response was received.
    received: bool,
    /// Whether all responses to the requests so far were read.
    in_sync: bool,
}

/// Holds the first line of any response, and most responses as a whole.
const INPUT_SIZE: usize = 16 << 10;

/// By how much the buffer of a long value grows at a time, since a malformed response may announce
/// more than it has.
const VALUE_STEP: usize = 1 << 20;

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream: TimedStream::new(stream),
            input: vec![0; INPUT_SIZE].into_boxed_slice(),
            start: 0,
            end: 0,
            sent: false,
            received: false,
            in_sync: true,
        }
    }

    /// Returns whether another exchange may use this connection, as far as this side knows.
    pub(super) fn is_reusable(&self) -> bool {
        self.in_sync && self.start == self.end
    }

    /// Returns whether the server has neither closed the connection nor sent unexpected bytes. Costs
    /// a system call, and no round trip.
    pub(super) fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }

    pub(super) fn has_sent(&self) -> bool {
        self.sent
    }

    pub(super) fn has_received(&self) -> bool {
        self.received
    }

    pub(super) fn into_stream(self) -> TimedStream {
        self.stream
    }

    /// Starts an exchange. The connection is not reusable until [`end_exchange`](Self::end_exchange).
    pub(super) fn begin_exchange(&mut self) {
        (self.sent, self.received, self.in_sync) = (false, false, false);
    }

    /// Ends an exchange whose responses were all read.
    pub(super) fn end_exchange(&mut self) {
        self.in_sync = true;
    }

    pub(super) fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let written = self.stream.write(bytes, deadline)?;
            self.sent = true;
            bytes = &bytes[written..];
        }
        Ok(self.stream.flush(deadline)?)
    }

    /// Reads one response with its value. An error that the server responds with is a
    /// [`Failure::Server`].
    pub(super) fn read_response(&mut self, deadline: Instant) -> Result<Response, Failure> {
        let head = self.read_line(deadline, Head::parse)?;
        match head.ok_or_else(|| {
            Failure::protocol_error("the response does not follow memcached's meta protocol")
        })? {
            Head::Error(error) => Err(Failure::Server(error)),
            Head::Response(response, None) => Ok(response),
            Head::Response(mut response, Some(length)) => {
                self.read_value(length, &mut response.value, deadline)?;
                self.read_line(deadline, <[u8]>::is_empty)?
                    .then_some(response)
                    .ok_or_else(|| {
                        Failure::protocol_error("a value is longer than the server announced")
                    })
            }
        }
    }

    /// Reads a line, and returns what `read` makes of it without its end.
    pub(super) fn read_line<T>(
        &mut self,
        deadline: Instant,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Failure> {
        let mut searched = 0;
        loop {
            let input = &self.input[self.start..self.end];
            if let Some(at) = input[searched..].iter().position(|byte| *byte == b'\n') {
                let line = &input[..searched + at];
                let result = read(line.strip_suffix(b"\r").unwrap_or(line));
                self.start += searched + at + 1;
                return Ok(result);
            }
            searched = input.len();
            if searched == self.input.len() {
                return Err(Failure::protocol_error("a line is longer than 16 KiB"));
            }
            self.fill(deadline)?;
        }
    }

    /// Reads `length` bytes into `value`: first those in the buffer, then directly from the socket.
    fn read_value(
        &mut self,
        length: usize,
        value: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let buffered = length.min(self.end - self.start);
        value.reserve_exact(length.min(VALUE_STEP));
        value.extend_from_slice(&self.input[self.start..self.start + buffered]);
        self.start += buffered;
        while value.len() < length {
            let mut filled = value.len();
            value.resize(length.min(filled + VALUE_STEP), 0);
            while filled < value.len() {
                filled += self.stream.read(&mut value[filled..], deadline)?;
            }
        }
        Ok(())
    }

    /// Receives at least one byte into the buffer.
    fn fill(&mut self, deadline: Instant) -> Result<(), Failure> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.end += self.stream.read(&mut self.input[self.end..], deadline)?;
        self.received = true;
        Ok(())
    }
}
