//! An open connection, and how the server identifies it.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value};
use tokio::runtime::Handle;

use crate::commands::{Commands, echo, is_echo, new_mark};
use crate::failure::{breaks_connection, reply_mismatch};
use crate::handle_pool::HandlePool;
use crate::open::{CloseState, Driver, Opened};
use crate::tracking::{Link, Tracking, track};
use crate::trust::Reason;

pub(crate) struct LiveConnection {
    handles: HandlePool,
    pub(crate) close_state: Arc<CloseState>,
    /// None if the `redis` crate has it.
    driver: Option<Driver>,
    pub(crate) runtime: Handle,
    pub(crate) client_id: Option<ClientId>,
    /// Whether the server returns the argument of PING.
    echoes: bool,
    /// On which the server tells of changes.
    link: Option<Arc<Link>>,
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
    /// [`ClientId`] of the new one. One round trip. The server may refuse each of these.
    pub(crate) async fn prepare(opened: Opened, kill: &[ClientId]) -> RedisResult<Self> {
        let mut pipeline = Pipeline::new();
        for ClientId { id, address } in kill {
            pipeline
                .cmd("CLIENT")
                .arg("KILL")
                .arg("ID")
                .arg(id)
                .arg("ADDR")
                .arg(address);
        }
        for (name, value) in [
            ("LIB-NAME", "cacheio"),
            ("LIB-VER", env!("CARGO_PKG_VERSION")),
        ] {
            pipeline.cmd("CLIENT").arg("SETINFO").arg(name).arg(value);
        }
        pipeline.cmd("CLIENT").arg("INFO");
        let mark = new_mark();
        pipeline.add_command(echo(mark));
        let mut live = Self::unprepared(opened);
        let mut connection = live.handle();
        let count = pipeline.len();
        let mut replies = connection.send_packed_commands(&pipeline, 0, count).await?;
        let echoed = replies.pop();
        live.echoes = echoed.is_some_and(|reply| is_echo(&reply, mark));
        live.client_id = replies.pop().and_then(|info| ClientId::parse(&info));
        Ok(live)
    }

    /// Takes a connection as it is.
    pub(crate) fn unprepared(opened: Opened) -> Self {
        Self {
            handles: HandlePool::new(opened.connection),
            close_state: opened.close_state,
            driver: opened.driver,
            runtime: opened.runtime,
            client_id: None,
            echoes: false,
            link: opened.link,
        }
    }

    /// Asks the server to tell of changes, if the connection can receive that. One round trip, in a cluster
    /// two. Returns why the server does not tell, if it does not.
    pub(crate) async fn track(&mut self) -> RedisResult<Option<Reason>> {
        let Some(link) = &self.link else {
            return Ok(Some(
                "the connection receives no pushes, which need RESP3".into(),
            ));
        };
        let Tracking::Refused(reason) = track(self, link).await? else {
            return Ok(None);
        };
        self.link = None;
        Ok(Some(reason))
    }

    /// Returns the link on which the server tells of changes, or may do so later.
    pub(crate) fn link(&self) -> Option<&Arc<Link>> {
        self.link.as_ref()
    }

    /// Returns whether the server is known to tell of changes.
    pub(crate) fn is_heard(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_heard())
    }

    /// Ends the link of a connection that is replaced.
    pub(crate) fn end_link(&self) {
        if let Some(link) = &self.link {
            link.end();
        }
    }

    /// Sends commands, and returns the replies to all of them.
    pub(crate) async fn send_all(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let mut handle = self.handles.take();
        let replies = handle.send_packed_commands(pipeline, 0, pipeline.len());
        let replies = replies.await;
        self.handles.put_back(handle);
        replies
    }

    /// Sends commands and waits for the reply.
    pub(crate) async fn send(&self, commands: &Commands) -> RedisResult<Value> {
        let mut handle = self.handles.take();
        let replies = if self.echoes {
            let (pipeline, count) = commands.with_mark();
            handle.send_packed_commands(pipeline, 0, count).await
        } else {
            let pipeline = commands.without_mark();
            let count = pipeline.len();
            handle.send_packed_commands(&pipeline, 0, count).await
        };
        self.handles.put_back(handle);
        let replies = replies?;
        // Another caller may have noticed it first.
        if self.close_state.is_out_of_step() {
            return Err(reply_mismatch());
        }
        let reply = commands.reply(replies, self.echoes);
        if let Err(error) = &reply
            && error.is_io_error()
        {
            self.end_out_of_step();
        }
        reply
    }

    /// Ends the connection, because its replies may answer other requests. All requests in flight
    /// fail.
    fn end_out_of_step(&self) {
        self.close_state.set_out_of_step();
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }

    /// Checks that the server replies to a command that any proxy knows, if only that the user may not use it.
    /// A server with too many clients sends an error and closes the connection.
    pub(crate) async fn until_replied(&self) -> RedisResult<()> {
        let mut get = redis::cmd("GET");
        get.arg("cacheio");
        match self.send(&Commands::one(get)).await {
            Err(error) if breaks_connection(&error) || error.code() == Some("ERR") => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) async fn ping(&self) -> RedisResult<()> {
        let ping = Commands::one(redis::cmd("PING"));
        self.send(&ping).await.map(drop)
    }

    fn handle(&self) -> MultiplexedConnection {
        self.handles.take()
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
