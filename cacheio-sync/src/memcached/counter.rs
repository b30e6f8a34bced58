//! Counters: signed 64-bit integers, on a server that counts without a sign.
//!
//! Memcached counts from 0 to 2^64 - 1. So the server adds by itself where neither the counter nor
//! the amount is negative. Anything else is computed here and written by compare-and-swap.

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::overflow;
use memcache::exp::{MetaOp, ReturnCode};

use super::call::{Call, Driver};
use super::cluster::Cluster;
use super::exptime::exptime;
use super::failure::Failure;
use super::protocol::{Request, Response, number};
use super::replace::{Change, swapped, write_with_ttl_kept};
use super::retry::Retry;
use super::server::Server;
use crate::store::Key;
use crate::{Error, ErrorKind, Result};

/// The largest amount that the server adds by itself. A counter in the range of `i64` is then in the
/// range of the server's `u64` afterwards.
const NATIVE_MAX: i64 = 1 << 32;

impl Cluster {
    /// Adds `by` to a counter and returns its new value.
    pub(super) async fn increment(
        &self,
        driver: Driver,
        key: &Key<'_>,
        by: i64,
        ttl: Option<Duration>,
    ) -> Result<i64> {
        let counter = Counter {
            cluster: self,
            server: self.server(key),
            key: *key,
            call: self.call(driver),
            ttl,
        };
        if (0..=NATIVE_MAX).contains(&by)
            && let Some(count) = counter.add_on_server(by).await?
        {
            return Ok(count);
        }
        let mut conflicts = 0;
        loop {
            if let Some(count) = counter.compare_and_swap(by).await? {
                return Ok(count);
            }
            conflicts += 1;
            counter.call.pause_after_conflict(conflicts).await;
        }
    }
}

struct Counter<'a> {
    cluster: &'a Cluster,
    server: &'a Arc<Server>,
    key: Key<'a>,
    call: Call,
    /// The TTL of the counter if this operation creates it.
    ttl: Option<Duration>,
}

