//! Memcached's meta protocol as bytes, without I/O: requests, and the first line of a response.

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use memcache::exp::{MAX_KEY_LENGTH, MetaOp, ReturnCode};

use cacheio_core::__private::shortened;

use crate::{Error, ErrorKind, Result};

/// The number of bytes of a server's message that errors show.
const LINE_SHOWN: usize = 200;

/// The largest value, in bytes, that any memcached server can be configured to hold.
pub(super) const VALUE_MAX: usize = 1 << 30;

/// The bytes of one or more commands.
///
/// A long request has parts, each of which ends with a no-op. The first two parts are sent at once.
/// Each further part is sent after the responses to one more part were read, so at most two parts are
/// under way: client and server never wait for each other with full socket buffers.
#[derive(Debug, Default)]
pub(super) struct Request {
    bytes: Vec<u8>,
    /// Where each part ends. Empty for a request of one part.
    part_ends: Vec<usize>,
    /// The token of all its commands.
    token: Option<u64>,
}

impl Request {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            ..Self::default()
        }
    }

    /// Creates a request from the text of one command, without its line end.
    pub(super) fn line(line: &str) -> Self {
        Self {
            bytes: [line.as_bytes(), b"\r\n"].concat(),
            ..Self::default()
        }
    }

    /// Starts a command on a key.
    ///
    /// The cache replaces keys that memcached cannot hold before they get here. This check is the
    /// last one before the wire, where a key with a line end would be read as further commands.
    pub(super) fn command(&mut self, op: MetaOp, key: &str) -> Result<&mut Self> {
        let legal = (1..=MAX_KEY_LENGTH).contains(&key.len())
            && key.bytes().all(|byte| byte > b' ' && byte != 0x7F);
        if !legal {
            return Err(Error::new(
                ErrorKind::Config,
                "not a valid memcached key; use 1 to 250 bytes without spaces or control characters",
            ));
        }
        self.bytes.extend_from_slice(op.wire());
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(key.as_bytes());
        Ok(self)
    }

    /// Adds a command that asks for the size and the CAS number of an item.
    pub(super) fn look(&mut self, key: &str) -> Result<()> {
        let command = self.command(MetaOp::Get, key)?;
        command.flags(&["s", "c"]).token().end();
        Ok(())
    }

    /// Adds a flag, with its token if it has one.
    pub(super) fn flag(&mut self, flag: &str) -> &mut Self {
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(flag.as_bytes());
        self
    }

    /// Adds flags without tokens.
    pub(super) fn flags(&mut self, flags: &[&str]) -> &mut Self {
        for flag in flags {
            self.flag(flag);
        }
        self
    }

    /// Adds a flag with a number as its token.
    pub(super) fn number(&mut self, flag: char, number: impl std::fmt::Display) -> &mut Self {
        // Writing to a Vec does not fail.
        let _ = write!(self.bytes, " {flag}{number}");
        self
    }

    /// Adds the opaque token of the request, which the server repeats in its response, except in that
    /// to a miss. It differs from those of other requests.
    pub(super) fn token(&mut self) -> &mut Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = || NEXT.fetch_add(1, Ordering::Relaxed).into();
        let token = *self.token.get_or_insert_with(next);
        self.number('O', token)
    }

    /// Returns whether a no-op after the request can show that its response was lost. Not if the request has
    /// a no-op of its own, whose response looks the same, or lists keys.
    pub(super) fn may_be_probed(&self) -> bool {
        // Only commands on a single key have the token of the request.
        self.token.is_some()
    }

    /// Returns whether a response belongs to this request, as far as its token tells.
    pub(super) fn accepts(&self, response: &Response) -> bool {
        response.opaque.is_none() || response.opaque == self.token
    }

    /// Adds the length of the value that follows. The protocol has it right after the key.
    pub(super) fn length(&mut self, value: &[u8]) -> Result<&mut Self> {
        // The server would read a value longer than this as commands instead of skipping it.
        if value.len() > VALUE_MAX {
            return Err(too_large());
        }
        let _ = write!(self.bytes, " {}", value.len());
        Ok(self)
    }

    /// Ends a command.
    pub(super) fn end(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Ends a command with its value.
    pub(super) fn value(&mut self, value: &[u8]) {
        self.end();
        self.bytes.extend_from_slice(value);
        self.end();
    }

    /// Adds a command that does nothing but cause a response.
    pub(super) fn noop(&mut self) {
        self.bytes.extend_from_slice(MetaOp::Noop.wire());
        self.end();
    }

    /// Ends a part with a no-op, whose response tells that the part was carried out.
    pub(super) fn end_part(&mut self) {
        self.noop();
        self.part_ends.push(self.bytes.len());
    }

    /// Returns the number of bytes after the last part.
    pub(super) fn unfinished(&self) -> usize {
        self.bytes.len() - self.part_ends.last().unwrap_or(&0)
    }

    /// Returns the bytes to send before any response is read.
    pub(super) fn first_window(&self) -> &[u8] {
        match self.part_ends.get(1).or(self.part_ends.first()) {
            Some(end) => &self.bytes[..*end],
            None => &self.bytes,
        }
    }

    /// Returns the bytes to send after the responses to part number `part` were read, if any are
    /// left.
    pub(super) fn next_part(&self, part: usize) -> Option<&[u8]> {
        let ends = self.part_ends.get(part + 1..part + 3)?;
        Some(&self.bytes[ends[0]..ends[1]])
    }

    pub(super) fn part_count(&self) -> usize {
        self.part_ends.len().max(1)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

pub(super) fn too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "the value is larger than the server can hold; store a smaller one, or raise memcached's `-I`",
    )
}

