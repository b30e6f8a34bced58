//! Decides which requests are sent directly and which wait for a batch. Nothing here does I/O.
//!
//! How many requests there are at the same time is measured. If they are few, each is sent directly.
//! Otherwise, a request waits until
//!
//! - enough others wait, as a fraction of those in flight: so several batches are in flight at the same
//!   time, however many callers there are, and neither side waits for the other;
//! - or little is in flight, and the tasks of the callers' runtime that could run have run: so a batch has
//!   most of the requests that are made at that moment, and the server has work. On a runtime of several
//!   threads, these are the tasks of one of them.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

use crate::batch::{Batch, BatchItem, BatchKind, ReplyReceiver};
use crate::limiter::Reservation;

/// Up to how many requests at the same time all are sent directly: a batch of them costs more than it saves.
const FEW_REQUESTS: usize = 12;
/// How many requests are sent directly at the same time if there are often more than `FEW_REQUESTS`.
const MAX_DIRECT: usize = 2;
/// For how many requests it is counted how often there are more than `FEW_REQUESTS`.
const COUNTED: usize = 128;
/// How many of the counted requests are often.
const OFTEN: usize = COUNTED / 8;
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

/// The requests of one kind on one connection: a queue for each runtime whose callers use it.
pub(crate) struct BatchQueues {
    pub(crate) kind: BatchKind,
    /// Whether one command may name keys of several requests.
    joins_keys: bool,
    queues: Mutex<Vec<Queue>>,
}

/// The requests of the callers on one runtime. It exists while any of them is in flight, or its
/// overdue timer runs. Callers on a runtime that stands still do not delay those on others.
pub(crate) struct Queue {
    /// None for the callers outside of tokio.
    runtime: Option<Handle>,
    /// Requests sent directly, and batches.
    sends_in_flight: usize,
    requests_in_flight: usize,
    waiting: Option<Batch>,
    batches_begun: usize,
    /// Whether the overdue timer runs.
    has_timer: bool,
    /// Whether a [flush](BatchQueues::flush) was begun.
    has_flush: bool,
    /// Whether there are often more than [`FEW_REQUESTS`].
    has_many_requests: bool,
    /// How many requests are counted so far, and at how many of them there were more than [`FEW_REQUESTS`].
    counted: usize,
    crowded: usize,
}

#[allow(
    clippy::large_enum_variant,
    reason = "the size of a command depends on the features of `redis` that others turn on"
)]
pub(crate) enum Admission {
    /// The caller sends the request itself.
    Direct(Option<Reservation>),
    /// The request waits for a batch.
    Queued {
        reply: ReplyReceiver,
        /// What the caller does about the batch.
        next: NextStep,
        /// Whether the caller has to start the overdue timer.
        start_timer: bool,
    },
}

