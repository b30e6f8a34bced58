//! Counters: integers of 64 bits with a sign, on a server whose own have none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cacheio_core::__private::overflow;
use memcache::exp::{MetaOp, ReturnCode};

use super::connection::Failure;
use super::expiry::{exptime, unchanged};
use super::protocol::{Answer, Request, number};
use super::server::{Effect, Server};
use crate::{Error, ErrorKind, Key, Result};

/// What is added is at most this where the server adds by itself: a counter that is in the range
/// of `i64` is then in that of the server's `u64` after it.
const NATIVE_MAX: i64 = 1 << 32;

/// Adds `by`; what the counter is then.
///
/// The server counts from 0 to 2^64 - 1: what is added to a counter that was never below zero
/// takes one round trip. Anything else is computed here, and written if nobody wrote in between.
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
        && let Some(count) = counter.add_natively(by)?
    {
        return Ok(count);
    }
    let mut rounds = 0;
    loop {
        if let Some(count) = counter.compare_and_swap(by)? {
            return Ok(count);
        }
        rounds += 1;
        pause(rounds);
    }
}

struct Counter<'a> {
    server: &'a Arc<Server>,
    key: &'a str,
    deadline: Instant,
    ttl: Option<Duration>,
}

impl Counter<'_> {
    /// Lets the server add; None if what is there is no number to it.
    fn add_natively(&self, by: i64) -> Result<Option<i64>> {
        let mut request = Request::with_capacity(300);
        let command = request.command(MetaOp::Arithmetic, self.key)?.flag("v");
        let command = command.number('D', by).number('J', by);
        command.number('N', exptime(self.ttl)).end();
        let answer = match self.server.ask(Effect::Once, &request, self.deadline) {
            Err(Failure::Refused(refusal)) if refusal.is_not_numeric() => return Ok(None),
            answer => answer.map_err(|failure| self.server.error(failure))?,
        };
        let count: u64 = number(&answer.value).ok_or_else(|| self.server.unexpected(&answer))?;
        match i64::try_from(count) {
            // Less than what was added: what was there was no i64, and went round.
            Ok(count) if count >= by => Ok(Some(count)),
            _ => Err(self.undo(count, by)),
        }
    }

    /// Takes back what has left the range; the error to give.
    fn undo(&self, count: u64, by: i64) -> Error {
        // Going round once: the server does not subtract below zero.
        let back = by.unsigned_abs().wrapping_neg();
        let undone = self.request(|request| {
            let command = request.command(MetaOp::Arithmetic, self.key)?;
            command.number('D', back).end();
            Ok(())
        });
        match (undone, i64::try_from(count.wrapping_add(back))) {
            (Err(error), _) => error,
            (Ok(_), Ok(_)) => overflow(),
            (Ok(_), Err(_)) => no_integer(),
        }
    }

    /// Reads, computes, and writes if nobody has written in between; None if somebody has.
    fn compare_and_swap(&self, by: i64) -> Result<Option<i64>> {
        let seen = self.read()?;
        let (Some(cas), ReturnCode::Va) = (seen.cas, seen.code) else {
            return self.create(by);
        };
        let count = integer(&seen.value).ok_or_else(no_integer)?;
        let sum = count.checked_add(by).ok_or_else(overflow)?;
        if count < 0 || sum < 0 {
            return self.replace(sum, cas, seen.ttl.unwrap_or(-1));
        }
        let answer = self.request(|request| {
            let command = request.command(MetaOp::Arithmetic, self.key)?;
            let command = if by < 0 { command.flag("MD") } else { command };
            command
                .number('D', by.unsigned_abs())
                .number('C', cas)
                .end();
            Ok(())
        })?;
        self.swapped(&answer, sum)
    }

    /// Writes a counter that the server cannot count, with the seconds that it had left.
    fn replace(&self, sum: i64, cas: u64, left: i64) -> Result<Option<i64>> {
        let (now_left, answer) = self.write(sum, cas, left)?;
        if let (ReturnCode::Hd, Some(cas)) = (answer.code, answer.cas)
            && now_left != left
            && now_left > 0
        {
            // The server's clock ticked since the seconds were read. Each time the counter would
            // live for a second longer: one that is often written, for ever.
            self.write(sum, cas, now_left)?;
        }
        self.swapped(&answer, sum)
    }

    /// Writes a counter if nobody wrote since it had this `cas`; how many seconds it had left right
    /// before, and the answer.
    fn write(&self, sum: i64, cas: u64, left: i64) -> Result<(i64, Answer)> {
        let value = sum.to_string();
        let mut request = Request::with_capacity(600);
        request.command(MetaOp::Get, self.key)?.flag("t").end();
        let command = request.command(MetaOp::Set, self.key)?;
        let command = command.length(value.as_bytes())?.number('C', cas).flag("c");
        command.number('T', unchanged(left)).value(value.as_bytes());
        let parts = [request.len()];
        let exchange = self
            .server
            .begin(Effect::Once, request.bytes(), &parts, self.deadline);
        let answers = exchange.and_then(|exchange| {
            exchange.finish(self.deadline, |connection| {
                let seen = connection.answer(self.deadline)?;
                Ok((seen.ttl.unwrap_or(left), connection.answer(self.deadline)?))
            })
        });
        answers.map_err(|failure| self.server.error(failure))
    }

    fn read(&self) -> Result<Answer> {
        let mut request = Request::with_capacity(300);
        let command = request.command(MetaOp::Get, self.key)?;
        command.flag("v").flag("c").flag("t").end();
        self.ask(Effect::Nothing, &request)
    }

    fn create(&self, by: i64) -> Result<Option<i64>> {
        let value = by.to_string();
        let answer = self.request(|request| {
            let command = request.command(MetaOp::Set, self.key)?;
            let command = command.length(value.as_bytes())?.flag("ME");
            command
                .number('T', exptime(self.ttl))
                .value(value.as_bytes());
            Ok(())
        })?;
        self.swapped(&answer, by)
    }

    fn swapped(&self, answer: &Answer, count: i64) -> Result<Option<i64>> {
        match answer.code {
            ReturnCode::Hd => Ok(Some(count)),
            ReturnCode::Ex | ReturnCode::Nf | ReturnCode::Ns => Ok(None),
            _ => Err(self.server.unexpected(answer)),
        }
    }

    fn request(&self, write: impl FnOnce(&mut Request) -> Result<()>) -> Result<Answer> {
        let mut request = Request::with_capacity(300);
        write(&mut request)?;
        self.ask(Effect::Once, &request)
    }

    fn ask(&self, effect: Effect, request: &Request) -> Result<Answer> {
        let answer = self.server.ask(effect, request, self.deadline);
        answer.map_err(|failure| self.server.error(failure))
    }
}

/// An integer as the wire has it: the server leaves spaces behind when it subtracts.
fn integer(bytes: &[u8]) -> Option<i64> {
    let text = bytes.trim_ascii_end();
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    digits
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| number(text))
        .flatten()
}

fn no_integer() -> Error {
    Error::new(
        ErrorKind::WrongType,
        "what is stored is no integer of 64 bits",
    )
}

/// Lets others go first for a moment, longer with each round, so that somebody gets through.
fn pause(rounds: u32) {
    use std::hash::{BuildHasher, RandomState};
    if rounds > 2 {
        let longest = 50 * u64::from(rounds.min(20));
        let micros = RandomState::new().hash_one(rounds) % longest;
        std::thread::sleep(Duration::from_micros(micros));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_the_wire_has_them() {
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
