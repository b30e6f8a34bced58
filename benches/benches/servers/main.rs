//! Prints the README's table of servers: entries a second through cacheio and through the raw client
//! that it uses, on the same server, with the same keys, JSON and TTL.
//!
//! The machine may be shared and noisy: the contestants take turns, round by round, each begins as
//! often as the others, and what counts is the ratio of their medians.
//!
//! ```sh
//! cargo bench -p cacheio-benches --bench servers
//! cargo bench -p cacheio-benches --bench servers -- 101 redis get   # 101 rounds, of some rows
//! ```
//!
//! It starts `redis-server` and `memcached` itself, on free ports.

mod contestants;

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cacheio::{AsyncCache, Cache, Memcached, Redis, Ttl};
use cacheio_benches::clients::{Article, AsyncMeta, Blocking, Classic, Meta, Multiplexed, Sample};
use cacheio_tests::servers;
use contestants::{Callers, Contestant, Operation, Row, names, sample};

/// The length of a turn: short, so that a disturbance affects neighbouring turns alike.
const TURN: Duration = Duration::from_millis(30);
/// The additional latency of a reply from a server on another machine.
const AWAY: Duration = Duration::from_micros(500);

fn main() {
    let start = Instant::now();
    let arguments = || std::env::args().skip(1);
    let table = Table {
        rounds: arguments()
            .find_map(|argument| argument.parse().ok())
            .unwrap_or(41),
        filters: arguments()
            .filter(|argument| !argument.starts_with('-') && argument.parse::<usize>().is_err())
            .collect(),
    };
    let redis = servers::Redis::start();
    let memcached = servers::Memcached::start();
    for cache in [sync_redis(&redis), self::memcached(&memcached)] {
        fill::<String>(&cache);
        fill::<Article>(&cache);
    }
    table.head();
    table.redis::<String>(&redis, [0.95, 1.2, 2.0]);
    // Decoding JSON costs both sides the same.
    table.redis::<Article>(&redis, [0.95, 0.95, 0.95]);
    table.memcached::<String>(&memcached);
    table.memcached::<Article>(&memcached);
    table.batches::<Article>(&redis, &memcached);
    table.other_world::<Article>(&redis, &memcached);
    println!(
        "\nEntries a second; in brackets, the quartiles of the rounds' own ratios. Values are 500 bytes of JSON. \
         `cargo bench -p cacheio-benches --bench servers`: medians of {} interleaved rounds, {:.0} s in all, on \
         {} cores that clients and servers share; {}, {}.",
        table.rounds,
        start.elapsed().as_secs_f64(),
        thread::available_parallelism().map_or(0, usize::from),
        version("redis-server", "Redis"),
        version("memcached", "memcached"),
    );
}

/// The table, printed row by row.
struct Table {
    rounds: usize,
    filters: Vec<String>,
}

impl Table {
    fn head(&self) {
        println!("| operation | callers | value | raw client | raw/s | cacheio/s | ratio | bar |");
        println!("| --- | --- | --- | --- | ---: | ---: | --- | --- |");
    }

    /// `gets` are the bars of reads by 1, 32 and 256 callers.
    fn redis<V: Sample>(&self, server: &servers::Redis, gets: [f64; 3]) {
        for (operation, bars) in [(Operation::Get, gets), (Operation::Set, [0.95; 3])] {
            // The bars are for a client and a server that have a core each.
            let rows = [1, 32, 256].into_iter().zip(bars).flat_map(|(count, bar)| {
                let apart = (Callers::TasksOfOneWorker(count), Some(bar));
                [apart, (Callers::Tasks(count), None)]
            });
            for (callers, bar) in rows {
                let row = Row::new::<V>("Redis", operation, callers);
                self.race(&row.bar(bar), |row| {
                    let raw = row
                        .callers
                        .runtime()
                        .block_on(Multiplexed::connect(&server.url()));
                    vec![
                        row.tasks::<_, V>("cacheio", async_redis(server)),
                        row.tasks::<_, V>("MultiplexedConnection", raw),
                    ]
                });
            }
        }
    }

    fn memcached<V: Sample>(&self, server: &servers::Memcached) {
        for operation in [Operation::Get, Operation::Set] {
            for callers in [1, 2] {
                let row = Row::new::<V>("Memcached", operation, Callers::Threads(callers));
                self.race(&row.bar(0.95), |row| {
                    let cache = memcached(server);
                    let classic = Classic::connect(&server.url(), callers);
                    let meta = Meta::connect(server.address());
                    vec![
                        row.threads::<_, V>("cacheio", move || cache.clone()),
                        row.threads::<_, V>("memcache::Client", move || classic.clone()),
                        row.threads::<_, V>("MetaClient", move || meta.clone()),
                    ]
                });
            }
        }
    }

