//! Sends requests that wait at the same time as one batch.
//!
//! If there are few requests, each is sent directly. Otherwise a request waits for others; then they are
//! sent together, gets as one MGET and other commands in one write. A batch costs the server, both kernels
//! and the connection's task about as much as a few single requests. `queue.rs` decides for how many a
//! request waits; this file does the I/O.
//!
//! - Order: a batch is built before it is sent, so a get sees every write that completed before it.
//!   A write whose caller was cancelled is either on the connection before that caller's next
//!   request, or never sent: a cancelled write does not overwrite a later one.
//! - Runtimes: only callers on one runtime share batches, because requests that are not polled
//!   count as in flight. Their batches are sent on the runtime of the connection if that is theirs,
//!   and otherwise, as the overdue timers, on the shared one.
//! - Large answers: gets are sent one by one while the answers are large on average. A batch of them
//!   would give its first caller nothing before the last answer has come.

use std::fmt;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use cacheio_core::__private::{runtime, within};
use cacheio_core::{Entry, Server};
use redis::{RedisError, RedisResult, Value};
use tokio::runtime::{Handle, Id};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::answer_size::AnswerSize;
use crate::batch::{Batch, BatchItem, BatchKind};
use crate::connection::{Call, Connection};
use crate::failure::{Failure, breaks_connection, is_from_replica};
use crate::limiter::Reservation;
use crate::live_connection::LiveConnection;
use crate::queue::{Admission, BatchQueues, NextStep};
use crate::reply::{entry_with_ttl, value, values, without_tracking};
use crate::request::{Request, length};

/// The largest command in a batch: a larger one costs more than a batch saves, and delays the
/// others.
const MAX_COMMAND_BYTES: usize = 16 * 1024;
/// How long a request waits for a batch. The requests in flight may not be polled, or the server
/// may be far away.
const MAX_WAIT: Duration = Duration::from_millis(5);
/// By how much a request's deadline may be earlier than its batch's before it needs a timer of its
/// own.
const DEADLINE_SLACK: Duration = Duration::from_millis(10);

/// Sends requests on one connection, directly or in batches.
pub(crate) struct Batcher {
    connection: Arc<Connection>,
    /// None if gets cannot be joined into an MGET; they are commands like others then.
    gets: Option<BatchQueues>,
    /// Not used with a cluster.
    gets_with_ttls: BatchQueues,
    commands: BatchQueues,
    answer_size: AnswerSize,
}

