//! Requests that wait at the same time go out together.
//!
//! A request that finds only a few others under way goes out by itself. Any other waits for
//! company: as soon as enough wait they go out as one, gets as an MGET and all else in one write,
//! which costs the server, both kernels and the connection's task as much as a few requests.
//! Enough are a part of those that are under way: so several batches follow each other, however
//! many callers there are, and neither side waits for the other.
//!
//! A batch is always sent after its requests were made, so a get sees what was written before it.
//! And a write whose caller has gone is either sent already, before whatever its caller asks next,
//! or never: nothing that was given up comes after what was asked later.
//!
//! Only callers on one runtime share batches. Whatever happens to a runtime then happens to all
//! that wait for its tasks, and those need no timers of their own: one task minds them all.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use cacheio_core::__private::Attempt;
use redis::{Arg, Cmd, Pipeline, RedisResult, Value};
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::failure::Failure;
use crate::link::{Link, Live};
use crate::request::{Commands, Request, named, value};

/// How many requests go out by themselves at the same time.
const ALONE: usize = 4;
/// How many are under way at the same time, alone or as batches, unless others wait too long.
const UNDER_WAY: usize = 8;
/// How many are worth a batch.
const WORTH: usize = 4;
/// Which part of those under way are worth a batch, if there are many.
const PART: usize = 3;
/// How many go into a batch at most.
const MOST: usize = 512;
/// How many bytes a command has at most that goes into a batch: to carry more costs more than it
/// saves, and others wait meanwhile.
const LONGEST: usize = 16 * 1024;
/// How much earlier than the timeout a deadline is for nothing but the way to here.
const SLACK: Duration = Duration::from_millis(10);
/// How long company is waited for: the one who is under way may have stopped to be polled, or the
/// server may be far away.
const PATIENCE: Duration = Duration::from_millis(5);

/// Requests of one kind on one connection.
pub(crate) struct Batches {
    kind: Kind,
    queues: Mutex<Vec<Queue>>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Gets, which become one MGET.
    Gets,
    /// Commands, one after the other.
    Commands,
}

/// What callers on one runtime wait for. There while anything is under way, or somebody minds it.
struct Queue {
    runtime: Id,
    /// How often something is under way, and how many requests that is.
    under_way: usize,
    requests_under_way: usize,
    waiting: Option<Batch>,
    /// How many batches there have been.
    batches: usize,
    /// The runtime itself, once somebody minds that none waits too long.
    minded: Option<Handle>,
}

type Caller = oneshot::Sender<RedisResult<Value>>;

struct Batch {
    commands: Commands,
    callers: Vec<Caller>,
}

