//! One connection: bytes out, answers in, all by a deadline.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::protocol::{Answer, Head, Refusal};
use super::stream::Stream;
use crate::Error;

/// Why an exchange came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered, with an error of its own.
    Refused(Refusal),
    /// The deadline passed.
    TimedOut,
    /// The connection broke, or cannot be understood any more.
    Broken(io::Error),
    /// It was not the server's fault, or is said already.
    Other(Error),
}

impl Failure {
    pub(super) fn garbage(what: &'static str) -> Self {
        Self::Broken(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut,
            _ => Self::Broken(error),
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    /// For how long calls on the socket block now: for ever, at first.
    armed: Duration,
    /// Whether any of this exchange's request went out, and any of its answer came in.
    sent: bool,
    heard: bool,
    /// Whether all that was asked was answered, and understood.
    in_sync: bool,
}

/// Room for most answers, and for the head of any.
const INPUT: usize = 16 << 10;

/// How much of a long value is made room for before more of it has come.
const GROWTH: usize = 1 << 20;

/// By how much a socket's timeout may be off before it is set anew: that is a system call.
const SLACK: Duration = Duration::from_millis(15);

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: vec![0; INPUT].into_boxed_slice(),
            start: 0,
            end: 0,
            armed: Duration::MAX,
            sent: false,
            heard: false,
            in_sync: true,
        }
    }

    /// Whether it can be used again, as far as can be seen without asking the server.
    pub(super) fn is_fit(&self) -> bool {
        self.in_sync && self.start == self.end
    }

    /// Whether the server has neither hung up nor sent what nobody asked for.
    pub(super) fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }

    /// Whether any of the request went out.
    pub(super) fn has_sent(&self) -> bool {
        self.sent
    }

    /// Whether any answer came.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Begins an exchange: from here on it is not fit until [`done`](Self::done).
    pub(super) fn begin(&mut self) {
        (self.sent, self.heard, self.in_sync) = (false, false, false);
    }

    /// Says that all answers have been read.
    pub(super) fn done(&mut self) {
        self.in_sync = true;
    }

    pub(super) fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Failure> {
        while !bytes.is_empty() {
            self.arm(deadline)?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(Failure::Broken(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.sent = true;
                    bytes = &bytes[written..];
                }
                Err(error) if is_early(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // TLS may hold back what the socket had no room for.
        loop {
            match self.stream.flush() {
                Ok(()) => return Ok(()),
                Err(error) if is_early(&error) => self.arm(deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads one answer, with its value.
    pub(super) fn answer(&mut self, deadline: Instant) -> Result<Answer, Failure> {
        let head = self.line(deadline, Head::parse)?;
        match head
            .ok_or_else(|| Failure::garbage("this is no answer of memcached's meta protocol"))?
        {
            Head::Refusal(refusal) => Err(Failure::Refused(refusal)),
            Head::Answer(answer, None) => Ok(answer),
            Head::Answer(mut answer, Some(length)) => {
                self.take(length, &mut answer.value, deadline)?;
                self.line(deadline, <[u8]>::is_empty)?
                    .then_some(answer)
                    .ok_or_else(|| Failure::garbage("a value is longer than was said"))
            }
        }
    }

    /// Reads a line and gives what `read` makes of it, without its end.
    pub(super) fn line<T>(
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
                return Err(Failure::garbage("a line has no end"));
            }
            self.fill(deadline)?;
        }
    }

    /// Reads `length` bytes.
    fn take(
        &mut self,
        length: usize,
        value: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let ready = length.min(self.end - self.start);
        value.reserve_exact(length.min(GROWTH));
        value.extend_from_slice(&self.input[self.start..self.start + ready]);
        self.start += ready;
        while value.len() < length {
            let start = value.len();
            // What was announced may never come.
            value.resize(length.min(start + GROWTH), 0);
            let mut filled = start;
            while filled < value.len() {
                filled += read(
                    &mut self.stream,
                    &mut self.armed,
                    &mut value[filled..],
                    deadline,
                )?;
            }
        }
        Ok(())
    }

    /// Reads what has come, at least a byte.
    fn fill(&mut self, deadline: Instant) -> Result<(), Failure> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = &mut self.input[self.end..];
        self.end += read(&mut self.stream, &mut self.armed, room, deadline)?;
        self.heard = true;
        Ok(())
    }

    fn arm(&mut self, deadline: Instant) -> Result<(), Failure> {
        arm(&self.stream, &mut self.armed, deadline)
    }
}

/// Reads until the server hangs up, and forgets it all.
pub(super) fn drain(stream: &mut Stream, deadline: Instant) -> Result<(), Failure> {
    let mut armed = Duration::MAX;
    let mut buffer = [0; 4096];
    loop {
        match read(stream, &mut armed, &mut buffer, deadline) {
            Ok(_) => {}
            Err(Failure::Broken(_)) => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
}

fn read(
    stream: &mut Stream,
    armed: &mut Duration,
    buffer: &mut [u8],
    deadline: Instant,
) -> Result<usize, Failure> {
    loop {
        arm(stream, armed, deadline)?;
        match stream.read(buffer) {
            Ok(0) => return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => return Ok(read),
            Err(error) if is_early(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sets the socket's timeout, where it is not about right already.
///
/// The kernel's timers for sockets come late by up to an eighth, so they are set for earlier; what
/// is left then is waited for anew.
fn arm(stream: &Stream, armed: &mut Duration, deadline: Instant) -> Result<(), Failure> {
    let left = super::stream::left(deadline)?;
    let timeout = if left > SLACK { left * 4 / 5 } else { left };
    if armed.abs_diff(timeout) > SLACK || *armed > left {
        stream.set_timeout(timeout)?;
        *armed = timeout;
    }
    Ok(())
}

/// Whether a call on the socket ended before the deadline did, as its timeout was about right
/// only: `arm` looks at the clock.
fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