impl Batcher {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection: Arc::new(connection),
            gets: Some(BatchQueues::new(BatchKind::Gets, true)),
            gets_with_ttls: BatchQueues::new(BatchKind::GetsWithTtls, true),
            commands: BatchQueues::new(BatchKind::Commands, true),
            answer_size: AnswerSize::default(),
        }
    }

    /// Creates one for a node of a cluster, where a command must not name keys of two slots.
    pub(crate) fn without_mget(connection: Connection) -> Self {
        Self {
            gets: None,
            commands: BatchQueues::new(BatchKind::Commands, false),
            ..Self::new(connection)
        }
    }

    /// Returns the name of the server in errors and logs.
    pub(crate) fn name(&self) -> &str {
        self.connection.name()
    }

    /// Returns whether the server tells of changes of what is read.
    pub(crate) fn is_tracked(&self) -> bool {
        self.connection.is_tracked()
    }

    /// Returns whether there must be no copies of what is read: another server may have taken the place of this one.
    pub(crate) fn is_refused(&self) -> bool {
        self.connection.is_refused()
    }

    /// Returns the server as spans name it.
    pub(crate) fn server(&self) -> Server {
        self.connection.server()
    }

    /// Returns the server's host, or an empty string if it can change.
    pub(crate) fn host(&self) -> String {
        self.connection.host()
    }

    /// Returns the value of a key.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        self.order_after_cancelled();
        let reply = self.send_batched(BatchItem::Get(key), deadline).await?;
        let value = value(reply)?;
        self.answer_size.record(value.as_ref().map_or(0, Vec::len));
        Ok(value)
    }

    /// Returns the entry of a key, with what is left of its TTL.
    pub(crate) async fn get_with_ttl(
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Entry>, Failure> {
        self.order_after_cancelled();
        let reply = self
            .send_batched(BatchItem::GetWithTtl(key), deadline)
            .await?;
        let (is_tracked, mut replies) = without_tracking(values(reply)?, 2);
        let value = replies.next().ok_or_else(Failure::unexpected_reply)?;
        if let Value::BulkString(bytes) = &value {
            self.answer_size.record(bytes.len());
        }
        entry_with_ttl(value, replies.next(), is_tracked)
    }

    /// Sends a request, in a batch if possible, and returns its reply, which is not an error.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        match request.single() {
            Some((command, claim))
                if request.idempotent && length(command) <= MAX_COMMAND_BYTES =>
            {
                let item = BatchItem::Command {
                    command,
                    claim,
                    request,
                };
                self.send_batched(item, deadline).await
            }
            // Boxed, so that the futures of requests in batches stay small.
            _ => Box::pin(self.send_alone(request, deadline)).await,
        }
    }

    /// Sends a request that is not part of a batch.
    async fn send_alone(
        self: &Arc<Self>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let weight = || request.weight();
        let turn = self.connection.turn(weight, deadline).await?;
        self.order_after_cancelled();
        let call = self.connection.admit(deadline)?;
        self.send_directly(call, request, turn, deadline).await
    }

    /// Makes sure that commands whose callers were cancelled are on the connection before the next
    /// request, or are never sent: waits for a batch that is about to be sent ([`Self::send_uncancelled`]).
    fn order_after_cancelled(&self) {
        drop(self.commands.lock());
    }

    async fn send_batched(
        self: &Arc<Self>,
        item: BatchItem<'_>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let handle = Handle::try_current().ok();
        let runtime = handle.as_ref().map(Handle::id);
        let turn = self.connection.turn(|| item.weight(), deadline).await?;
        let call = self.connection.admit(deadline)?;
        if !matches!(item, BatchItem::Command { .. }) && self.answer_size.is_large() {
            return Box::pin(self.send_item(call, item, turn, deadline)).await;
        }
        let queues = self.queues(item.kind());
        let kind = queues.kind;
        let reply = match queues.admit(item, turn, handle.as_ref()) {
            Admission::Direct(turn) => {
                let _in_flight = InFlight::new(self, kind, runtime, 1);
                // Boxed, so that the futures of queued requests stay small.
                return Box::pin(self.send_item(call, item, turn, deadline)).await;
            }
            Admission::Queued {
                reply,
                next,
                start_timer,
            } => {
                self.take_step(kind, next, runtime);
                if start_timer {
                    self.start_timer(kind, runtime)?;
                }
                reply
            }
        };
        // After a redirect this caller's deadline may be earlier than the batch's: enforce it here.
        let is_early = call.time + DEADLINE_SLACK < self.connection.timeout();
        let reply = if is_early || runs_beside(runtime) {
            match Box::pin(within(deadline, reply)).await {
                Some(reply) => reply,
                None => return self.connection.record(call, None),
            }
        } else {
            reply.await
        };
        let error = match reply {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        Box::pin(self.recover(call, item, error, deadline)).await
    }

    /// Handles a request whose batch failed: sends it directly, or returns the error.
    async fn recover(
        &self,
        call: Call,
        item: BatchItem<'_>,
        error: Option<RedisError>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        match error {
            Some(error) if breaks_connection(&error) || is_from_replica(&error) => {
                self.send_item(call, item, None, deadline).await
            }
            Some(error) => self.connection.record(call, Some(Err(error))),
            None if Instant::now() >= deadline => self.connection.record(call, None),
            // The batch has no reply: there was no connection, the server refused it as a whole, or
            // the runtime that sent it has ended. Its requests are idempotent.
            None => self.send_item(call, item, None, deadline).await,
        }
    }

    async fn send_item(
        &self,
        call: Call,
        item: BatchItem<'_>,
        turn: Option<Reservation>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let request = item.request(|| self.connection.is_tracked());
        self.send_directly(call, &request, turn, deadline).await
    }

    async fn send_directly(
        &self,
        call: Call,
        request: &Request,
        turn: Option<Reservation>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let reply = within(deadline, self.connection.send(request, turn)).await;
        self.connection.record(call, reply)
    }

    /// Takes the next step with a waiting batch.
    fn take_step(self: &Arc<Self>, kind: BatchKind, next: NextStep, callers: Option<Id>) {
        match next {
            NextStep::Nothing => {}
            NextStep::Send(batch) => self.dispatch(kind, batch, callers),
            NextStep::Flush(handle) => {
                let flush = Flush {
                    batcher: Arc::clone(self),
                    kind,
                    callers,
                };
                let flush = async move {
                    yield_now().await;
                    drop(flush);
                };
                match handle {
                    Some(runtime) => drop(runtime.spawn(flush)),
                    // If this thread is exiting, the flush ends here.
                    None => {
                        if let Ok(runtime) = runtime() {
                            runtime.spawn(flush);
                        }
                    }
                }
            }
        }
    }

    /// Sends a batch in the background.
    fn dispatch(self: &Arc<Self>, kind: BatchKind, batch: Batch, callers: Option<Id>) {
        let in_flight = InFlight::new(self, kind, callers, batch.senders.len());
        let send = async move { in_flight.batcher.send_batch(kind, batch).await };
        match self.connection.current() {
            // Its callers have no timers of their own: if this runtime is blocked, so are they. Those that
            // are not have one (`runs_beside`).
            Some(live) if Some(live.runtime.id()) == callers => drop(live.runtime.spawn(send)),
            _ => {
                // If this thread is exiting, the callers notice that their senders are dropped.
                if let Ok(runtime) = runtime() {
                    runtime.spawn(send);
                }
            }
        }
    }

    /// Starts the overdue timer: it sends batches that have waited for [`MAX_WAIT`], while there are any.
    fn start_timer(self: &Arc<Self>, kind: BatchKind, callers: Option<Id>) -> Result<(), Failure> {
        let batcher = Arc::clone(self);
        let runtime = runtime().inspect_err(|_| self.queues(kind).without_timer(callers))?;
        runtime.spawn(async move {
            let mut seen = 0;
            loop {
                sleep(MAX_WAIT / 2).await;
                match batcher.queues(kind).take_overdue(callers, &mut seen) {
                    ControlFlow::Continue(Some(batch)) => batcher.dispatch(kind, batch, callers),
                    ControlFlow::Continue(None) => {}
                    ControlFlow::Break(()) => return,
                }
            }
        });
        Ok(())
    }

    /// Sends a batch and distributes the replies. A caller whose sender is dropped without a reply
    /// sends its request directly.
    async fn send_batch(&self, kind: BatchKind, mut batch: Batch) {
        let connection = &self.connection;
        let Some(live) = connection.current() else {
            return;
        };
        let sent = self.send_uncancelled(kind, &live, &mut batch);
        let reply = within(Instant::now() + connection.timeout(), sent).await;
        let senders = batch.senders;
        match reply.map(|reply| reply.and_then(|reply| kind.divide(reply, senders.len()))) {
            Some(Ok(Value::Array(replies))) if replies.len() == senders.len() => {
                if !senders.is_empty() {
                    connection.record_reply();
                }
                for (sender, reply) in senders.into_iter().zip(replies) {
                    // A cancelled caller does not receive its reply.
                    let _ = sender.send(match reply {
                        Value::ServerError(error) => Err(error.into()),
                        reply => Ok(reply),
                    });
                }
            }
            Some(Err(error)) if breaks_connection(&error) => {
                connection.discard(&live);
                for sender in senders {
                    let _ = sender.send(Err(error.clone()));
                }
            }
            // The server refuses a whole batch if it refuses a part of it (ACL, slots).
            Some(Err(_)) => connection.record_reply(),
            // The deadlines of the callers have passed.
            Some(Ok(_)) | None => {}
        }
    }

    /// Sends the commands whose callers were not cancelled.
    async fn send_uncancelled(
        &self,
        kind: BatchKind,
        live: &LiveConnection,
        batch: &mut Batch,
    ) -> RedisResult<Value> {
        let queues = self.queues(kind);
        let mut commands = batch.take_commands(live.is_heard());
        loop {
            {
                let turns = std::mem::take(&mut batch.turns);
                let mut reply = pin!(self.connection.exchange(live, &commands, turns));
                let first_poll = poll_fn(|context| {
                    // The first poll puts the batch on the connection, which has room for it. A
                    // cancelled caller that sends its next request waits for this lock, and so comes
                    // after the batch.
                    let _lock = queues.lock();
                    let poll = (!batch.has_cancelled()).then(|| reply.as_mut().poll(context));
                    Poll::Ready(poll)
                });
                match first_poll.await {
                    Some(Poll::Ready(reply)) => return reply,
                    Some(Poll::Pending) => return reply.await,
                    None => {}
                }
            }
            commands = batch.remove_cancelled(&commands);
            if batch.senders.is_empty() {
                return Ok(Value::Array(Vec::new()));
            }
        }
    }

    fn queues(&self, kind: BatchKind) -> &BatchQueues {
        match (kind, &self.gets) {
            (BatchKind::Gets, Some(gets)) => gets,
            (BatchKind::GetsWithTtls, _) => &self.gets_with_ttls,
            (BatchKind::Gets, None) | (BatchKind::Commands, _) => &self.commands,
        }
    }
}

