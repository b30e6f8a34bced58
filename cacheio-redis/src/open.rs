//! Opens connections, and observes how they end.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cacheio_core::__private::{Circuit, within};
use redis::aio::{MultiplexedConnection, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::failure::breaks_connection;
use crate::handshake::{refuses_password, sign_in};
use crate::nearness::{Nearness, Tcp};
use crate::progress::Progress;
use crate::tracking::{EndLink, Link, Tracker};

/// A new connection.
pub(crate) struct Opened {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) close_state: Arc<CloseState>,
    pub(crate) driver: Option<Driver>,
    /// The runtime that drives the connection.
    pub(crate) runtime: Handle,
    /// Receives pushes, if the server may tell of changes.
    pub(crate) link: Option<Arc<Link>>,
}

impl Opened {
    /// Spawns the task that drives a connection. A link ends with it.
    fn driven(
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
        link: Option<Arc<Link>>,
    ) -> Self {
        let close_state = Arc::new(CloseState::default());
        let observer = CloseObserver(Arc::clone(&close_state));
        let end_link = link.clone().map(EndLink);
        let driver = tokio::spawn(async move {
            let _end_link = end_link;
            driver.await;
            observer.closed_by_server();
        });
        Self {
            connection,
            close_state,
            driver: Some(Driver(driver.abort_handle())),
            runtime: Handle::current(),
            link,
        }
    }
}

/// The task that drives a connection. Dropping it closes the connection, and fails all requests in
/// flight.
pub(crate) struct Driver(AbortHandle);

impl Driver {
    pub(crate) fn abort(&self) {
        self.0.abort();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Whether a connection is closed, and by which side.
#[derive(Default)]
pub(crate) struct CloseState {
    closed: AtomicBool,
    by_server: AtomicBool,
    out_of_step: AtomicBool,
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

    /// Returns whether replies on the connection may answer other requests.
    pub(crate) fn is_out_of_step(&self) -> bool {
        self.out_of_step.load(Ordering::Acquire)
    }

    pub(crate) fn set_out_of_step(&self) {
        self.out_of_step.store(true, Ordering::Release);
        self.closed.store(true, Ordering::Release);
    }
}

/// Marks a connection as closed when the task that drives it is dropped: with its runtime, too.
struct CloseObserver(Arc<CloseState>);

impl CloseObserver {
    fn closed_by_server(&self) {
        self.0.by_server.store(true, Ordering::Release);
        self.0.closed.store(true, Ordering::Release);
    }
}

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
    let tcp = TcpSettings::default().set_nodelay(true);
    Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

/// What observes a connection.
#[derive(Clone, Copy)]
pub(crate) struct Observers<'a> {
    /// That of the server.
    pub(crate) circuit: &'a Arc<Circuit>,
    pub(crate) nearness: &'a Arc<Nearness>,
    /// That of the store, if the server is to tell of changes.
    pub(crate) tracker: Option<&'a Arc<Tracker>>,
}

/// A connection to a server, over which Redis' protocol runs.
trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Opens a connection. `timeout` only divides the time between the handshakes; the caller enforces it.
pub(crate) async fn open(
    client: &Client,
    timeout: Duration,
    observers: Observers<'_>,
) -> RedisResult<Opened> {
    let deadline = Instant::now() + timeout / 2;
    let info = client.get_connection_info();
    let settings = info.redis_settings();
    if let Some(tracker) = observers.tracker
        && settings.protocol() != ProtocolVersion::RESP2
    {
        let stream = connect(info, observers).await?;
        let opening = open_with_pushes(stream, settings, tracker.link());
        tokio::pin!(opening);
        return match within(deadline, &mut opening).await {
            Some(Ok(opened)) => Ok(opened),
            Some(Err(error)) if refuses_password(error.code(), settings) => Err(error),
            // If the server refuses a part of this handshake, it gets the other one.
            Some(Err(_)) => open_without_pushes(info, observers).await,
            // It may reply late, or never.
            None => tokio::select! {
                biased;
                Ok(opened) = &mut opening => Ok(opened),
                opened = open_without_pushes(info, observers) => opened,
            },
        };
    }
    open_without_pushes(info, observers).await
}

async fn open_without_pushes(
    info: &ConnectionInfo,
    observers: Observers<'_>,
) -> RedisResult<Opened> {
    let settings = info.redis_settings();
    match open_with(info, settings.protocol(), observers).await {
        // A proxy may close the connection at a command that it does not know.
        Err(error)
            if breaks_connection(&error)
                && !error.is_connection_refusal()
                && settings.protocol() != ProtocolVersion::RESP2 =>
        {
            open_with(info, ProtocolVersion::RESP2, observers).await
        }
        opened => opened,
    }
}

async fn open_with(
    info: &ConnectionInfo,
    protocol: ProtocolVersion,
    observers: Observers<'_>,
) -> RedisResult<Opened> {
    let stream = connect(info, observers).await?;
    // The handshake is ours: the crate's fails if the server refuses an optional part of it.
    let no_handshake = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP2)
        .set_skip_set_lib_name();
    let opening = MultiplexedConnection::new_with_config(&no_handshake, stream, config());
    let (connection, driver) = opening.await?;
    let mut opened = Opened::driven(connection, driver, None);
    sign_in(&mut opened.connection, info.redis_settings(), protocol).await?;
    Ok(opened)
}

