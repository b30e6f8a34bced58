//! The program's own Redis server, on a port of the loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use anyhow::{Context as _, bail};

/// Stops when dropped.
#[derive(Debug)]
pub(crate) struct RedisServer {
    port: u16,
    folder: PathBuf,
    process: Child,
}

impl RedisServer {
    /// Starts a server, or returns `None` if Redis is not installed.
    pub(crate) fn start() -> anyhow::Result<Option<Self>> {
        let port = free_port().context("no free port")?;
        let folder = env::temp_dir().join(format!("cacheio-guide-{}", process::id()));
        fs::create_dir_all(&folder)?;
        let process = match spawn(port, &folder) {
            Ok(process) => process,
            Err(error) => {
                fs::remove_dir_all(&folder)?;
                return match error.kind() {
                    ErrorKind::NotFound => Ok(None),
                    _ => Err(error.into()),
                };
            }
        };
        let server = Self {
            port,
            folder,
            process,
        };
        server.wait_until_up()?;
        Ok(Some(server))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills the server, as in a crash.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }

    /// Starts the server again, empty.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.process = spawn(self.port, &self.folder)?;
        Ok(())
    }

    /// Suspends all clients for a while.
    pub(crate) fn hang(&self, lasting: Duration) -> io::Result<()> {
        let pause = format!("CLIENT PAUSE {} ALL\r\n", lasting.as_millis());
        self.request(&pause, "+OK\r\n").map(drop)
    }

    fn wait_until_up(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.request("PING\r\n", "+PONG\r\n").unwrap_or(false) {
            if Instant::now() > deadline {
                bail!("redis-server does not start");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends a request, and returns whether the response is the expected one.
    fn request(&self, request: &str, expected: &str) -> io::Result<bool> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        connection.write_all(request.as_bytes())?;
        let mut response = vec![0; expected.len()];
        connection.read_exact(&mut response)?;
        Ok(response == expected.as_bytes())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // The process may have ended already; then both calls fail, which is fine.
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(port: u16, folder: &PathBuf) -> io::Result<Child> {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string(), "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Finds a port below the range of outgoing connections: a client that connects to a port of that
/// range while no server listens may connect to itself.
fn free_port() -> Option<u16> {
    let first = u16::try_from(process::id() % 10_000).ok()?;
    (10_240 + first..32_000).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}
