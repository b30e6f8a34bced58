//! How a request can fail, and the error that callers get for it.

use std::io;
use std::time::Duration;

use memcache::exp::ReturnCode;

use super::protocol::ServerError;
use crate::{Error, ErrorKind};

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server responded with an error.
    Server(ServerError),
    /// The server responded with something that is no response to the command, so the next responses
    /// may not belong to their commands either.
    Unexpected(ReturnCode),
    /// The server sent bytes that do not follow the protocol. Says why they do not.
    Malformed(&'static str),
    /// The server has responded to a later command: the request or its response was lost.
    Lost,
    /// The server may have been restarted since it gave the CAS numbers of the request, which was not sent.
    OtherRun,
    /// The deadline passed.
    TimedOut,
    /// The connection broke.
    Broken(io::Error),
    /// Anything else, as the error for the caller. It says nothing about the server's health.
    Other(Error),
}

impl Failure {
    /// Returns whether the server responded.
    pub(super) fn is_response(&self) -> bool {
        matches!(
            self,
            Self::Server(_) | Self::Unexpected(_) | Self::Malformed(_) | Self::Lost
        )
    }

    /// Returns the error that the caller gets.
    pub(super) fn into_error(self, server: &str, timeout: Duration) -> Error {
        match self {
            Self::Server(error) => error.into_error(server),
            Self::Unexpected(code) => Error::new(
                ErrorKind::Server,
                format!(
                    "unexpected response {code:?} from {server}; is this memcached 1.6 or later?"
                ),
            ),
            Self::Malformed(reason) => Error::new(
                ErrorKind::Server,
                format!(
                    "malformed response from {server}: {reason}; is this memcached 1.6 or later?"
                ),
            ),
            Self::Lost => Error::new(
                ErrorKind::Unavailable,
                format!("a request to {server} or its response was lost"),
            ),
            Self::OtherRun => Error::new(
                ErrorKind::Unavailable,
                format!("{server} may have been restarted; this was not written"),
            ),
            Self::TimedOut => Error::new(
                ErrorKind::Timeout,
                format!(
                    "{server} did not respond within {timeout:?}; check the server, or raise \
                     `timeout`"
                ),
            ),
            Self::Broken(source) => Error::new(
                ErrorKind::Unavailable,
                format!(
                    "the connection to {server} failed; check that the server runs and that its \
                     address is right"
                ),
            )
            .with_source(source),
            Self::Other(error) => error,
        }
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
