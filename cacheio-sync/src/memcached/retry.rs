//! Which requests may be sent again after their connection broke.

use std::io;

use super::connection::Connection;
use super::failure::Failure;

/// Whether a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// A read. It may be sent again, and does not wait for unconfirmed writes.
    Read,
    /// A write that leaves the same entries if the server carries it out twice. It may be sent again. Then its
    /// response is that to the second time: a deletion may find no entry, because the first time removed it.
    Idempotent,
    /// A write with another result the second time, such as an increment. It is never sent twice.
    Never,
}

impl Retry {
    pub(super) fn is_write(self) -> bool {
        self != Self::Read
    }

    /// Returns whether a request that failed on a pooled connection may be sent on a new one: if its response
    /// was lost, or if the pooled connection was already dead, for example after a restart of the server.
    pub(super) fn allows_resend(self, failure: &Failure, connection: &Connection) -> bool {
        if matches!(failure, Failure::Lost) {
            // Without a probe it is a batch, of which some responses were taken.
            return self != Self::Never && connection.is_probed();
        }
        // `InvalidData` comes from TLS records that the server sent, so the connection was not dead.
        let broke =
            matches!(failure, Failure::Broken(error) if error.kind() != io::ErrorKind::InvalidData);
        broke && !connection.has_received() && (self != Self::Never || !connection.has_sent())
    }
}