impl fmt::Debug for Batcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}

/// A request or batch in flight. Dropping it, in whatever way it ended, sends the next batch.
struct InFlight {
    batcher: Arc<Batcher>,
    kind: BatchKind,
    callers: Option<Id>,
    requests: usize,
}

impl InFlight {
    fn new(batcher: &Arc<Batcher>, kind: BatchKind, callers: Option<Id>, requests: usize) -> Self {
        Self {
            batcher: Arc::clone(batcher),
            kind,
            callers,
            requests,
        }
    }
}

/// Sends what waits when it is dropped: after its task has run, or if that cannot run.
struct Flush {
    batcher: Arc<Batcher>,
    kind: BatchKind,
    callers: Option<Id>,
}

impl Drop for Flush {
    fn drop(&mut self) {
        if let Some(batch) = self.batcher.queues(self.kind).flush(self.callers) {
            self.batcher.dispatch(self.kind, batch, self.callers);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let queues = self.batcher.queues(self.kind);
        let next = queues.finish(self.callers, self.requests);
        self.batcher.take_step(self.kind, next, self.callers);
    }
}

/// Returns whether the caller is on a runtime, but not in one of its tasks: it runs in `block_on`, also
/// while all workers, and with them the task that sends its batch, are blocked.
fn runs_beside(runtime: Option<Id>) -> bool {
    runtime.is_some() && tokio::task::try_id().is_none()
}