/// What one caller asks.
#[derive(Clone, Copy)]
enum Asked<'a> {
    /// The value under a key.
    Value(&'a str),
    /// A command that may be carried out twice.
    Command(&'a Cmd),
}

enum Turn {
    /// It goes out by itself.
    Now,
    /// It goes out with others.
    Later {
        answer: oneshot::Receiver<RedisResult<Value>>,
        /// Those who are enough with it.
        goes: Option<Batch>,
        /// Whether nobody minds those who wait.
        unminded: bool,
    },
}

impl Link {
    /// The value under a key.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        self.place_those_who_went();
        value(self.ask_together(Asked::Value(key), deadline).await?)
    }

    /// Sends a request, with others if it may, and waits for its answer, which is no error.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        match &request.commands {
            Commands::One(command) if request.repeatable && length(command) <= LONGEST => {
                self.ask_together(Asked::Command(command), deadline).await
            }
            _ => {
                self.place_those_who_went();
                let attempt = self.enter()?;
                self.ask_alone(attempt, request, deadline).await
            }
        }
    }

    /// Makes sure that what was given up before has its place on the connection, or gets none.
    fn place_those_who_went(&self) {
        drop(self.batches(Kind::Commands).queues());
    }

    async fn ask_together(
        self: &Arc<Self>,
        asked: Asked<'_>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let runtime = Handle::try_current().map_err(|_| Failure::no_runtime())?;
        let attempt = self.admit()?;
        let kind = match asked {
            Asked::Value(_) => self.batches(Kind::Gets).kind,
            Asked::Command(_) => Kind::Commands,
        };
        let alone = async || self.ask_alone(attempt, &asked.request(), deadline).await;
        let answer = match self.batches(kind).join(asked, &runtime) {
            Turn::Now => {
                let _under_way = UnderWay::new(self, kind, &runtime, 1);
                // On the heap: those who wait carry nothing of it.
                return Box::pin(alone()).await;
            }
            Turn::Later {
                answer,
                goes,
                unminded,
            } => {
                if let Some(batch) = goes {
                    self.dispatch(kind, batch, &runtime);
                }
                if unminded {
                    runtime.spawn(Minding::new(self, kind, &runtime).mind());
                }
                answer
            }
        };
        // Who has less time than those who go along, as after a redirection, minds it.
        let answer = if deadline + SLACK < Instant::now() + self.timeout() {
            match Box::pin(timeout_at(deadline, answer)).await {
                Ok(answer) => answer,
                Err(_) => return self.judge(attempt, None),
            }
        } else {
            answer.await
        };
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if self.is_useless_after(&error) => Box::pin(alone()).await,
            Ok(Err(error)) => self.judge(attempt, Some(Err(error))),
            Err(_) if Instant::now() >= deadline => self.judge(attempt, None),
            // There was no connection, the server did not take them together, or what was to send
            // it has ended with its runtime.
            Err(_) => Box::pin(alone()).await,
        }
    }

    async fn ask_alone(
        self: &Arc<Self>,
        attempt: Attempt,
        request: &Request,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let answer = timeout_at(deadline, self.send(request)).await;
        self.judge(attempt, answer.ok())
    }

    /// Sends a batch, beside its callers.
    fn dispatch(self: &Arc<Self>, kind: Kind, batch: Batch, runtime: &Handle) {
        let under_way = UnderWay::new(self, kind, runtime, batch.callers.len());
        runtime.spawn(async move { under_way.link.send_batch(kind, batch).await });
    }

    async fn send_batch(&self, kind: Kind, mut batch: Batch) {
        // Otherwise each makes one, or waits for it.
        let Some(live) = self.current() else {
            return;
        };
        let answer = timeout(self.timeout(), self.send_in_order(kind, &live, &mut batch));
        let answer = answer.await;
        let callers = batch.callers;
        match answer {
            Ok(Ok(Value::Array(values))) if values.len() == callers.len() => {
                if !callers.is_empty() {
                    self.answered();
                }
                for (caller, answer) in callers.into_iter().zip(values) {
                    // Nobody may be waiting any more.
                    let _ = caller.send(match answer {
                        Value::ServerError(error) => Err(error.into()),
                        answer => Ok(answer),
                    });
                }
            }
            Ok(Err(error)) if self.is_useless_after(&error) => {
                self.give_up(&live);
                for caller in callers {
                    let _ = caller.send(Err(error.clone()));
                }
            }
            // What it refuses to some (ACL, slots), it refuses to all at once: each asks by itself.
            Ok(Err(_)) => self.answered(),
            // Nobody gets an answer: the callers' own time is over, or each asks by itself.
            Ok(Ok(_)) | Err(_) => {}
        }
    }

    /// Sends a batch. A command whose caller goes is sent before what that caller asks next, or
    /// never.
    async fn send_in_order(
        &self,
        kind: Kind,
        live: &Live,
        batch: &mut Batch,
    ) -> RedisResult<Value> {
        let batches = self.batches(kind);
        loop {
            {
                let mut answer = pin!(live.ask(&batch.commands));
                let callers = &batch.callers;
                let first = poll_fn(|context| {
                    // Its first step gives it a place on the connection, which has room for all;
                    // who has gone and asks something else waits here, and finds a place behind it.
                    let _queues = batches.queues();
                    let all_there =
                        kind == Kind::Gets || !callers.iter().any(oneshot::Sender::is_closed);
                    Poll::Ready(all_there.then(|| answer.as_mut().poll(context)))
                });
                match first.await {
                    Some(Poll::Ready(answer)) => return answer,
                    Some(Poll::Pending) => return answer.await,
                    None => {}
                }
            }
            batch.leave_behind();
            if batch.callers.is_empty() {
                return Ok(Value::Array(Vec::new()));
            }
        }
    }
}

