//! Reads that memory does not answer, and writes, beside those of the raw client.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cacheio_tests::servers::Redis;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clients::{Cacheio, Client, Near, Product, Raw, TTL, config, encode, one_worker};
use crate::peers::{ByHand, CacheAio, MultiTier, Rustis};
use crate::table::median;

pub(crate) const CALLERS: [usize; 3] = [1, 32, 256];

/// The length of a turn: short, so that a disturbance affects neighbouring turns alike.
const TURN: Duration = Duration::from_millis(30);
/// Many more than memory holds.
const KEYS: u64 = 100_000;
const NEAR: Near = Near {
    capacity: 1_000,
    max_age: TTL,
};

/// The medians of the rates.
pub(crate) struct Reads {
    pub(crate) raw: f64,
    /// In the order of the table of peers.
    pub(crate) peers: [f64; 5],
}

pub(crate) struct Writes {
    pub(crate) raw: f64,
    pub(crate) without_l1: f64,
    pub(crate) with_l1: f64,
}

#[derive(Clone, Copy)]
enum Operation {
    Read,
    Write,
}

struct Contestant {
    turn: Box<dyn Fn(usize) -> f64>,
    rates: Vec<f64>,
}

/// Reads of keys of which memory has hardly any.
pub(crate) fn reads(rounds: usize) -> [Reads; 3] {
    let server = Redis::start();
    let url = server.url();
    one_worker().block_on(fill(&url));
    let mut contestants = [
        reader::<Raw>(&url),
        reader::<Cacheio>(&url),
        reader::<CacheAio>(&url),
        reader::<ByHand>(&url),
        reader::<Rustis>(&url),
        reader::<MultiTier>(&url),
    ];
    CALLERS.map(|callers| {
        let [raw, peers @ ..] = race(&mut contestants, callers, rounds);
        Reads { raw, peers }
    })
}

/// Writes of keys that no client has read.
pub(crate) fn writes(rounds: usize) -> [Writes; 3] {
    let server = Redis::start();
    let url = server.url();
    let without_l1 = one_worker().block_on(async { Cacheio::without_l1(&url) });
    let mut contestants = [
        writer(connect::<Raw>(&url)),
        writer(without_l1),
        writer(connect::<Cacheio>(&url)),
    ];
    CALLERS.map(|callers| {
        let [raw, without_l1, with_l1] = race(&mut contestants, callers, rounds);
        Writes {
            raw,
            without_l1,
            with_l1,
        }
    })
}

fn race<const N: usize>(
    contestants: &mut [Contestant; N],
    callers: usize,
    rounds: usize,
) -> [f64; N] {
    for contestant in &mut *contestants {
        contestant.rates.clear();
        (contestant.turn)(callers);
    }
    for round in 0..rounds {
        for turn in 0..N {
            let contestant = &mut contestants[(round + turn) % N];
            let rate = (contestant.turn)(callers);
            contestant.rates.push(rate);
        }
    }
    contestants
        .each_ref()
        .map(|contestant| median(contestant.rates.iter().copied()))
}

fn connect<C: Client>(url: &str) -> C {
    let client = one_worker().block_on(C::connect(url, NEAR));
    client.expect("the server is there")
}

fn reader<C: Client>(url: &str) -> Contestant {
    Contestant::new(connect::<C>(url), Operation::Read)
}

fn writer<C: Client>(client: C) -> Contestant {
    Contestant::new(client, Operation::Write)
}

impl Contestant {
    fn new<C: Client>(client: C, operation: Operation) -> Self {
        let turn = move |callers| one_worker().block_on(turn(client.clone(), operation, callers));
        Self {
            turn: Box::new(turn),
            rates: Vec::new(),
        }
    }
}

/// Returns the rate of all callers together.
#[allow(clippy::cast_precision_loss)]
async fn turn<C: Client>(client: C, operation: Operation, callers: usize) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        tasks.spawn(repeat(client.clone(), operation, Arc::clone(&stop)));
    }
    sleep(TURN).await;
    stop.store(true, Ordering::Relaxed);
    let count: usize = tasks.join_all().await.into_iter().sum();
    count as f64 / start.elapsed().as_secs_f64()
}

/// Repeats an operation on keys in a random order until `stop` is set; returns how often.
async fn repeat<C: Client>(client: C, operation: Operation, stop: Arc<AtomicBool>) -> usize {
    // No two tasks read the same keys: some clients would send them once.
    static SEED: AtomicU64 = AtomicU64::new(0);
    let mut random = SmallRng::seed_from_u64(SEED.fetch_add(1, Ordering::Relaxed));
    let product = Product::new(1);
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = key(random.random_range(0..KEYS));
        match operation {
            Operation::Read => {
                let found = client.get(&key).await.expect("the server answers");
                assert!(black_box(found).is_some(), "{} lost {key}", C::NAME);
            }
            Operation::Write => {
                let stored = client.set(&key, &product).await;
                stored.expect("the server answers");
            }
        }
        count += 1;
    }
    count
}

/// Stores all entries, as each client names them.
async fn fill(url: &str) {
    let client = redis::Client::open(url).expect("a URL");
    let config = config();
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connection.await.expect("the server is there");
    let value = encode(&Product::new(1));
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    for keys in keys.chunks(1_000) {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.set(key, &value).ignore();
            let key = format!("{}{key}", Cacheio::PREFIX);
            pipeline.set(key, &value).ignore();
        }
        let stored = pipeline.query_async(&mut connection).await;
        let () = stored.expect("the server answers");
    }
}

fn key(number: u64) -> String {
    format!("product:{number:06}")
}
