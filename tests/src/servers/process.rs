//! The process of a server, its port, and the supervisor that stops it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use rustix::process::{Pid, Signal, kill_process};

/// Runs a server (`"$@"`) until it ends or its standard input is closed. The input is a pipe from
/// the test process, so the server stops however the test process ends. `$0` is the server's
/// folder.
const SUPERVISOR: &str = r#"
trap '' INT TERM HUP
exec 3<&0
"$@" </dev/null >/dev/null 2>&1 3<&- &
server=$!
echo $server
(read -r _ <&3; rm -rf "$0"; kill -9 $server) &
watch=$!
wait $server
kill -9 $watch
"#;

/// How long a server may take to start or to end.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How a kind of server is started and identified.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) program: &'static str,
    /// The arguments for a port and a folder.
    pub(super) arguments: fn(port: u16, folder: &str) -> Vec<String>,
    /// The request that shows whether the server is up.
    pub(super) probe: &'static [u8],
    /// Whether the response comes from this process.
    pub(super) is_ready: fn(response: &str, pid: Pid) -> bool,
}

/// A server on its own port.
#[derive(Debug)]
pub(super) struct Process {
    kind: &'static Kind,
    extra: Vec<String>,
    port: Port,
    folder: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    supervisor: Child,
    pid: Pid,
    paused: bool,
}

impl Process {
    /// Starts a server on a free port.
    pub(super) fn start(kind: &'static Kind, extra: &[&str]) -> Self {
        let extra: Vec<String> = extra.iter().map(|&argument| argument.to_owned()).collect();
        let folder = new_folder();
        for _ in 0..20 {
            let port = Port::free();
            // Another program may have taken the port meanwhile.
            if let Some(running) = Running::start(kind, port.number(), &folder, &extra) {
                let running = Mutex::new(Some(running));
                return Self {
                    kind,
                    extra,
                    port,
                    folder,
                    running,
                };
            }
        }
        panic!("{} does not start with {extra:?}", kind.program);
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Kills the server with SIGKILL, and returns when the port is closed.
    pub(super) fn kill(&self) {
        if let Some(running) = self.running().take() {
            running.end();
        }
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(self.address()).is_ok() {
            assert!(Instant::now() < deadline, "port {} stays open", self.port());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts the server again on its port.
    pub(super) fn restart(&self) {
        self.kill();
        let deadline = Instant::now() + TIMEOUT;
        let mut running = self.running();
        while running.is_none() {
            assert!(
                Instant::now() < deadline,
                "{} does not start again at port {}",
                self.kind.program,
                self.port()
            );
            *running = Running::start(self.kind, self.port(), &self.folder, &self.extra);
        }
    }

    /// Pauses the process: connections stay open, and no request gets a response.
    pub(super) fn pause(&self) {
        self.signal(Signal::STOP, true);
    }

    /// Resumes the process.
    pub(super) fn resume(&self) {
        self.signal(Signal::CONT, false);
    }

    /// Whether the server runs and is not paused.
    pub(super) fn is_running(&self) -> bool {
        let mut running = self.running();
        running.as_mut().is_some_and(|running| {
            !running.paused && matches!(running.supervisor.try_wait(), Ok(None))
        })
    }

    /// Connects to the server.
    pub(super) fn connect(&self) -> io::Result<TcpStream> {
        connect(self.address())
    }

    fn signal(&self, signal: Signal, paused: bool) {
        let mut running = self.running();
        let Some(running) = running.as_mut() else {
            panic!("{} does not run", self.kind.program);
        };
        if let Err(error) = kill_process(running.pid, signal) {
            panic!("no signal reaches {}: {error}", self.kind.program);
        }
        running.paused = paused;
        let deadline = Instant::now() + TIMEOUT;
        while is_stopped(running.pid) != Some(paused) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(running) = self.running().take() {
            running.end();
        }
        // A server that never started has no process.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Running {
    /// Returns `None` when the server does not come up, for example because the port is taken.
    fn start(kind: &Kind, port: u16, folder: &PathBuf, extra: &[String]) -> Option<Self> {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(SUPERVISOR)
            .arg(folder)
            .arg(installed(kind.program));
        command
            .args((kind.arguments)(port, &folder.to_string_lossy()))
            .args(extra);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // A signal to the process group of the tests must not end the supervisor before its server.
        command.process_group(0);
        let mut supervisor = match command.spawn() {
            Ok(supervisor) => supervisor,
            Err(error) => panic!("no shell to start {} with: {error}", kind.program),
        };
        let mut line = String::new();
        let stdout = supervisor.stdout.take();
        let read = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let (Some(Ok(_)), Some(pid)) = (read, pid) else {
            panic!(
                "the supervisor of {} did not print the process id: {line:?}",
                kind.program
            );
        };
        let mut running = Self {
            supervisor,
            pid,
            paused: false,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let deadline = Instant::now() + TIMEOUT;
        while matches!(running.supervisor.try_wait(), Ok(None)) && Instant::now() < deadline {
            let response = connect(address).and_then(|connection| exchange(connection, kind.probe));
            match response {
                Ok(response) if (kind.is_ready)(&response, pid) => return Some(running),
                // The port belongs to another server.
                Ok(response) if !response.is_empty() && !response.starts_with("-LOADING") => break,
                _ => thread::sleep(Duration::from_millis(2)),
            }
        }
        running.end();
        None
    }

    fn end(mut self) {
        // The process may have ended by itself.
        let _ = kill_process(self.pid, Signal::KILL);
        // The pipe is held until the supervisor has ended. Otherwise it takes this for the end of
        // the test process and removes the folder, which a restart needs.
        let _stdin = self.supervisor.stdin.take();
        let _ = self.supervisor.wait();
    }
}

/// Whether all threads of a process are stopped, or none; `None` if only some are. On a busy
/// machine the last thread reacts long after the signal was sent.
fn is_stopped(pid: Pid) -> Option<bool> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).ok()?;
    let mut states = tasks.flatten().map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may contain anything.
        stat.rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with(['T', 't']))
    });
    let first = states.next()?;
    states.all(|state| state == first).then_some(first)
}

