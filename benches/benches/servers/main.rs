//! Prints the table of servers in the guide: entries a second, and CPU time for an entry, through cacheio
//! and through the raw client that it uses, on the same server, with the same keys, JSON and TTL.
//!
//! The machine may be shared and noisy: the contestants take turns, round by round, each begins as
//! often as the others, and what counts is the ratio of their medians. A row whose ratio is below its
//! goal is marked as behind.
//!
//! ```sh
//! cargo bench -p cacheio-benches --bench servers
//! cargo bench -p cacheio-benches --bench servers -- 101 'redis get' loopback   # 101 rounds, of some rows
//! ```
//!
//! It starts `redis-server` and `memcached` itself, on free ports, and a proxy for the rows in which each
//! reply takes 0.3 ms longer.

mod contestants;
mod large_batch;
mod proxy;

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cacheio::{AsyncCache, Cache, Memcached, Redis, Ttl};
use cacheio_benches::clients::{
    Article, AsyncMeta, Blocking, Classic, Meta, Multiplexed, Sample, Text,
};
use cacheio_tests::servers;
use contestants::{Callers, Contestant, Operation, Row, Turn, Workers, names, sample};
use proxy::Proxy;

/// The length of a turn: short, so that a disturbance affects neighbouring turns alike.
const TURN: Duration = Duration::from_millis(30);
/// The additional latency of a reply from a server on another machine.
const AWAY: Duration = Duration::from_micros(300);

const SINGLE: [Operation; 3] = [Operation::Get, Operation::Set, Operation::GetOrSet];
const BATCHES: [Operation; 2] = [Operation::GetMany, Operation::SetMany];
const WORKERS: [Workers; 3] = [Workers::CurrentThread, Workers::One, Workers::Two];
const TASKS: [usize; 6] = [1, 4, 8, 16, 32, 256];
const THREADS: [usize; 3] = [1, 2, 8];

/// A server, as the clients reach it.
#[derive(Clone, Copy)]
struct Place {
    name: &'static str,
    redis: SocketAddr,
    memcached: SocketAddr,
}

fn main() {
    if proxy::is_asked_for() {
        return proxy::run();
    }
    let start = Instant::now();
    let arguments = || std::env::args().skip(1);
    let mut table = Table {
        rounds: arguments()
            .find_map(|argument| argument.parse().ok())
            .unwrap_or(15),
        filters: arguments()
            .filter(|argument| !argument.starts_with('-') && argument.parse::<usize>().is_err())
            .map(|filter| filter.to_lowercase())
            .collect(),
        rows: 0,
        behind: 0,
    };
    let redis = servers::Redis::start();
    let memcached = servers::Memcached::start_with(&["-m", "512", "-I", "4m"]);
    for cache in [
        sync_redis(redis.address()),
        sync_memcached(memcached.address()),
    ] {
        fill::<Article>(&cache);
        fill::<Text<10>>(&cache);
        fill::<Text<500>>(&cache);
        fill::<Text<100_000>>(&cache);
        fill::<Text<1_000_000>>(&cache);
    }
    let away = [redis.address(), memcached.address()].map(|server| Proxy::start(server, AWAY));
    let places = [
        Place {
            name: "loopback",
            redis: redis.address(),
            memcached: memcached.address(),
        },
        Place {
            name: "0.3 ms away",
            redis: away[0].address(),
            memcached: away[1].address(),
        },
    ];
    table.head();
    for place in places {
        for operation in SINGLE {
            for workers in WORKERS {
                for count in TASKS {
                    let callers = Callers::Tasks(count, workers);
                    let goal = goal_of_tasks(operation, callers, place);
                    table.redis_for_tasks::<Article>(operation, callers, place, goal);
                }
            }
        }
        for operation in BATCHES {
            for workers in WORKERS {
                let callers = Callers::Tasks(1, workers);
                table.redis_for_tasks::<Text<10>>(operation, callers, place, 0.95);
                table.redis_for_tasks::<Text<500>>(operation, callers, place, 0.95);
            }
        }
        for operation in [Operation::Get, Operation::Set] {
            for count in [1, 8, 32] {
                let callers = Callers::Tasks(count, Workers::One);
                table.redis_for_tasks::<Text<100_000>>(operation, callers, place, 0.95);
                table.redis_for_tasks::<Text<1_000_000>>(operation, callers, place, 0.95);
            }
        }
        for operation in SINGLE {
            for count in THREADS {
                table.redis_for_threads::<Article>(operation, count, place);
            }
        }
        for operation in BATCHES {
            table.redis_for_threads::<Text<10>>(operation, 1, place);
            table.redis_for_threads::<Text<500>>(operation, 1, place);
        }
        for operation in SINGLE {
            for count in THREADS {
                table.memcached_for_threads::<Article>(operation, count, place);
            }
        }
        for operation in BATCHES {
            table.memcached_for_threads::<Text<10>>(operation, 1, place);
            table.memcached_for_threads::<Text<500>>(operation, 1, place);
        }
        for operation in [Operation::Get, Operation::Set] {
            table.memcached_for_threads::<Text<100_000>>(operation, 1, place);
            table.memcached_for_threads::<Text<1_000_000>>(operation, 1, place);
        }
        for operation in SINGLE {
            for workers in WORKERS {
                for count in TASKS {
                    let callers = Callers::Tasks(count, workers);
                    table.memcached_for_tasks::<Article>(operation, callers, place);
                }
            }
        }
        for operation in BATCHES {
            let callers = Callers::Tasks(1, Workers::One);
            table.memcached_for_tasks::<Text<10>>(operation, callers, place);
            table.memcached_for_tasks::<Text<500>>(operation, callers, place);
        }
        for operation in [Operation::Get, Operation::Set] {
            let callers = Callers::Tasks(1, Workers::One);
            table.memcached_for_tasks::<Text<100_000>>(operation, callers, place);
            table.memcached_for_tasks::<Text<1_000_000>>(operation, callers, place);
        }
    }
    println!(
        "\nRates are entries a second; in brackets, the quartiles of the rounds' own ratios. CPU is the time of this \
         process for an entry. Values are JSON; a struct has 500 bytes. A raw client has no `get_or_set`: it is \
         compared with `get`. `cargo bench -p cacheio-benches --bench servers`: medians of {} interleaved rounds, \
         {} rows, {} behind, {:.0} s in all, on {} cores that clients and servers share; {}, {}.",
        table.rounds,
        table.rows,
        table.behind,
        start.elapsed().as_secs_f64(),
        thread::available_parallelism().map_or(0, usize::from),
        version("redis-server", "Redis"),
        version("memcached", "memcached"),
    );
    if table.selects("redis set_many(100000) of 1 kb") {
        large_batch::print();
    }
}

