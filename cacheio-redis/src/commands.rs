//! The commands of a request, and which replies can answer them.
//!
//! Redis' replies do not say which command they answer: their order alone tells. If a proxy loses
//! one, every later reply answers another command than the one it is taken for. So each request
//! ends with a PING whose unique argument the server returns: a reply that is missing, or one too
//! many, is noticed before a caller sees a value. Servers that do not return the argument get no
//! PING; for them, only the kinds of the replies are checked.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Arg, Cmd, Pipeline, RedisResult, ServerError, Value, cmd};

use crate::claim_key::is_claim_key;
use crate::failure::reply_mismatch;

/// One or several commands, and the PING that ends them.
#[derive(Clone)]
pub(crate) struct Commands {
    pipeline: Pipeline,
    mark: u64,
    shape: Shape,
    /// Whether commands that end claims are among them. Their replies do not count.
    ends_claims: bool,
}

/// What the reply is made of.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// The reply to the only command.
    One,
    /// The array of the replies.
    Many,
    /// The array of the replies to the commands between MULTI and EXEC, with this number of commands
    /// before MULTI.
    Atomic(usize),
}

impl Commands {
    pub(crate) fn one(command: Cmd) -> Self {
        Self::new(Shape::One, [command])
    }

    /// A command that writes a key, after one that ends the claims on it.
    pub(crate) fn write(end_claims: Cmd, command: Cmd) -> Self {
        Self {
            ends_claims: true,
            ..Self::new(Shape::One, [end_claims, command])
        }
    }

    /// Commands that write keys, and commands that end the claims on them. Only the former have replies.
    pub(crate) fn writes(commands: impl IntoIterator<Item = Cmd>) -> Self {
        Self {
            ends_claims: true,
            ..Self::many(commands)
        }
    }

    pub(crate) fn many(commands: impl IntoIterator<Item = Cmd>) -> Self {
        Self::new(Shape::Many, commands)
    }

    /// Puts the commands between MULTI and EXEC. If the server refuses these two, for example for
    /// want of a permission, it executes the commands one after another.
    pub(crate) fn atomic(commands: impl IntoIterator<Item = Cmd>) -> Self {
        let commands = commands.into_iter();
        let transaction = [cmd("MULTI")].into_iter().chain(commands);
        Self::new(Shape::Atomic(0), transaction.chain([cmd("EXEC")]))
    }

    /// Does the same after a command that ends claims.
    pub(crate) fn atomic_write(end_claims: Cmd, commands: impl IntoIterator<Item = Cmd>) -> Self {
        let transaction = Self::atomic(commands);
        let commands = transaction.iter().cloned();
        Self::new(Shape::Atomic(1), [end_claims].into_iter().chain(commands))
    }

    fn new(shape: Shape, commands: impl IntoIterator<Item = Cmd>) -> Self {
        let commands = commands.into_iter();
        let mut pipeline = Pipeline::with_capacity(commands.size_hint().0 + 1);
        for command in commands {
            pipeline.add_command(command);
        }
        let mark = new_mark();
        pipeline.add_command(echo(mark));
        Self {
            pipeline,
            mark,
            shape,
            ends_claims: false,
        }
    }

    /// Returns how much work the commands are for the server, about: the number of their arguments.
    pub(crate) fn weight(&self) -> usize {
        self.iter().map(weight).sum()
    }

    /// Returns whether a command of these ends claims.
    pub(crate) fn is_end_of_claims(&self, command: &Cmd) -> bool {
        self.ends_claims && is_end_of_claims(command)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Cmd> {
        self.pipeline.cmd_iter().take(self.pipeline.len() - 1)
    }

    /// Prefixes the commands with ASKING; that of a transaction holds until its end.
    pub(crate) fn asking(&self) -> Self {
        let asking = || cmd("ASKING");
        match self.shape {
            Shape::Atomic(before) => {
                let commands = self.iter().enumerate().flat_map(|(at, command)| {
                    let asking = (at <= before).then(asking);
                    asking.into_iter().chain([command.clone()])
                });
                Self::new(Shape::Atomic(2 * before + 1), commands)
            }
            _ => Self::many(self.iter().flat_map(|command| [asking(), command.clone()])),
        }
    }

    /// Returns what to send to a server, and how many replies it gives.
    pub(crate) fn with_mark(&self) -> (&Pipeline, usize) {
        (&self.pipeline, self.pipeline.len())
    }

    /// Returns what to send to a server that does not return the argument of PING.
    pub(crate) fn without_mark(&self) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(self.pipeline.len());
        for command in self.iter() {
            pipeline.add_command(command.clone());
        }
        pipeline
    }

