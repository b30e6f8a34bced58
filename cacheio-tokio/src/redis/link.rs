//! One connection to one server: made on first use, shared by all callers, replaced when it breaks.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use cacheio_core::__private::{Attempt, Backoff, Circuit};
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, cmd};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::batches::{Batches, Kind};
use super::failure::{Failure, breaks};
use super::handles::Handles;
use super::request::{Commands, Request};
use super::target::{Opened, Target};

pub(super) struct Link {
    target: Target,
    timeout: Duration,
    circuit: Circuit,
    slot: RwLock<Slot>,
    /// Held by whoever connects; when the last attempt that failed began, and why it failed.
    connecting: tokio::sync::Mutex<Option<(Instant, RedisError)>>,
    probing: AtomicBool,
    gets: Option<Batches>,
    commands: Batches,
}

#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    /// Connections that were given up while the server may still have had unread requests of
    /// ours: it is told to forget them before another one is used.
    doubtful: Vec<Identity>,
}

pub(super) struct Live {
    handles: Handles,
    lost: Arc<AtomicBool>,
    identity: Option<Identity>,
}

/// What a server calls a connection: its number, which a restarted server gives again, and our
/// address, which makes it this one.
#[derive(Clone)]
struct Identity {
    id: String,
    address: String,
}

impl Link {
    pub(super) fn new(target: Target, timeout: Duration) -> Self {
        Self {
            circuit: Circuit::new(target.to_string()),
            target,
            timeout,
            slot: RwLock::default(),
            connecting: tokio::sync::Mutex::default(),
            probing: AtomicBool::new(false),
            gets: Some(Batches::new(Kind::Gets)),
            commands: Batches::new(Kind::Commands),
        }
    }

    /// A connection to one of several servers that share the keys: no command may name two.
    pub(super) fn scattered(target: Target, timeout: Duration) -> Self {
        Self {
            gets: None,
            ..Self::new(target, timeout)
        }
    }

    /// The server's host, if it is always the same.
    pub(super) fn host(&self) -> String {
        self.target.host().unwrap_or_default().to_owned()
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Requests that wait for each other's company. Where no command may name two keys, gets are
    /// commands like others.
    pub(super) fn batches(&self, kind: Kind) -> &Batches {
        match (kind, &self.gets) {
            (Kind::Gets, Some(gets)) => gets,
            _ => &self.commands,
        }
    }

    /// Lets a call through, unless the server is known not to answer.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Attempt, Failure> {
        if Handle::try_current().is_err() {
            return Err(Failure::no_runtime());
        }
        self.admit()
    }

