//! One connection to one server: made on first use, shared by all callers, replaced when it breaks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::Duration;
use std::{fmt, io};

use cacheio_core::__private::{Attempt, Backoff, Circuit, Opens};
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::batches::{Batches, Kind};
use crate::failure::{Failure, breaks};
use crate::handles::Handles;
use crate::request::{Commands, Request};
use crate::target::{End, Opened, Target};

/// How long after its time whoever probes is taken to be on a runtime that stands still.
const STANDSTILL: Duration = Duration::from_secs(1);

pub(crate) struct Link {
    target: Target,
    timeout: Duration,
    circuit: Circuit,
    slot: RwLock<Slot>,
    connecting: Mutex<Option<Connecting>>,
    /// When the latest round of whoever probes began.
    probing: Mutex<Option<Instant>>,
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

pub(crate) struct Live {
    handles: Handles,
    end: Arc<End>,
    identity: Option<Identity>,
}

/// An attempt to connect, which is a task's: those who wait for it may go, or not be polled.
struct Connecting {
    since: Instant,
    outcome: watch::Receiver<Outcome>,
}

/// None while the attempt goes on.
type Outcome = Option<RedisResult<Arc<Live>>>;

/// What a server calls a connection: its number, which a restarted server gives again, and our
/// address, which makes it this one.
#[derive(Clone, PartialEq)]
struct Identity {
    id: String,
    address: String,
}

impl Link {
    pub(crate) fn new(target: Target, timeout: Duration, opens: &Opens) -> Self {
        Self {
            circuit: Circuit::new(target.to_string(), opens),
            target,
            timeout,
            slot: RwLock::default(),
            connecting: Mutex::default(),
            probing: Mutex::default(),
            gets: Some(Batches::new(Kind::Gets)),
            commands: Batches::new(Kind::Commands),
        }
    }

    /// A connection to one of several servers that share the keys: no command may name two.
    pub(crate) fn scattered(target: Target, timeout: Duration, opens: &Opens) -> Self {
        Self {
            gets: None,
            ..Self::new(target, timeout, opens)
        }
    }

    /// The server's host, if it is always the same.
    pub(crate) fn host(&self) -> String {
        self.target.host().unwrap_or_default().to_owned()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Requests that wait for each other's company. Where no command may name two keys, gets are
    /// commands like others.
    pub(crate) fn batches(&self, kind: Kind) -> &Batches {
        match (kind, &self.gets) {
            (Kind::Gets, Some(gets)) => gets,
            _ => &self.commands,
        }
    }

    /// Lets a call through, unless the server is known not to answer.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Attempt, Failure> {
        if Handle::try_current().is_err() {
            return Err(Failure::no_runtime());
        }
        self.admit()
    }

    /// The same on a runtime.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Attempt, Failure> {
        self.circuit.enter().map_err(|error| {
            // The task that probes ends with its runtime.
            self.probe();
            Failure::Cache(error)
        })
    }

