//! Counters: signed 64-bit integers, on a server that counts without a sign.
//!
//! Memcached counts from 0 to 2^64 - 1. So the server adds by itself where neither the counter nor
//! the amount is negative. Anything else is computed here and written by compare-and-swap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cacheio_core::__private::overflow;
use memcache::exp::{MetaOp, ReturnCode};

use super::exptime::exptime;
use super::failure::Failure;
use super::protocol::{Request, Response, number};
use super::replace::{Change, write_with_ttl_kept};
use super::retry::Retry;
use super::server::Server;
use crate::store::Key;
use crate::{Error, ErrorKind, Result};

/// The largest amount that the server adds by itself. A counter in the range of `i64` is then in the
/// range of the server's `u64` afterwards.
const NATIVE_MAX: i64 = 1 << 32;

/// Adds `by` to a counter and returns its new value.
pub(super) fn increment(
    server: &Arc<Server>,
    key: &Key<'_>,
    by: i64,
    ttl: Option<Duration>,
) -> Result<i64> {
    let counter = Counter {
        server,
        key: key.text(),
        deadline: server.deadline(),
        ttl,
    };
    if (0..=NATIVE_MAX).contains(&by)
        && let Some(count) = counter.add_on_server(by)?
    {
        return Ok(count);
    }
    let mut conflicts = 0;
    loop {
        if let Some(count) = counter.compare_and_swap(by)? {
            return Ok(count);
        }
        conflicts += 1;
        back_off(conflicts);
    }
}

struct Counter<'a> {
    server: &'a Arc<Server>,
    key: &'a str,
    deadline: Instant,
    /// The TTL of the counter if this operation creates it.
    ttl: Option<Duration>,
}

impl Counter<'_> {
    /// Lets the server add. Returns `None` if the entry is not a number to it.
    fn add_on_server(&self, by: i64) -> Result<Option<i64>> {
        let mut request = Request::with_capacity(300);
        let command = request.command(MetaOp::Arithmetic, self.key)?.flag("v");
        let command = command.number('D', by).number('J', by);
        command.number('N', exptime(self.ttl)).end();
        let response = match self.server.execute(Retry::Never, &request, self.deadline) {
            Err(Failure::Server(error)) if error.is_not_numeric() => return Ok(None),
            response => response.map_err(|failure| self.server.error(failure))?,
        };
        let count: u64 =
            number(&response.value).ok_or_else(|| self.server.unexpected(&response))?;
        match i64::try_from(count) {
            // A count less than `by` wrapped around 2^64, so the old one was not in the range.
            Ok(count) if count >= by => Ok(Some(count)),
            _ => Err(self.undo(count, by)),
        }
    }

    /// Undoes an addition that left the range of `i64`. Returns the error for the caller.
    fn undo(&self, count: u64, by: i64) -> Error {
        // The server does not subtract below zero, so this adds 2^64 - `by`, which wraps around.
        let back = by.unsigned_abs().wrapping_neg();
        let undone = self.execute(|request| {
            let command = request.command(MetaOp::Arithmetic, self.key)?;
            command.number('D', back).end();
            Ok(())
        });
        match (undone, i64::try_from(count.wrapping_add(back))) {
            (Err(error), _) => error,
            (Ok(_), Ok(_)) => overflow(),
            (Ok(_), Err(_)) => not_an_integer(),
        }
    }

    /// Reads the counter, and writes the sum if the counter did not change in between. Returns
    /// `None` if it did.
    fn compare_and_swap(&self, by: i64) -> Result<Option<i64>> {
        let current = self.read()?;
        let (Some(cas), ReturnCode::Va) = (current.cas, current.code) else {
            return self.create(by);
        };
        let count = integer(&current.value).ok_or_else(not_an_integer)?;
        let sum = count.checked_add(by).ok_or_else(overflow)?;
        if count < 0 || sum < 0 {
            return self.replace(sum, cas, current.ttl.unwrap_or(-1));
        }
        // The server's own arithmetic keeps the TTL exactly.
        let response = self.execute(|request| {
            let command = request.command(MetaOp::Arithmetic, self.key)?;
            let command = if by < 0 { command.flag("MD") } else { command };
            command
                .number('D', by.unsigned_abs())
                .number('C', cas)
                .end();
            Ok(())
        })?;
        self.swapped(&response, sum)
    }

    fn read(&self) -> Result<Response> {
        let mut request = Request::with_capacity(300);
        let command = request.command(MetaOp::Get, self.key)?;
        command.flag("v").flag("c").flag("t").end();
        let response = self.server.execute(Retry::Read, &request, self.deadline);
        response.map_err(|failure| self.server.error(failure))
    }

    /// Creates the counter. Returns `None` if another client created it first.
    fn create(&self, by: i64) -> Result<Option<i64>> {
        let value = by.to_string();
        let response = self.execute(|request| {
            let command = request.command(MetaOp::Set, self.key)?;
            let command = command.length(value.as_bytes())?.flag("ME");
            command
                .number('T', exptime(self.ttl))
                .value(value.as_bytes());
            Ok(())
        })?;
        self.swapped(&response, by)
    }

    /// Replaces a counter that is negative before or after the addition. `left` is its remaining TTL
    /// in seconds.
    fn replace(&self, sum: i64, cas: u64, left: i64) -> Result<Option<i64>> {
        let change = Change {
            cas,
            value: sum.to_string().into_bytes(),
            exptime: 0,
        };
        let response = write_with_ttl_kept(self.server, self.key, &change, left, self.deadline)?;
        self.swapped(&response, sum)
    }

    /// Returns the new count, or `None` if the counter changed since it was read.
    fn swapped(&self, response: &Response, count: i64) -> Result<Option<i64>> {
        match response.code {
            ReturnCode::Hd => Ok(Some(count)),
            ReturnCode::Ex | ReturnCode::Nf | ReturnCode::Ns => Ok(None),
            _ => Err(self.server.unexpected(response)),
        }
    }

    /// Runs one command that writes.
    fn execute(&self, write: impl FnOnce(&mut Request) -> Result<()>) -> Result<Response> {
        let mut request = Request::with_capacity(300);
        write(&mut request)?;
        let response = self.server.execute(Retry::Never, &request, self.deadline);
        response.map_err(|failure| self.server.error(failure))
    }
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

/// Sleeps for a random time, longer after each conflict, so that one of the writers succeeds.
fn back_off(conflicts: u32) {
    use std::hash::{BuildHasher, RandomState};
    if conflicts > 2 {
        let longest = 50 * u64::from(conflicts.min(20));
        let micros = RandomState::new().hash_one(conflicts) % longest;
        std::thread::sleep(Duration::from_micros(micros));
    }
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