    /// The same on a runtime.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Attempt, Failure> {
        self.circuit.enter().map_err(|error| {
            // The task that probes ends with its runtime.
            self.probe();
            Failure::Cache(error)
        })
    }

    /// What a call's end says about the server; no result means that its time is over.
    pub(super) fn judge<T>(
        self: &Arc<Self>,
        attempt: Attempt,
        result: Option<RedisResult<T>>,
    ) -> Result<T, Failure> {
        let failure = match result {
            Some(Ok(answer)) => {
                self.circuit.answered();
                return Ok(answer);
            }
            Some(Err(error)) if !error.is_io_error() => {
                self.circuit.answered();
                return Err(Failure::Redis(error));
            }
            Some(Err(error)) => {
                if self.circuit.failed(attempt, &error) {
                    self.probe();
                }
                Failure::Redis(error)
            }
            None => {
                if self.circuit.failed(attempt, "it took too long") {
                    self.probe();
                }
                Failure::elapsed(self.timeout)
            }
        };
        Err(failure)
    }

    /// Says that the server answered a request for several callers.
    pub(super) fn answered(&self) {
        self.circuit.answered();
    }

    /// Sends a request: once more on another connection, if the one there was turns out to be
    /// broken and the request may be repeated, or if the server is the right one no longer.
    pub(super) async fn send(&self, request: &Request) -> RedisResult<Value> {
        let live = match self.current() {
            Some(live) => live,
            // On the heap, as all that is seldom: what every call carries with it stays small.
            None => Box::pin(self.live()).await?,
        };
        match self.send_on(&live, request).await {
            Err(error) if breaks(&error) && request.repeatable => {}
            Err(error) if self.has_moved(&error) => {}
            result => return result,
        }
        Box::pin(async {
            let live = self.live().await?;
            self.send_on(&live, request).await
        })
        .await
    }

    async fn send_on(&self, live: &Arc<Live>, request: &Request) -> RedisResult<Value> {
        let result = live.ask(&request.commands).await;
        if let Err(error) = &result
            && self.is_useless_after(error)
        {
            self.give_up(live);
        }
        result
    }

    /// Whether a connection that gave this error is to be replaced.
    pub(super) fn is_useless_after(&self, error: &RedisError) -> bool {
        breaks(error) || self.has_moved(error)
    }

    /// Whether the server refused because it is no master any more, and another one is.
    fn has_moved(&self, error: &RedisError) -> bool {
        self.target.moves()
            && matches!(
                error.kind(),
                ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
            )
    }

    /// The connection; made now, if there is none.
    async fn live(&self) -> RedisResult<Arc<Live>> {
        if let Some(live) = self.current() {
            return Ok(live);
        }
        let began = Instant::now();
        let mut failed = self.connecting.lock().await;
        if let Some(live) = self.current() {
            return Ok(live);
        }
        // Those who waited share the failure of the one they waited for.
        if let Some((at, error)) = &*failed
            && *at >= began
        {
            return Err(error.clone());
        }
        let at = Instant::now();
        match self.connect().await {
            Ok(live) => {
                *failed = None;
                self.slot().live = Some(Arc::clone(&live));
                Ok(live)
            }
            Err(error) => {
                *failed = Some((at, error.clone()));
                Err(error)
            }
        }
    }

    pub(super) fn current(&self) -> Option<Arc<Live>> {
        let live = Arc::clone(
            self.slot
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .live
                .as_ref()?,
        );
        if !live.lost.load(Ordering::Acquire) {
            return Some(live);
        }
        self.give_up(&live);
        None
    }

    pub(super) fn give_up(&self, live: &Arc<Live>) {
        let mut slot = self.slot();
        if slot
            .live
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, live))
        {
            slot.live = None;
            self.doubt(&mut slot, live);
        }
    }

    /// Notes that requests on a connection may still be carried out. Within one machine they may
    /// not, when it is the server that has closed it.
    fn doubt(&self, slot: &mut Slot, live: &Live) {
        if let Some(identity) = &live.identity
            && (self.target.is_remote() || !live.lost.load(Ordering::Acquire))
        {
            slot.doubtful.push(identity.clone());
        }
    }

    /// Makes a connection, and makes sure that nothing sent on those before it comes after it.
    async fn connect(&self) -> RedisResult<Arc<Live>> {
        let Opened {
            mut connection,
            lost,
        } = self.target.connect(self.timeout).await?;
        let doubtful = self.slot().doubtful.clone();
        let mut pipeline = Pipeline::new();
        for Identity { id, address } in &doubtful {
            pipeline
                .cmd("CLIENT")
                .arg("KILL")
                .arg("ID")
                .arg(id)
                .arg("ADDR")
                .arg(address);
        }
        pipeline.cmd("CLIENT").arg("INFO");
        let count = doubtful.len() + 1;
        let mut answers = connection.send_packed_commands(&pipeline, 0, count).await?;
        let identity = answers.pop().and_then(|info| Identity::parse(&info));
        self.slot().doubtful.drain(..doubtful.len());
        Ok(Arc::new(Live {
            handles: Handles::new(connection),
            lost,
            identity,
        }))
    }

    /// Starts to ask the server, beside the callers, until it answers; if nobody does so yet.
    fn probe(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.probing.swap(true, Ordering::SeqCst) {
            return;
        }
        let probing = Probing(Arc::downgrade(self));
        let pause = self.timeout;
        runtime.spawn(async move {
            let mut delays = Backoff::new();
            loop {
                sleep(delays.next()).await;
                // The store itself may be gone: then nobody wants to know.
                let Some(link) = probing.0.upgrade() else {
                    return;
                };
                if matches!(timeout(pause, link.revive()).await, Ok(Ok(()))) {
                    link.circuit.close();
                    return;
                }
            }
        });
    }

    /// Has the server answer: on the connection there is, or on a new one that replaces it.
    ///
    /// A server that hung answers on the old one as soon as it goes on, after all that was sent
    /// before; only a connection that died in silence is replaced.
    async fn revive(&self) -> RedisResult<()> {
        let ping = Commands::One(cmd("PING"));
        let Some(old) = self.current() else {
            let live = self.live().await?;
            return live.ask(&ping).await.map(drop);
        };
        let answered = old.ask(&ping);
        tokio::pin!(answered);
        let replacement = async {
            let _connecting = self.connecting.lock().await;
            let opened = self.target.connect(self.timeout).await?;
            let mut connection = opened.connection;
            connection.send_packed_command(&cmd("PING")).await
        };
        tokio::select! {
            biased;
            answer = &mut answered => {
                if let Err(error) = answer {
                    self.give_up(&old);
                    return Err(error);
                }
                return Ok(());
            }
            fresh = replacement => { fresh?; }
        }
        // The server answers others. What was sent first gets a moment to be answered first.
        match timeout(self.timeout / 10, &mut answered).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                self.give_up(&old);
                self.live().await.map(drop)
            }
        }
    }

    fn slot(&self) -> RwLockWriteGuard<'_, Slot> {
        self.slot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Sends commands and waits for their answer.
    pub(super) async fn ask(&self, commands: &Commands) -> RedisResult<Value> {
        let mut handle = self.handles.take();
        let answer = match commands {
            Commands::One(command) => handle.send_packed_command(command).await,
            Commands::Many(pipeline) => handle
                .send_packed_commands(pipeline, 0, pipeline.len())
                .await
                .map(Value::Array),
            Commands::Atomic(pipeline) => handle
                .send_packed_commands(pipeline, pipeline.len() + 1, 1)
                .await
                .map_err(first_refusal)
                .map(|mut answers| answers.pop().unwrap_or(Value::Nil)),
        };
        self.handles.put_back(handle);
        match answer? {
            Value::ServerError(error) => Err(error.into()),
            answer => Ok(answer),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

/// Dropped when the probing ends, or its runtime: then another may begin.
struct Probing(std::sync::Weak<Link>);

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.probing.store(false, Ordering::SeqCst);
        }
    }
}

impl Identity {
    /// Out of what CLIENT INFO answers; older servers do not know it.
    fn parse(info: &Value) -> Option<Self> {
        let info = match info {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
            Value::VerbatimString { text, .. } => text,
            _ => return None,
        };
        let field = |name| {
            info.split_ascii_whitespace()
                .find_map(|field| field.strip_prefix(name))
                .map(str::to_owned)
        };
        Some(Self {
            id: field("id=")?,
            address: field("addr=")?,
        })
    }
}

/// Why a transaction was not carried out: what the server said to its first command that it did
/// not take.
fn first_refusal(error: RedisError) -> RedisError {
    let refusals = error.clone().into_server_errors();
    let first = refusals.and_then(|refusals| refusals.first().map(|(_, first)| first.clone()));
    first.map_or(error, RedisError::from)
}
