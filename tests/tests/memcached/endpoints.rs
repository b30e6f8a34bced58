//! Unix sockets, passwords and TLS.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use cacheio_sync::store::{Key, Store};
use cacheio_sync::{ErrorKind, Memcached};
use cacheio_tests::watchdog::guarded;

use super::{entry, eventually, key, text};

/// A memcached process that is stopped at the end of its test. The processes in `cacheio_tests` wait
/// for a server over plain TCP, which the servers here do not accept.
pub(crate) struct ServerProcess {
    child: Child,
    folder: PathBuf,
    pub(crate) port: u16,
}

impl ServerProcess {
    /// Creates a folder, and finds a free port.
    fn prepare(name: &str) -> (PathBuf, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder =
            std::env::temp_dir().join(format!("cacheio-{name}-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        (folder, port)
    }

    fn start(folder: PathBuf, port: u16, arguments: &[&str]) -> Self {
        let child = Command::new("memcached")
            .args(["-u", "root", "-U", "0"])
            .args(arguments)
            .stderr(Stdio::null())
            .spawn()
            .expect("memcached is installed: apt-get install memcached");
        Self {
            child,
            folder,
            port,
        }
    }

    fn start_on_tcp(folder: PathBuf, port: u16, arguments: &[&str]) -> Self {
        let server = Self::start(
            folder,
            port,
            &[&["-l", "127.0.0.1", "-p", &port.to_string()], arguments].concat(),
        );
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            sleep(Duration::from_millis(5));
        }
        server
    }

    /// Starts a server with TLS, which only accepts clients with a certificate.
    pub(crate) fn start_with_tls() -> Self {
        let (folder, port) = Self::prepare("tls");
        certificates(&folder);
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let options = format!(
            "ssl_chain_cert={},ssl_key={},ssl_ca_cert={},ssl_verify_mode=2",
            file("server.pem"),
            file("server.key"),
            file("ca.pem"),
        );
        Self::start_on_tcp(folder, port, &["-Z", "-o", &options])
    }

    /// Returns the path of a file in the folder of the server.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(unix)]
#[test]
fn a_unix_socket_can_be_used_by_url_and_builder() {
    guarded(|| {
        let (folder, port) = ServerProcess::prepare("unix");
        let path = folder.join("mem cached.sock");
        let path = path.to_str().unwrap().to_owned();
        let encoded = path.replace(' ', "%20");
        let mut server = ServerProcess::start(folder, port, &["-s", &path]);
        let stores = [
            Memcached::new(&format!("memcache://{encoded}")).unwrap(),
            Memcached::new(&format!("memcache+unix://{encoded}")).unwrap(),
            Memcached::builder().unix_socket(&path).build().unwrap(),
        ];
        for store in &stores {
            eventually(|| store.ping());
            store.set(&key("ns:k"), entry("v"), None).unwrap();
            assert_eq!(text(store.get(&key("ns:k")).unwrap()).as_deref(), Some("v"));
            store.clear("ns:").unwrap();
            assert!(!store.has(&key("ns:k")).unwrap());
        }
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        assert_eq!(stores[0].ping().unwrap_err().kind(), ErrorKind::Unavailable);
    });
}

#[test]
fn a_password_is_accepted_and_never_shown() {
    guarded(|| {
        let (folder, port) = ServerProcess::prepare("password");
        let file = folder.join("passwords");
        fs::write(&file, "ann:s3cr:t\n").unwrap();
        let server = ServerProcess::start_on_tcp(folder, port, &["-Y", file.to_str().unwrap()]);
        let address = format!("127.0.0.1:{}", server.port);

        let store = Memcached::new(&format!("memcache://ann:s3cr%3At@{address}")).unwrap();
        store.set(&key("k"), entry("v"), None).unwrap();
        assert_eq!(text(store.get(&key("k")).unwrap()).as_deref(), Some("v"));
        assert!(!format!("{store:?}").contains("s3cr"));

        for wrong in [
            format!("memcache://ann:wr0ng@{address}"),
            format!("memcache://{address}"),
        ] {
            let store = Memcached::new(&wrong).unwrap();
            let error = store.get(&key("k")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Server, "{error:?}");
            assert!(!format!("{error:?} {error} {store:?}").contains("wr0ng"));
            // The server responds, so the circuit stays closed.
            assert_eq!(store.get(&key("k")).unwrap_err().kind(), ErrorKind::Server);
        }
    });
}

/// Creates certificates for a server and a client, and the one of the CA that signed them.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .stderr(Stdio::null())
            .status()
            .expect("openssl is installed: apt-get install openssl");
        assert!(status.success(), "openssl {arguments}");
    };
    fs::write(
        folder.join("names"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
    )
    .unwrap();
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {new} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"
    ));
    for name in ["server", "client"] {
        openssl(&format!(
            "req {new} -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile names"
        ));
    }
}

#[test]
fn tls_works_with_a_trusted_server_only() {
    guarded(|| {
        let server = ServerProcess::start_with_tls();
        let [ca, cert, secret] =
            ["ca.pem", "client.pem", "client.key"].map(|name| server.file(name));
        let address = format!("localhost:{}", server.port);

        let url = format!("memcache+tls://{address}?ca={ca}&cert={cert}&key={secret}&timeout=5s");
        let store = Memcached::new(&url).unwrap();
        let large = "x".repeat(700_000);
        for _ in 0..3 {
            store.set(&key("ns:k"), entry(&large), None).unwrap();
            assert_eq!(
                text(store.get(&key("ns:k")).unwrap()).as_ref(),
                Some(&large)
            );
        }
        let names: Vec<String> = (0..5_000).map(|i| format!("ns:{i}")).collect();
        let keys: Vec<Key<'_>> = names.iter().map(|name| key(name)).collect();
        let entries = keys.iter().map(|key| (*key, entry(key.text()), None));
        store.set_many(entries.collect()).unwrap();
        for (found, name) in store.get_many(&keys).unwrap().into_iter().zip(&names) {
            assert_eq!(text(found).as_ref(), Some(name));
        }
        store.clear("ns:").unwrap();
        assert!(store.get_many(&keys).unwrap().iter().all(Option::is_none));

        // A server that is not trusted, a client without TLS, and a client without a certificate.
        for url in [
            format!("memcache+tls://{address}?ca={cert}&timeout=2s"),
            format!("memcache://{address}?timeout=2s"),
            format!("memcache+tls://{address}?ca={ca}&timeout=2s"),
        ] {
            let error = Memcached::new(&url).unwrap().get(&key("k")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error:?}");
        }
        for url in [
            format!("memcache+tls://{address}?ca=/nowhere.pem"),
            format!("memcache+tls://{address}?ca={ca}&cert={cert}"),
            format!("memcache://{address}?ca={ca}"),
        ] {
            assert_eq!(
                Memcached::new(&url).unwrap_err().kind(),
                ErrorKind::Config,
                "{url}"
            );
        }
    });
}
