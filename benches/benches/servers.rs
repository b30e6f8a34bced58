//! Prints the README's table of servers: how many entries a second go through cacheio, and through
//! the client that it stands on, to the same server, with the same keys, JSON and TTL.
//!
//! The machine may be shared and noisy: the contestants take turns, round by round, each begins as
//! often as the others, and what counts is the ratio of their medians.
//!
//! ```sh
//! cargo bench -p cacheio-benches --bench servers
//! cargo bench -p cacheio-benches --bench servers -- 101 redis get   # so many rounds, of some rows
//! ```
//!
//! It starts `redis-server` and `memcached` itself, on free ports.

use std::fmt;
use std::hint::black_box;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use cacheio::{AsyncCache, Cache, Memcached, Redis, Ttl};
use cacheio_benches::clients::{
    Article, AsyncMeta, Blocking, Classic, Meta, Multiplexed, Name, Sample, TaskClient,
    ThreadClient,
};
use cacheio_tests::servers;
use tokio::runtime::Runtime;

/// How many keys there are of a kind; a caller asks for them in an order of its own.
const KEYS: usize = 10_000;
/// How many keys a batch has.
const BATCH: usize = 100;
/// How long a turn takes: short, so that what disturbs one disturbs its neighbours too.
const TURN: Duration = Duration::from_millis(30);
/// How much later an answer comes from a server that is not on this machine.
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
    table.redis::<String>(&redis);
    table.redis::<Article>(&redis);
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

/// What is printed.
struct Table {
    rounds: usize,
    filters: Vec<String>,
}

impl Table {
    fn head(&self) {
        println!("| operation | callers | value | raw client | raw/s | cacheio/s | ratio | bar |");
        println!("| --- | --- | --- | --- | ---: | ---: | --- | --- |");
    }

