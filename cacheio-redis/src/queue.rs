//! Decides which requests are sent directly and which wait for a batch. Nothing here does I/O.
//!
//! How many requests there are at the same time is measured. If they are few, each is sent directly.
//! Otherwise, a request waits until
//!
//! - enough others wait, as a fraction of those in flight: so several batches are in flight at the same
//!   time, however many callers there are, and neither side waits for the other;
//! - or little is in flight, and all callers that can run have run: so a batch has all requests that are
//!   made at that moment, and the server has work.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::{Cmd, RedisResult, Value, cmd};
use tokio::runtime::Id;
use tokio::sync::oneshot;

use crate::commands::Commands;
use crate::limiter::Reservation;
use crate::request::{Request, on_key};

/// Up to how many requests at the same time all are sent directly: a batch of them costs more than it saves.
const FEW_REQUESTS: usize = 12;
/// How many requests are sent directly at the same time while there are more.
const MAX_DIRECT: usize = 2;
/// With so many requests and batches in flight, what waits is sent only when it is enough for a batch.
const FEW_IN_FLIGHT: usize = 4;
/// How many requests and batches are in flight at the same time, unless a batch waits too long.
const MAX_IN_FLIGHT: usize = 8;
/// The smallest batch that is enough.
const MIN_BATCH: usize = 6;
/// With many requests in flight, one in `BATCH_FRACTION` of their number is enough for a batch.
const BATCH_FRACTION: usize = 2;
/// The largest batch.
const MAX_BATCH: usize = 512;
/// After how many requests their greatest number at the same time is measured anew.
const PEAK_OF: usize = 128;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum BatchKind {
    /// Gets, joined into one MGET.
    Gets,
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
    /// Whether a [flush](BatchQueues::flush) was begun.
    has_flush: bool,
    /// The most requests at the same time: since it is measured, and in the measurement before.
    peaks: [usize; 2],
    /// How many requests were admitted since the peak is measured.
    admitted: usize,
}

pub(crate) type ReplySender = oneshot::Sender<RedisResult<Value>>;
pub(crate) type ReplyReceiver = oneshot::Receiver<RedisResult<Value>>;

pub(crate) struct Batch {
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
        /// What the caller does about the batch.
        next: NextStep,
        /// Whether the caller has to start the flush timer.
        start_timer: bool,
    },
}

