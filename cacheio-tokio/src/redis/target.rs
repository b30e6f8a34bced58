//! Where Redis is, and how a connection to it is made.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion,
    PushKind, RedisConnectionInfo, RedisError, RedisResult, Value, cmd,
};

/// Where a server is.
pub(super) struct Target {
    place: Place,
    /// It speaks no RESP3.
    old: AtomicBool,
}

pub(super) enum Place {
    Server(Client),
    /// The master that the sentinels name.
    Sentinel {
        sentinels: Vec<Client>,
        master: String,
        tls: bool,
        settings: RedisConnectionInfo,
    },
}

impl Target {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            old: AtomicBool::new(false),
        }
    }

    /// Whether another server may be the right one the next time.
    pub(super) fn moves(&self) -> bool {
        matches!(self.place, Place::Sentinel { .. })
    }

    /// Whether the other end can be gone and the bytes between still arrive: not in one kernel.
    pub(super) fn is_remote(&self) -> bool {
        match &self.place {
            Place::Server(client) => {
                !matches!(client.get_connection_info().addr(), ConnectionAddr::Unix(_))
            }
            Place::Sentinel { .. } => true,
        }
    }

    /// Connects. `lost` is called when the connection is gone, where the protocol allows to say so
    /// (RESP3); it may be called late, or not at all.
    pub(super) async fn connect(
        &self,
        timeout: Duration,
        lost: impl Fn() + Send + Sync + Clone + 'static,
    ) -> RedisResult<MultiplexedConnection> {
        match &self.place {
            Place::Server(client) => self.connect_to(client, lost).await,
            Place::Sentinel {
                sentinels,
                master,
                tls,
                settings,
            } => {
                let each = timeout / (sentinels.len() as u32 + 1);
                let (host, port) = find_master(sentinels, master, each).await?;
                let client = client(address(host, port, *tls), settings.clone())?;
                let mut connection = self.connect_to(&client, lost).await?;
                // Just after a failover the sentinels may not know better themselves.
                match cmd("ROLE").query_async(&mut connection).await? {
                    Value::Array(role) if role.first() == Some(&Value::BulkString(b"master".into())) => {
                        Ok(connection)
                    }
                    _ => Err(RedisError::from((
                        ErrorKind::MasterNameNotFoundBySentinel,
                        "the server that the sentinels name is no master (yet)",
                    ))),
                }
            }
        }
    }

    async fn connect_to(
        &self,
        client: &Client,
        lost: impl Fn() + Send + Sync + Clone + 'static,
    ) -> RedisResult<MultiplexedConnection> {
        if !self.old.load(Ordering::Relaxed) {
            match open(client.clone(), Some(lost.clone())).await {
                Err(error) if error.kind() == ErrorKind::RESP3NotSupported => {
                    self.old.store(true, Ordering::Relaxed);
                }
                opened => return opened,
            }
        }
        let info = client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        open(Client::open(info.set_redis_settings(settings))?, Some(lost)).await
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
                    write!(f, "{comma}{}", sentinel.get_connection_info().addr())?;
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

pub(super) fn address(host: String, port: u16, tls: bool) -> ConnectionAddr {
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

pub(super) fn client(address: ConnectionAddr, settings: RedisConnectionInfo) -> RedisResult<Client> {
    let info: ConnectionInfo = redis::IntoConnectionInfo::into_connection_info(address)?;
    // Small requests must not wait for the answers to those before them.
    let tcp = TcpSettings::default().set_nodelay(true);
    Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

/// Where the first sentinel that knows the master says it is.
async fn find_master(sentinels: &[Client], master: &str, each: Duration) -> RedisResult<(String, u16)> {
    let mut failure = RedisError::from((
        ErrorKind::MasterNameNotFoundBySentinel,
        "no sentinel knows the master",
    ));
    for sentinel in sentinels {
        match tokio::time::timeout(each, ask_sentinel(sentinel, master)).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => failure = error,
        }
    }
    Err(failure)
}

async fn ask_sentinel(sentinel: &Client, master: &str) -> RedisResult<Option<(String, u16)>> {
    let mut connection = open(sentinel.clone(), None::<fn()>).await?;
    cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(master)
        .query_async(&mut connection)
        .await
}

/// Opens a connection. The times are up to the caller.
async fn open(
    client: Client,
    lost: Option<impl Fn() + Send + Sync + 'static>,
) -> RedisResult<MultiplexedConnection> {
    #[cfg(feature = "redis-tls")]
    provide_cryptography(client.get_connection_info().addr());
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(1024)
        .set_write_backpressure_boundary(64 * 1024);
    if let Some(lost) = lost
        && client.get_connection_info().redis_settings().protocol() != ProtocolVersion::RESP2
    {
        let lost = Lost(lost);
        config = config.set_push_sender(move |push: redis::PushInfo| {
            if push.kind == PushKind::Disconnection {
                (lost.0)();
            }
            Ok::<_, redis::aio::SendError>(())
        });
    }
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// Calls it when dropped: together with the task that drives the connection, if its runtime ends.
struct Lost<F: Fn()>(F);

impl<F: Fn()> Drop for Lost<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// rustls asks for one provider a process, and panics without. The program's own choice stands.
#[cfg(feature = "redis-tls")]
fn provide_cryptography(address: &ConnectionAddr) {
    use rustls::crypto::{CryptoProvider, ring};

    if matches!(address, ConnectionAddr::TcpTls { .. }) && CryptoProvider::get_default().is_none() {
        // Another thread may be faster: then there is one.
        let _ = ring::default_provider().install_default();
    }
}
