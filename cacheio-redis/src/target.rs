//! Where Redis is, and how a connection to it is made.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, Value, cmd,
};
use tokio::sync::Semaphore;

/// Where a server is.
pub(crate) struct Target {
    place: Place,
    /// It speaks no RESP3.
    old: AtomicBool,
}

enum Place {
    Server(Client),
    /// The master that the sentinels name.
    Sentinel {
        sentinels: Vec<ConnectionAddr>,
        master: String,
        /// Of the master; of the sentinels too, if they ask for a password.
        settings: RedisConnectionInfo,
    },
}

impl Target {
    pub(crate) fn server(client: Client) -> Self {
        Self::at(Place::Server(client))
    }

    pub(crate) fn sentinel(
        master: String,
        sentinels: Vec<ConnectionAddr>,
        settings: RedisConnectionInfo,
    ) -> Self {
        Self::at(Place::Sentinel {
            sentinels,
            master,
            settings,
        })
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            old: AtomicBool::new(false),
        }
    }

    pub(crate) fn host(&self) -> Option<&str> {
        let Place::Server(client) = &self.place else {
            return None;
        };
        match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host),
            _ => None,
        }
    }

    /// Whether another server may be the right one the next time.
    pub(crate) fn moves(&self) -> bool {
        matches!(self.place, Place::Sentinel { .. })
    }

    /// Whether the other end can be gone and the bytes between still arrive: not in one kernel.
    pub(crate) fn is_remote(&self) -> bool {
        match &self.place {
            Place::Server(client) => {
                !matches!(client.get_connection_info().addr(), ConnectionAddr::Unix(_))
            }
            Place::Sentinel { .. } => true,
        }
    }

    /// Connects, asking each sentinel for no longer than its part of `timeout`.
    pub(crate) async fn connect(&self, timeout: Duration) -> RedisResult<Opened> {
        match &self.place {
            Place::Server(client) => self.connect_to(client).await,
            Place::Sentinel {
                sentinels,
                master,
                settings,
            } => {
                let each = timeout / (sentinels.len() as u32 + 1);
                let place = find_master(sentinels, master, settings, each).await?;
                let client = client(place, settings.clone())?;
                let mut opened = self.connect_to(&client).await?;
                // Just after a failover the sentinels may not know better themselves.
                let role = cmd("ROLE").query_async(&mut opened.connection).await;
                let master = Value::BulkString(b"master".into());
                match role {
                    Ok(Value::Array(role)) if role.first() == Some(&master) => Ok(opened),
                    Ok(_) => Err(RedisError::from((
                        ErrorKind::MasterNameNotFoundBySentinel,
                        "the server that the sentinels name is no master (yet)",
                    ))),
                    // This user may not ask.
                    Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => {
                        Ok(opened)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn connect_to(&self, client: &Client) -> RedisResult<Opened> {
        if !self.old.load(Ordering::Relaxed) {
            match open(client.clone()).await {
                Err(error) if error.kind() == ErrorKind::RESP3NotSupported => {
                    self.old.store(true, Ordering::Relaxed);
                }
                opened => return opened,
            }
        }
        let info = client.get_connection_info().clone();
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP2);
        open(Client::open(info.set_redis_settings(settings))?).await
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Server(client) => client.get_connection_info().addr().fmt(f),
            Place::Sentinel {
                sentinels, master, ..
            } => {
                write!(f, "{master} of the sentinels at ")?;
                for (at, sentinel) in sentinels.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    write!(f, "{comma}{sentinel}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

pub(crate) fn address(host: String, port: u16, tls: bool) -> ConnectionAddr {
    if tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

pub(crate) fn client(
    address: ConnectionAddr,
    settings: RedisConnectionInfo,
) -> RedisResult<Client> {
    let info: ConnectionInfo = redis::IntoConnectionInfo::into_connection_info(address)?;
    // Small requests must not wait for the answers to those before them. Within one machine they
    // hardly do, and the kernel puts them together: half as many sets again at 64 callers.
    let tcp = TcpSettings::default().set_nodelay(!is_here(info.addr()));
    Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

fn is_here(address: &ConnectionAddr) -> bool {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        _ => true,
    }
}

/// Where the first sentinel that knows the master says it is.
async fn find_master(
    sentinels: &[ConnectionAddr],
    master: &str,
    settings: &RedisConnectionInfo,
    each: Duration,
) -> RedisResult<ConnectionAddr> {
    let mut failure = RedisError::from((
        ErrorKind::MasterNameNotFoundBySentinel,
        "no sentinel knows the master",
    ));
    for sentinel in sentinels {
        match tokio::time::timeout(each, ask_sentinel(sentinel, master, settings)).await {
            Ok(Ok(Some((host, port)))) => {
                let tls = matches!(sentinel, ConnectionAddr::TcpTls { .. });
                return Ok(address(host, port, tls));
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => failure = error,
            Err(_) => {
                failure = RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
            }
        }
    }
    Err(failure)
}

async fn ask_sentinel(
    sentinel: &ConnectionAddr,
    master: &str,
    settings: &RedisConnectionInfo,
) -> RedisResult<Option<(String, u16)>> {
    let mut question = cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let open_as = RedisConnectionInfo::default();
    let mut connection = open(client(sentinel.clone(), open_as)?).await?.connection;
    match question.query_async(&mut connection).await {
        Err(error) if error.code() == Some("NOAUTH") => {
            let known = settings.clone().set_db(0);
            let mut connection = open(client(sentinel.clone(), known)?).await?.connection;
            question.query_async(&mut connection).await
        }
        answer => answer,
    }
}

/// A new connection.
pub(crate) struct Opened {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) end: Arc<End>,
}

/// How a connection has ended, if it has. With RESP2 only the next request finds out.
#[derive(Default)]
pub(crate) struct End {
    lost: AtomicBool,
    by_server: AtomicBool,
}

impl End {
    /// Whether it is known to be lost, or the runtime that drives it to have ended.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Whether it was not our runtime that ended: the server reads nothing from it any more.
    pub(crate) fn is_by_server(&self) -> bool {
        self.by_server.load(Ordering::Acquire)
    }
}

/// Opens a connection. How long that may take is up to the caller.
async fn open(client: Client) -> RedisResult<Opened> {
    #[cfg(feature = "tls")]
    provide_cryptography(client.get_connection_info().addr());
    let end = Arc::new(End::default());
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        // Always room: a request's first step puts it on the connection, on which batches rely.
        // Where there is none for a while, one that waits for it may be overtaken.
        .set_pipeline_buffer_size(Semaphore::MAX_PERMITS);
    if client.get_connection_info().redis_settings().protocol() != ProtocolVersion::RESP2 {
        let watch = Watch(Arc::clone(&end));
        config = config.set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                watch.0.by_server.store(true, Ordering::Release);
                watch.0.lost.store(true, Ordering::Release);
            }
            Ok::<_, SendError>(())
        });
    }
    let connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    Ok(Opened { connection, end })
}

/// Held by the task that drives a connection: dropped with it, if its runtime ends.
struct Watch(Arc<End>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.lost.store(true, Ordering::Release);
    }
}

/// rustls asks for one provider a process, and panics without. The program's own choice stands.
#[cfg(feature = "tls")]
fn provide_cryptography(address: &ConnectionAddr) {
    use rustls::crypto::{CryptoProvider, ring};

    if matches!(address, ConnectionAddr::TcpTls { .. }) && CryptoProvider::get_default().is_none() {
        // Another thread may be faster: then there is one.
        let _ = ring::default_provider().install_default();
    }
}
