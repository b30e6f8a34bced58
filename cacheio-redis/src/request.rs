//! The requests that the store sends, and the commands in them.

use std::borrow::Cow;
use std::time::Duration;

use cacheio_core::{Entry, Error, ErrorKind, Payload, Replacement, Result, TtlChange};
use redis::{Arg, Cmd, cmd};

use crate::commands::{Commands, weight};
use crate::tracking::caching;

/// The largest value that Redis accepts with its default settings.
const MAX_VALUE_BYTES: usize = 512 * 1024 * 1024;

/// Replaces entries, each only if it is still the one that was read. Each key has four arguments: the
/// bytes to compare with the beginning of the value, the length of the value, what to write instead of
/// the compared bytes (the rest stays), and the new TTL in milliseconds: empty for the old one, 0 for none.
/// The claims that end with the changes follow the keys. Returns how many entries were replaced.
///
/// It is sent with each request, and so does not depend on what a server remembers.
const REPLACE: &str = "\
local n, count = 0, #ARGV / 4
for i = 1, count do
  local k = KEYS[i]
  local old, len, new, ttl = unpack(ARGV, 4 * i - 3, 4 * i)
  if redis.call('STRLEN', k) == tonumber(len) and redis.call('GETRANGE', k, 0, #old - 1) == old
    and redis.call('EXISTS', k) == 1 then
    if #new == #old then
      redis.call('SETRANGE', k, 0, new)
    else
      -- A number: -1 for none, and 0 in the last millisecond. Then the entry ends now.
      if ttl == '' then ttl = redis.call('PTTL', k) end
      redis.call('SET', k, new .. redis.call('GETRANGE', k, #old, -1))
    end
    if ttl == '0' then redis.call('PERSIST', k)
    elseif ttl ~= '' and ttl ~= -1 then redis.call('PEXPIRE', k, ttl) end
    if KEYS[count + i] then redis.call('UNLINK', KEYS[count + i]) end
    n = n + 1
  end
end
return n";

/// One or several commands that go out in one write.
#[derive(Clone)]
pub(crate) struct Request {
    content: Content,
    /// Whether Redis may execute it twice: after a connection broke it is unknown whether Redis
    /// executed it, and only an idempotent request is sent again.
    pub(crate) idempotent: bool,
}

#[derive(Clone)]
enum Content {
    /// A command, and the claim that ends before it. It may become part of a batch.
    One(Cmd, Option<String>),
    Many(Commands),
}

impl Request {
    pub(crate) fn one(command: Cmd) -> Self {
        Self::new(Content::One(command, None))
    }

    /// Gets the values of keys, by one command for each part of them, and what is left of their TTLs. With
    /// `is_tracked`, the server tells of changes of the keys: each part has one more reply, before the others.
    pub(crate) fn get_with_ttls<'a>(
        parts: impl IntoIterator<Item = Vec<&'a str>>,
        is_tracked: bool,
    ) -> Self {
        let commands = parts.into_iter().flat_map(|keys| {
            let get = match &keys[..] {
                [key] => on_key("GET", key),
                _ => on_keys("MGET", keys.iter().copied()),
            };
            let tracking = is_tracked.then(caching).into_iter();
            let ttls = keys.into_iter().map(|key| on_key("PTTL", key));
            tracking.chain([get]).chain(ttls)
        });
        Self::many(commands)
    }

    pub(crate) fn many(commands: impl IntoIterator<Item = Cmd>) -> Self {
        Self::idempotent(Commands::many(commands))
    }

    /// A command that writes a key, after the end of the claim `claim` on it. The claim ends first: else a
    /// load could be claimed and stored between the two.
    pub(crate) fn write(claim: String, command: Cmd) -> Self {
        Self::new(Content::One(command, Some(claim)))
    }

    /// Commands that write several keys. Those that end claims come before the others.
    pub(crate) fn writes(commands: impl IntoIterator<Item = Cmd>) -> Self {
        Self::idempotent(Commands::writes(commands))
    }

    pub(crate) fn add(claim: String, key: &str, bytes: &[u8], ttl: Option<Duration>) -> Self {
        let mut add = set(key, bytes, ttl);
        add.arg("NX");
        Self::write(claim, add).not_idempotent()
    }

    /// Sets the TTL of a new counter by a SET that does nothing if the counter exists. A script
    /// would do the same, but an ACL may forbid scripts.
    pub(crate) fn increment(claim: String, key: &str, by: i64, ttl: Option<Duration>) -> Self {
        let mut increment = cmd("INCRBY");
        increment.arg(key).arg(by);
        let Some(ttl) = ttl else {
            return Self::write(claim, increment).not_idempotent();
        };
        let mut create = set(key, b"0", Some(ttl));
        create.arg("NX");
        let claim = on_key("UNLINK", &claim);
        Self::idempotent(Commands::atomic_write(claim, [create, increment])).not_idempotent()
    }

    pub(crate) fn touch(key: &str, ttl: Option<Duration>) -> Self {
        let Some(ttl) = ttl else {
            // PERSIST replies 0 for an entry without a TTL, as it does for a missing one.
            let commands = [on_key("PERSIST", key), on_key("EXISTS", key)];
            return Self::idempotent(Commands::atomic(commands));
        };
        let mut expire = on_key("PEXPIRE", key);
        expire.arg(milliseconds(ttl));
        Self::one(expire)
    }

    pub(crate) fn replace(claim: &str, key: &str, replacement: Replacement) -> Result<Self> {
        let change = Change::new(replacement)?;
        Ok(match change.changes_body() {
            // The second time, the header is not the one that was read any more, and the cache reads it
            // again.
            false => Self::one(replace([(key, &change)], [])),
            true => Self::one(replace([(key, &change)], [claim])).not_idempotent(),
        })
    }

    /// Prefixes the commands with ASKING, for a cluster node that is importing the slot. The last
    /// reply is that of the request.
    pub(crate) fn asking(self) -> Self {
        Self {
            content: Content::Many(self.commands().asking()),
            ..self
        }
    }

    /// Returns the command, if it is the only one besides one that ends a claim, and that claim.
    pub(crate) fn single(&self) -> Option<(&Cmd, Option<&str>)> {
        match &self.content {
            Content::One(command, claim) => Some((command, claim.as_deref())),
            Content::Many(_) => None,
        }
    }

    /// Returns what to send.
    pub(crate) fn commands(&self) -> Cow<'_, Commands> {
        match &self.content {
            Content::One(command, None) => Cow::Owned(Commands::one(command.clone())),
            Content::One(command, Some(claim)) => {
                Cow::Owned(Commands::write(on_key("UNLINK", claim), command.clone()))
            }
            Content::Many(commands) => Cow::Borrowed(commands),
        }
    }

    /// Returns how much work the request is for the server, about.
    pub(crate) fn weight(&self) -> usize {
        match &self.content {
            Content::One(command, claim) => weight(command) + usize::from(claim.is_some()),
            Content::Many(commands) => commands.weight(),
        }
    }

    fn idempotent(commands: Commands) -> Self {
        Self::new(Content::Many(commands))
    }

    fn new(content: Content) -> Self {
        Self {
            content,
            idempotent: true,
        }
    }

    pub(crate) fn not_idempotent(self) -> Self {
        Self {
            idempotent: false,
            ..self
        }
    }
}

pub(crate) fn on_key(name: &str, key: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + key.len());
    command.arg(name).arg(key);
    command
}