/// Sends a request, and returns the beginning of the response.
fn exchange(mut connection: TcpStream, request: &[u8]) -> io::Result<String> {
    connection.write_all(request)?;
    let mut response = [0; 4096];
    let length = connection.read(&mut response)?;
    Ok(String::from_utf8_lossy(&response[..length]).into_owned())
}

/// Connects to a server of the tests.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// Waits until something holds that servers do by themselves.
pub(super) fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT * 2;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the path of a server's binary.
fn installed(program: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // On Debian, the PATH of some users lacks the folders of servers.
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let binary = places
        .map(|place| place.join(program))
        .find(|binary| binary.is_file());
    binary.unwrap_or_else(|| {
        panic!("the tests start `{program}` themselves, but it is not installed: run `apt-get install {program}`, or ./test, which does that")
    })
}

/// A free port that no other test takes while this value lives, also while the server is down.
///
/// The port is below the range for outgoing connections. Otherwise, a client that connects to a
/// closed port can be connected to itself.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    /// Bound while the port is reserved: no two processes can bind it, and it is closed with the
    /// process.
    _reservation: UdpSocket,
}

impl Port {
    pub(super) fn free() -> Self {
        Self::listening().0
    }

    /// Returns a free port with a listener that is bound to it.
    pub(super) fn listening() -> (Self, TcpListener) {
        const FIRST: u32 = 10_240;
        const COUNT: u32 = 22_000;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            // Processes that start together begin far apart.
            let number = process::id()
                .wrapping_mul(37)
                .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let number = u16::try_from(FIRST + number % COUNT).unwrap_or(u16::MAX);
            // A port that is reserved is not even tried: its owner may be about to listen.
            let Ok(reservation) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else {
                continue;
            };
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
                let port = Self {
                    number,
                    _reservation: reservation,
                };
                return (port, listener);
            }
        }
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("cacheio-tests-{}-{number}", process::id()));
    if let Err(error) = fs::create_dir_all(&folder) {
        panic!("no folder for a server: {error}");
    }
    folder
}
