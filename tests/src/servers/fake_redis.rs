//! A server that speaks Redis' protocol, and replies what a test wants.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::process::Port;

/// Returns the reply to a command, or none to close the connection.
type Handler = dyn Fn(&[String]) -> Option<String> + Send + Sync;

/// A fake Redis server. It holds no data.
pub struct FakeRedis {
    port: Port,
    closed: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl FakeRedis {
    /// Starts a server. The handler gets each command with its name in capitals.
    pub fn start(handler: impl Fn(&[String]) -> Option<String> + Send + Sync + 'static) -> Self {
        let (port, listener) = Port::listening();
        let handler: Arc<Handler> = Arc::new(handler);
        let closed = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let (end, count) = (Arc::clone(&closed), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let handler = Arc::clone(&handler);
                // The client may close the connection at any time.
                thread::spawn(move || drop(serve(stream, &*handler)));
            }
        });
        Self {
            port,
            closed,
            connections,
        }
    }

    /// Returns the reply of a server whose keys all hold the number 5.
    pub fn usual_reply(command: &[String]) -> String {
        let five = "$1\r\n5\r\n";
        match command[0].as_str() {
            "HELLO" => "%2\r\n+proto\r\n:3\r\n+version\r\n+7.0.0\r\n".into(),
            "PING" => match command.get(1) {
                Some(text) => format!("${}\r\n{text}\r\n", text.len()),
                None => "+PONG\r\n".into(),
            },
            "CLIENT" if command[1] == "INFO" => {
                let info = "id=7 addr=127.0.0.1:1";
                format!("${}\r\n{info}\r\n", info.len())
            }
            "GET" => five.into(),
            "MGET" => format!(
                "*{}\r\n{}",
                command.len() - 1,
                five.repeat(command.len() - 1)
            ),
            "INCRBY" | "UNLINK" | "EXISTS" | "PEXPIRE" | "PERSIST" => ":1\r\n".into(),
            "MULTI" | "EXEC" => "-ERR unknown command\r\n".into(),
            _ => "+OK\r\n".into(),
        }
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Returns the URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Returns how many connections were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for FakeRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FakeRedis").field(&self.address()).finish()
    }
}

impl Drop for FakeRedis {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address());
    }
}

fn serve(stream: TcpStream, handler: &Handler) -> io::Result<()> {
    // Two replies are two writes, of which Nagle's algorithm would delay the second.
    stream.set_nodelay(true)?;
    let mut replies = stream.try_clone()?;
    let mut requests = BufReader::new(stream);
    while let Some(command) = read_command(&mut requests)? {
        match handler(&command) {
            Some(reply) => replies.write_all(reply.as_bytes())?,
            None => return replies.shutdown(Shutdown::Both),
        }
    }
    Ok(())
}

fn read_command(requests: &mut impl BufRead) -> io::Result<Option<Vec<String>>> {
    let mut line = String::new();
    if requests.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut command = Vec::new();
    for _ in 0..number(&line)? {
        line.clear();
        requests.read_line(&mut line)?;
        let mut bytes = vec![0; number(&line)? + 2];
        requests.read_exact(&mut bytes)?;
        bytes.truncate(bytes.len() - 2);
        command.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    if let Some(name) = command.first_mut() {
        name.make_ascii_uppercase();
    }
    Ok(Some(command))
}

/// Returns the number after the first character of a line.
fn number(line: &str) -> io::Result<usize> {
    let digits = line.get(1..).unwrap_or_default();
    digits.trim().parse().map_err(io::Error::other)
}
