//! Decides which requests are sent directly and which wait for a batch. Nothing here does I/O.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::{Arg, Cmd, RedisResult, Value, cmd};
use tokio::runtime::Id;
use tokio::sync::oneshot;

use crate::commands::Commands;
use crate::limiter::Reservation;
use crate::request::{Request, on_key};
use crate::tracking::caching;

/// How many requests are sent directly at the same time.
const MAX_DIRECT: usize = 4;
/// How many requests and batches are in flight at the same time, unless a batch waits too long.
const MAX_IN_FLIGHT: usize = 8;
/// The smallest batch that is sent while others are in flight.
const MIN_BATCH: usize = 4;
/// With many requests in flight, a batch is sent when it has one in `BATCH_FRACTION` of their number.
const BATCH_FRACTION: usize = 3;
/// The largest batch.
const MAX_BATCH: usize = 512;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum BatchKind {
    /// Gets, joined into one MGET.
    Gets,
    /// Gets, joined into one MGET, and a PTTL for each of them.
    GetsWithTtls,
    /// Other commands, one after another in one write.
    Commands,
}

/// The requests of one kind on one connection: a queue for each runtime whose callers use it.
pub(crate) struct BatchQueues {
    pub(crate) kind: BatchKind,
    /// Whether one command may name keys of several requests.
    joins_keys: bool,
    queues: Mutex<Vec<Queue>>,
}

/// The requests of the callers on one runtime. It exists while any of them is in flight, or its
/// flush timer runs. Callers on a runtime that stands still do not delay those on others.
pub(crate) struct Queue {
    /// None for the callers outside of tokio.
    runtime: Option<Id>,
    /// Requests sent directly, and batches.
    sends_in_flight: usize,
    requests_in_flight: usize,
    waiting: Option<Batch>,
    batches_begun: usize,
    /// Whether the flush timer runs.
    has_timer: bool,
}

pub(crate) type ReplySender = oneshot::Sender<RedisResult<Value>>;
pub(crate) type ReplyReceiver = oneshot::Receiver<RedisResult<Value>>;

pub(crate) struct Batch {
    content: BatchContent,
    /// Ends the claims on the keys that its commands write, before them.
    end_claims: Option<Cmd>,
    /// Whether commands that end claims are among the others, because keys are not joined.
    has_ends_of_claims: bool,
    /// Whether a PTTL for each key follows the MGET.
    reads_ttls: bool,
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

pub(crate) enum Admission {
    /// The caller sends the request itself.
    Direct(Option<Reservation>),
    /// The request waits for a batch.
    Queued {
        reply: ReplyReceiver,
        /// A batch that this request made large enough: the caller has it sent.
        ready: Option<Batch>,
        /// Whether the caller has to start the flush timer.
        start_timer: bool,
    },
}

impl BatchQueues {
    pub(crate) fn new(kind: BatchKind, joins_keys: bool) -> Self {
        Self {
            kind,
            joins_keys,
            queues: Mutex::default(),
        }
    }

    /// Admits a request of a caller on `runtime`.
    pub(crate) fn admit(
        &self,
        item: BatchItem<'_>,
        turn: Option<Reservation>,
        runtime: Option<Id>,
    ) -> Admission {
        let mut queues = self.lock();
        let Some(queue) = queues.iter_mut().find(|queue| queue.runtime == runtime) else {
            queues.push(Queue::with_one_in_flight(runtime));
            return Admission::Direct(turn);
        };
        if queue.sends_in_flight < MAX_DIRECT && queue.waiting.is_none() {
            queue.count_sent(1);
            return Admission::Direct(turn);
        }
        let (sender, reply) = oneshot::channel();
        let average = queue.requests_in_flight / queue.sends_in_flight;
        queue
            .waiting
            .get_or_insert_with(|| {
                queue.batches_begun += 1;
                Batch::new(self.kind, average.max(MIN_BATCH), item)
            })
            .add(item, sender, turn, self.joins_keys);
        let ready = queue.take_if_ready();
        let start_timer = !std::mem::replace(&mut queue.has_timer, true);
        Admission::Queued {
            reply,
            ready,
            start_timer,
        }
    }

    /// Counts a request or batch of `requests` as finished. Returns the batch to send next.
    pub(crate) fn finish(&self, runtime: Option<Id>, requests: usize) -> Option<Batch> {
        let mut queues = self.lock();
        let at = queues.iter().position(|queue| queue.runtime == runtime)?;
        let queue = &mut queues[at];
        queue.sends_in_flight -= 1;
        queue.requests_in_flight -= requests;
        let batch = queue.take_if_ready();
        remove_if_unused(&mut queues, at);
        batch
    }

    /// Returns the batch that already waited at the previous call, which left its mark in `seen`.
    /// Breaks when no batch was begun since then, so that the flush timer stops.
    pub(crate) fn take_overdue(
        &self,
        runtime: Option<Id>,
        seen: &mut usize,
    ) -> ControlFlow<(), Option<Batch>> {
        let mut queues = self.lock();
        let Some(at) = queues.iter().position(|queue| queue.runtime == runtime) else {
            return ControlFlow::Break(());
        };
        let queue = &mut queues[at];
        if std::mem::replace(seen, queue.batches_begun) != queue.batches_begun {
            return ControlFlow::Continue(None);
        }
        match queue.take() {
            None => {
                queue.has_timer = false;
                remove_if_unused(&mut queues, at);
                ControlFlow::Break(())
            }
            batch => ControlFlow::Continue(batch),
        }
    }