    fn batches<V: Sample>(&self, redis: &servers::Redis, memcached_server: &servers::Memcached) {
        let row = Row::new::<V>("Redis", Operation::GetMany, Callers::Tasks(1));
        self.race(&row.bar(0.95), |row| {
            let raw = row
                .callers
                .runtime()
                .block_on(Multiplexed::connect(&redis.url()));
            vec![
                row.tasks::<_, V>("cacheio", async_redis(redis)),
                row.tasks::<_, V>("MultiplexedConnection", raw),
            ]
        });
        let row = Row::new::<V>("Memcached", Operation::GetMany, Callers::Threads(1));
        self.race(&row.bar(0.95), |row| {
            let cache = memcached(memcached_server);
            let classic = Classic::connect(&memcached_server.url(), 1);
            let meta = Meta::connect(memcached_server.address());
            vec![
                row.threads::<_, V>("cacheio", move || cache.clone()),
                row.threads::<_, V>("memcache::Client", move || classic.clone()),
                row.threads::<_, V>("MetaClient", move || meta.clone()),
            ]
        });
        // On the loopback, memcached itself takes a sixteenth of a round trip for each key.
        let proxy = servers::Proxy::to(memcached_server.address());
        proxy.delay(AWAY);
        for (place, address, bar) in [
            ("Memcached", memcached_server.address(), None),
            ("Memcached 0.5 ms away", proxy.address(), Some(20.0)),
        ] {
            let row = Row::new::<V>(place, Operation::GetMany, Callers::Threads(1));
            self.race(&row.bar(bar), |row| {
                let batches = memcached_at(address);
                let singles = batches.clone();
                let single = Row::new::<V>(place, Operation::Get, row.callers);
                vec![
                    row.threads::<_, V>("cacheio", move || batches.clone()),
                    single.threads::<_, V>("cacheio, one by one", move || singles.clone()),
                ]
            });
        }
    }

    /// Redis for threads, through the adapter, and Memcached for tasks.
    fn other_world<V: Sample>(&self, redis: &servers::Redis, memcached: &servers::Memcached) {
        for operation in [Operation::Get, Operation::Set] {
            for callers in [1, 8, 32] {
                let row = Row::new::<V>("Memcached", operation, Callers::Tasks(callers));
                self.race(&row.bar(0.95), |row| {
                    let raw = row
                        .callers
                        .runtime()
                        .block_on(AsyncMeta::connect(memcached.address()));
                    vec![
                        row.tasks::<_, V>("cacheio", async_memcached(memcached)),
                        row.tasks::<_, V>("AsyncMetaClient", raw),
                    ]
                });
            }
        }
        for operation in [Operation::Get, Operation::Set] {
            for callers in [1, 2] {
                let row = Row::new::<V>("Redis", operation, Callers::Threads(callers));
                self.race(&row, |row| {
                    let (cache, url) = (sync_redis(redis), redis.url());
                    vec![
                        row.threads::<_, V>("cacheio", move || cache.clone()),
                        row.threads::<_, V>("Connection of each", move || Blocking::connect(&url)),
                    ]
                });
            }
        }
    }

    /// Lets the contestants take turns, and prints the ratio of the first to each other one.
    fn race(&self, row: &Row, contestants: impl FnOnce(&Row) -> Vec<Contestant>) {
        let name = row.to_string().to_lowercase();
        if !self.filters.iter().all(|filter| name.contains(filter)) {
            return;
        }
        let mut contestants = contestants(row);
        // Warm-up: connections and memory are not measured.
        for contestant in &contestants {
            (contestant.turn)(TURN);
        }
        for round in 0..self.rounds {
            let count = contestants.len();
            for turn in 0..count {
                let contestant = &mut contestants[(round + turn) % count];
                contestant.rates.push((contestant.turn)(TURN));
            }
        }
        let (ours, others) = contestants.split_first().expect("ours");
        for other in others {
            let (rate, raw) = (median(&ours.rates), median(&other.rates));
            let ratio = rate / raw;
            let mut ratios: Vec<f64> = ours
                .rates
                .iter()
                .zip(&other.rates)
                .map(|(a, b)| a / b)
                .collect();
            ratios.sort_by(f64::total_cmp);
            let (low, high) = (ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4]);
            let bar = match row.bar {
                None => String::new(),
                // Compared as printed.
                Some(bar) if (ratio * 100.0).round() >= bar * 100.0 => format!("≥ {bar}"),
                Some(bar) => format!("≥ {bar}: **missed**"),
            };
            println!(
                "| {row} | {} | {raw:.0} | {rate:.0} | {ratio:.2} ({low:.2}–{high:.2}) | {bar} |",
                other.name,
            );
        }
    }
}

/// Stores all entries of a kind; the raw clients read them too.
fn fill<V: Sample>(cache: &Cache) {
    let value = sample::<V>();
    let entries = names::<V>().iter().map(|name| (name.key, value));
    let stored = cache.set_many_with(entries, Ttl::Never);
    stored.expect("the server answers");
}

fn async_redis(server: &servers::Redis) -> AsyncCache {
    let store = Redis::new(server.url()).expect("a URL");
    let cache = AsyncCache::builder().store(store).namespace("bench");
    cache.build().expect("valid settings")
}

fn sync_redis(server: &servers::Redis) -> Cache {
    let store = Redis::new(server.url()).expect("a URL");
    let cache = Cache::builder().store(store).namespace("bench");
    cache.build().expect("valid settings")
}

fn memcached(server: &servers::Memcached) -> Cache {
    memcached_at(server.address())
}

fn memcached_at(address: SocketAddr) -> Cache {
    let store = Memcached::new(&format!("memcache://{address}")).expect("a URL");
    let cache = Cache::builder().store(store).namespace("bench");
    cache.build().expect("valid settings")
}

fn async_memcached(server: &servers::Memcached) -> AsyncCache {
    AsyncCache::from_url(&format!("{}?namespace=bench", server.url())).expect("a URL")
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
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
