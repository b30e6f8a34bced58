//! Processes with L1 on one server, under random faults: each read is compared with the writes that had been answered
//! when it began.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::Duration;
use std::{env, fs, process};

use cacheio_tests::api::World;
use cacheio_tests::history::{Call, Event, KEYS, now, read};
use cacheio_tests::process::Process;
use cacheio_tests::servers::{Proxy, Redis};
use cacheio_tests::watchdog::guarded;

const BOUND: Duration = Duration::from_millis(500);
/// How long it runs, and the seed of its faults.
const SECONDS: &str = "CACHEIO_HISTORY_SECONDS";
const SEED: &str = "CACHEIO_HISTORY_SEED";

/// The numbers that decide about faults.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // Splitmix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (number ^ (number >> 31)) % limit
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }
}

struct Run {
    server: Redis,
    proxies: Vec<Proxy>,
    processes: Vec<Process>,
    random: Random,
    /// What was done, and when.
    faults: Vec<(Duration, String)>,
}

impl Run {
    fn start(seed: u64) -> Self {
        let server = Redis::start();
        let proxies: Vec<_> = (0..3).map(|_| Proxy::to(server.address())).collect();
        let worlds = [World::Threads, World::Tasks, World::Threads];
        let processes = proxies.iter().zip(worlds).map(|(proxy, world)| {
            let address = proxy.address();
            let url = format!("redis://{address}?timeout=300ms&l1=1000&max_staleness=500ms");
            Process::start(&url, world)
        });
        Self {
            processes: processes.collect(),
            server,
            proxies,
            random: Random(seed),
            faults: Vec::new(),
        }
    }

    fn note(&mut self, fault: String) {
        self.faults.push((now(), fault));
    }

    /// Does one harm, and repairs it.
    fn harm(&mut self) {
        let number = usize::try_from(self.random.below(3)).unwrap();
        let pause = self.random.millis(20, 1_200);
        match self.random.below(6) {
            0 => {
                self.note(format!("the connections of process {number} fall silent"));
                self.proxies[number].lose_connections();
            }
            1 => {
                self.note(format!("the connections of process {number} are cut"));
                self.proxies[number].cut_now();
            }
            2 => {
                self.note(format!("the server stands still for {pause:?}"));
                self.server.pause();
                sleep(pause);
                self.server.resume();
            }
            3 => {
                self.note(format!("process {number} stands still for {pause:?}"));
                self.processes[number].freeze();
                sleep(pause);
                self.processes[number].thaw();
            }
            4 => {
                self.note(format!("the server is down for {pause:?}"));
                self.server.kill();
                sleep(pause);
                self.server.restart();
            }
            _ => {
                self.note(format!(
                    "replies to process {number} are late for {pause:?}"
                ));
                self.proxies[number].delay(pause / 4);
                sleep(pause);
                self.proxies[number].delay(Duration::ZERO);
            }
        }
        self.note("repaired".into());
    }
}

/// When a write of a key was answered.
type Confirmed = HashMap<u64, Vec<(Duration, u64)>>;

/// Returns by how much a read was older than allowed: zero if it began before the bound of a newer write.
fn lateness(confirmed: &Confirmed, read: &Call, found: u64, bound: Duration) -> Duration {
    let Some(writes) = confirmed.get(&read.key) else {
        return Duration::ZERO;
    };
    // They are in the order of their numbers, and of the times at which they were answered.
    let newer = writes.partition_point(|(_, number)| *number <= found);
    writes.get(newer).map_or(Duration::ZERO, |(answered, _)| {
        read.began.saturating_sub(*answered + bound)
    })
}

fn describe(run: &Run, histories: &[Vec<Call>], read: &Call) -> String {
    let mut lines = Vec::new();
    for (number, calls) in histories.iter().enumerate() {
        let of_key = calls.iter().filter(|call| call.key == read.key);
        lines.extend(of_key.map(|call| (call.began, format!("process {number}: {call:?}"))));
    }
    lines.extend(run.faults.iter().cloned());
    lines.sort();
    let span = (read.began.saturating_sub(BOUND * 5))..(read.ended + BOUND);
    let mut text = String::new();
    for (at, line) in lines.iter().filter(|(at, _)| span.contains(at)) {
        writeln!(text, "{at:?} {line}").unwrap();
    }
    text
}

fn no_process_reads_what_is_older_than_the_bound(duration: Duration, seed: u64) {
    println!("history: {SEED}={seed}");
    let mut run = Run::start(seed);
    let folder = env::temp_dir();
    let paths: Vec<_> = (0..run.processes.len())
        .map(|number| folder.join(format!("cacheio-history-{}-{number}", process::id())))
        .map(|path| path.display().to_string())
        .collect();
    let until = now() + duration;
    let line = |number: usize| {
        let role = if number == 0 { "write" } else { "read" };
        format!("history {role} {} {}", paths[number], until.as_nanos())
    };
    for (number, process) in run.processes.iter_mut().enumerate() {
        process.tell(&line(number));
    }
    while now() < until {
        // Now and then long enough that the server is heard again.
        let pause = match run.random.below(4) {
            0 => run.random.millis(500, 1_500),
            _ => run.random.millis(20, 400),
        };
        sleep(pause);
        run.harm();
    }
    let mut l1_hits = 0;
    for (number, process) in run.processes.iter_mut().enumerate() {
        process.expect(&format!("done {}", line(number)));
        l1_hits += process.l1_hits();
    }
    let histories: Vec<_> = paths.iter().map(|path| read(path)).collect();
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    let mut confirmed = Confirmed::new();
    for call in &histories[0] {
        if let Event::Write {
            number,
            is_confirmed: true,
        } = call.event
        {
            let of_key = confirmed.entry(call.key).or_default();
            of_key.push((call.ended, number));
        }
    }
    let (mut reads, mut oldest) = (0, Duration::ZERO);
    for (number, calls) in histories.iter().enumerate() {
        // The process that writes sees its writes at once.
        let bound = if number == 0 { Duration::ZERO } else { BOUND };
        for call in calls {
            let Event::Read { found: Some(found) } = call.event else {
                continue;
            };
            reads += 1;
            oldest = oldest.max(lateness(&confirmed, call, found, Duration::ZERO));
            let late = lateness(&confirmed, call, found, bound);
            assert!(
                late.is_zero(),
                "process {number} has read a value {late:?} after it had to be gone: {call:?}\n\
                 {SEED}={seed}\n{}",
                describe(&run, &histories, call),
            );
        }
    }
    println!("history: {reads} reads, {l1_hits} hits in L1, the oldest value was {oldest:?} old");
    assert_eq!(confirmed.len(), usize::try_from(KEYS).unwrap());
    assert!(reads > 0 && l1_hits > 0);
}

#[test]
fn no_process_reads_what_is_older_than_the_bound_under_random_faults() {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let seed = number(SEED).unwrap_or_else(|| now().as_nanos() as u64);
    match number(SECONDS) {
        Some(seconds) => {
            no_process_reads_what_is_older_than_the_bound(Duration::from_secs(seconds), seed);
        }
        None => guarded(move || {
            no_process_reads_what_is_older_than_the_bound(Duration::from_secs(10), seed);
        }),
    }
}