/// What becomes of the waiting batch.
#[allow(
    clippy::large_enum_variant,
    reason = "the size of a command depends on the features of `redis` that others turn on"
)]
pub(crate) enum NextStep {
    Nothing,
    /// It is sent now.
    Send(Batch),
    /// It is sent as soon as the other tasks of the callers' runtime that can run have run:
    /// [`BatchQueues::flush`].
    Flush(Option<Handle>),
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
        runtime: Option<&Handle>,
    ) -> Admission {
        let id = runtime.map(Handle::id);
        let mut queues = self.lock();
        let Some(queue) = queues.iter_mut().find(|queue| queue.id() == id) else {
            queues.push(Queue::with_one_in_flight(runtime.cloned()));
            return Admission::Direct(turn);
        };
        let max_direct = match queue.has_many_requests() {
            true => MAX_DIRECT,
            false => FEW_REQUESTS,
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
        let Some(at) = queues.iter().position(|queue| queue.id() == runtime) else {
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
        let at = queues.iter().position(|queue| queue.id() == runtime)?;
        let queue = &mut queues[at];
        queue.has_flush = false;
        match queue.sends_in_flight < FEW_IN_FLIGHT {
            true => queue.take(),
            false => None,
        }
    }

    /// Returns the batch that already waited at the previous call, which left its mark in `seen`.
    /// Breaks when no batch was begun since then, so that the overdue timer stops.
    pub(crate) fn take_overdue(
        &self,
        runtime: Option<Id>,
        seen: &mut usize,
    ) -> ControlFlow<(), Option<Batch>> {
        let mut queues = self.lock();
        let Some(at) = queues.iter().position(|queue| queue.id() == runtime) else {
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

    /// Records that the overdue timer did not start.
    pub(crate) fn without_timer(&self, runtime: Option<Id>) {
        let mut queues = self.lock();
        if let Some(at) = queues.iter().position(|queue| queue.id() == runtime) {
            queues[at].has_timer = false;
            remove_if_unused(&mut queues, at);
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
    fn with_one_in_flight(runtime: Option<Handle>) -> Self {
        Self {
            runtime,
            sends_in_flight: 1,
            requests_in_flight: 1,
            waiting: None,
            batches_begun: 0,
            has_timer: false,
            has_flush: false,
            has_many_requests: false,
            counted: 0,
            crowded: 0,
        }
    }

    fn id(&self) -> Option<Id> {
        self.runtime.as_ref().map(Handle::id)
    }

    /// Counts a request. Returns whether there are often more than [`FEW_REQUESTS`] at the same time.
    fn has_many_requests(&mut self) -> bool {
        let waiting = self.waiting.as_ref().map_or(0, |batch| batch.senders.len());
        let requests = self.requests_in_flight + waiting + 1;
        self.counted += 1;
        self.crowded += usize::from(requests > FEW_REQUESTS);
        if self.crowded >= OFTEN {
            self.has_many_requests = true;
        }
        if self.counted == COUNTED {
            self.has_many_requests = self.crowded >= OFTEN;
            (self.counted, self.crowded) = (0, 0);
        }
        self.has_many_requests
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
                NextStep::Flush(self.runtime.clone())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(queues: &BatchQueues, runtime: Option<&Handle>) -> Admission {
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
    fn fill(queues: &BatchQueues, runtime: Option<&Handle>) {
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
        let commands = batch.take_commands(false);
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
        assert!(matches!(last, NextStep::Flush(None)));
        assert!(matches!(queues.finish(None, 1), NextStep::Nothing));
        let (_reply, next) = queued(&queues);
        assert!(matches!(next, NextStep::Nothing));
        assert_eq!(queues.flush(None).unwrap().senders.len(), 2);
        assert!(queues.flush(None).is_none(), "nothing waits");
    }

    /// Admits `FEW_REQUESTS` gets and then one more, and ends them.
    fn crowd(queues: &BatchQueues) {
        fill(queues, None);
        let _reply = queued(queues);
        finish(queues, FEW_REQUESTS);
        let waiting = queues.flush(None).unwrap().senders.len();
        queues.finish(None, waiting);
    }

    #[test]
    fn a_few_moments_with_many_requests_change_nothing() {
        let queues = BatchQueues::new(BatchKind::Gets, true);
        for _ in 0..100 {
            crowd(&queues);
        }
        fill(&queues, None);
    }

    #[test]
    fn requests_are_sent_directly_again_when_they_are_few_for_some_time() {
        let queues = BatchQueues::new(BatchKind::Gets, true);
        fill(&queues, None);
        for _ in 0..OFTEN {
            let _reply = queued(&queues);
        }
        for _ in 0..FEW_REQUESTS {
            if let NextStep::Send(batch) = queues.finish(None, 1) {
                queues.finish(None, batch.senders.len());
            }
        }
        let mut counted = FEW_REQUESTS + OFTEN;
        while counted + MAX_DIRECT + 1 < COUNTED * 2 {
            for _ in 0..MAX_DIRECT {
                assert!(matches!(admit(&queues, None), Admission::Direct(_)));
            }
            let (_reply, next) = queued(&queues);
            assert!(matches!(next, NextStep::Flush(None)));
            assert_eq!(queues.flush(None).unwrap().senders.len(), 1);
            finish(&queues, MAX_DIRECT + 1);
            counted += MAX_DIRECT + 1;
        }
        for _ in counted..COUNTED * 2 {
            assert!(matches!(admit(&queues, None), Admission::Direct(_)));
            finish(&queues, 1);
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
        fill(&queues, Some(runtime.handle()));
        fill(&queues, None);
    }
}
