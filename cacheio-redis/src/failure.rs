//! What goes wrong between here and Redis, as errors of the cache.

use std::time::Duration;

use cacheio_core::__private::overflow;
use cacheio_core::{Error, ErrorKind};
use redis::{ErrorKind as Kind, RedisError, ServerErrorKind};

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Redis, or the way to it.
    Redis(RedisError),
    /// Something that is said already.
    Cache(Error),
}

impl Failure {
    /// The operation's time is over.
    pub(crate) fn elapsed(timeout: Duration) -> Self {
        Self::Cache(Error::new(
            ErrorKind::Timeout,
            format!(
                "Redis did not answer within {} ms; a write may still be carried out",
                timeout.as_millis()
            ),
        ))
    }

    /// There is no runtime to wait on.
    pub(crate) fn no_runtime() -> Self {
        Self::Cache(Error::new(
            ErrorKind::Config,
            "Redis was asked outside of a tokio runtime; call it in one, or use the sync cache, \
             which brings its own",
        ))
    }

    /// An answer that Redis does not give.
    pub(crate) fn unexpected() -> Self {
        Self::Cache(Error::new(
            ErrorKind::Server,
            "the server's answer is none that Redis gives; is it a Redis server?",
        ))
    }

    /// The error that callers see. No `From`: another one for a public type would leave `?` in
    /// doubt in the crates on top.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Redis(error) => describe(error),
            Self::Cache(error) => error,
        }
    }

    /// Whether the server moved the key elsewhere, or left its role: the request was not carried
    /// out, and another server is to be asked.
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
            Self::Cache(_) => false,
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
        Self::Cache(error)
    }
}

/// Whether a connection that gave this error is of no use any more.
pub(crate) fn breaks(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

fn describe(error: RedisError) -> Error {
    let detail = error.detail().unwrap_or_default();
    let code = error.code().unwrap_or_default();
    let (kind, message) = match error.kind() {
        _ if code == "WRONGTYPE" => (
            ErrorKind::WrongType,
            "what stands under the key is another type of Redis (a list, a hash, …), written by \
             another program; delete it, or use a namespace of your own",
        ),
        Kind::Server(ServerErrorKind::ResponseError) if detail.contains("not an integer") => (
            ErrorKind::WrongType,
            "what stands under the key is no integer of 64 bits; it is left as it was",
        ),
        Kind::Server(ServerErrorKind::ResponseError) if detail.contains("would overflow") => {
            return overflow().with_source(error);
        }
        Kind::Server(ServerErrorKind::BusyLoading) => (
            ErrorKind::Unavailable,
            "Redis has just started and still loads its data",
        ),
        Kind::Server(ServerErrorKind::ReadOnly) => (
            ErrorKind::Server,
            "this Redis is a read-only replica; name the master, or ask its sentinels \
             (redis-sentinel://)",
        ),
        Kind::Server(ServerErrorKind::NoPerm) => (
            ErrorKind::Server,
            "this user of Redis may not do that; see its ACL",
        ),
        Kind::Server(ServerErrorKind::ClusterDown) => (
            ErrorKind::Server,
            "the Redis cluster is down, or does not serve all slots",
        ),
        Kind::Server(
            ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot,
        ) => (
            ErrorKind::Server,
            "this Redis is part of a cluster, and the key is not there; name the cluster \
             (redis-cluster://)",
        ),
        _ if code == "OOM" || error.to_string().contains("OOM command not allowed") => (
            ErrorKind::Server,
            "Redis has no memory left; set a maxmemory-policy that evicts, such as allkeys-lru",
        ),
        Kind::AuthenticationFailed => (
            ErrorKind::Server,
            "Redis does not take this user name and password",
        ),
        Kind::Extension if matches!(code, "NOAUTH" | "WRONGPASS") => (
            ErrorKind::Server,
            "Redis does not take this user name and password",
        ),
        Kind::Io if error.is_timeout() => (ErrorKind::Timeout, "Redis did not answer in time"),
        Kind::Io => (
            ErrorKind::Unavailable,
            "Redis cannot be reached, or the connection to it broke",
        ),
        Kind::MasterNameNotFoundBySentinel => (
            ErrorKind::Unavailable,
            "no sentinel that answers knows a master by this name",
        ),
        Kind::InvalidClientConfig => (
            ErrorKind::Config,
            "Redis cannot be reached in the way it is set up",
        ),
        _ => (ErrorKind::Server, "Redis refused"),
    };
    Error::new(kind, message).with_source(error)
}
