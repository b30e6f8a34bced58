//! Replaces entries that were read, only if they did not change since: by compare-and-swap.

use std::sync::Arc;
use std::time::Instant;

use memcache::exp::{MetaOp, ReturnCode};

use super::cluster::into_bytes;
use super::exptime::{exptime, exptime_from_remaining};
use super::protocol::{Request, Response};
use super::retry::Retry;
use super::server::Server;
use crate::store::{Entry, Key, Replacement, TtlChange};
use crate::{Error, ErrorKind, Result};

/// Takes an entry with its CAS number out of a response.
pub(super) fn entry(response: &mut Response) -> Entry {
    let mut entry = Entry::bytes(std::mem::take(&mut response.value));
    entry.version = response.cas;
    entry
}

/// A change of an entry.
pub(super) struct Change {
    pub(super) cas: u64,
    pub(super) value: Vec<u8>,
    /// Ignored where the TTL is kept.
    pub(super) exptime: u64,
}

impl Change {
    pub(super) fn new(replacement: Replacement) -> Result<Self> {
        let exptime = match replacement.ttl {
            TtlChange::Set(ttl) => exptime(ttl),
            TtlChange::Keep => 0,
        };
        // A server without CAS numbers responds with 0, and would store anything.
        let cas = replacement.current.version.filter(|cas| *cas != 0);
        let cas = cas.ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "memcached does not number its entries; start it without `-C`",
            )
        })?;
        Ok(Self {
            cas,
            value: into_bytes(replacement.new)?,
            exptime,
        })
    }

    /// Writes the command, with an opaque token if there is one.
    pub(super) fn write(
        &self,
        request: &mut Request,
        key: &str,
        opaque: Option<usize>,
    ) -> Result<()> {
        let command = request.command(MetaOp::Set, key)?;
        let command = command.length(&self.value)?.number('C', self.cas);
        if let Some(opaque) = opaque {
            command.number('O', opaque);
        }
        command.number('T', self.exptime).value(&self.value);
        Ok(())
    }
}

/// Replaces an entry. Returns whether it was the one that was read.
pub(super) fn replace(
    server: &Arc<Server>,
    key: &Key<'_>,
    replacement: Replacement,
) -> Result<bool> {
    let deadline = server.deadline();
    let keeps_ttl = replacement.ttl == TtlChange::Keep;
    let change = Change::new(replacement)?;
    let response = if keeps_ttl {
        let mut request = Request::with_capacity(300);
        request.command(MetaOp::Get, key.text())?.flag("t").end();
        let read = server.execute(Retry::Read, &request, deadline);
        let left = read.map_err(|failure| server.error(failure))?.ttl;
        write_with_ttl_kept(server, key.text(), &change, left.unwrap_or(-1), deadline)?
    } else {
        let mut request = Request::with_capacity(change.value.len() + 300);
        change.write(&mut request, key.text(), None)?;
        let response = server.execute(Retry::Never, &request, deadline);
        response.map_err(|failure| server.error(failure))?
    };
    match response.code {
        ReturnCode::Hd => Ok(true),
        ReturnCode::Ex | ReturnCode::Nf | ReturnCode::Ns => Ok(false),
        _ => Err(server.unexpected(&response)),
    }
}

/// Writes a change without another expiry. `left` is the remaining TTL in seconds.
pub(super) fn write_with_ttl_kept(
    server: &Arc<Server>,
    key: &str,
    change: &Change,
    left: i64,
    deadline: Instant,
) -> Result<Response> {
    let (left_at_write, response) = write(server, key, change, left, deadline)?;
    if let (ReturnCode::Hd, Some(cas)) = (response.code, response.cas)
        && left_at_write != left
        && left_at_write > 0
    {
        // The server's clock ticked after `left` was read, so the write added a second to the
        // TTL. Without this correction an entry that is often written would never expire.
        let value = change.value.clone();
        let again = Change {
            cas,
            value,
            exptime: 0,
        };
        write(server, key, &again, left_at_write, deadline)?;
    }
    Ok(response)
}

/// Writes a change with a remaining TTL. Returns the remaining TTL right before the write, in seconds,
/// and the response.
fn write(
    server: &Arc<Server>,
    key: &str,
    change: &Change,
    left: i64,
    deadline: Instant,
) -> Result<(i64, Response)> {
    let mut request = Request::with_capacity(change.value.len() + 600);
    request.command(MetaOp::Get, key)?.flag("t").end();
    let command = request.command(MetaOp::Set, key)?;
    let command = command.length(&change.value)?;
    let command = command.number('C', change.cas).flag("c");
    command
        .number('T', exptime_from_remaining(left))
        .value(&change.value);
    let exchange = server.begin(Retry::Never, &request, deadline);
    let responses = exchange.and_then(|exchange| {
        exchange.finish(deadline, |connection| {
            let before = connection.read_response(deadline)?;
            let written = connection.read_response(deadline)?;
            Ok((before.ttl.unwrap_or(left), written))
        })
    });
    responses.map_err(|failure| server.error(failure))
}
