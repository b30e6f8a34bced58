//! Requests that are sent together. Nothing here does I/O.

use std::borrow::Cow;

use redis::{Arg, Cmd, RedisResult, Value, cmd};
use tokio::sync::oneshot;

use crate::commands::Commands;
use crate::limiter::Reservation;
use crate::request::{Request, on_key};
use crate::tracking::caching;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum BatchKind {
    /// Gets, joined into one MGET.
    Gets,
    /// Gets, joined into one MGET, and a PTTL for each of them.
    GetsWithTtls,
    /// Other commands, one after another in one write.
    Commands,
}

pub(crate) type ReplySender = oneshot::Sender<RedisResult<Value>>;
pub(crate) type ReplyReceiver = oneshot::Receiver<RedisResult<Value>>;

pub(crate) struct Batch {
    kind: BatchKind,
    content: BatchContent,
    /// Ends the claims on the keys that its commands write, before them.
    end_claims: Option<Cmd>,
    /// Whether commands that end claims are among the others, because keys are not joined.
    has_ends_of_claims: bool,
    pub(crate) senders: Vec<ReplySender>,
    /// The reservations of those requests that had to wait for their turn.
    pub(crate) turns: Vec<Reservation>,
}

enum BatchContent {
    Mget(Cmd),
    Commands(Vec<Cmd>),
}

