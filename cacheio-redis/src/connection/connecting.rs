//! Connecting: several attempts at the same time, of which the first that succeeds counts.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cacheio_core::__private::{io_runtime, runtime, within};
use redis::RedisResult;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{ConnectAttempt, Connection};
use crate::failure::breaks_connection;
use crate::live_connection::LiveConnection;
use crate::open::Opened;
use crate::tracking::keep;

/// After how long at least another attempt to connect begins, while the first one goes on.
const MIN_CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// After how long at most another attempt to connect begins, while the first one goes on.
const MAX_CONNECT_PAUSE: Duration = Duration::from_millis(250);

impl Connection {
    pub(super) fn start_connecting(
        self: &Arc<Self>,
        on_shared: bool,
    ) -> RedisResult<ConnectAttempt> {
        let (publish, outcome) = watch::channel(None);
        let runtime = match on_shared {
            true => runtime().cloned(),
            false => io_runtime(),
        };
        let runtime = runtime.map_err(io::Error::other)?;
        let connection = Arc::clone(self);
        runtime.spawn(async move {
            let deadline = Instant::now() + connection.timeout;
            let connected = connection.connect_by_first_attempt(deadline).await;
            let mut connecting = connection.connecting();
            // A newer attempt may have replaced this one.
            connecting.take_if(|attempt| attempt.outcome.same_channel(&publish.subscribe()));
            let connected = connected.map(|live| connection.install(live));
            publish.send_replace(Some(connected));
        });
        Ok(ConnectAttempt {
            outcome,
            started_at: Instant::now(),
        })
    }

    /// Connects. If a reply is lost while connecting, nothing else on that connection shows it, so the attempt
    /// would take the whole timeout: others begin meanwhile. Returns the first connection, or the first error
    /// once no attempt is running.
    async fn connect_by_first_attempt(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> RedisResult<LiveConnection> {
        let mut attempts = JoinSet::new();
        let mut pause = (self.timeout / 4).clamp(MIN_CONNECT_PAUSE, MAX_CONNECT_PAUSE);
        let mut first_error = None;
        while Instant::now() < deadline {
            let connection = Arc::clone(self);
            attempts.spawn(async move { connection.connect().await });
            let next = deadline.min(Instant::now() + pause);
            pause *= 2;
            while let Some(Some(connected)) = within(next, attempts.join_next()).await {
                let stopped = |_| Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
                match connected.unwrap_or_else(stopped) {
                    Ok(live) => return Ok(live),
                    // The server may refuse this one because it still serves an earlier one.
                    Err(error) => {
                        let error = first_error.get_or_insert(error);
                        if attempts.is_empty() {
                            return Err(error.clone());
                        }
                    }
                }
            }
        }
        Err(first_error.unwrap_or_else(|| io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// Connects, and has the server close the discarded connections.
    pub(super) async fn connect(&self) -> RedisResult<LiveConnection> {
        let tracker = self.tracker.as_ref().filter(|tracker| tracker.is_wanted());
        let track_until = Instant::now() + self.timeout * 3 / 4;
        let opened = self.endpoint.connect(self.timeout, self.observers(tracker));
        let opened = opened.await;
        let opened = opened.map_err(|error| self.endpoint.without_password(error))?;
        let mut live = self.prepare(opened).await?;
        let Some(tracker) = tracker else {
            return Ok(live);
        };
        let tracked = {
            let tracking = live.track();
            tokio::pin!(tracking);
            match within(track_until, &mut tracking).await {
                Some(Ok(untold)) => Ok(untold),
                // A proxy may close the connection at a command that it does not know.
                Some(Err(_)) => Err(self.connect_untracked().await?),
                // It may reply late, or never.
                None => tokio::select! {
                    biased;
                    Ok(untold) = &mut tracking => Ok(untold),
                    untracked = self.connect_untracked() => Err(untracked?),
                },
            }
        };
        match tracked {
            Ok(None) => Ok(live),
            Ok(Some(reason)) => {
                tracker.cannot_tell(&reason);
                Ok(live)
            }
            Err(untracked) => {
                tracker.cannot_tell("it does not reply to CLIENT TRACKING");
                Ok(untracked)
            }
        }
    }

    async fn connect_untracked(&self) -> RedisResult<LiveConnection> {
        let opened = self.endpoint.connect(self.timeout, self.observers(None));
        self.prepare(opened.await?).await
    }

    /// Prepares a new connection. Has the server close the discarded connections, so that no request
    /// on them takes effect after a request on this one.
    async fn prepare(&self, opened: Opened) -> RedisResult<LiveConnection> {
        let unconfirmed = self.slot().unconfirmed.clone();
        match LiveConnection::prepare(opened, &unconfirmed).await {
            // A proxy may close the connection at a command that it does not know.
            Err(error) if breaks_connection(&error) && unconfirmed.is_empty() => {
                let opened = self.endpoint.connect(self.timeout, self.observers(None));
                let live = LiveConnection::unprepared(opened.await?);
                live.until_replied().await?;
                Ok(live)
            }
            Err(error) => Err(error),
            Ok(live) => {
                self.slot()
                    .unconfirmed
                    .retain(|client_id| !unconfirmed.contains(client_id));
                Ok(live)
            }
        }
    }

    /// Makes a new connection the current one, unless there is one already. Returns the current one.
    fn install(self: &Arc<Self>, new: LiveConnection) -> Arc<LiveConnection> {
        self.record_reply();
        let mut slot = self.slot();
        if let Some(live) = &slot.live
            && !live.close_state.is_closed()
        {
            return Arc::clone(live);
        }
        let live = Arc::new(new);
        let old = slot.live.replace(Arc::clone(&live));
        drop(slot);
        if let Some(old) = old {
            self.end_tracking(&old);
        }
        if let Some(link) = live.link() {
            keep(self, &live, link);
        }
        live
    }
}
