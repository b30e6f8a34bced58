//! A server, and the proxy through which callers reach it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, process, thread};

use cacheio::{AsyncCache, Cache, Memcached, Redis};
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::servers::{self, Proxy};

/// Where a program looks for the certificates of authorities.
const AUTHORITIES: &str = "SSL_CERT_FILE";

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Memcached,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Memcached => "Memcached",
        }
    }
}

/// A server, and a proxy in front of it.
pub(crate) struct Environment {
    server: Server,
    kind: Kind,
    tls: bool,
    pub(crate) proxy: Proxy,
}

enum Server {
    Redis(servers::Redis),
    Memcached(servers::Memcached),
    MemcachedWithTls { _process: Process },
}

/// A server that is killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Environment {
    pub(crate) fn start(kind: Kind, tls: bool) -> Self {
        let (server, address) = match (kind, tls) {
            (Kind::Redis, false) => {
                let server = servers::Redis::start();
                let address = server.address();
                (Server::Redis(server), address)
            }
            (Kind::Redis, true) => {
                let port = free_port();
                let server = redis_with_tls(port);
                (Server::Redis(server), local(port))
            }
            (Kind::Memcached, false) => {
                let server = servers::Memcached::start();
                let address = server.address();
                (Server::Memcached(server), address)
            }
            (Kind::Memcached, true) => {
                let port = free_port();
                (
                    Server::MemcachedWithTls {
                        _process: memcached_with_tls(port),
                    },
                    local(port),
                )
            }
        };
        Self {
            server,
            kind,
            tls,
            proxy: Proxy::to(address),
        }
    }

    /// Opens a cache that reaches the server through the proxy.
    pub(crate) fn open(&self, world: World, timeout: Duration) -> CacheApi {
        let port = self.proxy.address().port();
        let scheme = match (self.kind, self.tls) {
            (Kind::Redis, false) => "redis",
            (Kind::Redis, true) => "rediss",
            (Kind::Memcached, false) => "memcache",
            (Kind::Memcached, true) => "memcache+tls",
        };
        let url = format!(
            "{scheme}://localhost:{port}?timeout={}ms",
            timeout.as_millis()
        );
        match (self.kind, world) {
            (Kind::Redis, World::Threads) => threads(Cache::builder().store(redis(&url))),
            (Kind::Redis, World::Tasks) => tasks(AsyncCache::builder().store(redis(&url))),
            (Kind::Memcached, World::Threads) => threads(Cache::builder().store(memcached(&url))),
            (Kind::Memcached, World::Tasks) => tasks(AsyncCache::builder().store(memcached(&url))),
        }
    }

    pub(crate) fn kill(&self) {
        match &self.server {
            Server::Redis(server) => server.kill(),
            Server::Memcached(server) => server.kill(),
            Server::MemcachedWithTls { .. } => unreachable!("TLS is only slowed down"),
        }
    }

    pub(crate) fn restart(&self) {
        match &self.server {
            Server::Redis(server) => server.restart(),
            Server::Memcached(server) => server.restart(),
            Server::MemcachedWithTls { .. } => unreachable!("TLS is only slowed down"),
        }
    }

    pub(crate) fn pause(&self) {
        match &self.server {
            Server::Redis(server) => server.pause(),
            Server::Memcached(server) => server.pause(),
            Server::MemcachedWithTls { .. } => unreachable!("TLS is only slowed down"),
        }
    }

    pub(crate) fn resume(&self) {
        match &self.server {
            Server::Redis(server) => server.resume(),
            Server::Memcached(server) => server.resume(),
            Server::MemcachedWithTls { .. } => unreachable!("TLS is only slowed down"),
        }
    }
}

fn redis(url: &str) -> Redis {
    Redis::new(url).expect("a URL")
}

fn memcached(url: &str) -> Memcached {
    Memcached::new(url).expect("a URL")
}

fn threads(builder: cacheio::CacheBuilder) -> CacheApi {
    CacheApi::Threads(builder.build().expect("valid settings"))
}

fn tasks(builder: cacheio::AsyncCacheBuilder) -> CacheApi {
    CacheApi::Tasks(builder.build().expect("valid settings"))
}

fn redis_with_tls(port: u16) -> servers::Redis {
    let folder = folder();
    servers::Redis::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &text(&folder.join("server.pem")),
        "--tls-key-file",
        &text(&folder.join("server.key")),
        "--tls-ca-cert-file",
        &text(&folder.join("ca.pem")),
        "--tls-auth-clients",
        "no",
    ])
}

fn memcached_with_tls(port: u16) -> Process {
    let folder = folder();
    let options = format!(
        "ssl_chain_cert={},ssl_key={}",
        text(&folder.join("server.pem")),
        text(&folder.join("server.key")),
    );
    let child = Command::new("memcached")
        .args([
            "-u",
            "root",
            "-U",
            "0",
            "-l",
            "127.0.0.1",
            "-Z",
            "-o",
            &options,
        ])
        .args(["-p", &port.to_string()])
        .stderr(Stdio::null())
        .spawn();
    let process = Process(child.expect("memcached is installed"));
    while TcpStream::connect(local(port)).is_err() {
        thread::sleep(Duration::from_millis(5));
    }
    process
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(local(0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// The folder with the certificates.
fn folder() -> PathBuf {
    let authorities = env::var_os(AUTHORITIES).expect("it is set at the start");
    let folder = Path::new(&authorities).parent();
    folder.expect("a file in a folder").to_owned()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Makes certificates, and starts this program again so that its clients trust them.
pub(crate) fn trust_own_authority() {
    const STARTED: &str = "CACHEIO_BENCHES_TRUST";
    if env::var_os(STARTED).is_some() {
        return;
    }
    let folder = env::temp_dir().join(format!("cacheio-faults-{}", process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    certificates(&folder);
    let status = Command::new(env::current_exe().expect("a program"))
        .args(env::args_os().skip(1))
        .env(AUTHORITIES, folder.join("ca.pem"))
        .env(STARTED, "1")
        .status();
    // Nothing else needs the folder.
    let _ = fs::remove_dir_all(&folder);
    let code = status.ok().and_then(|status| status.code());
    process::exit(code.unwrap_or(1));
}

/// Writes an authority, its certificate for this machine, and the key of the certificate.
fn certificates(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority");
    let own_key = key();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate =
        CertificateParams::new(names).and_then(|names| names.signed_by(&own_key, &authority));
    let certificate = certificate.expect("a certificate");
    for (name, content) in [
        ("ca.pem", authority.pem()),
        ("server.pem", certificate.pem()),
        ("server.key", own_key.serialize_pem()),
    ] {
        fs::write(folder.join(name), content).expect("a file");
    }
}