/// What becomes of the waiting batch.
pub(crate) enum NextStep {
    Nothing,
    /// It is sent now.
    Send(Batch),
    /// It is sent as soon as the other tasks that can run have run: [`BatchQueues::flush`].
    Flush,
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
        let max_direct = match queue.peak() <= FEW_REQUESTS {
            true => FEW_REQUESTS,
            false => MAX_DIRECT,
        };
        if queue.sends_in_flight < max_direct && queue.waiting.is_none() {
            queue.count_sent(1);
            return Admission::Direct(turn);
        }
        let (sender, reply) = oneshot::channel();
        let average = queue.requests_in_flight / queue.sends_in_flight.max(1);
        queue
            .waiting
            .get_or_insert_with(|| {
                queue.batches_begun += 1;
                Batch::new(self.kind, average.max(MIN_BATCH), item)
            })
            .add(item, sender, turn, self.joins_keys);
        let next = queue.next_step();
        let start_timer = !std::mem::replace(&mut queue.has_timer, true);
        Admission::Queued {
            reply,
            next,
            start_timer,
        }
    }

    /// Counts a request or batch of `requests` as finished. Returns what becomes of the waiting batch.
    pub(crate) fn finish(&self, runtime: Option<Id>, requests: usize) -> NextStep {
        let mut queues = self.lock();
        let Some(at) = queues.iter().position(|queue| queue.runtime == runtime) else {
            return NextStep::Nothing;
        };
        let queue = &mut queues[at];
        queue.sends_in_flight -= 1;
        queue.requests_in_flight -= requests;
        let next = queue.next_step();
        remove_if_unused(&mut queues, at);
        next
    }

    /// Ends a flush. Returns the waiting batch, unless much was sent since the flush began.
    pub(crate) fn flush(&self, runtime: Option<Id>) -> Option<Batch> {
        let mut queues = self.lock();
        let at = queues.iter().position(|queue| queue.runtime == runtime)?;
        let queue = &mut queues[at];
        queue.has_flush = false;
        match queue.sends_in_flight < FEW_IN_FLIGHT {
            true => queue.take(),
            false => None,
        }
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
            has_flush: false,
            peaks: [1, 1],
            admitted: 0,
        }
    }

    /// Counts a request. Returns the greatest number of requests at the same time in the recent past.
    fn peak(&mut self) -> usize {
        let waiting = self.waiting.as_ref().map_or(0, |batch| batch.senders.len());
        let requests = self.requests_in_flight + waiting + 1;
        self.admitted += 1;
        if self.admitted == PEAK_OF {
            self.admitted = 0;
            self.peaks = [0, self.peaks[0]];
        }
        self.peaks[0] = self.peaks[0].max(requests);
        self.peaks[0].max(self.peaks[1])
    }

    /// Decides what becomes of the waiting batch.
    fn next_step(&mut self) -> NextStep {
        let Some(batch) = &self.waiting else {
            return NextStep::Nothing;
        };
        let waiting = batch.senders.len();
        let enough = (self.requests_in_flight / BATCH_FRACTION).max(MIN_BATCH);
        let ready = waiting >= enough && self.sends_in_flight < MAX_IN_FLIGHT;
        if ready || waiting == MAX_BATCH {
            return self.take().map_or(NextStep::Nothing, NextStep::Send);
        }
        match self.sends_in_flight < FEW_IN_FLIGHT && !self.has_flush {
            true => {
                self.has_flush = true;
                NextStep::Flush
            }
            false => NextStep::Nothing,
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
            (BatchKind::Gets, BatchItem::Get(key)) => {
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
            (BatchContent::Mget(mget), BatchItem::Get(key)) => {
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
    pub(crate) fn take_commands(&mut self) -> Commands {
        match &mut self.content {
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

impl<'a> BatchItem<'a> {
    pub(crate) fn kind(self) -> BatchKind {
        match self {
            Self::Get(_) => BatchKind::Gets,
            Self::Command { .. } => BatchKind::Commands,
        }
    }

    pub(crate) fn request(self) -> Cow<'a, Request> {
        match self {
            Self::Get(key) => Cow::Owned(Request::one(on_key("GET", key))),
            Self::Command { request, .. } => Cow::Borrowed(request),
        }
    }

    /// Returns how much work the request is for the server, about.
    pub(crate) fn weight(self) -> usize {
        match self {
            Self::Get(_) => 1,
            Self::Command { request, .. } => request.weight(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim_key::claim_key;

    fn admit(queues: &BatchQueues, runtime: Option<Id>) -> Admission {
        queues.admit(BatchItem::Get("key"), None, runtime)
    }

    /// Admits a get that must wait; returns its receiver and the next step.
    fn queued(queues: &BatchQueues) -> (ReplyReceiver, NextStep) {
        match admit(queues, None) {
            Admission::Queued { reply, next, .. } => (reply, next),
            Admission::Direct(_) => panic!("sent directly"),
        }
    }

    /// Admits as many gets as are sent directly.
    fn fill(queues: &BatchQueues, runtime: Option<Id>) {
        for _ in 0..FEW_REQUESTS {
            assert!(matches!(admit(queues, runtime), Admission::Direct(_)));
        }
    }

    /// Ends gets that were sent directly.
    fn finish(queues: &BatchQueues, gets: usize) -> NextStep {
        let steps = (0..gets).map(|_| queues.finish(None, 1));
        steps.last().unwrap_or(NextStep::Nothing)
    }

    #[test]
    fn a_batch_is_ready_when_enough_requests_wait() {
        let queues = BatchQueues::new(BatchKind::Gets, true);
        fill(&queues, None);
        assert!(matches!(queued(&queues).1, NextStep::Nothing));
        let last = finish(&queues, FEW_REQUESTS - FEW_IN_FLIGHT);
        assert!(matches!(last, NextStep::Nothing));
        for _ in 2..MIN_BATCH {
            assert!(matches!(queued(&queues).1, NextStep::Nothing));
        }
        let NextStep::Send(mut batch) = queued(&queues).1 else {
            panic!("enough requests wait");
        };
        assert_eq!(batch.senders.len(), MIN_BATCH);
        let commands = batch.take_commands();
        assert_eq!(commands.iter().next().unwrap().args_iter().count(), 7);
    }

    #[test]
    fn more_must_wait_while_more_are_in_flight() {
        let queues = BatchQueues::new(BatchKind::Gets, true);
        fill(&queues, None);
        for _ in 0..FEW_REQUESTS * 2 {
            assert!(matches!(queued(&queues).1, NextStep::Nothing));
        }
        let last = finish(&queues, FEW_REQUESTS - MAX_IN_FLIGHT);
        assert!(matches!(last, NextStep::Nothing));
        let NextStep::Send(batch) = queues.finish(None, 1) else {
            panic!("enough requests wait");
        };
        assert_eq!(batch.senders.len(), FEW_REQUESTS * 2);
    }

    #[test]
    fn a_small_batch_is_flushed_once_when_little_is_in_flight() {
        let queues = BatchQueues::new(BatchKind::Gets, true);
        fill(&queues, None);
        let _reply = queued(&queues);
        assert!(queues.flush(None).is_none(), "much is in flight");
        let last = finish(&queues, FEW_REQUESTS - FEW_IN_FLIGHT + 1);
        assert!(matches!(last, NextStep::Flush));
        assert!(matches!(queues.finish(None, 1), NextStep::Nothing));
        let (_reply, next) = queued(&queues);
        assert!(matches!(next, NextStep::Nothing));
        assert_eq!(queues.flush(None).unwrap().senders.len(), 2);
        assert!(queues.flush(None).is_none(), "nothing waits");
    }

    #[test]
    fn requests_are_sent_directly_again_when_they_are_few_for_some_time() {
        let queues = BatchQueues::new(BatchKind::Gets, true);
        fill(&queues, None);
        let _reply = queued(&queues);
        finish(&queues, FEW_REQUESTS);
        let waiting = queues.flush(None).unwrap().senders.len();
        queues.finish(None, waiting);
        let mut admitted = FEW_REQUESTS + 1;
        while admitted < PEAK_OF * 2 {
            for _ in 0..MAX_DIRECT {
                assert!(matches!(admit(&queues, None), Admission::Direct(_)));
            }
            let (_reply, next) = queued(&queues);
            assert!(matches!(next, NextStep::Flush));
            assert_eq!(queues.flush(None).unwrap().senders.len(), 1);
            finish(&queues, MAX_DIRECT + 1);
            admitted += MAX_DIRECT + 1;
        }
        fill(&queues, None);
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
        let commands = batch.take_commands();
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
