//! Prints what 300 callers of one cache get while its server or its network fails: how late their calls
//! end, how many values are wrong, and how soon the server is used again after its return.
//!
//! ```sh
//! cargo bench -p cacheio-benches --bench faults
//! cargo bench -p cacheio-benches --bench faults -- redis tasks 300ms   # some cells
//! ```
//!
//! Each cell is a fault, a kind of server, a world and a timeout; arguments select the cells whose line
//! contains all of them. It starts `redis-server` and `memcached` itself, on free ports.
//!
//! A machine that is busy wakes threads late. So some more callers only sleep, for the length of the timeout
//! or for a few milliseconds: how late the latest of them is stands beside the calls, as the control. A cell
//! that misses runs twice more, and counts as missed if it misses again.

mod callers;
mod environment;

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cacheio_tests::api::World;

use callers::{Callers, Report};
use environment::{Environment, Kind};

const TIMEOUTS: [Duration; 3] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// How much later than its timeout a call may end.
const LATE: Duration = Duration::from_millis(50);
/// How long a server that is back may stay unused.
const UNUSED: Duration = Duration::from_millis(500);
/// How long the callers run before the fault and after it.
const HEALTHY: Duration = Duration::from_millis(300);

/// What happens to the server or to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The server is killed, and starts again.
    Kill,
    /// The server is stopped by SIGSTOP.
    Stop,
    /// The network loses all requests.
    BlackHole,
    /// The network loses all requests, and never delivers on those connections again.
    HalfOpen,
    /// Replies come after the timeout.
    Delayed,
    /// Connections are closed in the middle of a reply.
    Cut,
    /// Replies come byte by byte.
    Drip,
    /// The same, with TLS: also the handshakes of new connections.
    TlsDrip,
    /// Single replies are lost.
    LostReply,
    /// Single replies are shorter than they state.
    WrongLength,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::Kill,
        Self::Stop,
        Self::BlackHole,
        Self::HalfOpen,
        Self::Delayed,
        Self::Cut,
        Self::Drip,
        Self::TlsDrip,
        Self::LostReply,
        Self::WrongLength,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "SIGSTOP",
            Self::BlackHole => "black hole",
            Self::HalfOpen => "half-open",
            Self::Delayed => "delayed",
            Self::Cut => "cut mid-reply",
            Self::Drip => "drip",
            Self::TlsDrip => "TLS drip",
            Self::LostReply => "lost reply",
            Self::WrongLength => "wrong-length reply",
        }
    }
}

/// One line of the matrix.
#[derive(Clone, Copy)]
struct Cell {
    fault: Fault,
    kind: Kind,
    world: World,
    timeout: Duration,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = match self.world {
            World::Threads => "threads",
            World::Tasks => "tasks",
        };
        let (fault, kind) = (self.fault.name(), self.kind.name());
        write!(f, "{fault} | {kind} | {world} | {:?}", self.timeout)
    }
}

fn main() -> ExitCode {
    environment::trust_own_authority();
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .map(|argument| argument.to_lowercase())
        .collect();
    let start = Instant::now();
    println!(
        "| fault | server | callers | timeout | calls | longest beyond its timeout | control | wrong values | used again after | |"
    );
    println!("| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |");
    let (mut cells, mut missed) = (0, 0);
    for cell in cells_of_matrix() {
        let name = cell.to_string().to_lowercase();
        if !filters.iter().all(|filter| name.contains(filter)) {
            continue;
        }
        cells += 1;
        let misses = || !print(cell, &cell.world.run(run(cell)));
        if misses() {
            let again = [misses(), misses()];
            missed += usize::from(again.contains(&true));
        }
    }
    println!(
        "\n{} callers, {cells} cells, {missed} missed, in {:.0} s. A call may end {LATE:?} after its timeout (a \
         `get_or_set`: after its timeout and its loader), no value may be wrong, and the server is to be used \
         within {UNUSED:?} of its return.",
        callers::COUNT,
        start.elapsed().as_secs_f64(),
    );
    match missed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn cells_of_matrix() -> Vec<Cell> {
    let mut cells = Vec::new();
    for timeout in TIMEOUTS {
        for fault in Fault::ALL {
            for kind in [Kind::Redis, Kind::Memcached] {
                for world in [World::Threads, World::Tasks] {
                    cells.push(Cell {
                        fault,
                        kind,
                        world,
                        timeout,
                    });
                }
            }
        }
    }
    cells
}

async fn run(cell: Cell) -> Report {
    let environment = Environment::start(cell.kind, cell.fault == Fault::TlsDrip);
    let cache = environment.open(cell.world, cell.timeout);
    callers::fill(&cache).await;
    let callers = Callers::start(&cache, cell.timeout);
    cell.world.sleep(HEALTHY).await;
    inject(cell, &environment).await;
    let used_after = cache.used_again().await;
    cell.world.sleep(HEALTHY).await;
    let mut report = callers.stop().await;
    report.used_after = used_after;
    report
}

/// Lets the fault happen, and returns when the server is back.
async fn inject(cell: Cell, environment: &Environment) {
    let sleep = |duration| cell.world.sleep(duration);
    let proxy = &environment.proxy;
    // Every call that meets the fault ends in this time.
    let whole = cell.timeout + Duration::from_millis(400);
    // Single replies are affected many times.
    let events = whole.min(Duration::from_millis(1_400)).as_millis() / 40;
    match cell.fault {
        Fault::Kill => {
            environment.kill();
            sleep(whole).await;
            environment.restart();
        }
        Fault::Stop => {
            environment.pause();
            sleep(whole).await;
            environment.resume();
        }
        Fault::BlackHole => {
            proxy.swallow(true);
            sleep(whole).await;
            proxy.swallow(false);
        }
        Fault::HalfOpen => {
            proxy.swallow(true);
            sleep(whole).await;
            proxy.lose_connections();
            proxy.swallow(false);
        }
        Fault::Delayed => {
            proxy.delay(cell.timeout + Duration::from_millis(200));
            sleep(whole).await;
            proxy.delay(Duration::ZERO);
        }
        Fault::Cut => {
            for event in 0..events {
                proxy.cut_after(usize::try_from(event * 37 % 400).unwrap_or_default());
                sleep(Duration::from_millis(40)).await;
            }
        }
        Fault::Drip | Fault::TlsDrip => {
            proxy.drip(Duration::from_millis(20));
            sleep(whole).await;
            proxy.drip(Duration::ZERO);
        }
        Fault::LostReply => {
            for _ in 0..events {
                proxy.lose_reply();
                sleep(Duration::from_millis(40)).await;
            }
        }
        Fault::WrongLength => {
            for _ in 0..events {
                proxy.shorten_reply();
                sleep(Duration::from_millis(40)).await;
            }
        }
    }
}

/// Prints a line; returns whether the cell is as it has to be.
fn print(cell: Cell, report: &Report) -> bool {
    let in_time = report.beyond <= LATE;
    // The machine is as late with a plain sleep.
    let explained = report.beyond <= report.control + LATE;
    let others = report.wrong == 0 && report.used_after <= UNUSED;
    let verdict = match (others, in_time, explained) {
        (true, true, _) => "ok",
        (true, false, true) => "ok (the control is late too)",
        _ => "**missed**",
    };
    println!(
        "| {cell} | {} | {:.1} ms ({}) | {:.1} ms | {} | {:.1} ms | {verdict} |",
        report.calls,
        milliseconds(report.beyond),
        report.slowest,
        milliseconds(report.control),
        report.wrong,
        milliseconds(report.used_after),
    );
    others && explained
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
