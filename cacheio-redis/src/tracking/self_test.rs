//! Turns tracking on, and tests whether the pushes arrive.

use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use redis::{Pipeline, RedisError, RedisResult, Value, cmd};

use super::own_slots::OwnSlots;
use super::{Link, caching};
use crate::claim_key::{claim_key, claim_key_at};
use crate::commands::Commands;
use crate::failure::{may_pass, reason};
use crate::live_connection::LiveConnection;
use crate::reply::values;
use crate::trust::Reason;

/// The oldest version whose tracking is reliable: before it, pushes could come within a reply (redis#8935,
/// redis#11038).
const OLDEST: [u64; 3] = [7, 0, 5];

/// Whether a server tells of changes.
pub(crate) enum Tracking {
    Tracked,
    /// The server could not be tested: it is a replica, or loads its data, or the node has no slots.
    NotYet,
    Refused(Reason),
}

/// Turns tracking on for a connection, and tests it.
pub(crate) async fn track(live: &LiveConnection, link: &Link) -> RedisResult<Tracking> {
    if !link.tracker.is_of_cluster {
        return track_with(live, link, claim_key(&test_key(link))).await;
    }
    let replies = live.send(&Commands::many(OwnSlots::commands())).await?;
    let replies = values(replies).unwrap_or_default();
    match OwnSlots::parse(replies) {
        Ok(own_slots) => track_in(live, link, &own_slots).await,
        Err(error) => Ok(unless_passing(&error)),
    }
}

/// Does the same for a node of a cluster, with a key in one of its slots.
pub(super) async fn track_in(
    live: &LiveConnection,
    link: &Link,
    own_slots: &OwnSlots,
) -> RedisResult<Tracking> {
    let random = RandomState::new().hash_one(link.id);
    let Some(slot) = own_slots.pick(random) else {
        return Ok(Tracking::NotYet);
    };
    let key = claim_key_at(&test_key(link), slot);
    // A namespace with a tag has all its keys in one slot.
    match own_slots.contains(&key) {
        true => track_with(live, link, key).await,
        false => Ok(Tracking::NotYet),
    }
}

/// Returns a key that the user may use: random, so that no other client changes it.
fn test_key(link: &Link) -> String {
    let prefix = link.tracker.shared.l1_prefix().unwrap_or_default();
    let random = RandomState::new().hash_one(link.id);
    format!("{prefix}{random:016x}")
}

/// Does the same with a key of the form that no key of a user has.
async fn track_with(live: &LiveConnection, link: &Link, key: String) -> RedisResult<Tracking> {
    let current = || link.test_key.lock().unwrap_or_else(PoisonError::into_inner);
    *current() = Some(key.clone());
    // Not with NOLOOP: then nothing tells this connection of what is evicted during its own commands, or forgotten
    // because too many keys are tracked.
    let mut tracking = cmd("CLIENT");
    tracking.arg("TRACKING").arg("ON").arg("OPTIN");
    let mut exists = cmd("EXISTS");
    exists.arg(&key);
    let mut set = cmd("SET");
    set.arg(&key).arg(1).arg("PX").arg(1);
    let mut pipeline = Pipeline::new();
    for command in [tracking, caching(), exists, set, cmd("HELLO")] {
        pipeline.add_command(command);
    }
    let replies = live.send_all(&pipeline).await?;
    *current() = None;
    let mut errors = replies.iter().filter_map(|reply| match reply {
        Value::ServerError(error) => Some(RedisError::from(error.clone())),
        _ => None,
    });
    if let Some(error) = errors.next() {
        return Ok(unless_passing(&error));
    }
    let hello = replies.last();
    let mode = hello.and_then(|hello| field(hello, "mode"));
    if !link.tracker.is_of_cluster && mode.as_deref() == Some("cluster") {
        let reason = "it is a node of a cluster; use a redis-cluster:// URL";
        return Ok(Tracking::Refused(reason.into()));
    }
    let version = hello.and_then(version);
    if version.is_none_or(|version| version < OLDEST) {
        return Ok(Tracking::Refused("it is older than Redis 7.0.5".into()));
    }
    if !link.told_of_test.load(Ordering::SeqCst) {
        let reason = "no push arrived; a proxy may drop them";
        return Ok(Tracking::Refused(reason.into()));
    }
    link.is_tracked.store(true, Ordering::SeqCst);
    Ok(Tracking::Tracked)
}

/// Returns what an error of the test means.
fn unless_passing(error: &RedisError) -> Tracking {
    match may_pass(error) {
        true => Tracking::NotYet,
        false => Tracking::Refused(reason(error).into()),
    }
}

/// Returns a field of the reply to HELLO.
fn field(hello: &Value, name: &str) -> Option<String> {
    let Value::Map(fields) = hello else {
        return None;
    };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let mut fields = fields.iter();
    let found = fields.find(|(found, _)| text(found).as_deref() == Some(name))?;
    text(&found.1)
}

/// Returns the version in the reply to HELLO.
fn version(hello: &Value) -> Option<[u64; 3]> {
    let version = field(hello, "version")?;
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let mut part = || parts.next().flatten();
    Some([part()?, part()?, part()?])
}