impl Counter<'_> {
    /// Lets the server add. Returns `None` if the entry is not a number to it.
    async fn add_on_server(&self, by: i64) -> Result<Option<i64>> {
        let mut request = Request::with_capacity(300);
        let command = request
            .command(MetaOp::Arithmetic, self.key.text())?
            .flag("v");
        let command = command.number('D', by).number('J', by);
        command.number('N', exptime(self.ttl)).token().end();
        let read = |response: &mut Response| number::<u64>(&response.value);
        let count = self.server.execute(Retry::Never, &request, self.call, read);
        let count = match count.await {
            Err(Failure::Server(error)) if error.is_not_numeric() => return Ok(None),
            count => count.map_err(|failure| self.server.error(failure))?,
        };
        match i64::try_from(count) {
            // A count less than `by` wrapped around 2^64, so the old one was not in the range.
            Ok(count) if count >= by => Ok(Some(count)),
            _ => Err(self.undo(count, by).await),
        }
    }

    /// Undoes an addition that left the range of `i64`. Returns the error for the caller.
    async fn undo(&self, count: u64, by: i64) -> Error {
        // The server does not subtract below zero, so this adds 2^64 - `by`, which wraps around.
        let back = by.unsigned_abs().wrapping_neg();
        let mut request = Request::with_capacity(300);
        let undone = match request.command(MetaOp::Arithmetic, self.key.text()) {
            Ok(command) => {
                command.number('D', back).token().end();
                self.swap(&request).await
            }
            Err(error) => Err(error),
        };
        match (undone, i64::try_from(count.wrapping_add(back))) {
            (Err(error), _) => error,
            (Ok(_), Ok(_)) => overflow(),
            (Ok(_), Err(_)) => not_an_integer(),
        }
    }

    /// Reads the counter, and writes the sum if the counter did not change in between. Returns
    /// `None` if it did.
    async fn compare_and_swap(&self, by: i64) -> Result<Option<i64>> {
        let Some(current) = self.read().await? else {
            return self.create(by).await;
        };
        if current.value.is_empty() {
            let value = by.to_string();
            let call = self.call;
            let written = (self.cluster).replace_claim(
                &self.key,
                value.as_bytes(),
                exptime(self.ttl),
                current.cas,
                call,
            );
            return Ok(written.await?.then_some(by));
        }
        let count = integer(&current.value).ok_or_else(not_an_integer)?;
        let sum = count.checked_add(by).ok_or_else(overflow)?;
        let is_swapped = if count < 0 || sum < 0 {
            let left = current.ttl.unwrap_or(-1);
            self.replace(sum, current.cas, left).await?
        } else {
            // The server's own arithmetic keeps the TTL exactly.
            let mut request = Request::with_capacity(300);
            let command = request.command(MetaOp::Arithmetic, self.key.text())?;
            let command = if by < 0 { command.flag("MD") } else { command };
            let command = command.number('D', by.unsigned_abs());
            command.number('C', current.cas).token().end();
            self.swap(&request).await?
        };
        Ok(is_swapped.then_some(sum))
    }

    async fn read(&self) -> Result<Option<Current>> {
        let mut request = Request::with_capacity(300);
        let command = request.command(MetaOp::Get, self.key.text())?;
        command.flag("v").flag("c").flag("t").token().end();
        let read = |response: &mut Response| match response.code {
            ReturnCode::Va => Some(Some(Current {
                value: std::mem::take(&mut response.value),
                cas: response.cas?,
                ttl: response.ttl,
            })),
            ReturnCode::En => Some(None),
            _ => None,
        };
        let current = self.server.execute(Retry::Read, &request, self.call, read);
        current.await.map_err(|failure| self.server.error(failure))
    }

    /// Creates the counter. Returns `None` if another client created it first.
    async fn create(&self, by: i64) -> Result<Option<i64>> {
        let value = by.to_string();
        let mut request = Request::with_capacity(300);
        let command = request.command(MetaOp::Set, self.key.text())?;
        let command = command.length(value.as_bytes())?.flag("ME");
        let command = command.number('T', exptime(self.ttl)).token();
        command.value(value.as_bytes());
        Ok(self.swap(&request).await?.then_some(by))
    }

    /// Replaces a counter that is negative before or after the addition. `left` is its remaining TTL
    /// in seconds. Returns whether the counter had not changed.
    async fn replace(&self, sum: i64, cas: u64, left: i64) -> Result<bool> {
        let change = Change {
            cas,
            value: sum.to_string().into_bytes(),
            exptime: 0,
        };
        write_with_ttl_kept(self.server, self.key.text(), &change, left, self.call).await
    }

    /// Runs one command that writes. Returns whether the counter had not changed.
    async fn swap(&self, request: &Request) -> Result<bool> {
        let swap = |response: &mut Response| swapped(response);
        let swap = self.server.execute(Retry::Never, request, self.call, swap);
        swap.await.map_err(|failure| self.server.error(failure))
    }
}

/// A counter that was read.
struct Current {
    value: Vec<u8>,
    cas: u64,
    /// The remaining TTL in seconds; negative if it never expires.
    ttl: Option<i64>,
}

/// Parses a stored integer. The server pads a number with spaces when subtracting makes it shorter.
fn integer(bytes: &[u8]) -> Option<i64> {
    let text = bytes.trim_ascii_end();
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    digits
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| number(text))
        .flatten()
}

fn not_an_integer() -> Error {
    Error::new(
        ErrorKind::WrongType,
        "the entry is not a 64-bit integer; delete it, or use another key for the counter",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_integers_are_parsed() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-5", Some(-5)),
            ("9  ", Some(9)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            (" 5", None),
            ("+5", None),
            ("5 apples", None),
            ("1.5", None),
        ] {
            assert_eq!(integer(text.as_bytes()), expected, "{text:?}");
        }
    }
}
