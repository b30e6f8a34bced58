//! The keeper of a link: it asks again and again whether the server still tells of all changes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cacheio_core::__private::{runtime, within};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, cmd};
use tokio::time::sleep;

use super::Link;
use super::own_slots::OwnSlots;
use super::self_test::{Tracking, track, track_in};
use crate::commands::Commands;
use crate::connection::Connection;
use crate::failure::may_be_replaced;
use crate::live_connection::LiveConnection;

/// The pause of a keeper while there is no L1.
const WITHOUT_L1: Duration = Duration::from_secs(1);

/// The keeper asks as often as for this bound at least, so that a demoted master is noticed.
const MAX_BOUND: Duration = Duration::from_secs(60);

/// Counts as a write, so that the server refuses it where it may not be written to, and changes nothing.
const WRITE_PROBE: &str = "#!lua\nreturn 1";

/// Probes a link as long as its connection is used.
pub(crate) fn keep(connection: &Arc<Connection>, live: &Arc<LiveConnection>, link: &Arc<Link>) {
    let Ok(runtime) = runtime() else {
        return;
    };
    let mut keeper = Keeper {
        connection: Arc::downgrade(connection),
        live: Arc::downgrade(live),
        link: Arc::clone(link),
        uses_role: false,
        own_slots: OwnSlots::default(),
    };
    runtime.spawn(async move {
        while let Some(pause) = keeper.probe().await {
            sleep(pause).await;
        }
        keeper.link.end();
    });
}

struct Keeper {
    connection: Weak<Connection>,
    live: Weak<LiveConnection>,
    link: Arc<Link>,
    /// Whether this user may not run scripts.
    uses_role: bool,
    /// In a cluster, what the node served at the last probe.
    own_slots: OwnSlots,
}

impl Keeper {
    /// Probes the link once. Returns how long to wait for the next time; `None` if the link is of no use any
    /// more.
    async fn probe(&mut self) -> Option<Duration> {
        let live = self.live.upgrade()?;
        if live.close_state.is_closed() || self.link.has_ended() {
            return None;
        }
        let tracker = Arc::clone(&self.link.tracker);
        let Some(bound) = tracker.shared.max_staleness() else {
            return Some(WITHOUT_L1);
        };
        let bound = bound.min(MAX_BOUND);
        let timeout = self.connection.upgrade()?.timeout();
        let sent = Instant::now();
        let time = bound.min(timeout);
        match within(sent + time, self.ask(&live, time)).await {
            Some(Ok(Tracking::Tracked)) => tracker.record(&self.link, sent),
            Some(Ok(Tracking::NotYet)) => tracker.forget(&self.link),
            Some(Ok(Tracking::Refused(reason))) => {
                tracker.cannot_tell(&reason);
                return None;
            }
            Some(Err(error)) if is_refused(&error) && !self.uses_role => {
                self.uses_role = true;
                return Some(Duration::ZERO);
            }
            // This user may ask neither way: copies end by themselves.
            Some(Err(error)) if is_refused(&error) => {
                tracker.cannot_tell("the user may run neither scripts nor ROLE");
                return None;
            }
            // Others may be writing to another server.
            Some(Err(error)) if may_be_replaced(&error) => {
                tracker.refused(&self.link);
                // The nodes of a cluster have other connections.
                let connection = self.connection.upgrade()?;
                if !tracker.is_of_cluster && connection.may_look_for_master_unasked() {
                    connection.discard(&live);
                    return None;
                }
            }
            // It replies late or never: what it had to tell may be on its way.
            Some(Err(_)) | None => tracker.forget(&self.link),
        }
        Some(bound / 4)
    }

    /// Asks whether the server may be written to: a master that was demoted or isolated goes on replying to
    /// reads. In a cluster, also whether the node still serves its slots; behind sentinels, whether they still
    /// name the server: one that was replaced is demoted only some seconds later.
    async fn ask(&mut self, live: &LiveConnection, time: Duration) -> RedisResult<Tracking> {
        let is_of_cluster = self.link.tracker.is_of_cluster;
        let write_probe = match self.uses_role {
            true => cmd("ROLE"),
            false => {
                let mut eval = cmd("EVAL");
                eval.arg(WRITE_PROBE).arg(0);
                eval
            }
        };
        let own_slots = is_of_cluster.then(OwnSlots::commands).into_iter().flatten();
        let commands = [write_probe].into_iter().chain(own_slots);
        let Value::Array(mut replies) = live.send(&Commands::many(commands)).await? else {
            return Ok(Tracking::NotYet);
        };
        let others = replies.split_off(1);
        let probed = replies.remove(0).extract_error()?;
        if self.uses_role && !is_master(&probed) {
            return Err(not_a_master());
        }
        if let Some(master) = self.link.named_master.get()
            && !master.is_master(time).await?
        {
            return Err(not_a_master());
        }
        if is_of_cluster {
            let own_slots = OwnSlots::parse(others)?;
            if own_slots != self.own_slots {
                self.link.tracker.forget(&self.link);
                self.own_slots = own_slots;
            }
            if self.own_slots.is_empty() {
                let kind = ErrorKind::Server(ServerErrorKind::ClusterDown);
                return Err((kind, "the node serves no slots").into());
            }
        }
        if self.link.is_tracked.load(Ordering::SeqCst) {
            return Ok(Tracking::Tracked);
        }
        match is_of_cluster {
            true => track_in(live, &self.link, &self.own_slots).await,
            false => track(live, &self.link).await,
        }
    }
}

fn is_master(role: &Value) -> bool {
    let Value::Array(parts) = role else {
        return false;
    };
    matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master")
}

fn not_a_master() -> RedisError {
    let kind = ErrorKind::Server(ServerErrorKind::ReadOnly);
    RedisError::from((kind, "the server is not a master"))
}

/// Returns whether the server does not execute the command for this user at all.
fn is_refused(error: &RedisError) -> bool {
    let is_refused = error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm);
    is_refused || error.to_string().contains("unknown command")
}