impl Batches {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            queues: Mutex::default(),
        }
    }

    fn join(&self, asked: Asked<'_>, runtime: &Handle) -> Turn {
        let id = runtime.id();
        let mut queues = self.queues();
        let Some(queue) = queues.iter_mut().find(|queue| queue.runtime == id) else {
            queues.push(Queue::new(id));
            return Turn::Now;
        };
        if queue.under_way < ALONE && queue.waiting.is_none() {
            queue.took_off(1);
            return Turn::Now;
        }
        let (caller, answer) = oneshot::channel();
        let size = queue.requests_under_way / queue.under_way;
        queue
            .waiting
            .get_or_insert_with(|| {
                queue.batches += 1;
                Batch::new(self.kind, size.max(WORTH), asked)
            })
            .add(asked, caller);
        let goes = queue.take_if_worth_it();
        let unminded = queue.minded.is_none();
        if unminded {
            queue.minded = Some(runtime.clone());
        }
        Turn::Later {
            answer,
            goes,
            unminded,
        }
    }

    /// So many requests have ended; who goes next, and where.
    fn landed(&self, runtime: Id, requests: usize) -> Option<(Batch, Handle)> {
        let mut queues = self.queues();
        let at = queues.iter().position(|queue| queue.runtime == runtime)?;
        let queue = &mut queues[at];
        queue.under_way -= 1;
        queue.requests_under_way -= requests;
        let Some(handle) = queue.minded.clone() else {
            if queue.under_way == 0 {
                queues.swap_remove(at);
            }
            return None;
        };
        queue.take_if_worth_it().map(|batch| (batch, handle))
    }

    /// Those who have waited since it was last asked; a break when nobody does, nor will.
    fn overdue(&self, runtime: Id, seen: &mut usize) -> ControlFlow<(), Option<Batch>> {
        let mut queues = self.queues();
        let Some(at) = queues.iter().position(|queue| queue.runtime == runtime) else {
            return ControlFlow::Break(());
        };
        let queue = &mut queues[at];
        if queue.under_way == 0 && queue.waiting.is_none() {
            queues.swap_remove(at);
            return ControlFlow::Break(());
        }
        let waited = std::mem::replace(seen, queue.batches) == queue.batches;
        ControlFlow::Continue(if waited { queue.take() } else { None })
    }

    /// Takes away those who wait, whom nobody minds any more.
    fn abandon(&self, runtime: Id) -> Option<Batch> {
        let mut queues = self.queues();
        let at = queues.iter().position(|queue| queue.runtime == runtime)?;
        let queue = &mut queues[at];
        queue.minded = None;
        let waiting = queue.waiting.take();
        if queue.under_way == 0 {
            queues.swap_remove(at);
        }
        waiting
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// With one request under way.
    fn new(runtime: Id) -> Self {
        Self {
            runtime,
            under_way: 1,
            requests_under_way: 1,
            waiting: None,
            batches: 0,
            minded: None,
        }
    }

    /// Those who wait, if they are enough to go out.
    fn take_if_worth_it(&mut self) -> Option<Batch> {
        let waiting = self.waiting.as_ref()?.callers.len();
        let others = self.requests_under_way / PART;
        let worth_it = waiting >= others.max(WORTH) && self.under_way < UNDER_WAY;
        if worth_it || self.under_way == 0 || waiting == MOST {
            self.take()
        } else {
            None
        }
    }

    /// Those who wait, who are under way from now on.
    fn take(&mut self) -> Option<Batch> {
        let batch = self.waiting.take()?;
        self.took_off(batch.callers.len());
        Some(batch)
    }

    fn took_off(&mut self, requests: usize) {
        self.under_way += 1;
        self.requests_under_way += requests;
    }
}