/// A request that can be part of a batch.
#[derive(Clone, Copy)]
pub(crate) enum BatchItem<'a> {
    /// Gets the value of a key.
    Get(&'a str),
    /// Gets the value of a key, and what is left of its TTL.
    GetWithTtl(&'a str),
    /// An idempotent command, the claim that ends before it, and the request that consists of them.
    Command {
        command: &'a Cmd,
        claim: Option<&'a str>,
        request: &'a Request,
    },
}

impl Batch {
    /// Creates an empty batch with room for `capacity` requests of the size of `item`.
    pub(crate) fn new(kind: BatchKind, capacity: usize, item: BatchItem<'_>) -> Self {
        let content = match (kind, item) {
            (BatchKind::Gets, BatchItem::Get(key))
            | (BatchKind::GetsWithTtls, BatchItem::GetWithTtl(key)) => {
                let mut mget = Cmd::with_capacity(capacity + 1, capacity * key.len() + 4);
                mget.arg("MGET");
                BatchContent::Mget(mget)
            }
            _ => BatchContent::Commands(Vec::with_capacity(capacity)),
        };
        Self {
            kind,
            content,
            end_claims: None,
            has_ends_of_claims: false,
            senders: Vec::with_capacity(capacity),
            turns: Vec::new(),
        }
    }

    pub(crate) fn add(
        &mut self,
        item: BatchItem<'_>,
        sender: ReplySender,
        turn: Option<Reservation>,
        joins_keys: bool,
    ) {
        match (&mut self.content, item) {
            (BatchContent::Mget(mget), BatchItem::Get(key))
            | (BatchContent::Mget(mget), BatchItem::GetWithTtl(key)) => {
                mget.arg(key);
            }
            (BatchContent::Commands(commands), BatchItem::Command { command, claim, .. }) => {
                match claim {
                    Some(claim) if joins_keys => {
                        let end_claims = self.end_claims.get_or_insert_with(|| cmd("UNLINK"));
                        end_claims.arg(claim);
                    }
                    Some(claim) => {
                        commands.push(on_key("UNLINK", claim));
                        self.has_ends_of_claims = true;
                    }
                    None => {}
                }
                commands.push(command.clone());
            }
            (BatchContent::Commands(commands), BatchItem::Get(key)) => {
                commands.push(on_key("GET", key));
            }
            _ => {}
        }
        self.senders.push(sender);
        self.turns.extend(turn);
    }

    /// Takes what to send.
    pub(crate) fn take_commands(&mut self, is_tracked: bool) -> Commands {
        match &mut self.content {
            BatchContent::Mget(mget) if self.kind == BatchKind::GetsWithTtls => {
                let ttls = mget.args_iter().skip(1).filter_map(|key| match key {
                    Arg::Simple(key) => Some(cmd("PTTL").arg(key).clone()),
                    _ => None,
                });
                let ttls: Vec<_> = ttls.collect();
                let tracking = is_tracked.then(caching);
                let mget = std::mem::take(mget);
                Commands::many(tracking.into_iter().chain([mget]).chain(ttls))
            }
            BatchContent::Mget(mget) => Commands::one(std::mem::take(mget)),
            BatchContent::Commands(commands) => {
                let commands = std::mem::take(commands);
                match self.end_claims.take() {
                    Some(end_claims) => Commands::writes([end_claims].into_iter().chain(commands)),
                    None if self.has_ends_of_claims => Commands::writes(commands),
                    None => Commands::many(commands),
                }
            }
        }
    }

    /// Returns whether a caller was cancelled whose command must then not be sent. For gets it does
    /// not matter.
    pub(crate) fn has_cancelled(&self) -> bool {
        self.kind == BatchKind::Commands && self.senders.iter().any(oneshot::Sender::is_closed)
    }

    /// Removes the commands of cancelled callers.
    pub(crate) fn remove_cancelled(&mut self, commands: &Commands) -> Commands {
        let mut remaining = Vec::with_capacity(self.senders.len());
        let mut senders = Vec::with_capacity(self.senders.len());
        let mut all = self.senders.drain(..);
        for command in commands.iter() {
            // To end a claim without need is harmless.
            if commands.is_end_of_claims(command) {
                remaining.push(command.clone());
            } else if let Some(sender) = all.next()
                && !sender.is_closed()
            {
                remaining.push(command.clone());
                senders.push(sender);
            }
        }
        drop(all);
        self.senders = senders;
        Commands::writes(remaining)
    }
}

impl BatchKind {
    /// Returns the replies to the requests of a batch, out of the reply to its commands.
    pub(crate) fn divide(self, reply: Value, requests: usize) -> RedisResult<Value> {
        match (self, reply) {
            (Self::GetsWithTtls, Value::Array(replies)) => {
                let mut replies = replies.into_iter();
                let tracking = (replies.len() == requests + 2).then(|| replies.next());
                let values = match replies.next() {
                    Some(Value::Array(values)) => values,
                    Some(Value::ServerError(error)) => return Err(error.into()),
                    _ => Vec::new(),
                };
                let pairs = values.into_iter().zip(replies);
                let pairs = pairs.map(|(value, ttl)| {
                    let tracking = tracking.iter().flatten().cloned();
                    Value::Array(tracking.chain([value, ttl]).collect())
                });
                Ok(Value::Array(pairs.collect()))
            }
            (_, reply) => Ok(reply),
        }
    }
}

impl<'a> BatchItem<'a> {
    pub(crate) fn kind(self) -> BatchKind {
        match self {
            Self::Get(_) => BatchKind::Gets,
            Self::GetWithTtl(_) => BatchKind::GetsWithTtls,
            Self::Command { .. } => BatchKind::Commands,
        }
    }

    /// Returns the request. `is_tracked` tells whether the server can tell of changes of its key; only a get for
    /// L1 needs it.
    pub(crate) fn request(self, is_tracked: impl FnOnce() -> bool) -> Cow<'a, Request> {
        match self {
            Self::Get(key) => Cow::Owned(Request::one(on_key("GET", key))),
            Self::GetWithTtl(key) => Cow::Owned(Request::get_with_ttls([vec![key]], is_tracked())),
            Self::Command { request, .. } => Cow::Borrowed(request),
        }
    }

    /// Returns how much work the request is for the server, about.
    pub(crate) fn weight(self) -> usize {
        match self {
            Self::Get(_) => 1,
            Self::GetWithTtl(_) => 2,
            Self::Command { request, .. } => request.weight(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim_key::claim_key;

    #[test]
    fn commands_of_cancelled_callers_are_removed() {
        let requests =
            ["first", "second"].map(|key| Request::write(claim_key(key), on_key("UNLINK", key)));
        let [first, second] = requests.each_ref().map(|request| {
            let (command, claim) = request.single().unwrap();
            BatchItem::Command {
                command,
                claim,
                request,
            }
        });
        let mut batch = Batch::new(BatchKind::Commands, 2, first);
        let (sender, cancelled) = oneshot::channel();
        batch.add(first, sender, None, true);
        let (sender, _waiting) = oneshot::channel();
        batch.add(second, sender, None, true);
        assert!(!batch.has_cancelled());
        drop(cancelled);
        assert!(batch.has_cancelled());
        let commands = batch.take_commands(false);
        assert_eq!(commands.iter().count(), 3);
        let remaining = batch.remove_cancelled(&commands);
        let mut claims = on_key("UNLINK", &claim_key("first"));
        claims.arg(claim_key("second"));
        let expected = [claims, on_key("UNLINK", "second")];
        let packed = |command: &Cmd| command.get_packed_command();
        let remaining: Vec<_> = remaining.iter().map(packed).collect();
        assert_eq!(remaining, expected.each_ref().map(packed));
        assert_eq!(batch.senders.len(), 1);
    }
}
