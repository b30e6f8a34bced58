//! One tracing span for each operation of a store on a server, with the names that OpenTelemetry gives the spans
//! of database clients: <https://opentelemetry.io/docs/specs/semconv/database/database-spans/>.

use std::fmt;

use tracing::{Instrument as _, Span, debug_span, field};

use super::Driver;
use crate::{BoxFuture, Key, Result, Server};

/// How many keys the first argument of an operation has.
pub(super) trait KeyCount {
    fn key_count(&self) -> usize;
}

impl KeyCount for Key<'_> {
    fn key_count(&self) -> usize {
        1
    }
}

/// The prefix of `clear`.
impl KeyCount for str {
    fn key_count(&self) -> usize {
        1
    }
}

impl<T> KeyCount for [T] {
    fn key_count(&self) -> usize {
        self.len()
    }
}

impl Driver {
    /// Calls a store that blocks the thread, in the span of the operation.
    #[inline]
    pub(super) fn in_span<T>(
        &self,
        operation: &'static str,
        keys: usize,
        call: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(server) = &self.server else {
            return call();
        };
        let span = span(server, operation, keys);
        let result = span.in_scope(call);
        record(&span, &result);
        result
    }

    /// Runs the future of an operation in its span. Without a subscriber for it, the future is returned as it is.
    pub(super) fn instrument<'a, T: Send + 'a>(
        &self,
        operation: &'static str,
        keys: usize,
        call: impl FnOnce() -> BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        let Some(server) = &self.server else {
            return call();
        };
        let span = span(server, operation, keys);
        let future = span.in_scope(call);
        if span.is_disabled() {
            return future;
        }
        let recorded = span.clone();
        let operation = async move {
            let result = future.await;
            record(&recorded, &result);
            result
        };
        Box::pin(operation.instrument(span))
    }
}

/// Creates the span of an operation, as a child of the caller's span. It has no key and no value.
fn span(server: &Server, operation: &'static str, keys: usize) -> Span {
    let operation = OperationName {
        operation: operation_on_one_key(operation),
        is_batch: keys > 1,
    };
    debug_span!(
        target: "cacheio",
        "store_operation",
        otel.name = %SpanName(operation, server),
        otel.kind = "client",
        otel.status_code = field::Empty,
        db.system.name = &*server.system,
        db.operation.name = %operation,
        db.operation.batch.size = operation.is_batch.then_some(keys),
        server.address = server.address.as_deref(),
        server.port = server.port,
        "error.type" = field::Empty,
    )
}

fn record<T>(span: &Span, result: &Result<T>) {
    if let Err(error) = result {
        span.record("error.type", field::debug(error.kind()));
        span.record("otel.status_code", "ERROR");
    }
}

/// Returns the name that an operation on several keys has in the singular.
fn operation_on_one_key(operation: &'static str) -> &'static str {
    match operation {
        "get_with_ttls" => "get",
        _ => operation.strip_suffix("_many").unwrap_or(operation),
    }
}

#[derive(Clone, Copy)]
struct OperationName {
    operation: &'static str,
    is_batch: bool,
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_batch { "BATCH " } else { "" })?;
        f.write_str(self.operation)
    }
}

/// The operation and, if it is known, the address of the server.
struct SpanName<'a>(OperationName, &'a Server);

impl fmt::Display for SpanName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(operation, server) = self;
        match (&server.address, server.port) {
            (Some(host), Some(port)) if host.contains(':') => {
                write!(f, "{operation} [{host}]:{port}")
            }
            (Some(host), Some(port)) => write!(f, "{operation} {host}:{port}"),
            (Some(path), None) => write!(f, "{operation} {path}"),
            (None, _) => write!(f, "{operation}"),
        }
    }
}
