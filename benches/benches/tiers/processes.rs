//! Loads among processes: this program starts itself.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cacheio_tests::servers::Redis;

use crate::changes::BOUND;
use crate::clients::{Cacheio, Client, Loader, Near, runtime};
use crate::peers::{ByHand, CacheAio, MultiTier, Rustis};

pub(crate) const PROCESSES: usize = 8;
pub(crate) const KEYS: usize = 30;

const ARGUMENT: &str = "--process";
/// How long a load of the cold keys takes.
const LOAD: Duration = Duration::from_millis(20);

/// Returns how many loads it takes when processes need the same cold keys at the same time.
pub(crate) fn cold<C: Client>() -> u64 {
    let server = Redis::start();
    let mut processes: Vec<_> = (0..PROCESSES)
        .map(|_| Process::start(C::NAME, &server.url()))
        .collect();
    for process in &mut processes {
        process.expect("ready");
    }
    for process in &mut processes {
        process.tell("cold");
    }
    let loads = processes.iter_mut().map(|process| {
        let line = process.line();
        line.parse::<u64>().expect("a number")
    });
    loads.sum()
}

/// Returns how long it takes until another process loads, when the one that loads is killed; the longest time of
/// some pairs of processes.
pub(crate) fn killed() -> Duration {
    let server = Redis::start();
    let pairs: Vec<_> = (0..3)
        .map(|pair| {
            let start = || {
                let mut process = Process::start(Cacheio::NAME, &server.url());
                process.expect("ready");
                process
            };
            let (mut holder, mut other) = (start(), start());
            thread::spawn(move || {
                let (load, loading) = (format!("load k{pair}"), format!("loading k{pair}"));
                holder.tell(&load);
                holder.expect(&loading);
                other.tell(&load);
                // Until it waits, and the claim was renewed at another time in each pair.
                thread::sleep(Duration::from_millis(1_000 + 300 * pair));
                holder.kill();
                let killed_at = Instant::now();
                other.expect(&loading);
                killed_at.elapsed()
            })
        })
        .collect();
    let times = pairs.into_iter().map(JoinHandle::join);
    times
        .map(|time| time.expect("no pair panics"))
        .max()
        .expect("some pairs")
}

/// A process that does what it is told.
struct Process {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(client: &str, url: &str) -> Self {
        let program = std::env::current_exe().expect("a program");
        let mut child = Command::new(program)
            .args([ARGUMENT, client, url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let output = child.stdout.take().expect("it is piped");
        Self {
            input: child.stdin.take().expect("it is piped"),
            lines: BufReader::new(output).lines(),
            child,
        }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the process reads");
    }

    fn line(&mut self) -> String {
        let line = self.lines.next().expect("the process goes on");
        line.expect("text")
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Does what another process says, if this one was started by it.
pub(crate) fn is_child() -> bool {
    let mut arguments = std::env::args().skip_while(|argument| argument != ARGUMENT);
    let (Some(_), Some(client), Some(url)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return false;
    };
    let run = match &*client {
        Cacheio::NAME => run::<Cacheio>,
        CacheAio::NAME => run::<CacheAio>,
        ByHand::NAME => run::<ByHand>,
        Rustis::NAME => run::<Rustis>,
        MultiTier::NAME => run::<MultiTier>,
        _ => panic!("unknown client {client}"),
    };
    run(&url);
    true
}

fn run<C: Client>(url: &str) {
    let near = Near {
        capacity: 10_000,
        max_age: BOUND,
    };
    let client = runtime().block_on(C::connect(url, near));
    let client = client.expect("the server is there");
    // Connections are not measured.
    let _ = runtime().block_on(client.get("warm"));
    println!("ready");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        runtime().block_on(async {
            match line.strip_prefix("load ") {
                Some(key) => {
                    let loader = Loader::endless(format!("loading {key}"));
                    client.get_or_load(key, &loader).await;
                }
                None => {
                    let loader = Loader::new(LOAD);
                    for key in 0..KEYS {
                        client.get_or_load(&format!("cold:{key}"), &loader).await;
                    }
                    println!("{}", loader.loads());
                }
            }
        });
    }
}