/// Requests of many callers are sent together: with a core for the client and one for the server, that has to
/// be a gain.
fn goal_of_tasks(operation: Operation, callers: Callers, place: Place) -> f64 {
    match (operation, callers) {
        _ if place.name != "loopback" => 0.95,
        (Operation::Get, Callers::Tasks(32, Workers::One)) => 1.4,
        (Operation::Get, Callers::Tasks(256, Workers::One)) => 2.0,
        (Operation::Set, Callers::Tasks(32, Workers::One)) => 1.3,
        (Operation::Set, Callers::Tasks(256, Workers::One)) => 1.6,
        _ => 0.95,
    }
}

/// The table, printed row by row.
struct Table {
    rounds: usize,
    filters: Vec<String>,
    rows: usize,
    behind: usize,
}

impl Table {
    fn head(&self) {
        println!(
            "| operation | callers | value | server | raw client | raw/s | cacheio/s | ratio | raw CPU µs | cacheio CPU µs | ratio | goal | |"
        );
        println!(
            "| --- | --- | --- | --- | --- | ---: | ---: | --- | ---: | ---: | ---: | --- | --- |"
        );
    }

    fn redis_for_tasks<V: Sample>(
        &mut self,
        operation: Operation,
        callers: Callers,
        place: Place,
        goal: f64,
    ) {
        let row = Row::new::<V>("Redis", operation, callers, place.name).goal(goal);
        self.race(row, |row| {
            let url = format!("redis://{}", place.redis);
            let raw = row.callers.runtime().block_on(Multiplexed::connect(&url));
            vec![
                row.tasks::<_, V>("cacheio", async_redis(place.redis)),
                row.tasks::<_, V>("MultiplexedConnection", raw),
            ]
        });
    }

    /// On the loopback, passing a call between threads costs as much as the round trip.
    fn redis_for_threads<V: Sample>(&mut self, operation: Operation, count: usize, place: Place) {
        let goal = if place.name == "loopback" { 0.8 } else { 0.95 };
        let row = Row::new::<V>("Redis", operation, Callers::Threads(count), place.name);
        self.race(row.goal(goal), |row| {
            let cache = sync_redis(place.redis);
            let url = format!("redis://{}", place.redis);
            vec![
                row.threads::<_, V>("cacheio", move || cache.clone()),
                row.threads::<_, V>("Connection of each", move || Blocking::connect(&url)),
            ]
        });
    }

