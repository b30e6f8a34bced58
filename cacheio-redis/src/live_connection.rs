//! An open connection, and how the server identifies it.

use std::sync::Arc;

use redis::{RedisError, RedisResult, Value, cmd};

use crate::handle_pool::HandlePool;
use crate::open::{CloseState, Opened};
use crate::request::Commands;

pub(crate) struct LiveConnection {
    handles: HandlePool,
    pub(crate) close_state: Arc<CloseState>,
    pub(crate) client_id: Option<ClientId>,
}

/// How the server identifies a connection: by a number, which a restarted server assigns again, and
/// by the client's address, which tells the two apart.
#[derive(Clone, PartialEq)]
pub(crate) struct ClientId {
    id: String,
    address: String,
}

impl LiveConnection {
    /// Prepares a new connection: has the server close the connections in `kill`, and reads the
    /// [`ClientId`] of the new one. One round trip.
    pub(crate) async fn prepare(opened: Opened, kill: &[ClientId]) -> RedisResult<Self> {
        let mut connection = opened.connection;
        let mut pipeline = redis::Pipeline::new();
        for ClientId { id, address } in kill {
            pipeline
                .cmd("CLIENT")
                .arg("KILL")
                .arg("ID")
                .arg(id)
                .arg("ADDR")
                .arg(address);
        }
        pipeline.cmd("CLIENT").arg("INFO");
        let count = kill.len() + 1;
        let mut replies = connection.send_packed_commands(&pipeline, 0, count).await?;
        let client_id = replies.pop().and_then(|info| ClientId::parse(&info));
        Ok(Self {
            handles: HandlePool::new(connection),
            close_state: opened.close_state,
            client_id,
        })
    }

    /// Sends commands and waits for the reply.
    pub(crate) async fn send(&self, commands: &Commands) -> RedisResult<Value> {
        let mut handle = self.handles.take();
        let reply = match commands {
            Commands::One(command) => handle.send_packed_command(command).await,
            Commands::Many(pipeline) => handle
                .send_packed_commands(pipeline, 0, pipeline.len())
                .await
                .map(Value::Array),
            Commands::Atomic(pipeline) => handle
                .send_packed_commands(pipeline, pipeline.len() + 1, 1)
                .await
                .map_err(first_cause)
                .map(|mut replies| replies.pop().unwrap_or(Value::Nil)),
        };
        self.handles.put_back(handle);
        match reply? {
            Value::ServerError(error) => Err(error.into()),
            reply => Ok(reply),
        }
    }

    pub(crate) async fn ping(&self) -> RedisResult<()> {
        self.send(&Commands::One(cmd("PING"))).await.map(drop)
    }
}

impl ClientId {
    /// Parses the reply to CLIENT INFO, which servers older than Redis 6.2 do not know.
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

/// Returns why a transaction was aborted: the error for its first command that Redis refused.
fn first_cause(error: RedisError) -> RedisError {
    let causes = error.clone().into_server_errors();
    let first = causes.and_then(|causes| causes.first().map(|(_, first)| first.clone()));
    first.map_or(error, RedisError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_parsed_from_client_info() {
        let info = b"id=7 addr=127.0.0.1:50000 laddr=127.0.0.1:6379 fd=8 name=".to_vec();
        let client_id = ClientId::parse(&Value::BulkString(info)).unwrap();
        assert_eq!(client_id.id, "7");
        assert_eq!(client_id.address, "127.0.0.1:50000");
        assert!(ClientId::parse(&Value::Okay).is_none());
    }
}