impl Batch {
    /// With room for so many requests like one.
    fn new(kind: Kind, room: usize, like: Asked<'_>) -> Self {
        let commands = match (kind, like) {
            (Kind::Gets, Asked::Value(key)) => {
                let mut command = Cmd::with_capacity(room + 1, room * key.len() + 4);
                command.arg("MGET");
                Commands::One(command)
            }
            _ => Commands::Many(Pipeline::with_capacity(room)),
        };
        Self {
            commands,
            callers: Vec::with_capacity(room),
        }
    }

    fn add(&mut self, asked: Asked<'_>, caller: Caller) {
        match (&mut self.commands, asked) {
            (Commands::One(command), Asked::Value(key)) => {
                command.arg(key);
            }
            (Commands::Many(commands), asked) => {
                commands.add_command(asked.command());
            }
            _ => {}
        }
        self.callers.push(caller);
    }

    /// Drops the commands whose callers have gone.
    fn leave_behind(&mut self) {
        let Commands::Many(commands) = &self.commands else {
            return;
        };
        let mut rest = Pipeline::with_capacity(self.callers.len());
        let mut callers = Vec::with_capacity(self.callers.len());
        for (command, caller) in commands.cmd_iter().zip(self.callers.drain(..)) {
            if !caller.is_closed() {
                rest.add_command(command.clone());
                callers.push(caller);
            }
        }
        self.commands = Commands::Many(rest);
        self.callers = callers;
    }
}

impl Asked<'_> {
    fn command(self) -> Cmd {
        match self {
            Self::Value(key) => named("GET", key),
            Self::Command(command) => command.clone(),
        }
    }

    fn request(self) -> Request {
        Request::one(self.command())
    }
}

fn length(command: &Cmd) -> usize {
    let lengths = command.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes.len(),
        _ => 0,
    });
    lengths.sum()
}

/// Dropped when a request or batch has ended, in whatever way: those who wait go next.
struct UnderWay {
    link: Arc<Link>,
    kind: Kind,
    runtime: Id,
    requests: usize,
}

impl UnderWay {
    fn new(link: &Arc<Link>, kind: Kind, runtime: &Handle, requests: usize) -> Self {
        Self {
            link: Arc::clone(link),
            kind,
            runtime: runtime.id(),
            requests,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let batches = self.link.batches(self.kind);
        if let Some((batch, runtime)) = batches.landed(self.runtime, self.requests) {
            self.link.dispatch(self.kind, batch, &runtime);
        }
    }
}

/// Whoever minds that nobody waits for company too long.
struct Minding {
    link: Arc<Link>,
    kind: Kind,
    runtime: Id,
    ends_early: bool,
}

impl Minding {
    fn new(link: &Arc<Link>, kind: Kind, runtime: &Handle) -> Self {
        Self {
            link: Arc::clone(link),
            kind,
            runtime: runtime.id(),
            ends_early: true,
        }
    }

    async fn mind(mut self) {
        let mut seen = 0;
        loop {
            sleep(PATIENCE / 2).await;
            let batches = self.link.batches(self.kind);
            match batches.overdue(self.runtime, &mut seen) {
                ControlFlow::Continue(Some(batch)) => {
                    self.link.dispatch(self.kind, batch, &Handle::current());
                }
                ControlFlow::Continue(None) => {}
                ControlFlow::Break(()) => {
                    self.ends_early = false;
                    return;
                }
            }
        }
    }
}

impl Drop for Minding {
    fn drop(&mut self) {
        // Its runtime ends. Whoever waits is told so by the end of its channel.
        if self.ends_early {
            drop(self.link.batches(self.kind).abandon(self.runtime));
        }
    }
}