pub(crate) fn on_keys<'a>(name: &str, keys: impl IntoIterator<Item = &'a str>) -> Cmd {
    let mut command = cmd(name);
    for key in keys {
        command.arg(key);
    }
    command
}

pub(crate) fn set(key: &str, bytes: &[u8], ttl: Option<Duration>) -> Cmd {
    let mut set = Cmd::with_capacity(6, key.len() + bytes.len() + 32);
    set.arg("SET").arg(key).arg(bytes);
    if let Some(ttl) = ttl {
        set.arg("PX").arg(milliseconds(ttl));
    }
    set
}

/// A [`Replacement`] as the arguments of [`REPLACE`].
pub(crate) struct Change {
    old: Vec<u8>,
    len: usize,
    new: Vec<u8>,
    ttl: String,
}

impl Change {
    pub(crate) fn new(replacement: Replacement) -> Result<Self> {
        let compared = replacement.compared();
        let mut change = Self::of_all(replacement.current, replacement.new, replacement.ttl)?;
        // The rest of the new value is that of the old one.
        let rest = change.len - compared;
        change.new.truncate(change.new.len().saturating_sub(rest));
        change.old.truncate(compared);
        Ok(change)
    }

    /// A change for which all bytes of the entry are compared.
    pub(crate) fn of_all(current: Entry, new: Entry, ttl: TtlChange) -> Result<Self> {
        let old = bytes(current)?;
        Ok(Self {
            len: old.len(),
            old,
            new: bytes(new)?,
            ttl: match ttl {
                TtlChange::Keep => String::new(),
                TtlChange::Set(ttl) => ttl.map_or(0, milliseconds).to_string(),
            },
        })
    }

    /// Returns whether it changes more than the header: then it is a write, which ends claims.
    pub(crate) fn changes_body(&self) -> bool {
        self.old.len() >= self.len
    }
}

/// `claims` are those that end with the changes, in the same order, or none.
pub(crate) fn replace<'a>(
    changes: impl IntoIterator<Item = (&'a str, &'a Change), IntoIter: Clone + ExactSizeIterator>,
    claims: impl IntoIterator<Item = &'a str, IntoIter: ExactSizeIterator>,
) -> Cmd {
    let (changes, claims) = (changes.into_iter(), claims.into_iter());
    let mut command = cmd("EVAL");
    command.arg(REPLACE).arg(changes.len() + claims.len());
    for (key, _) in changes.clone() {
        command.arg(key);
    }
    for claim in claims {
        command.arg(claim);
    }
    for (_, change) in changes {
        command
            .arg(&change.old)
            .arg(change.len)
            .arg(&change.new)
            .arg(&change.ttl);
    }
    command
}

/// Returns how many bytes the arguments of a command have.
pub(crate) fn length(command: &Cmd) -> usize {
    let lengths = command.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes.len(),
        _ => 0,
    });
    lengths.sum()
}

/// Rounds a TTL up to milliseconds. Redis refuses 0 and what exceeds the range of its clock.
pub(crate) fn milliseconds(ttl: Duration) -> i64 {
    let up = ttl.as_nanos().div_ceil(1_000_000);
    i64::try_from(up).unwrap_or(i64::MAX).clamp(1, i64::MAX / 2)
}

/// Returns the bytes of an entry.
pub(crate) fn bytes(entry: Entry) -> Result<Vec<u8>> {
    match entry.payload {
        Payload::Bytes(bytes) if bytes.len() <= MAX_VALUE_BYTES => Ok(bytes),
        Payload::Bytes(bytes) => Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "the value has {} bytes; Redis holds at most 512 MiB in a value",
                bytes.len()
            ),
        )),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "Redis holds bytes, not objects",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_to_milliseconds() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_micros(1_001)), 2);
        assert_eq!(milliseconds(Duration::from_millis(5)), 5);
        assert_eq!(milliseconds(Duration::MAX), i64::MAX / 2);
    }
}