    /// Locks all queues of this kind.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a queue without requests and without a timer.
fn remove_if_unused(queues: &mut Vec<Queue>, at: usize) {
    let queue = &queues[at];
    if queue.sends_in_flight == 0 && queue.waiting.is_none() && !queue.has_timer {
        queues.swap_remove(at);
    }
}

impl Queue {
    fn with_one_in_flight(runtime: Option<Id>) -> Self {
        Self {
            runtime,
            sends_in_flight: 1,
            requests_in_flight: 1,
            waiting: None,
            batches_begun: 0,
            has_timer: false,
        }
    }

    /// Takes the waiting batch if it is large enough to be sent now.
    fn take_if_ready(&mut self) -> Option<Batch> {
        let waiting = self.waiting.as_ref()?.senders.len();
        let enough = (self.requests_in_flight / BATCH_FRACTION).max(MIN_BATCH);
        let ready = waiting >= enough && self.sends_in_flight < MAX_IN_FLIGHT;
        if ready || self.sends_in_flight == 0 || waiting == MAX_BATCH {
            self.take()
        } else {
            None
        }
    }

    /// Takes the waiting batch, and counts it as in flight.
    fn take(&mut self) -> Option<Batch> {
        let batch = self.waiting.take()?;
        self.count_sent(batch.senders.len());
        Some(batch)
    }

    fn count_sent(&mut self, requests: usize) {
        self.sends_in_flight += 1;
        self.requests_in_flight += requests;
    }
}

impl Batch {
    /// Creates an empty batch with room for `capacity` requests of the size of `item`.
    fn new(kind: BatchKind, capacity: usize, item: BatchItem<'_>) -> Self {
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
            content,
            end_claims: None,
            has_ends_of_claims: false,
            reads_ttls: kind == BatchKind::GetsWithTtls,
            senders: Vec::with_capacity(capacity),
            turns: Vec::new(),
        }
    }

    fn add(
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
            BatchContent::Mget(mget) if self.reads_ttls => {
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
    pub(crate) fn has_cancelled(&self, kind: BatchKind) -> bool {
        kind == BatchKind::Commands && self.senders.iter().any(oneshot::Sender::is_closed)
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

    /// Returns the request. `is_tracked` tells whether the server can tell of changes of its key.
    pub(crate) fn request(self, is_tracked: bool) -> Cow<'a, Request> {
        match self {
            Self::Get(key) => Cow::Owned(Request::one(on_key("GET", key))),
            Self::GetWithTtl(key) => Cow::Owned(Request::get_with_ttls(&[key], is_tracked)),
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

    /// Admits a get that must wait; returns its receiver and the batch that it completed.
    fn queued(queues: &BatchQueues) -> (ReplyReceiver, Option<Batch>) {
        match queues.admit(BatchItem::Get("key"), None, None) {
            Admission::Queued { reply, ready, .. } => (reply, ready),
            Admission::Direct(_) => panic!("sent directly"),
        }
    }

    /// Admits as many gets as are sent directly.
    fn fill(queues: &BatchQueues, runtime: Option<Id>) {
        for _ in 0..MAX_DIRECT {
            let admission = queues.admit(BatchItem::Get("key"), None, runtime);
            assert!(matches!(admission, Admission::Direct(_)));
        }
    }

    #[test]
    fn a_batch_is_ready_when_enough_requests_wait() {
        let queues = BatchQueues::new(BatchKind::Gets, true);
        fill(&queues, None);
        for _ in 1..MIN_BATCH {
            assert!(queued(&queues).1.is_none());
        }
        let mut batch = queued(&queues).1.unwrap();
        assert_eq!(batch.senders.len(), MIN_BATCH);
        let commands = batch.take_commands(false);
        assert_eq!(commands.iter().next().unwrap().args_iter().count(), 5);
    }

    #[test]
    fn a_small_batch_is_sent_when_nothing_is_in_flight() {
        let queues = BatchQueues::new(BatchKind::Gets, true);
        fill(&queues, None);
        let _reply = queued(&queues);
        for _ in 1..MAX_DIRECT {
            assert!(queues.finish(None, 1).is_none());
        }
        let batch = queues.finish(None, 1).unwrap();
        assert_eq!(batch.senders.len(), 1);
    }

    #[test]
    fn a_batch_is_overdue_at_the_second_tick_of_the_timer() {
        let queues = BatchQueues::new(BatchKind::Gets, true);
        fill(&queues, None);
        let _reply = queued(&queues);
        let mut seen = 0;
        let first = queues.take_overdue(None, &mut seen);
        assert!(matches!(first, ControlFlow::Continue(None)));
        let second = queues.take_overdue(None, &mut seen);
        assert!(matches!(second, ControlFlow::Continue(Some(_))));
        let third = queues.take_overdue(None, &mut seen);
        assert!(third.is_break(), "no batch waits");
    }

    #[test]
    fn runtimes_do_not_share_batches() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let queues = BatchQueues::new(BatchKind::Gets, true);
        fill(&queues, Some(runtime.handle().id()));
        fill(&queues, None);
    }

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
        assert!(!batch.has_cancelled(BatchKind::Commands));
        drop(cancelled);
        assert!(batch.has_cancelled(BatchKind::Commands));
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
