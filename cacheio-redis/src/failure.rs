//! Failures of a request, and the errors that callers see instead of them.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use cacheio_core::__private::{overflow, shortened};
use cacheio_core::{Error, ErrorKind};
use redis::{ErrorKind as Kind, RedisError, ServerErrorKind};

/// Why a request has no reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Redis returned an error, or the connection failed.
    Redis(RedisError),
    /// The store itself reports an error.
    Store(Error),
}

impl Failure {
    pub(crate) fn timed_out(server: &str, timeout: Duration) -> Self {
        Self::Store(Error::new(
            ErrorKind::Timeout,
            format!(
                "{server} did not reply within {} ms; a write may still take effect",
                timeout.as_millis()
            ),
        ))
    }

    /// Creates the error of a request that was not sent.
    pub(crate) fn no_time_left(server: &str, timeout: Duration) -> Self {
        Self::Store(Error::new(
            ErrorKind::Timeout,
            format!(
                "earlier requests of the call to {server} took all of the timeout of {} ms",
                timeout.as_millis()
            ),
        ))
    }

    /// Creates the error of a request that was not sent, because it would not be answered in time.
    pub(crate) fn overloaded(server: &str, timeout: Duration) -> Self {
        Self::Store(Error::new(
            ErrorKind::Timeout,
            format!(
                "{server} has more requests than it answers within {} ms; this one was not sent",
                timeout.as_millis()
            ),
        ))
    }

    pub(crate) fn unexpected_reply() -> Self {
        Self::Store(Error::new(
            ErrorKind::Server,
            "unexpected reply; is this a Redis server?",
        ))
    }

    /// Returns the error for the caller. `server` is the name of the server, which the error shows. This
    /// is not a `From`: a second one for a public type would make `?` ambiguous in the crates above.
    pub(crate) fn into_error(self, server: &str) -> Error {
        match self {
            Self::Redis(error) => describe(&error, server),
            Self::Store(error) => error,
        }
    }

