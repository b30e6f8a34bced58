//! A server's process, its port, and the supervisor that ends it.

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

/// Runs a server (`"$@"`) until it ends or the standard input does: that is a pipe which the test
/// process holds, so the server goes however the test process ends. `$0` is the server's folder.
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
const PATIENCE: Duration = Duration::from_secs(10);

/// How a kind of server is started, and asked who it is.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) program: &'static str,
    /// Its arguments on a port, with a folder.
    pub(super) arguments: fn(port: u16, folder: &str) -> Vec<String>,
    /// What is sent to it to see whether it is up.
    pub(super) greeting: &'static [u8],
    /// Whether the answer is that of the process.
    pub(super) is_ready: fn(answer: &str, pid: Pid) -> bool,
}

/// A server on a port of its own.
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
            // Somebody who knows nothing of reservations may have taken it meanwhile.
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

    /// Ends it as `kill -9` does; returns when nobody listens at the port.
    pub(super) fn kill(&self) {
        if let Some(running) = self.running().take() {
            running.end();
        }
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address()).is_ok() {
            assert!(Instant::now() < deadline, "port {} stays open", self.port());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts it again on its port.
    pub(super) fn restart(&self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
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

    /// Stops it without ending it: connections stay, nothing is answered.
    pub(super) fn pause(&self) {
        self.signal(Signal::STOP, true);
    }

    /// Lets it go on.
    pub(super) fn resume(&self) {
        self.signal(Signal::CONT, false);
    }

    /// Whether it runs and is not paused.
    pub(super) fn is_running(&self) -> bool {
        let mut running = self.running();
        running.as_mut().is_some_and(|running| {
            !running.paused && matches!(running.supervisor.try_wait(), Ok(None))
        })
    }

    /// A connection to it.
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
        let deadline = Instant::now() + PATIENCE;
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
        // One that never started has none.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Running {
    /// None if it does not come up, as when the port is taken.
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
        // What ends the tests' process group must not end the supervisor before its server.
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
                "the supervisor of {} did not say its process: {line:?}",
                kind.program
            );
        };
        let mut running = Self {
            supervisor,
            pid,
            paused: false,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let deadline = Instant::now() + PATIENCE;
        while matches!(running.supervisor.try_wait(), Ok(None)) && Instant::now() < deadline {
            let answer = connect(address).and_then(|connection| ask(connection, kind.greeting));
            match answer {
                Ok(answer) if (kind.is_ready)(&answer, pid) => return Some(running),
                // The port is another server's.
                Ok(answer) if !answer.is_empty() && !answer.starts_with("-LOADING") => break,
                _ => thread::sleep(Duration::from_millis(2)),
            }
        }
        running.end();
        None
    }

    fn end(mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = kill_process(self.pid, Signal::KILL);
        // Held until the supervisor has ended, lest it takes this for the end of the test process
        // and clears up the folder, which a restart needs.
        let _stdin = self.supervisor.stdin.take();
        let _ = self.supervisor.wait();
    }
}

/// Whether all threads of a process are stopped (none: not all, not none). A signal has been sent
/// long before the last thread of a busy machine has noticed.
fn is_stopped(pid: Pid) -> Option<bool> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).ok()?;
    let mut states = tasks.flatten().map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything, in parentheses.
        stat.rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with(['T', 't']))
    });
    let first = states.next()?;
    states.all(|state| state == first).then_some(first)
}

/// One question, and the beginning of its answer.
fn ask(mut connection: TcpStream, question: &[u8]) -> io::Result<String> {
    connection.write_all(question)?;
    let mut answer = [0; 4096];
    let length = connection.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// The path of a server's binary.
fn installed(program: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers out of some users' way.
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let binary = places
        .map(|place| place.join(program))
        .find(|binary| binary.is_file());
    binary.unwrap_or_else(|| {
        panic!("the tests start `{program}` themselves, but it is not installed: run `apt-get install {program}`, or ./test, which does that")
    })
}

/// A port that nobody listens at, and that no other test takes while this is there: also not while
/// its server is down.
///
/// It is below those that the kernel gives to outgoing connections: a client that knocks at a
/// closed one of those ends up talking to itself, now and then.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    /// Two cannot hold the same one, whoever they are, and it goes with the process.
    _reservation: UdpSocket,
}

impl Port {
    pub(super) fn free() -> Self {
        const FIRST: u32 = 10_240;
        const COUNT: u32 = 22_000;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            // Far apart for processes that start together.
            let number = process::id()
                .wrapping_mul(37)
                .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let number = u16::try_from(FIRST + number % COUNT).unwrap_or(u16::MAX);
            let reservation = UdpSocket::bind((Ipv4Addr::LOCALHOST, number));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number));
            if let (Ok(reservation), Ok(_)) = (reservation, listener) {
                return Self {
                    number,
                    _reservation: reservation,
                };
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
