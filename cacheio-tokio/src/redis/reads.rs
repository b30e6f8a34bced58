//! Reads that wait at the same time go out together.
//!
//! A get that finds few others under way goes out by itself. Any other waits until one of those
//! has landed; then all that wait go out as one MGET, which costs the server, both kernels and the
//! connection's task as much as a few. It is always sent after its gets were called, so a get sees
//! what was written before it.
//!
//! What another program has put under a key as a list or a hash is an error to a GET; an MGET, this
//! one and that of `get_many`, does not tell it from nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Pipeline, RedisError, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::Failure;
use super::link::Link;
use super::request::{Commands, Request, named, value};

/// How many requests for values may be under way before others wait.
const UNDER_WAY: usize = 2;
/// How many keys go into one MGET.
const BATCH: usize = 512;

#[derive(Default)]
pub(super) struct Reads(Mutex<State>);

#[derive(Default)]
struct State {
    under_way: usize,
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
    Now,
    Later(oneshot::Receiver<Result<Option<Vec<u8>>, RedisError>>),
}

impl Link {
    /// The value under a key.
    pub(super) async fn get(
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let attempt = self.enter()?;
        let direct = async { self.send(&Request::one(named("GET", key))).await };
        match self.reads.join(key) {
            Turn::Now => {
                let _landing = Landing(self);
                let answer = timeout_at(deadline, direct).await;
                value(self.judge(attempt, answer.ok())?)
            }
            Turn::Later(answer) => match timeout_at(deadline, answer).await {
                Ok(Ok(Ok(value))) => Ok(value),
                Ok(Ok(Err(error))) => self.judge(attempt, Some(Err(error))),
                // The runtime that was to send it has ended.
                Ok(Err(_)) => {
                    let answer = timeout_at(deadline, direct).await;
                    value(self.judge(attempt, answer.ok())?)
                }
                Err(_) => self.judge(attempt, None),
            },
        }
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

impl Reads {
    pub(super) fn scattered() -> Self {
        Self(Mutex::new(State {
            scattered: true,
            ..State::default()
        }))
    }

    fn join(&self, key: &str) -> Turn {
        let mut state = self.state();
        if state.under_way < UNDER_WAY {
            state.under_way += 1;
            return Turn::Now;
        }
        let (sender, receiver) = oneshot::channel();
        if state.batches.is_empty() {
            state.runtime = Handle::try_current().ok();
        }
        match state.batches.back_mut() {
            Some(batch) if batch.callers.len() < BATCH => batch.add(key, sender),
            _ => {
                let commands = match state.scattered {
                    false => Gets::Together(cmd("MGET")),
                    true => Gets::Apart(Pipeline::new()),
                };
                let mut batch = Batch {
                    commands,
                    callers: Vec::new(),
                };
                batch.add(key, sender);
                state.batches.push_back(batch);
            }
        }
        Turn::Later(receiver)
    }

    /// The next batch to send; with none left, what was under way has landed.
    fn next(&self) -> Option<Batch> {
        let mut state = self.state();
        let batch = state.batches.pop_front();
        if batch.is_none() {
            state.under_way -= 1;
        }
        batch
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
        if state.batches.is_empty() {
            state.under_way -= 1;
            return;
        }
        let runtime = state.runtime.clone();
        drop(state);
        let mut batches = Batches(Some(Arc::clone(self.0)));
        if let Some(runtime) = runtime {
            runtime.spawn(async move { batches.send().await });
        }
    }
}

/// The batches that wait, until none do; counts as one request under way.
struct Batches(Option<Arc<Link>>);

impl Batches {
    async fn send(&mut self) {
        while let Some(link) = &self.0 {
            match link.reads.next() {
                Some(batch) => {
                    link.send_batch(batch).await;
                    // Those who were just answered may ask again at once: then they go together,
                    // and not the first of them by itself.
                    tokio::task::yield_now().await;
                }
                None => self.0 = None,
            }
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Its runtime ends before it is done. Whoever waits is told so by the end of its channel,
        // and asks by itself.
        if let Some(link) = &self.0 {
            let mut state = link.reads.state();
            state.under_way -= 1;
            let abandoned = std::mem::take(&mut state.batches);
            drop(state);
            drop(abandoned);
        }
    }
}