/// The response to one command.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) code: ReturnCode,
    /// The number that the command had as its opaque token.
    pub(super) opaque: Option<u64>,
    pub(super) cas: Option<u64>,
    /// The remaining TTL in seconds; negative if the entry never expires.
    pub(super) ttl: Option<i64>,
    /// The length of the value.
    pub(super) size: Option<usize>,
    /// The client flags.
    pub(super) flags: Option<u32>,
    /// Whether this response says to its reader that it may write the item: no other one gets that.
    pub(super) has_won: bool,
    /// Whether the item was marked as invalid.
    pub(super) is_invalid: bool,
    pub(super) value: Vec<u8>,
}

impl Response {
    /// Returns whether the command succeeded: `false` for the code `otherwise`, `None` for a code
    /// that does not fit the command.
    pub(super) fn succeeded(&self, otherwise: ReturnCode) -> Option<bool> {
        match self.code {
            ReturnCode::Hd => Some(true),
            code if code == otherwise => Some(false),
            _ => None,
        }
    }
}

/// The first line of a response.
#[derive(Debug)]
pub(super) enum Head {
    /// A response, and the length of the value that follows it.
    Response(Response, Option<usize>),
    Error(ServerError),
}

impl Head {
    /// Decodes a line without its end. Returns `None` if it does not follow the protocol.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut tokens = line
            .split(|byte| *byte == b' ')
            .filter(|token| !token.is_empty());
        let first = tokens.next()?;
        if matches!(first, b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR") {
            return Some(Self::Error(ServerError(
                String::from_utf8_lossy(line).into_owned(),
            )));
        }
        let mut response = Response {
            code: ReturnCode::from_wire(first).ok()?,
            opaque: None,
            cas: None,
            ttl: None,
            size: None,
            flags: None,
            has_won: false,
            is_invalid: false,
            value: Vec::new(),
        };
        let length = match response.code {
            ReturnCode::Va => Some(number(tokens.next()?).filter(|length| *length <= VALUE_MAX)?),
            _ => None,
        };
        for token in tokens {
            let (flag, token) = token.split_first()?;
            match flag {
                b'O' => response.opaque = Some(number(token)?),
                b'c' => response.cas = Some(number(token)?),
                b't' => response.ttl = Some(number(token)?),
                b's' => response.size = Some(number(token)?),
                b'f' => response.flags = Some(number(token)?),
                b'W' => response.has_won = true,
                b'X' => response.is_invalid = true,
                _ => {}
            }
        }
        Some(Self::Response(response, length))
    }
}

