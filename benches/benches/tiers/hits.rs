//! Hits in memory before a server, beside those in memory alone.

use std::hint::black_box;

use cacheio_benches::{Layout, Workload, cpu_time};
use cacheio_tests::servers::Redis;

use crate::clients::{Cacheio, Client, Near, Product, TTL, runtime};
use crate::peers::{ByHand, CacheAio, MultiTier, Rustis};
use crate::table::median;

/// Nothing is to become old here.
const NEAR: Near = Near {
    capacity: 20_000,
    max_age: TTL,
};

/// The medians of the time of one hit, in nanoseconds.
pub(crate) struct Hits {
    pub(crate) in_memory: f64,
    pub(crate) tagged: f64,
    /// In the order of the table of peers.
    pub(crate) peers: [f64; 5],
}

struct Contestant {
    pass: Box<dyn Fn()>,
    nanos: Vec<f64>,
}

pub(crate) fn measure(rounds: usize) -> Hits {
    // For passes that borrow nothing.
    let workload: &'static Workload = Box::leak(Box::new(Workload::new(10_000, Layout::Shuffled)));
    let mut contestants = [
        in_memory(workload),
        tagged(workload),
        contestant::<Cacheio>(workload),
        contestant::<CacheAio>(workload),
        contestant::<ByHand>(workload),
        contestant::<Rustis>(workload),
        contestant::<MultiTier>(workload),
    ];
    for round in 0..rounds {
        // None always runs after the same one.
        let count = contestants.len();
        for turn in 0..count {
            let contestant = &mut contestants[(round + turn) % count];
            let start = cpu_time();
            (contestant.pass)();
            #[allow(clippy::cast_precision_loss)]
            let nanos = (cpu_time() - start).as_nanos() as f64 / Workload::ACCESSES as f64;
            contestant.nanos.push(nanos);
        }
    }
    let [in_memory, tagged, peers @ ..] =
        contestants.map(|contestant| median(contestant.nanos.into_iter()));
    Hits {
        in_memory,
        tagged,
        peers,
    }
}

fn in_memory(workload: &'static Workload) -> Contestant {
    let client = Cacheio::in_memory(NEAR.capacity);
    runtime().block_on(async {
        for key in &workload.keys {
            let stored = client.set(key, &Product::new(1)).await;
            stored.expect("memory does not fail");
        }
    });
    Contestant::new(move || runtime().block_on(pass(&client, workload)))
}

fn tagged(workload: &'static Workload) -> Contestant {
    let server = Redis::start();
    let client = runtime().block_on(async {
        let client = Cacheio::connect(&server.url(), NEAR).await;
        let client = client.expect("the server is there");
        for key in &workload.keys {
            let stored = client.set_tagged(key, &Product::new(1)).await;
            stored.expect("the server answers");
        }
        client
    });
    only_hits(server, client, workload)
}

fn contestant<C: Client>(workload: &'static Workload) -> Contestant {
    let server = Redis::start();
    let client = runtime().block_on(async {
        let client = C::connect(&server.url(), NEAR).await;
        let client = client.expect("the server is there");
        for key in &workload.keys {
            let stored = client.set(key, &Product::new(1)).await;
            stored.expect("the server answers");
        }
        client
    });
    only_hits(server, client, workload)
}

/// Passes of a client whose memory has everything. Its server goes on, although it is not asked: the client may
/// notice that it is away.
fn only_hits<C: Client>(server: Redis, client: C, workload: &'static Workload) -> Contestant {
    // The first pass brings what only reads bring.
    runtime().block_on(pass(&client, workload));
    let before = commands(&server);
    runtime().block_on(pass(&client, workload));
    let asked = commands(&server) - before;
    assert!(
        asked < Workload::ACCESSES as u64 / 100,
        "{} asks the server: {asked} commands",
        C::NAME
    );
    Contestant::new(move || {
        let _server = &server;
        runtime().block_on(pass(&client, workload));
    })
}

async fn pass<C: Client>(client: &C, workload: &Workload) {
    for key in workload.hits(0) {
        let found = client.get(key).await.expect("a hit does not fail");
        assert!(black_box(found).is_some(), "{} lost {key}", C::NAME);
    }
}

/// Returns how many commands a server has executed.
fn commands(server: &Redis) -> u64 {
    let info = server.run("INFO stats");
    let mut lines = info.text().lines();
    let count = lines.find_map(|line| line.strip_prefix("total_commands_processed:"));
    count
        .and_then(|count| count.trim().parse().ok())
        .expect("a number")
}

impl Contestant {
    fn new(pass: impl Fn() + 'static) -> Self {
        Self {
            pass: Box::new(pass),
            nanos: Vec::new(),
        }
    }
}