    /// What a call's end says about the server; no result means that its time is over.
    pub(crate) fn judge<T>(
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
    pub(crate) fn answered(&self) {
        self.circuit.answered();
    }

    /// Sends a request: once more on another connection, if the one there was turns out to be
    /// broken and the request may be repeated, or if the server is the right one no longer.
    pub(crate) async fn send(self: &Arc<Self>, request: &Request) -> RedisResult<Value> {
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
    pub(crate) fn is_useless_after(&self, error: &RedisError) -> bool {
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

    /// The connection; made now, if there is none. Those who wait for it share its failure.
    async fn live(self: &Arc<Self>) -> RedisResult<Arc<Live>> {
        // Twice, as the first attempt may have ended with the runtime of whoever began it.
        for _ in 0..2 {
            let mut outcome = {
                let mut connecting = self.connecting();
                if let Some(live) = self.current() {
                    return Ok(live);
                }
                match &*connecting {
                    Some(attempt) if attempt.goes_on(self.timeout) => attempt.outcome.clone(),
                    _ => connecting.insert(self.begin_to_connect()).outcome.clone(),
                }
            };
            if let Ok(outcome) = outcome.wait_for(Option::is_some).await
                && let Some(outcome) = &*outcome
            {
                return outcome.clone();
            }
        }
        Err(io::Error::from(io::ErrorKind::ConnectionAborted).into())
    }

    fn begin_to_connect(self: &Arc<Self>) -> Connecting {
        let since = Instant::now();
        let (tell, outcome) = watch::channel(None);
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let connected = timeout(link.timeout, link.connect()).await;
            let elapsed = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
            let connected = connected.unwrap_or_else(elapsed);
            let mut connecting = link.connecting();
            // Otherwise it stood still for so long that another has taken its place.
            if connecting
                .as_ref()
                .is_some_and(|attempt| attempt.since == since)
            {
                *connecting = None;
                if let Ok(live) = &connected {
                    link.slot().live = Some(Arc::clone(live));
                }
                tell.send_replace(Some(connected));
            }
        });
        Connecting { since, outcome }
    }

    pub(crate) fn current(&self) -> Option<Arc<Live>> {
        let live = Arc::clone(
            self.slot
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .live
                .as_ref()?,
        );
        if !live.end.is_lost() {
            return Some(live);
        }
        self.give_up(&live);
        None
    }

    pub(crate) fn give_up(&self, live: &Arc<Live>) {
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
            && (self.target.is_remote() || !live.end.is_by_server())
        {
            slot.doubtful.push(identity.clone());
        }
    }

    /// Makes a connection, and makes sure that nothing sent on those before it comes after it.
    async fn connect(&self) -> RedisResult<Arc<Live>> {
        let Opened {
            mut connection,
            end,
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
        let mut slot = self.slot();
        slot.doubtful
            .retain(|identity| !doubtful.contains(identity));
        drop(slot);
        Ok(Arc::new(Live {
            handles: Handles::new(connection),
            end,
            identity,
        }))
    }

    /// Starts to ask the server, beside the callers, until it answers; if nobody does so yet.
    fn probe(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let Some(mut probing) = Probing::begin(self) else {
            return;
        };
        let pause = self.timeout;
        runtime.spawn(async move {
            let mut delays = Backoff::new();
            loop {
                sleep(delays.next()).await;
                let Some(link) = probing.next_round() else {
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
    async fn revive(self: &Arc<Self>) -> RedisResult<()> {
        let ping = Commands::One(cmd("PING"));
        let Some(old) = self.current() else {
            let live = self.live().await?;
            return live.ask(&ping).await.map(drop);
        };
        let answered = old.ask(&ping);
        tokio::pin!(answered);
        let replacement = async {
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

    fn connecting(&self) -> MutexGuard<'_, Option<Connecting>> {
        self.connecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn probing(&self) -> MutexGuard<'_, Option<Instant>> {
        self.probing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self) -> RwLockWriteGuard<'_, Slot> {
        self.slot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Sends commands and waits for their answer.
    pub(crate) async fn ask(&self, commands: &Commands) -> RedisResult<Value> {
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

impl Connecting {
    /// Whether it may still succeed: neither has its runtime ended, nor does that stand still.
    fn goes_on(&self, timeout: Duration) -> bool {
        self.outcome.has_changed().is_ok() && self.since.elapsed() < timeout
    }
}

/// Held by whoever asks the server until it answers. When it is dropped, as it is with its runtime,
/// or has begun no round for long, another may begin.
struct Probing {
    link: Weak<Link>,
    round: Instant,
}

impl Probing {
    /// Unless another does it.
    fn begin(link: &Arc<Link>) -> Option<Self> {
        let round = Instant::now();
        let longest = link.timeout.saturating_mul(2).saturating_add(STANDSTILL);
        let mut probing = link.probing();
        if probing.is_some_and(|latest| round.duration_since(latest) < longest) {
            return None;
        }
        *probing = Some(round);
        Some(Self {
            link: Arc::downgrade(link),
            round,
        })
    }

    /// Whom to ask, unless another has taken over, or the store itself is gone and nobody wants to
    /// know.
    fn next_round(&mut self) -> Option<Arc<Link>> {
        let link = self.link.upgrade()?;
        let mut probing = link.probing();
        if *probing != Some(self.round) {
            return None;
        }
        self.round = Instant::now();
        *probing = Some(self.round);
        drop(probing);
        Some(link)
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(link) = self.link.upgrade() {
            let mut probing = link.probing();
            if *probing == Some(self.round) {
                *probing = None;
            }
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
