//! What the replies of Redis mean. An error for a whole request was taken out before.

use std::time::Duration;

use cacheio_core::{Entry, Ttl};
use redis::Value;

use crate::failure::Failure;

pub(crate) fn entry(reply: Value) -> Result<Option<Entry>, Failure> {
    Ok(value(reply)?.map(Entry::bytes))
}

/// Takes the reply to the command that tracks the keys of the next one, if it is there, out of the replies. Returns
/// whether the server tells of changes of the keys, and the other replies, `count` of them.
pub(crate) fn without_tracking(
    replies: Vec<Value>,
    count: usize,
) -> (bool, impl Iterator<Item = Value>) {
    let has_tracking = replies.len() > count;
    let mut replies = replies.into_iter();
    // A server that does not track the connection replies with an error.
    let is_tracked = has_tracking && replies.next() == Some(Value::Okay);
    (is_tracked, replies)
}

/// Makes an entry of the replies to GET and PTTL.
pub(crate) fn entry_with_ttl(
    value: Value,
    ttl: Option<Value>,
    is_tracked: bool,
) -> Result<Option<Entry>, Failure> {
    let mut entry = entry(value)?;
    // Without the TTL, the copy would outlive the entry: the server tells late that it has expired.
    if let (Some(entry), Some(Value::Int(ttl))) = (&mut entry, ttl) {
        entry.is_watched = is_tracked;
        entry.left = Some(match ttl {
            -1 => Ttl::Never,
            // A negative number: it has expired since it was read.
            ttl => Ttl::After(Duration::from_millis(
                u64::try_from(ttl).unwrap_or_default(),
            )),
        });
    }
    Ok(entry)
}

pub(crate) fn value(reply: Value) -> Result<Option<Vec<u8>>, Failure> {
    match reply {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::Nil => Ok(None),
        other => Err(failure(other)),
    }
}

pub(crate) fn values(reply: Value) -> Result<Vec<Value>, Failure> {
    match reply {
        Value::Array(values) => Ok(values),
        other => Err(failure(other)),
    }
}

pub(crate) fn integer(reply: Value) -> Result<i64, Failure> {
    match reply {
        Value::Int(integer) => Ok(integer),
        other => Err(failure(other)),
    }
}

/// Returns whether a SET, with or without NX, stored its value.
pub(crate) fn stored(reply: Value) -> Result<bool, Failure> {
    match reply {
        Value::Okay => Ok(true),
        Value::Nil => Ok(false),
        other => Err(failure(other)),
    }
}

/// Returns the reply to the last of several commands.
pub(crate) fn last(reply: Value) -> Result<Value, Failure> {
    match reply {
        Value::Array(mut replies) => match replies.pop() {
            Some(Value::ServerError(error)) => Err(Failure::Redis(error.into())),
            Some(last) => Ok(last),
            None => Err(Failure::unexpected_reply()),
        },
        single => Ok(single),
    }
}

fn failure(reply: Value) -> Failure {
    match reply {
        Value::ServerError(error) => Failure::Redis(error.into()),
        _ => Failure::unexpected_reply(),
    }
}