/// Parses a number in ASCII.
pub(super) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The line of an error that the server responded with.
#[derive(Debug)]
pub(super) struct ServerError(String);

impl ServerError {
    /// Returns whether the server read the command to its end, so that the next response belongs to
    /// the next command.
    ///
    /// If it could not parse the line of a command with a value, it reads the value as commands.
    pub(super) fn is_in_sync(&self) -> bool {
        self.0.starts_with("SERVER_ERROR") || self.is_not_numeric()
    }

    /// Returns whether the server knows no meta commands: memcached before 1.6, or a proxy.
    fn is_unknown_command(&self) -> bool {
        let line = self.0.to_ascii_lowercase();
        line.trim() == "error"
            || (line.contains("command")
                && (line.contains("unknown") || line.contains("unsupported")))
    }

    pub(super) fn is_not_numeric(&self) -> bool {
        self.0.contains("non-numeric")
    }

    pub(super) fn into_error(self, server: &str) -> Error {
        if self.0.contains("too large") {
            return too_large();
        }
        let advice = if self.0.contains("unauthenticated") {
            "; give a user name and a password: memcache://user:password@host"
        } else if self.is_unknown_command() {
            "; it must support meta commands: use memcached 1.6 or later, and no proxy without them"
        } else {
            ""
        };
        let line = match self.0.find("command") {
            // The rest may repeat the command with its key.
            Some(at) if self.is_unknown_command() => &self.0[..at + "command".len()],
            _ => &self.0,
        };
        let line = shortened(line, LINE_SHOWN);
        Error::new(
            ErrorKind::Server,
            format!("{server} responded with \"{line}\"{advice}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_carry_commands() {
        for key in ["", "a b", "a\r\nflush_all", "\0", "a\x7F", &"x".repeat(251)] {
            let error = Request::default().command(MetaOp::Get, key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
        }
        let mut request = Request::default();
        request
            .command(MetaOp::Get, "ü")
            .unwrap()
            .flag("v")
            .number('O', 7)
            .end();
        assert_eq!(request.bytes(), "mg ü v O7\r\n".as_bytes());
    }

    #[test]
    fn the_windows_of_a_request_are_all_of_it_in_order() {
        for parts in 0..5 {
            let mut request = Request::default();
            request.noop();
            for _ in 0..parts {
                request.end_part();
            }
            let mut sent = request.first_window().to_vec();
            for part in 0..request.part_count() {
                sent.extend_from_slice(request.next_part(part).unwrap_or_default());
            }
            assert_eq!(sent, request.bytes(), "{parts} parts");
        }
    }

    #[test]
    fn the_first_line_of_a_response_is_decoded_or_rejected() {
        let Some(Head::Response(response, Some(3))) = Head::parse(b"VA 3 O12 ka t-1 c9") else {
            panic!("no value");
        };
        assert_eq!(response.code, ReturnCode::Va);
        assert_eq!(
            (response.opaque, response.cas, response.ttl),
            (Some(12), Some(9), Some(-1))
        );
        assert!(matches!(Head::parse(b"EN"), Some(Head::Response(..))));
        for error in ["ERROR", "CLIENT_ERROR bad", "SERVER_ERROR out of memory"] {
            assert!(matches!(
                Head::parse(error.as_bytes()),
                Some(Head::Error(_))
            ));
        }
        for invalid in [
            "",
            "XX",
            "VA",
            "VA x",
            "VA -1",
            "VA 1073741825",
            "HD cx",
            "VA 99999999999999999999",
        ] {
            assert!(Head::parse(invalid.as_bytes()).is_none(), "{invalid}");
        }
    }
}