/// Opens a connection that receives pushes. For that, the handshake must be the one of the crate.
async fn open_with_pushes(
    stream: Progress<Pin<Box<dyn Stream>>>,
    settings: &RedisConnectionInfo,
    link: Arc<Link>,
) -> RedisResult<Opened> {
    let settings = settings.clone().set_protocol(ProtocolVersion::RESP3);
    let settings = settings.set_skip_set_lib_name();
    let receiver = Arc::clone(&link);
    let config = config().set_push_sender(move |push: PushInfo| {
        receiver.on_push(&push);
        Ok::<_, SendError>(())
    });
    let opening = MultiplexedConnection::new_with_config(&settings, stream, config);
    let (connection, driver) = opening.await?;
    Ok(Opened::driven(connection, driver, Some(link)))
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        // Unbounded, because batching relies on it: the first poll of a request puts it on the
        // connection. A request that had to wait for room could be overtaken.
        .set_pipeline_buffer_size(Semaphore::MAX_PERMITS)
}

async fn connect(
    info: &ConnectionInfo,
    observers: Observers<'_>,
) -> RedisResult<Progress<Pin<Box<dyn Stream>>>> {
    let stream: Pin<Box<dyn Stream>> = match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            Box::pin(connect_tcp(host, *port, observers.nearness).await?)
        }
        #[cfg(feature = "tls")]
        ConnectionAddr::TcpTls { host, port, .. } => {
            let stream = connect_tcp(host, *port, observers.nearness).await?;
            Box::pin(crate::tls::connect(host, stream).await?)
        }
        ConnectionAddr::Unix(path) => connect_unix(path).await?,
        _ => {
            return Err(RedisError::from((
                ErrorKind::InvalidClientConfig,
                "this kind of address is not supported",
            )));
        }
    };
    Ok(Progress::new(stream, observers.circuit))
}

/// Connects to all addresses of a host at the same time, and takes the first connection.
async fn connect_tcp(host: &str, port: u16, nearness: &Arc<Nearness>) -> io::Result<Tcp> {
    let mut attempts = JoinSet::new();
    for address in tokio::net::lookup_host((host, port)).await? {
        attempts.spawn(TcpStream::connect(address));
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(stream) => return Tcp::new(stream, nearness),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(unix)]
async fn connect_unix(path: &Path) -> io::Result<Pin<Box<dyn Stream>>> {
    Ok(Box::pin(tokio::net::UnixStream::connect(path).await?))
}

#[cfg(not(unix))]
async fn connect_unix(_: &Path) -> io::Result<Pin<Box<dyn Stream>>> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Opens a connection as a client of the user's does.
pub(crate) async fn open_as_configured(client: &Client) -> RedisResult<Opened> {
    #[cfg(feature = "tls")]
    crate::tls::install_crypto_provider(client.get_connection_info().addr());
    let info = client.get_connection_info();
    let close_state = Arc::new(CloseState::default());
    let observer = CloseObserver(Arc::clone(&close_state));
    let resp2 = ProtocolVersion::RESP2;
    let opened = if info.redis_settings().protocol() == resp2 {
        client
            .get_multiplexed_async_connection_with_config(&config())
            .await
    } else {
        let config = config().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                observer.closed_by_server();
            }
            Ok::<_, SendError>(())
        });
        match client
            .get_multiplexed_async_connection_with_config(&config)
            .await
        {
            Err(error) if error.kind() == ErrorKind::RESP3NotSupported => {
                let settings = info.redis_settings().clone().set_protocol(resp2);
                let client = Client::open(info.clone().set_redis_settings(settings))?;
                return Box::pin(open_as_configured(&client)).await;
            }
            opened => opened,
        }
    };
    Ok(Opened {
        connection: opened?,
        close_state,
        driver: None,
        runtime: Handle::current(),
        link: None,
    })
}
