//! Reads that wait at the same time go out together.
//!
//! A get that finds no other under way goes out by itself. Any other waits for company: as soon as
//! enough wait they go out as one MGET, which costs the server, both kernels and the connection's
//! task as much as a few gets. Enough are a third of those that are under way: so a few batches
//! follow each other, however many callers there are, and neither side waits for the other. It is
//! always sent after its gets were called, so a get sees what was written before it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cacheio_core::__private::Attempt;
use redis::{Cmd, Pipeline, RedisError, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::Failure;
use super::link::Link;
use super::request::{Commands, Request, named, value};

/// How many requests for values may be under way at the same time.
const UNDER_WAY: usize = 4;
/// How many keys are worth a batch, unless nothing else is under way.
const WORTH: usize = 8;
/// How long company is waited for: the one who is under way may have stopped to be polled, or the
/// server may be far away.
const PATIENCE: Duration = Duration::from_millis(5);
/// How many keys go into one MGET at most.
const BATCH: usize = 512;

#[derive(Default)]
pub(super) struct Reads(Mutex<State>);

#[derive(Default)]
struct State {
    /// Requests, and the keys in them.
    under_way: usize,
    keys_under_way: usize,
    waiting: usize,
    batches: VecDeque<Batch>,
    scattered: bool,
    /// The runtime of one who waits.
    runtime: Option<Handle>,
}

type Caller = oneshot::Sender<Result<Option<Vec<u8>>, RedisError>>;

/// Gets that go out together.
struct Batch {
    commands: Gets,
    callers: Vec<Caller>,
}

enum Gets {
    /// One MGET.
    Together(Cmd),
    /// A GET each, where no command may name keys of several slots.
    Apart(Pipeline),
}

enum Turn {
    /// It goes out by itself.
    Now,
    /// It goes out with others; who makes them enough starts them.
    Later {
        answer: oneshot::Receiver<Result<Option<Vec<u8>>, RedisError>>,
        starts: bool,
    },
}

impl Link {
    /// The value under a key.
    pub(super) async fn get(
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let attempt = self.enter()?;
        let (mut answer, starts) = match self.reads.join(key) {
            Turn::Now => {
                let _landing = Landing(self);
                // On the heap: those who wait carry nothing of it.
                return Box::pin(self.get_alone(attempt, key, deadline)).await;
            }
            Turn::Later { answer, starts } => (answer, starts),
        };
        if starts {
            Batches::of(self).start(&Handle::current());
        }
        let patience = deadline.min(Instant::now() + PATIENCE);
        let mut answered = timeout_at(patience, &mut answer).await;
        if answered.is_err() && patience < deadline {
            let mut batches = Batches::of(self);
            batches.at_once = true;
            batches.start(&Handle::current());
            answered = timeout_at(deadline, &mut answer).await;
        }
        match answered {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => self.judge(attempt, Some(Err(error))),
            // The runtime that was to send it has ended.
            Ok(Err(_)) => Box::pin(self.get_alone(attempt, key, deadline)).await,
            Err(_) => self.judge(attempt, None),
        }
    }

    async fn get_alone(
        self: &Arc<Self>,
        attempt: Attempt,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let request = Request::one(named("GET", key));
        let answer = timeout_at(deadline, self.send(&request)).await;
        value(self.judge(attempt, answer.ok())?)
    }

    /// Sends what waits as one request.
    async fn send_batch(&self, Batch { commands, callers }: Batch) {
        let request = Request {
            commands: match commands {
                Gets::Together(command) => Commands::One(command),
                Gets::Apart(commands) => Commands::Many(commands),
            },
            repeatable: true,
        };
        match timeout(self.timeout(), self.send(&request)).await {
            Ok(Ok(Value::Array(values))) if values.len() == callers.len() => {
                self.answered();
                for (caller, answer) in callers.into_iter().zip(values) {
                    // Nobody may be waiting any more.
                    let _ = caller.send(match answer {
                        Value::ServerError(error) => Err(error.into()),
                        answer => Ok(value(answer).unwrap_or_default()),
                    });
                }
            }
            Ok(Err(error)) => {
                for caller in callers {
                    let _ = caller.send(Err(error.clone()));
                }
            }
            // The callers' own time is over before; what is no answer, each finds out by itself.
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

impl Batch {
    fn add(&mut self, key: &str, caller: Caller) {
        match &mut self.commands {
            Gets::Together(command) => {
                command.arg(key);
            }
            Gets::Apart(commands) => {
                commands.add_command(named("GET", key));
            }
        }
        self.callers.push(caller);
    }
}

impl State {
    /// Whether those who wait are enough to go out.
    fn is_worth_it(&self) -> bool {
        let others = self.keys_under_way / (UNDER_WAY - 1);
        self.waiting > 0 && (self.under_way == 0 || self.waiting >= others.max(WORTH))
    }

    fn add(&mut self, key: &str, caller: Caller) {
        self.waiting += 1;
        match self.batches.back_mut() {
            Some(batch) if batch.callers.len() < BATCH => batch.add(key, caller),
            _ => {
                let commands = match self.scattered {
                    false => Gets::Together(cmd("MGET")),
                    true => Gets::Apart(Pipeline::new()),
                };
                let mut batch = Batch {
                    commands,
                    callers: Vec::new(),
                };
                batch.add(key, caller);
                self.batches.push_back(batch);
            }
        }
    }

    /// One request for so many keys has ended.
    fn landed(&mut self, keys: usize) {
        self.under_way -= 1;
        self.keys_under_way -= keys;
    }

    /// The batch to send next, if it is worth it or has waited enough: it is under way from now on.
    fn next(&mut self, at_once: bool) -> Option<Batch> {
        if !at_once && !self.is_worth_it() {
            return None;
        }
        let batch = self.batches.pop_front()?;
        self.waiting -= batch.callers.len();
        self.under_way += 1;
        self.keys_under_way += batch.callers.len();
        Some(batch)
    }
}

impl Reads {
    pub(super) fn scattered() -> Self {
        Self(Mutex::new(State {
            scattered: true,
            ..State::default()
        }))
    }

    fn join(&self, key: &str) -> Turn {
        let mut state = self.state();
        if state.under_way == 0 {
            state.under_way = 1;
            state.keys_under_way = 1;
            return Turn::Now;
        }
        let (caller, answer) = oneshot::channel();
        if state.batches.is_empty() {
            state.runtime = Handle::try_current().ok();
        }
        state.add(key, caller);
        let starts = state.under_way < UNDER_WAY && state.is_worth_it();
        Turn::Later { answer, starts }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped when a get that went out by itself has ended, in whatever way: those who wait go next.
struct Landing<'a>(&'a Arc<Link>);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.reads.state();
        state.landed(1);
        let runtime = state.runtime.clone().filter(|_| state.is_worth_it());
        drop(state);
        if let Some(runtime) = runtime {
            Batches::of(self.0).start(&runtime);
        }
    }
}

/// Sends batches until none is worth it.
struct Batches {
    link: Option<Arc<Link>>,
    /// The first one in any case.
    at_once: bool,
}

impl Batches {
    fn of(link: &Arc<Link>) -> Self {
        Self {
            link: Some(Arc::clone(link)),
            at_once: false,
        }
    }

    fn start(mut self, runtime: &Handle) {
        runtime.spawn(async move { self.send().await });
    }

    async fn send(&mut self) {
        while let Some(link) = &self.link {
            let at_once = std::mem::take(&mut self.at_once);
            let Some(batch) = link.reads.state().next(at_once) else {
                self.link = None;
                return;
            };
            let _sent = Sent(link, batch.callers.len());
            link.send_batch(batch).await;
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Its runtime ends before it is done. Whoever waits is told so by the end of its channel,
        // and asks by itself.
        if let Some(link) = &self.link {
            let mut state = link.reads.state();
            state.waiting = 0;
            let abandoned = std::mem::take(&mut state.batches);
            drop(state);
            drop(abandoned);
        }
    }
}

/// Dropped when a batch has ended, in whatever way.
struct Sent<'a>(&'a Arc<Link>, usize);

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.0.reads.state().landed(self.1);
    }
}