    fn memcached_for_threads<V: Sample>(
        &mut self,
        operation: Operation,
        count: usize,
        place: Place,
    ) {
        let row = Row::new::<V>("Memcached", operation, Callers::Threads(count), place.name);
        self.race(row, |row| {
            let cache = sync_memcached(place.memcached);
            let url = format!("memcache://{}", place.memcached);
            let classic = Classic::connect(&url, count);
            let meta = Meta::connect(place.memcached);
            vec![
                row.threads::<_, V>("cacheio", move || cache.clone()),
                row.threads::<_, V>("memcache::Client", move || classic.clone()),
                row.threads::<_, V>("MetaClient", move || meta.clone()),
            ]
        });
    }

    fn memcached_for_tasks<V: Sample>(
        &mut self,
        operation: Operation,
        callers: Callers,
        place: Place,
    ) {
        let row = Row::new::<V>("Memcached", operation, callers, place.name);
        self.race(row, |row| {
            let raw = AsyncMeta::connect(place.memcached);
            let raw = row.callers.runtime().block_on(raw);
            vec![
                row.tasks::<_, V>("cacheio", async_memcached(place.memcached)),
                row.tasks::<_, V>("AsyncMetaClient", raw),
            ]
        });
    }

    fn selects(&self, name: &str) -> bool {
        self.filters.iter().all(|filter| name.contains(filter))
    }

    /// Lets the contestants take turns, and prints the ratio of the first to each other one.
    fn race(&mut self, row: Row, contestants: impl FnOnce(&Row) -> Vec<Contestant>) {
        if !self.selects(&row.to_string().to_lowercase()) {
            return;
        }
        let mut contestants = contestants(&row);
        // Warm-up: connections and memory are not measured.
        for contestant in &contestants {
            (contestant.turn)(TURN);
        }
        for round in 0..self.rounds {
            let count = contestants.len();
            for turn in 0..count {
                let contestant = &mut contestants[(round + turn) % count];
                contestant.turns.push((contestant.turn)(TURN));
            }
        }
        let (ours, others) = contestants.split_first().expect("ours");
        for other in others {
            self.print(&row, ours, other);
        }
    }

    fn print(&mut self, row: &Row, ours: &Contestant, other: &Contestant) {
        let medians = |of: fn(&Turn) -> f64| {
            let median_of = |contestant: &Contestant| median(contestant.turns.iter().map(of));
            (median_of(ours), median_of(other))
        };
        let (rate, raw) = medians(|turn| turn.rate);
        let (cpu, raw_cpu) = medians(|turn| turn.cpu);
        let ratio = rate / raw;
        let rounds = ours.turns.iter().zip(&other.turns);
        let mut ratios: Vec<f64> = rounds.map(|(a, b)| a.rate / b.rate).collect();
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4]);
        // Compared as printed.
        let is_behind = (ratio * 100.0).round() < (row.goal * 100.0).round();
        self.rows += 1;
        self.behind += usize::from(is_behind);
        println!(
            "| {row} | {} | {raw:.0} | {rate:.0} | {ratio:.2} ({low:.2}–{high:.2}) | {raw_cpu:.1} | {cpu:.1} | {:.2} | ≥ {} | {} |",
            other.name,
            cpu / raw_cpu,
            row.goal,
            if is_behind { "behind" } else { "" },
        );
    }
}

/// Stores all entries of a kind; the raw clients read them too.
fn fill<V: Sample>(cache: &Cache) {
    let value = sample::<V>();
    for names in names::<V>().chunks(10) {
        let entries = names.iter().map(|name| (name.key, value));
        let stored = cache.set_many_with(entries, Ttl::Never);
        stored.expect("the server answers");
    }
}

fn redis(address: SocketAddr) -> Redis {
    Redis::new(format!("redis://{address}")).expect("a URL")
}

fn memcached(address: SocketAddr) -> Memcached {
    Memcached::new(&format!("memcache://{address}")).expect("a URL")
}

fn async_redis(address: SocketAddr) -> AsyncCache {
    let cache = AsyncCache::builder().store(redis(address));
    cache.namespace("bench").build().expect("valid settings")
}

fn sync_redis(address: SocketAddr) -> Cache {
    let cache = Cache::builder().store(redis(address));
    cache.namespace("bench").build().expect("valid settings")
}

fn sync_memcached(address: SocketAddr) -> Cache {
    let cache = Cache::builder().store(memcached(address));
    cache.namespace("bench").build().expect("valid settings")
}

fn async_memcached(address: SocketAddr) -> AsyncCache {
    let cache = AsyncCache::builder().store(memcached(address));
    cache.namespace("bench").build().expect("valid settings")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the name and version of a server's program.
fn version(program: &str, name: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let number = text
        .split_whitespace()
        .map(|word| word.trim_start_matches("v="))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    format!("{name} {}", number.unwrap_or("of unknown version"))
}