    fn redis<V: Sample>(&self, server: &servers::Redis) {
        for (operation, bars) in [
            (Operation::Get, [0.95, 1.2, 2.0]),
            (Operation::Set, [0.95, 0.95, 0.95]),
        ] {
            for (callers, bar) in [1, 32, 256].into_iter().zip(bars) {
                let row = Row::new::<V>("Redis", operation, Callers::Tasks(callers));
                self.race(row.bar(bar), |row| {
                    let raw = runtime().block_on(Multiplexed::connect(&server.url()));
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
                self.race(row.bar(0.95), |row| {
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
        self.race(row.bar(0.95), |row| {
            let raw = runtime().block_on(Multiplexed::connect(&redis.url()));
            vec![
                row.tasks::<_, V>("cacheio", async_redis(redis)),
                row.tasks::<_, V>("MultiplexedConnection", raw),
            ]
        });
        let row = Row::new::<V>("Memcached", Operation::GetMany, Callers::Threads(1));
        self.race(row.bar(0.95), |row| {
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
            self.race(Row { bar, ..row }, |row| {
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

    /// The stores in the world that they are not made for.
    fn other_world<V: Sample>(&self, redis: &servers::Redis, memcached: &servers::Memcached) {
        for operation in [Operation::Get, Operation::Set] {
            for callers in [1, 32] {
                let row = Row::new::<V>("Memcached", operation, Callers::Tasks(callers));
                self.race(row, |row| {
                    let raw = runtime().block_on(AsyncMeta::connect(memcached.address()));
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
                self.race(row, |row| {
                    let (cache, url) = (sync_redis(redis), redis.url());
                    vec![
                        row.threads::<_, V>("cacheio", move || cache.clone()),
                        row.threads::<_, V>("Connection of each", move || Blocking::connect(&url)),
                    ]
                });
            }
        }
    }

    /// Lets the contestants take turns, and prints how the first compares with each other one.
    fn race(&self, row: Row, contestants: impl FnOnce(&Row) -> Vec<Contestant>) {
        let name = row.to_string().to_lowercase();
        if !self.filters.iter().all(|filter| name.contains(filter)) {
            return;
        }
        let mut contestants = contestants(&row);
        // Connections and memory: not measured.
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
                // As it is printed.
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

/// One operation, by some callers at the same time.
struct Row {
    server: &'static str,
    operation: Operation,
    callers: Callers,
    kind: &'static str,
    /// How many times what the raw client does it must be, at least.
    bar: Option<f64>,
}

#[derive(Clone, Copy)]
enum Operation {
    Get,
    Set,
    GetMany,
}

#[derive(Clone, Copy)]
enum Callers {
    Threads(usize),
    Tasks(usize),
}

struct Contestant {
    name: &'static str,
    /// Goes on for so long; entries a second.
    turn: Box<dyn Fn(Duration) -> f64>,
    rates: Vec<f64>,
}

impl Row {
    fn new<V: Sample>(server: &'static str, operation: Operation, callers: Callers) -> Self {
        Self {
            server,
            operation,
            callers,
            kind: V::KIND,
            bar: None,
        }
    }

    fn bar(self, bar: f64) -> Self {
        let bar = Some(bar);
        Self { bar, ..self }
    }

    /// Callers that are tasks of [`runtime`], with a clone of the client each.
    fn tasks<C: TaskClient, V: Sample>(&self, name: &'static str, client: C) -> Contestant {
        let (operation, count) = (self.operation, self.callers.count());
        let turn = move |duration| {
            let stop = Arc::new(AtomicBool::new(false));
            let start = Instant::now();
            let callers: Vec<_> = (0..count)
                .map(|caller| {
                    let (client, stop) = (client.clone(), Arc::clone(&stop));
                    runtime().spawn(task::<C, V>(client, operation, Walk::new(caller), stop))
                })
                .collect();
            thread::sleep(duration);
            stop.store(true, Ordering::Relaxed);
            let counts = callers
                .into_iter()
                .map(|caller| runtime().block_on(caller).expect("no caller panics"));
            rate(counts.sum(), start)
        };
        Contestant::new(name, turn)
    }

    /// Callers that are threads, each with a client that it makes for itself.
    fn threads<C: ThreadClient, V: Sample>(
        &self,
        name: &'static str,
        client: impl Fn() -> C + Sync + 'static,
    ) -> Contestant {
        let (operation, count) = (self.operation, self.callers.count());
        let turn = move |duration| {
            let (stop, ready) = (AtomicBool::new(false), Barrier::new(count + 1));
            thread::scope(|scope| {
                let (client, stop, ready) = (&client, &stop, &ready);
                let callers: Vec<_> = (0..count)
                    .map(|caller| {
                        scope.spawn(move || {
                            let mut client = client();
                            ready.wait();
                            threaded::<C, V>(&mut client, operation, Walk::new(caller), stop)
                        })
                    })
                    .collect();
                ready.wait();
                let start = Instant::now();
                thread::sleep(duration);
                stop.store(true, Ordering::Relaxed);
                let counts = callers
                    .into_iter()
                    .map(|caller| caller.join().expect("no caller panics"));
                rate(counts.sum(), start)
            })
        };
        Contestant::new(name, turn)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Get => "get".into(),
            Operation::Set => "set".into(),
            Operation::GetMany => format!("get_many({BATCH})"),
        };
        let callers = match self.callers {
            Callers::Threads(1) => "1 thread".into(),
            Callers::Tasks(1) => "1 task".into(),
            Callers::Threads(count) => format!("{count} threads"),
            Callers::Tasks(count) => format!("{count} tasks"),
        };
        let (server, kind) = (self.server, self.kind);
        write!(f, "{server} {operation} | {callers} | {kind}")
    }
}

impl Callers {
    fn count(self) -> usize {
        match self {
            Self::Threads(count) | Self::Tasks(count) => count,
        }
    }
}

impl Contestant {
    fn new(name: &'static str, turn: impl Fn(Duration) -> f64 + 'static) -> Self {
        Self {
            name,
            turn: Box::new(turn),
            rates: Vec::new(),
        }
    }
}

/// What a task does until it is told to stop; for how many entries.
async fn task<C: TaskClient, V: Sample>(
    mut client: C,
    operation: Operation,
    mut walk: Walk,
    stop: Arc<AtomicBool>,
) -> usize {
    let (names, sample) = (names::<V>(), sample::<V>());
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += match operation {
            Operation::Get => {
                let value: V = client.get(names[walk.step()]).await;
                assert_eq!(black_box(&value), sample);
                1
            }
            Operation::Set => {
                client.set(names[walk.step()], sample).await;
                1
            }
            Operation::GetMany => {
                let batch: [Name; BATCH] = std::array::from_fn(|_| names[walk.step()]);
                let values: Vec<V> = client.get_many(&batch).await;
                assert_eq!(black_box(values).last(), Some(sample));
                BATCH
            }
        };
    }
    count
}

/// What a thread does until it is told to stop; for how many entries.
fn threaded<C: ThreadClient, V: Sample>(
    client: &mut C,
    operation: Operation,
    mut walk: Walk,
    stop: &AtomicBool,
) -> usize {
    let (names, sample) = (names::<V>(), sample::<V>());
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += match operation {
            Operation::Get => {
                let value: V = client.get(names[walk.step()]);
                assert_eq!(black_box(&value), sample);
                1
            }
            Operation::Set => {
                client.set(names[walk.step()], sample);
                1
            }
            Operation::GetMany => {
                let batch: [Name; BATCH] = std::array::from_fn(|_| names[walk.step()]);
                let values: Vec<V> = client.get_many(&batch);
                assert_eq!(black_box(values).last(), Some(sample));
                BATCH
            }
        };
    }
    count
}

/// An order of the keys: at random (xorshift).
struct Walk(u64);

impl Walk {
    fn new(caller: usize) -> Self {
        Self(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(caller as u64 + 1))
    }

    fn step(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % KEYS as u64).expect("there are few keys")
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

/// What all tasks run on.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    })
}

fn names<V: Sample>() -> &'static [Name] {
    static STRINGS: OnceLock<Vec<Name>> = OnceLock::new();
    static STRUCTS: OnceLock<Vec<Name>> = OnceLock::new();
    let names = if V::KIND == String::KIND {
        &STRINGS
    } else {
        &STRUCTS
    };
    names.get_or_init(|| Name::all(V::KIND, KEYS))
}

/// A value that stays for ever, so that no one clones it.
fn sample<V: Sample>() -> &'static V {
    Box::leak(Box::new(V::sample()))
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[allow(clippy::cast_precision_loss)]
fn rate(count: usize, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}

/// A server's name and version, as its program tells them.
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
