//! Finds the master of a name through Redis Sentinel.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use cacheio_core::__private::within;
use redis::aio::MultiplexedConnection;
use redis::{
    ConnectionAddr, ErrorKind, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind,
    Value, cmd,
};

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
        let part = timeout / (self.addresses.len() as u32 + 1);
        let mut failure = RedisError::from((
            ErrorKind::MasterNameNotFoundBySentinel,
            "no sentinel knows the master",
        ));
        for sentinel in &self.addresses {
            let deadline = Instant::now() + part;
            match within(deadline, self.master_known_to(sentinel, part, observers)).await {
                Some(Ok(Some((host, port)))) => {
                    let tls = matches!(sentinel, ConnectionAddr::TcpTls { .. });
                    return Ok(address(host, port, tls));
                }
                Some(Ok(None)) => {}
                Some(Err(error)) => failure = error,
                None => failure = io::Error::from(io::ErrorKind::TimedOut).into(),
            }
        }
        Err(failure)
    }

    async fn master_known_to(
        &self,
        sentinel: &ConnectionAddr,
        timeout: Duration,
        observers: Observers<'_>,
    ) -> RedisResult<Option<(String, u16)>> {
        let mut master_address = cmd("SENTINEL");
        master_address
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.master);
        let without_password = RedisConnectionInfo::default();
        let opened = open(
            &client(sentinel.clone(), without_password)?,
            timeout,
            observers,
        )
        .await?;
        let mut connection = opened.connection.clone();
        match master_address.query_async(&mut connection).await {
            Err(error) if error.code() == Some("NOAUTH") => {
                let with_password = self.settings.clone().set_db(0);
                let opened = open(
                    &client(sentinel.clone(), with_password)?,
                    timeout,
                    observers,
                )
                .await?;
                let mut connection = opened.connection.clone();
                master_address.query_async(&mut connection).await
            }
            reply => reply,
        }
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