    /// Returns whether the request belongs to another server, because the key has moved or the server
    /// is not a master. The request was not executed.
    pub(crate) fn is_redirection(&self) -> bool {
        match self {
            Self::Redis(error) => matches!(
                error.kind(),
                Kind::Server(
                    ServerErrorKind::Moved
                        | ServerErrorKind::Ask
                        | ServerErrorKind::TryAgain
                        | ServerErrorKind::ClusterDown
                        | ServerErrorKind::ReadOnly
                        | ServerErrorKind::MasterDown
                )
            ),
            Self::Store(_) => false,
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

pub(crate) fn config_error(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// Returns whether a connection that gave this error can no longer be used.
pub(crate) fn breaks_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// The number of bytes of a server's message that errors show.
const MESSAGE_SHOWN: usize = 200;

/// Returns the message of an error, without what a server may quote of the request.
pub(crate) fn reason(error: &RedisError) -> String {
    let text = error.to_string();
    // Redis and its proxies quote the arguments of a command that they do not know: keys, values, and
    // the password of HELLO.
    let quoted = match error.kind() {
        Kind::Io => None,
        _ => text
            .find("with args")
            .or_else(|| text.find("beginning with")),
    };
    shortened(&text[..quoted.unwrap_or(text.len())], MESSAGE_SHOWN)
}

/// Returns whether the server refused a request because it is a replica. It did not execute the
/// request; a new connection may lead to the master.
pub(crate) fn is_from_replica(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        Kind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    )
}

/// Returns whether a server that may be asked says that another one may have taken its place: it is a replica, or is
/// cut off from its replicas or from the other nodes of its cluster.
pub(crate) fn may_be_replaced(error: &RedisError) -> bool {
    is_from_replica(error)
        || error.kind() == Kind::Server(ServerErrorKind::ClusterDown)
        || error.code() == Some("NOREPLICAS")
}

/// Returns whether a server may execute a request later that it refused with this error.
pub(crate) fn may_pass(error: &RedisError) -> bool {
    let is_busy = matches!(
        error.code(),
        Some("LOADING" | "OOM" | "MISCONF" | "BUSY" | "MOVED" | "ASK" | "TRYAGAIN")
    );
    is_busy || may_be_replaced(error)
}

/// Creates the error for a reply that cannot be the answer to its request. The connection is
/// broken: no later reply on it can be trusted.
pub(crate) fn reply_mismatch() -> RedisError {
    io::Error::new(io::ErrorKind::InvalidData, MISMATCH).into()
}

const MISMATCH: &str = "a reply does not belong to its request";

fn describe(error: &RedisError, server: &str) -> Error {
    let detail = error.detail().unwrap_or_default();
    if error.kind() == Kind::Server(ServerErrorKind::ResponseError)
        && detail.contains("would overflow")
    {
        return overflow().with_source(reason(error));
    }
    let (kind, message) = by_code(error, server)
        .or_else(|| by_server_kind(error, server))
        .unwrap_or_else(|| by_kind(error, server));
    Error::new(kind, message).with_source(reason(error))
}

/// Describes the errors of which the `redis` crate keeps only the code.
fn by_code(error: &RedisError, server: &str) -> Option<(ErrorKind, String)> {
    let code = error.code().unwrap_or_default();
    Some(match code {
        "WRONGTYPE" => (
            ErrorKind::WrongType,
            format!(
                "the key holds another type of value on {server} (a list, a hash, …), written by another \
                 program; delete it, or give the cache a namespace of its own"
            ),
        ),
        "NOAUTH" | "WRONGPASS" => (ErrorKind::Server, rejected(server)),
        // A transaction that Redis refuses has a code of its own; its text names the cause.
        _ if code == "OOM" || error.to_string().contains("OOM command not allowed") => (
            ErrorKind::Server,
            format!(
                "{server} is out of memory; set a maxmemory-policy that evicts, such as allkeys-lru"
            ),
        ),
        _ => return None,
    })
}

fn rejected(server: &str) -> String {
    format!("{server} rejected the user name or password; check them in the URL")
}

fn by_server_kind(error: &RedisError, server: &str) -> Option<(ErrorKind, String)> {
    let Kind::Server(kind) = error.kind() else {
        return None;
    };
    let detail = error.detail().unwrap_or_default();
    Some(match kind {
        ServerErrorKind::ResponseError if detail.contains("not an integer") => (
            ErrorKind::WrongType,
            "the value is not a 64-bit integer; it was not changed".to_owned(),
        ),
        ServerErrorKind::BusyLoading => (
            ErrorKind::Unavailable,
            format!("{server} is still loading its data; retry later"),
        ),
        ServerErrorKind::ReadOnly => (
            ErrorKind::Server,
            format!(
                "{server} is a read-only replica; use the URL of the master, or find the master through \
                 its sentinels (redis-sentinel://)"
            ),
        ),
        ServerErrorKind::NoPerm => (
            ErrorKind::Server,
            format!("the user lacks a permission on {server}; check its ACL"),
        ),
        ServerErrorKind::ClusterDown => (
            ErrorKind::Server,
            format!("{server} is down or does not serve all slots; check its nodes"),
        ),
        ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot => (
            ErrorKind::Server,
            format!(
                "{server} is a node of a cluster and does not serve the key; use a redis-cluster:// URL"
            ),
        ),
        _ => return None,
    })
}

fn by_kind(error: &RedisError, server: &str) -> (ErrorKind, String) {
    match error.kind() {
        Kind::AuthenticationFailed => (ErrorKind::Server, rejected(server)),
        Kind::Io if error.is_timeout() => (
            ErrorKind::Timeout,
            format!("{server} did not reply in time"),
        ),
        Kind::Io if error.to_string().contains(MISMATCH) => (
            ErrorKind::Unavailable,
            format!(
                "a reply of {server} does not belong to its request, so the connection was closed; \
                 check that it is a Redis server, and that no proxy loses replies"
            ),
        ),
        Kind::Io => (
            ErrorKind::Unavailable,
            format!(
                "cannot reach {server}, or the connection broke; check that it runs at this address"
            ),
        ),
        Kind::MasterNameNotFoundBySentinel => (
            ErrorKind::Unavailable,
            format!("no reachable sentinel knows a master of this name; check the name: {server}"),
        ),
        Kind::InvalidClientConfig => (
            ErrorKind::Config,
            "invalid connection settings; check the URL and the TLS settings".to_owned(),
        ),
        _ => (ErrorKind::Server, format!("{server} returned an error")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_server_and_not_the_arguments_that_it_quotes() {
        let refused = "unknown command 'SET', with args beginning with: 'key' 'secret'";
        let refused = RedisError::from((Kind::Extension, "refused", refused.to_owned()));
        let error = Failure::from(refused).into_error("Redis at a:1");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("Redis at a:1") && shown.contains("unknown command 'SET'"));
        assert!(
            !shown.contains("secret") && !shown.contains("'key'"),
            "{shown}"
        );
        let long = RedisError::from((Kind::Extension, "refused", "x".repeat(1_000_000)));
        let error = Failure::from(long).into_error("Redis at a:1");
        assert!(format!("{error} {error:?}").len() < 1_000);
    }
}
