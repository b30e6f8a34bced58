//! A Redis server.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use super::Server;
use super::process::{Kind, Process, until};

static KIND: Kind = Kind {
    program: "redis-server",
    arguments: |port, folder| {
        let port = port.to_string();
        let pairs = [
            ("--port", &*port),
            ("--bind", "127.0.0.1"),
            ("--save", ""),
            ("--appendonly", "no"),
            ("--dir", folder),
        ];
        pairs
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value.to_owned()])
            .collect()
    },
    probe: b"INFO server\r\n",
    is_ready: |response, pid| {
        // A server with a password does not tell its process id without it.
        response.contains(&format!("process_id:{}\r\n", pid.as_raw_nonzero()))
            || response.starts_with("-NOAUTH")
    },
};

/// A Redis server for one test.
#[derive(Debug)]
pub struct Redis(Process);

impl Redis {
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
        format!("redis://{}", self.address())
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

    /// Runs commands one after another over a new connection, and returns the last reply.
    ///
    /// # Panics
    ///
    /// When the server does not reply.
    pub fn raw(&self, commands: &[&[&[u8]]]) -> Reply {
        let reply = (self.0.connect()).and_then(|connection| exchange(connection, commands));
        match reply {
            Ok(reply) => reply,
            Err(error) => panic!("Redis does not reply: {error}"),
        }
    }

    /// Runs a command given as words, and returns the reply.
    ///
    /// # Panics
    ///
    /// When the server does not reply.
    pub fn run(&self, command: &str) -> Reply {
        self.raw(&[&words(command)])
    }

    /// Authenticates with a password, runs a command given as words, and returns the reply.
    ///
    /// # Panics
    ///
    /// When the server does not reply.
    pub fn run_as(&self, password: &str, command: &str) -> Reply {
        self.raw(&[&[b"AUTH", password.as_bytes()], &words(command)])
    }

    /// Returns a replica of this server that has its data.
    ///
    /// # Panics
    ///
    /// When it does not get them.
    pub fn start_replica(&self) -> Self {
        let port = self.port().to_string();
        let replica = Self::start_with(&["--replicaof", "127.0.0.1", &port]);
        replica.until_linked();
        replica
    }

    /// Waits until this replica follows its master.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn until_linked(&self) {
        until("the replica follows", || {
            let info = self.run("INFO replication");
            info.text().contains("master_link_status:up")
        });
    }

    /// Waits until a replica has executed every write so far. In a cluster, `tag` is that of keys which are
    /// on this server.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn until_replicated(&self, tag: &str) {
        let key = format!("{tag}last write");
        until("the replica has all writes", || {
            // WAIT is about the writes of its own connection.
            let commands: [&[&[u8]]; 2] =
                [&[b"SET", key.as_bytes(), b""], &[b"WAIT", b"1", b"1000"]];
            self.raw(&commands) == Reply::Integer(1)
        });
    }

    /// Pauses a replica of this server so that it gets none of the writes from now on.
    pub fn cut_off(&self, replica: &Self) {
        replica.pause();
        // What is on its way to a paused process would still be read.
        self.run("CLIENT KILL TYPE replica");
    }

    /// Stores bytes under a key, as another program might.
    ///
    /// # Panics
    ///
    /// When the server refuses them.
    pub fn plant(&self, key: &str, bytes: &[u8]) {
        assert_eq!(
            self.raw(&[&[b"SET", key.as_bytes(), bytes]]),
            Reply::Text("OK".into())
        );
    }
}

/// How long the loads that a test leaves behind take to end.
const STRAGGLERS: Duration = Duration::from_millis(30);

impl Server for Redis {
    fn start() -> Self {
        Self::start()
    }

    fn renew(&self) -> bool {
        self.0.is_running() && {
            // Closes all connections, and with them their requests in progress.
            self.run("CLIENT KILL TYPE normal");
            self.run("CLIENT KILL TYPE pubsub");
            // A load that the test has left behind may still connect and store its value.
            std::thread::sleep(STRAGGLERS);
            self.run("FLUSHALL SYNC") == Reply::Text("OK".into())
        }
    }

    fn idle() -> &'static Mutex<Vec<Self>> {
        static IDLE: Mutex<Vec<Redis>> = Mutex::new(Vec::new());
        &IDLE
    }
}

/// A reply of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status or a string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// Nil.
    Nil,
    /// An array.
    Array(Vec<Reply>),
    /// An error.
    Error(String),
}

impl Reply {
    fn read(connection: &mut impl BufRead) -> io::Result<Self> {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let line = line.trim_end();
        let (kind, rest) = line
            .split_at_checked(1)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            "+" => Self::Text(rest.to_owned()),
            "-" => Self::Error(rest.to_owned()),
            ":" => Self::Integer(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_negative) => Self::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    connection.read_exact(&mut bytes)?;
                    Self::Text(String::from_utf8_lossy(&bytes[..length]).into_owned())
                }
            },
            "*" => match number()? {
                -1 => Self::Nil,
                count => Self::Array(
                    (0..count)
                        .map(|_| Self::read(connection))
                        .collect::<io::Result<_>>()?,
                ),
            },
            _ => return Err(io::Error::other(format!("not a reply: {line:?}"))),
        })
    }

    /// Returns the text of a status or a string.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Error(text) => text,
            _ => "",
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Error(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Nil => f.write_str("nil"),
            Self::Array(replies) => f.debug_list().entries(replies).finish(),
        }
    }
}

/// Runs commands one after another over a connection, and returns the last reply.
pub(super) fn exchange(mut connection: TcpStream, commands: &[&[&[u8]]]) -> io::Result<Reply> {
    let mut replies = BufReader::new(connection.try_clone()?);
    let mut last = Reply::Nil;
    for command in commands {
        send(&mut connection, command)?;
        last = Reply::read(&mut replies)?;
    }
    Ok(last)
}

fn words(command: &str) -> Vec<&[u8]> {
    command.split_whitespace().map(str::as_bytes).collect()
}

fn send(connection: &mut TcpStream, command: &[&[u8]]) -> io::Result<()> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    connection.write_all(&bytes)
}
