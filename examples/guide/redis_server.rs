//! A Redis server of the program's own, on a port of the loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use anyhow::{Context as _, bail};

/// Ends with the program.
#[derive(Debug)]
pub(crate) struct RedisServer {
    port: u16,
    folder: PathBuf,
    process: Child,
}

impl RedisServer {
    /// Starts one; none if it is not installed.
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
        server.until_up()?;
        Ok(Some(server))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }

    /// Starts it again, empty.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.process = spawn(self.port, &self.folder)?;
        Ok(())
    }

    /// Lets it answer nobody for a while.
    pub(crate) fn hang(&self, lasting: Duration) -> io::Result<()> {
        let pause = format!("CLIENT PAUSE {} ALL\r\n", lasting.as_millis());
        self.ask(&pause, "+OK\r\n").map(drop)
    }

    fn until_up(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.ask("PING\r\n", "+PONG\r\n").unwrap_or(false) {
            if Instant::now() > deadline {
                bail!("redis-server does not start");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether it answers just so.
    fn ask(&self, question: &str, answer: &str) -> io::Result<bool> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        connection.write_all(question.as_bytes())?;
        let mut answered = vec![0; answer.len()];
        connection.read_exact(&mut answered)?;
        Ok(answered == answer.as_bytes())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing left to do.
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

/// Below the ports that outgoing connections get: a client that knocks at one of those while
/// nobody listens there may end up talking to itself.
fn free_port() -> Option<u16> {
    let first = u16::try_from(process::id() % 10_000).ok()?;
    (10_240 + first..32_000).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}