    /// Returns the reply of the request, out of the replies to its commands. If one of them cannot
    /// be the answer to its command, the connection's replies are out of step.
    pub(crate) fn reply(&self, mut replies: Vec<Value>, marked: bool) -> RedisResult<Value> {
        let in_step = !marked || replies.pop().is_some_and(|mark| is_echo(&mark, self.mark));
        if !in_step || replies.is_empty() {
            return Err(reply_mismatch());
        }
        if let Shape::Atomic(before) = self.shape {
            return match replies.len() > before {
                true => self.transaction_reply(replies.split_off(before), before),
                false => Err(reply_mismatch()),
            };
        }
        if !answer_all(self.iter(), &replies) {
            return Err(reply_mismatch());
        }
        match self.shape {
            Shape::One => match replies.pop() {
                Some(Value::ServerError(error)) => Err(error.into()),
                Some(reply) => Ok(reply),
                None => Err(reply_mismatch()),
            },
            _ if self.ends_claims => {
                let mut commands = self.iter();
                replies.retain(|_| {
                    commands
                        .next()
                        .is_some_and(|command| !is_end_of_claims(command))
                });
                Ok(Value::Array(replies))
            }
            _ => Ok(Value::Array(replies)),
        }
    }

    /// Returns the reply of a transaction that follows `before` other commands.
    fn transaction_reply(&self, mut replies: Vec<Value>, before: usize) -> RedisResult<Value> {
        // All but MULTI, EXEC and PING.
        let count = self.pipeline.len() - before - 3;
        let commands = || self.iter().skip(before + 1).take(count);
        if replies.len() != count + 2 {
            return Err(reply_mismatch());
        }
        let executed = replies.pop().unwrap_or(Value::Nil);
        let begun = replies.remove(0);
        match (begun, executed) {
            // Executed one after another.
            (Value::ServerError(_), Value::ServerError(_)) if answer_all(commands(), &replies) => {
                match replies.iter().find_map(as_error) {
                    Some(error) => Err(error.clone().into()),
                    None => Ok(Value::Array(replies)),
                }
            }
            (Value::Okay, Value::Array(replies)) if answer_all(commands(), &replies) => {
                Ok(Value::Array(replies))
            }
            // Aborted: the first command that Redis refused tells the cause.
            (Value::Okay, Value::ServerError(error)) => {
                let cause = replies.iter().find_map(as_error).cloned();
                Err(cause.unwrap_or(error).into())
            }
            _ => Err(reply_mismatch()),
        }
    }
}

/// Returns how much work a command is for the server, about: the number of its arguments.
pub(crate) fn weight(command: &Cmd) -> usize {
    command.args_iter().len().saturating_sub(1).max(1)
}

/// Returns a PING whose argument the server returns.
pub(crate) fn echo(mark: u64) -> Cmd {
    let mut echo = Cmd::with_capacity(2, 24);
    echo.arg("PING").arg(mark);
    echo
}

/// Returns whether a reply is that to [`echo`].
pub(crate) fn is_echo(reply: &Value, mark: u64) -> bool {
    let Value::BulkString(bytes) = reply else {
        return false;
    };
    let text = std::str::from_utf8(bytes);
    text.is_ok_and(|text| text.parse() == Ok(mark))
}

/// Returns a number that no other request of this process has. It begins anywhere, so that it is
/// no value of a key.
pub(crate) fn new_mark() -> u64 {
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().build_hasher().finish()));
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn as_error(reply: &Value) -> Option<&ServerError> {
    match reply {
        Value::ServerError(error) => Some(error),
        _ => None,
    }
}

/// Returns whether a command removes claims. No key of a user looks like a claim.
fn is_end_of_claims(command: &Cmd) -> bool {
    let mut arguments = command.args_iter();
    arguments.next() == Some(Arg::Simple(b"UNLINK"))
        && matches!(arguments.next(), Some(Arg::Simple(key)) if is_claim_key(key))
}

fn answer_all<'a>(mut commands: impl Iterator<Item = &'a Cmd>, replies: &[Value]) -> bool {
    let mut replies = replies.iter();
    commands.all(|command| replies.next().is_some_and(|reply| answers(command, reply)))
        && replies.next().is_none()
}

