//! A Memcached server.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::Mutex;

use super::Server;
use super::process::{Kind, Process};

static KIND: Kind = Kind {
    program: "memcached",
    arguments: |port, _folder| {
        let mut arguments: Vec<String> = ["-l", "127.0.0.1", "-U", "0", "-c", "4096", "-t", "2"]
            .map(Into::into)
            .into();
        arguments.extend(["-p".into(), port.to_string()]);
        if rustix::process::geteuid().is_root() {
            // Memcached refuses to run as root without this.
            arguments.extend(["-u".into(), "root".into()]);
        }
        arguments
    },
    probe: b"stats\r\n",
    is_ready: |response, pid| {
        response.starts_with(&format!("STAT pid {}\r\n", pid.as_raw_nonzero()))
    },
};

/// A Memcached server for one test.
#[derive(Debug)]
pub struct Memcached(Process);

impl Memcached {
    /// Starts a server.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self(Process::start(&KIND, arguments))
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Returns the URL.
    pub fn url(&self) -> String {
        format!("memcache://{}", self.address())
    }

    /// Kills the server with SIGKILL, and returns when the port is closed.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Starts the server again on its port, empty.
    pub fn restart(&self) {
        self.0.restart();
    }

    /// Pauses the process: connections stay open, and no request gets a response.
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Resumes the process.
    pub fn resume(&self) {
        self.0.resume();
    }

    /// Sends lines of the text protocol over a new connection, and returns the first line of the
    /// response without its line end.
    ///
    /// # Panics
    ///
    /// When the server does not respond.
    pub fn raw(&self, request: &[u8]) -> String {
        let response = self.0.connect().and_then(|mut connection| {
            connection.write_all(request)?;
            connection.write_all(b"\r\n")?;
            let mut line = String::new();
            BufReader::new(connection).read_line(&mut line)?;
            Ok(line)
        });
        match response {
            Ok(line) => line.trim_end().to_owned(),
            Err(error) => panic!("memcached does not respond: {error}"),
        }
    }

    /// Returns a number of the server's statistics.
    ///
    /// # Panics
    ///
    /// When the server does not respond, or does not count this.
    pub fn stat(&self, name: &str) -> u64 {
        let number = self.0.connect().and_then(|mut connection| {
            connection.write_all(b"stats\r\n")?;
            for line in BufReader::new(connection).lines() {
                let line = line?;
                let rest = line
                    .strip_prefix("STAT ")
                    .and_then(|rest| rest.strip_prefix(name));
                if let Some(number) = rest.and_then(|rest| rest.strip_prefix(' ')) {
                    return number.parse().map_err(std::io::Error::other);
                }
                if line == "END" {
                    break;
                }
            }
            Err(std::io::ErrorKind::NotFound.into())
        });
        match number {
            Ok(number) => number,
            Err(error) => panic!("memcached does not count {name}: {error}"),
        }
    }

    /// Stores bytes under a key, as another program might.
    ///
    /// # Panics
    ///
    /// When the server refuses them.
    pub fn plant(&self, key: &str, bytes: &[u8]) {
        let head = format!("set {key} 0 0 {}\r\n", bytes.len());
        assert_eq!(self.raw(&[head.as_bytes(), bytes].concat()), "STORED");
    }
}

impl Server for Memcached {
    fn start() -> Self {
        Self::start()
    }

    fn renew(&self) -> bool {
        // Requests of closed connections may still be executed after a `flush_all`.
        self.0.is_running() && {
            self.0.restart();
            true
        }
    }

    fn idle() -> &'static Mutex<Vec<Self>> {
        static IDLE: Mutex<Vec<Memcached>> = Mutex::new(Vec::new());
        &IDLE
    }
}
