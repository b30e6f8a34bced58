//! The meta protocol: requests as bytes, and what the first line of an answer says.

use std::io::Write as _;

use memcache::exp::{MAX_KEY_LENGTH, MetaOp, ReturnCode};

use crate::{Error, ErrorKind, Result};

/// No server can be set to hold more.
pub(super) const VALUE_MAX: usize = 1 << 30;

/// Bytes to send: any number of commands.
#[derive(Debug, Default)]
pub(super) struct Request(Vec<u8>);

impl Request {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Begins a command on a key.
    ///
    /// A key that is not legal would be read as further commands: whatever stands in front of this
    /// store checks keys, and so does this, last of all.
    pub(super) fn command(&mut self, op: MetaOp, key: &str) -> Result<&mut Self> {
        let legal = (1..=MAX_KEY_LENGTH).contains(&key.len())
            && key.bytes().all(|byte| byte > b' ' && byte != 0x7F);
        if !legal {
            return Err(Error::new(
                ErrorKind::Config,
                "memcached holds keys of 1 to 250 bytes without spaces or control characters",
            ));
        }
        self.0.extend_from_slice(op.wire());
        self.0.push(b' ');
        self.0.extend_from_slice(key.as_bytes());
        Ok(self)
    }

    /// Adds a flag, or one with its token.
    pub(super) fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(b' ');
        self.0.extend_from_slice(flag.as_bytes());
        self
    }

    /// Adds a flag with a number.
    pub(super) fn number(&mut self, flag: char, number: impl std::fmt::Display) -> &mut Self {
        // Writing to a Vec does not fail.
        let _ = write!(self.0, " {flag}{number}");
        self
    }

    /// Says how long the value is that follows; stands right behind the key.
    pub(super) fn length(&mut self, value: &[u8]) -> Result<&mut Self> {
        // Beyond this the server would not skip the value but take it for commands.
        if value.len() > VALUE_MAX {
            return Err(too_large());
        }
        let _ = write!(self.0, " {}", value.len());
        Ok(self)
    }

    /// Ends a command.
    pub(super) fn end(&mut self) {
        self.0.extend_from_slice(b"\r\n");
    }

    /// Ends a command with its value.
    pub(super) fn value(&mut self, value: &[u8]) {
        self.end();
        self.0.extend_from_slice(value);
        self.end();
    }

    /// A command whose only effect is its answer.
    pub(super) fn noop(&mut self) {
        self.0.extend_from_slice(MetaOp::Noop.wire());
        self.end();
    }

    /// A command as it stands.
    pub(super) fn line(line: &str) -> Self {
        Self([line.as_bytes(), b"\r\n"].concat())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

pub(super) fn too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "the value is larger than the server can hold; its limit is set by memcached's `-I`",
    )
}

/// What the server said to one command.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: ReturnCode,
    /// The number that the command gave as its opaque token.
    pub(super) opaque: Option<u64>,
    pub(super) cas: Option<u64>,
    /// The seconds left to live; below zero means for ever.
    pub(super) ttl: Option<i64>,
    pub(super) value: Vec<u8>,
}

/// The first line of an answer.
#[derive(Debug)]
pub(super) enum Head {
    /// An answer, and how long the value is that follows.
    Answer(Answer, Option<usize>),
    /// An error of the server's own.
    Refusal(Refusal),
}

impl Head {
    /// Reads a line without its end; None if it is none of the protocol's.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut tokens = line
            .split(|byte| *byte == b' ')
            .filter(|token| !token.is_empty());
        let first = tokens.next()?;
        if matches!(first, b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR") {
            return Some(Self::Refusal(Refusal(
                String::from_utf8_lossy(line).into_owned(),
            )));
        }
        let mut answer = Answer {
            code: ReturnCode::from_wire(first).ok()?,
            opaque: None,
            cas: None,
            ttl: None,
            value: Vec::new(),
        };
        let length = match answer.code {
            ReturnCode::Va => Some(number(tokens.next()?).filter(|length| *length <= VALUE_MAX)?),
            _ => None,
        };
        for token in tokens {
            let (flag, token) = token.split_first()?;
            match flag {
                b'O' => answer.opaque = Some(number(token)?),
                b'c' => answer.cas = Some(number(token)?),
                b't' => answer.ttl = Some(number(token)?),
                _ => {}
            }
        }
        Some(Self::Answer(answer, length))
    }
}

/// A number in ASCII.
pub(super) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// An error that the server answered with.
#[derive(Debug)]
pub(super) struct Refusal(String);

impl Refusal {
    /// Whether the command was read to its end, so that the next answer belongs to the next.
    ///
    /// A line that the server could not read may have had a value behind it.
    pub(super) fn in_sync(&self) -> bool {
        self.0.starts_with("SERVER_ERROR") || self.is_not_numeric()
    }

    pub(super) fn is_not_numeric(&self) -> bool {
        self.0.contains("non-numeric")
    }

    pub(super) fn into_error(self, server: &str) -> Error {
        if self.0.contains("too large") {
            return too_large();
        }
        let advice = match self.0.contains("unauthenticated") {
            true => "; it wants a user name and a password: memcache://user:password@host",
            false => "",
        };
        Error::new(
            ErrorKind::Server,
            format!("{server} answered \"{}\"{advice}", self.0),
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
    fn heads() {
        let Some(Head::Answer(answer, Some(3))) = Head::parse(b"VA 3 O12 ka t-1 c9") else {
            panic!("no value");
        };
        assert_eq!(answer.code, ReturnCode::Va);
        assert_eq!(
            (answer.opaque, answer.cas, answer.ttl),
            (Some(12), Some(9), Some(-1))
        );
        assert!(matches!(Head::parse(b"EN"), Some(Head::Answer(..))));
        for error in ["ERROR", "CLIENT_ERROR bad", "SERVER_ERROR out of memory"] {
            assert!(matches!(
                Head::parse(error.as_bytes()),
                Some(Head::Refusal(_))
            ));
        }
        for garbage in [
            "",
            "XX",
            "VA",
            "VA x",
            "VA -1",
            "VA 1073741825",
            "HD cx",
            "VA 99999999999999999999",
        ] {
            assert!(Head::parse(garbage.as_bytes()).is_none(), "{garbage}");
        }
    }
}
