//! Finds the master of a name through Redis Sentinel.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cacheio_core::__private::{Circuit, Opens, within};
use redis::aio::MultiplexedConnection;
use redis::{
    ConnectionAddr, ErrorKind, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind,
    Value, cmd,
};
use tokio::sync::Mutex;

use crate::nearness::Nearness;
use crate::open::{Observers, Opened, address, client, open};

/// The sentinels that know a master.
#[derive(Clone)]
pub(crate) struct Sentinels {
    pub(crate) addresses: Vec<ConnectionAddr>,
    pub(crate) master: String,
    /// For connections to the master; also for those to the sentinels if they require a password.
    pub(crate) settings: RedisConnectionInfo,
}

impl Sentinels {
    /// Returns the address that the first sentinel that knows the master gives. Each sentinel gets
    /// an equal part of `timeout`, and so does the connection to the master.
    pub(crate) async fn find_master(
        &self,
        timeout: Duration,
        observers: Observers<'_>,
    ) -> RedisResult<ConnectionAddr> {
        let found = self.ask(timeout, observers).await?;
        Ok(found.0)
    }

    /// Does the same, and returns the connection to the sentinel too.
    async fn ask(
        &self,
        timeout: Duration,
        observers: Observers<'_>,
    ) -> RedisResult<(ConnectionAddr, Asked)> {
        let part = self.part(timeout);
        let mut failure = RedisError::from((
            ErrorKind::MasterNameNotFoundBySentinel,
            "no sentinel knows the master",
        ));
        for sentinel in &self.addresses {
            let deadline = Instant::now() + part;
            match within(deadline, self.ask_one(sentinel, part, observers)).await {
                Some(Ok((Some(master), asked))) => return Ok((master, asked)),
                Some(Ok((None, _))) => {}
                Some(Err(error)) => failure = error,
                None => failure = io::Error::from(io::ErrorKind::TimedOut).into(),
            }
        }
        Err(failure)
    }

    /// Returns the part of the time that each sentinel gets.
    fn part(&self, timeout: Duration) -> Duration {
        timeout / (self.addresses.len() as u32 + 1)
    }

    async fn ask_one(
        &self,
        sentinel: &ConnectionAddr,
        timeout: Duration,
        observers: Observers<'_>,
    ) -> RedisResult<(Option<ConnectionAddr>, Asked)> {
        let connect = async |settings| {
            let client = client(sentinel.clone(), settings)?;
            RedisResult::Ok(Asked {
                opened: open(&client, timeout, observers).await?,
                tls: matches!(sentinel, ConnectionAddr::TcpTls { .. }),
            })
        };
        let without_password = connect(RedisConnectionInfo::default()).await?;
        match without_password.master(&self.master).await {
            Err(error) if error.code() == Some("NOAUTH") => {
                let with_password = connect(self.settings.clone().set_db(0)).await?;
                Ok((with_password.master(&self.master).await?, with_password))
            }
            reply => Ok((reply?, without_password)),
        }
    }
}

/// A connection to a sentinel.
struct Asked {
    opened: Opened,
    tls: bool,
}

impl Asked {
    /// Returns the address of the master of a name, if the sentinel knows it.
    async fn master(&self, name: &str) -> RedisResult<Option<ConnectionAddr>> {
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let mut connection = self.opened.connection.clone();
        let known: Option<(String, u16)> = command.query_async(&mut connection).await?;
        Ok(known.map(|(host, port)| address(host, port, self.tls)))
    }
}

/// The server that was the master when a connection to it was opened.
pub(crate) struct NamedMaster {
    sentinels: Sentinels,
    address: ConnectionAddr,
    /// The sentinel that replied last.
    asked: Mutex<Option<Asked>>,
    /// A reply of a sentinel is none of the server.
    circuit: Arc<Circuit>,
    nearness: Arc<Nearness>,
}

impl NamedMaster {
    pub(crate) fn new(sentinels: &Sentinels, address: ConnectionAddr) -> Self {
        Self {
            sentinels: sentinels.clone(),
            address,
            asked: Mutex::default(),
            circuit: Arc::new(Circuit::new(sentinels.to_string(), &Opens::default())),
            nearness: Arc::default(),
        }
    }

    /// Returns whether it is still the master, as the first sentinel says that replies.
    pub(crate) async fn is_master(&self, timeout: Duration) -> RedisResult<bool> {
        let mut last = self.asked.lock().await;
        if let Some(asked) = last.take() {
            let deadline = Instant::now() + self.sentinels.part(timeout);
            let master = within(deadline, asked.master(&self.sentinels.master)).await;
            if let Some(Ok(Some(master))) = master {
                *last = Some(asked);
                return Ok(master == self.address);
            }
        }
        let observers = Observers {
            circuit: &self.circuit,
            nearness: &self.nearness,
            tracker: None,
        };
        let (master, asked) = self.sentinels.ask(timeout, observers).await?;
        *last = Some(asked);
        Ok(master == self.address)
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the sentinels at ", self.master)?;
        for (at, sentinel) in self.addresses.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{sentinel}")?;
        }
        Ok(())
    }
}

/// Checks that a server is a master: just after a failover the sentinels may name the old one.
pub(crate) async fn check_role(mut opened: Opened) -> RedisResult<Opened> {
    match role(&mut opened.connection).await {
        Ok(role) if role == Value::BulkString(b"master".into()) => Ok(opened),
        Ok(_) => Err(RedisError::from((
            ErrorKind::MasterNameNotFoundBySentinel,
            "the server that the sentinels name is not a master (yet)",
        ))),
        // The user may lack the permission for ROLE.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(opened),
        Err(error) => Err(error),
    }
}

async fn role(connection: &mut MultiplexedConnection) -> RedisResult<Value> {
    let role: Value = cmd("ROLE").query_async(connection).await?;
    Ok(match role {
        Value::Array(parts) => parts.into_iter().next().unwrap_or(Value::Nil),
        _ => Value::Nil,
    })
}
