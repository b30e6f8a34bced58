//! Opens connections with the `redis` crate, and observes how they end.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::{MultiplexedConnection, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisResult,
};
use tokio::sync::Semaphore;

/// A new connection.
pub(crate) struct Opened {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) close_state: Arc<CloseState>,
}

/// Whether a connection is closed, and by which side. With RESP2 only the next request notices.
#[derive(Default)]
pub(crate) struct CloseState {
    closed: AtomicBool,
    by_server: AtomicBool,
}

impl CloseState {
    /// Returns whether the connection broke, or the runtime that drives it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Returns whether the server closed the connection, and so reads nothing more from it.
    pub(crate) fn is_by_server(&self) -> bool {
        self.by_server.load(Ordering::Acquire)
    }
}

/// Marks a connection as closed when the task that drives it is dropped: with its runtime, too.
struct CloseObserver(Arc<CloseState>);

impl Drop for CloseObserver {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
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
    let info: ConnectionInfo = address.into_connection_info()?;
    // Over a network, Nagle's algorithm would delay small requests until the replies to earlier
    // ones. On one machine there is hardly a delay, and the kernel joins small writes: at 64
    // callers that gives half as many sets again.
    let tcp = TcpSettings::default().set_nodelay(!is_local(info.addr()));
    Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

fn is_local(address: &ConnectionAddr) -> bool {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        _ => true,
    }
}

/// Opens a connection, without a timeout: the caller has one.
pub(crate) async fn open(client: Client) -> RedisResult<Opened> {
    #[cfg(feature = "tls")]
    install_crypto_provider(client.get_connection_info().addr());
    let close_state = Arc::new(CloseState::default());
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        // Unbounded, because batching relies on it: the first poll of a request puts it on the
        // connection. A request that had to wait for room could be overtaken.
        .set_pipeline_buffer_size(Semaphore::MAX_PERMITS);
    if client.get_connection_info().redis_settings().protocol() != ProtocolVersion::RESP2 {
        let observer = CloseObserver(Arc::clone(&close_state));
        config = config.set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                observer.0.by_server.store(true, Ordering::Release);
                observer.0.closed.store(true, Ordering::Release);
            }
            Ok::<_, SendError>(())
        });
    }
    let connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    Ok(Opened {
        connection,
        close_state,
    })
}

/// Installs rustls' provider for the process unless the program installed one: rustls panics
/// without a provider.
#[cfg(feature = "tls")]
fn install_crypto_provider(address: &ConnectionAddr) {
    use rustls::crypto::{CryptoProvider, ring};

    if matches!(address, ConnectionAddr::TcpTls { .. }) && CryptoProvider::get_default().is_none() {
        // This fails if another thread has installed one in the meantime, which is as good.
        let _ = ring::default_provider().install_default();
    }
}