/// Returns whether a reply can be that to a command, as far as its kind tells.
fn answers(command: &Cmd, reply: &Value) -> bool {
    if matches!(reply, Value::ServerError(_)) {
        return true;
    }
    let mut arguments = command.args_iter();
    let Some(Arg::Simple(name)) = arguments.next() else {
        return true;
    };
    match name {
        b"GET" | b"GETDEL" => is_value(reply),
        b"MGET" => matches!(
            reply,
            Value::Array(values) if values.len() == arguments.len() && values.iter().all(is_value)
        ),
        b"SET" => matches!(reply, Value::Okay | Value::Nil),
        b"MSET" | b"ASKING" | b"MULTI" => matches!(reply, Value::Okay),
        b"UNLINK" | b"EXISTS" | b"INCRBY" | b"PERSIST" | b"PEXPIRE" | b"PTTL" => {
            matches!(reply, Value::Int(_))
        }
        b"SCAN" => matches!(reply, Value::Array(parts) if parts.len() == 2),
        b"CLUSTER" if arguments.next() == Some(Arg::Simple(b"SLOTS")) => {
            matches!(reply, Value::Array(_))
        }
        _ => true,
    }
}

fn is_value(reply: &Value) -> bool {
    matches!(
        reply,
        Value::BulkString(_) | Value::Nil | Value::ServerError(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{on_key, on_keys, set};

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn refused() -> Value {
        let refused = redis::parse_redis_value(b"-NOPERM no permission\r\n");
        refused.unwrap()
    }

    fn mark(commands: &Commands) -> Value {
        text(&commands.mark.to_string())
    }

    #[test]
    fn a_reply_must_be_of_the_kind_of_its_command() {
        let get = || on_key("GET", "k");
        let mget = || on_keys("MGET", ["a", "b"]);
        let pair = |values: &[&str]| Value::Array(values.iter().map(|one| text(one)).collect());
        for (command, reply, right) in [
            (get(), text("v"), true),
            (get(), Value::Nil, true),
            (get(), refused(), true),
            (get(), Value::Int(1), false),
            (get(), Value::Okay, false),
            (get(), pair(&["v"]), false),
            (mget(), pair(&["v", "w"]), true),
            (mget(), pair(&["v"]), false),
            (mget(), pair(&["v", "w", "x"]), false),
            (mget(), text("v"), false),
            (mget(), Value::Array(vec![Value::Int(1), Value::Nil]), false),
            (set("k", b"v", None), Value::Okay, true),
            (set("k", b"v", None), text("v"), false),
            (on_key("UNLINK", "k"), Value::Int(1), true),
            (on_key("UNLINK", "k"), Value::Okay, false),
        ] {
            let commands = Commands::one(command);
            let replies = vec![reply.clone(), mark(&commands)];
            match commands.reply(replies, true) {
                Err(error) if error.is_io_error() => assert!(!right, "{reply:?}"),
                _ => assert!(right, "{reply:?}"),
            }
        }
    }

    #[test]
    fn a_lost_reply_is_noticed() {
        let get = || Commands::one(on_key("GET", "k"));
        let (first, second) = (get(), get());
        assert!(first.reply(vec![mark(&first), text("v")], true).is_err());
        assert!(first.reply(vec![text("v"), mark(&second)], true).is_err());
        assert!(first.reply(vec![text("v"), mark(&first)], true).is_ok());
        assert!(first.reply(vec![text("v")], false).is_ok());
    }

    #[test]
    fn a_transaction_that_is_refused_is_executed_command_by_command() {
        let commands = || Commands::atomic([on_key("PERSIST", "k"), on_key("EXISTS", "k")]);
        let queued = || Value::SimpleString("QUEUED".into());
        let counts = || Value::Array(vec![Value::Int(0), Value::Int(1)]);
        let reply = |replies: Vec<Value>| commands().reply(replies, false);
        let executed = reply(vec![Value::Okay, queued(), queued(), counts()]);
        assert_eq!(executed.unwrap(), counts());
        let one_by_one = reply(vec![refused(), Value::Int(0), Value::Int(1), refused()]);
        assert_eq!(one_by_one.unwrap(), counts());
        let aborted = reply(vec![Value::Okay, refused(), queued(), refused()]);
        assert_eq!(aborted.unwrap_err().code(), Some("NOPERM"));
        let shifted = reply(vec![text("v"), Value::Okay, queued(), queued()]);
        assert!(shifted.unwrap_err().is_io_error());
    }
}
