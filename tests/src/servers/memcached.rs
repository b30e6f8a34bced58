//! A memcached.

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
            // It refuses to run as root unless told to.
            arguments.extend(["-u".into(), "root".into()]);
        }
        arguments
    },
    greeting: b"stats\r\n",
    is_ready: |answer, pid| answer.starts_with(&format!("STAT pid {}\r\n", pid.as_raw_nonzero())),
};

/// A memcached of the test's own.
#[derive(Debug)]
pub struct Memcached(Process);

impl Memcached {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self(Process::start(&KIND, arguments))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// The port it listens at.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("memcache://{}", self.address())
    }

    /// Ends it as `kill -9` does; returns when nobody listens at the port.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Starts it again on its port, empty.
    pub fn restart(&self) {
        self.0.restart();
    }

    /// Stops it without ending it: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.0.resume();
    }

    /// Sends lines of the text protocol over a connection of their own; the first line of the
    /// answer, without its end.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn raw(&self, request: &[u8]) -> String {
        let answer = self.0.connect().and_then(|mut connection| {
            connection.write_all(request)?;
            connection.write_all(b"\r\n")?;
            let mut line = String::new();
            BufReader::new(connection).read_line(&mut line)?;
            Ok(line)
        });
        match answer {
            Ok(line) => line.trim_end().to_owned(),
            Err(error) => panic!("memcached does not answer: {error}"),
        }
    }

    /// Puts bytes under a key, as some other program might.
    ///
    /// # Panics
    ///
    /// When it does not take them.
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
        // What clients have sent before they went may still be done after a `flush_all`.
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
