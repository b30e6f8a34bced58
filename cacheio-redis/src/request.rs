//! What is asked of Redis, and what its answers mean.

use std::time::Duration;

use cacheio_core::{Entry, Error, ErrorKind, Payload, Result};
use redis::{Cmd, Pipeline, Value, cmd};

use crate::failure::Failure;

/// One or several commands that go out in one write.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) commands: Commands,
    /// Whether it may be carried out twice: a connection that broke leaves that open.
    pub(crate) repeatable: bool,
}

#[derive(Clone)]
pub(crate) enum Commands {
    One(Cmd),
    /// Answered by the array of their answers.
    Many(Pipeline),
    /// Between MULTI and EXEC; answered by the array of their answers.
    Atomic(Pipeline),
}

impl Request {
    pub(crate) fn one(command: Cmd) -> Self {
        Self {
            commands: Commands::One(command),
            repeatable: true,
        }
    }

    pub(crate) fn many(commands: impl IntoIterator<Item = Cmd>) -> Self {
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.add_command(command);
        }
        Self {
            commands: Commands::Many(pipeline),
            repeatable: true,
        }
    }

    fn atomic(commands: impl IntoIterator<Item = Cmd>) -> Self {
        let mut pipeline = Pipeline::new();
        pipeline.atomic();
        for command in commands {
            pipeline.add_command(command);
        }
        Self {
            commands: Commands::Atomic(pipeline),
            repeatable: true,
        }
    }

    fn once(self) -> Self {
        Self {
            repeatable: false,
            ..self
        }
    }

    /// The same for a node that is just getting the key's slot; the last answer counts.
    pub(crate) fn asking(self) -> Self {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("ASKING");
        match &self.commands {
            Commands::One(command) => {
                pipeline.add_command(command.clone());
            }
            Commands::Many(commands) => {
                for (at, command) in commands.cmd_iter().enumerate() {
                    if at > 0 {
                        pipeline.cmd("ASKING");
                    }
                    pipeline.add_command(command.clone());
                }
            }
            Commands::Atomic(commands) => {
                pipeline.cmd("MULTI");
                for command in commands.cmd_iter() {
                    pipeline.add_command(command.clone());
                }
                pipeline.cmd("EXEC");
            }
        }
        Self {
            commands: Commands::Many(pipeline),
            ..self
        }
    }

    pub(crate) fn add(key: &str, bytes: &[u8], ttl: Option<Duration>) -> Self {
        let mut add = set(key, bytes, ttl);
        add.arg("NX");
        Self::one(add).once()
    }

    /// A counter's TTL is given by a SET that does nothing where there is one already: no script,
    /// which an ACL may forbid.
    pub(crate) fn increment(key: &str, by: i64, ttl: Option<Duration>) -> Self {
        let mut increment = cmd("INCRBY");
        increment.arg(key).arg(by);
        let Some(ttl) = ttl else {
            return Self::one(increment).once();
        };
        let mut begin = set(key, b"0", Some(ttl));
        begin.arg("NX");
        Self::atomic([begin, increment]).once()
    }

    pub(crate) fn touch(key: &str, ttl: Option<Duration>) -> Self {
        let Some(ttl) = ttl else {
            // PERSIST says nothing of an entry that has no TTL.
            return Self::atomic([named("PERSIST", key), named("EXISTS", key)]);
        };
        let mut expire = named("PEXPIRE", key);
        expire.arg(milliseconds(ttl));
        Self::one(expire)
    }
}

/// A command on one key.
pub(crate) fn named(name: &str, key: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + key.len());
    command.arg(name).arg(key);
    command
}

/// A command on several keys.
pub(crate) fn on_all<'a>(name: &str, keys: impl IntoIterator<Item = &'a [u8]>) -> Cmd {
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

/// For Redis, which refuses what is not positive and what leaves the range of its clock.
fn milliseconds(ttl: Duration) -> i64 {
    let up = ttl.as_nanos().div_ceil(1_000_000);
    i64::try_from(up).unwrap_or(i64::MAX).clamp(1, i64::MAX / 2)
}

/// The largest value that Redis takes, as it comes.
const LARGEST: usize = 512 * 1024 * 1024;

/// The bytes of an entry.
pub(crate) fn bytes(entry: Entry) -> Result<Vec<u8>> {
    match entry.payload {
        Payload::Bytes(bytes) if bytes.len() <= LARGEST => Ok(bytes),
        Payload::Bytes(bytes) => Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "Redis holds values of up to 512 MiB; this one has {} bytes",
                bytes.len()
            ),
        )),
        Payload::Object(_) => Err(Error::new(
            ErrorKind::Unsupported,
            "Redis keeps bytes, not objects",
        )),
    }
}

// Answers. An error that stands for the whole request was taken out before.

pub(crate) fn entry(answer: Value) -> Result<Option<Entry>, Failure> {
    Ok(value(answer)?.map(Entry::bytes))
}

pub(crate) fn value(answer: Value) -> Result<Option<Vec<u8>>, Failure> {
    match answer {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::Nil => Ok(None),
        other => Err(refused(other)),
    }
}

pub(crate) fn values(answer: Value) -> Result<Vec<Value>, Failure> {
    match answer {
        Value::Array(values) => Ok(values),
        other => Err(refused(other)),
    }
}

pub(crate) fn integer(answer: Value) -> Result<i64, Failure> {
    match answer {
        Value::Int(integer) => Ok(integer),
        other => Err(refused(other)),
    }
}

/// Whether it was done: what SET answers, with and without NX.
pub(crate) fn done(answer: Value) -> Result<bool, Failure> {
    match answer {
        Value::Okay => Ok(true),
        Value::Nil => Ok(false),
        other => Err(refused(other)),
    }
}

/// The answer to the last of several commands.
pub(crate) fn last(answer: Value) -> Result<Value, Failure> {
    match answer {
        Value::Array(mut answers) => match answers.pop() {
            Some(Value::ServerError(error)) => Err(Failure::Redis(error.into())),
            Some(last) => Ok(last),
            None => Err(Failure::unexpected()),
        },
        single => Ok(single),
    }
}

fn refused(answer: Value) -> Failure {
    match answer {
        Value::ServerError(error) => Failure::Redis(error.into()),
        _ => Failure::unexpected(),
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
