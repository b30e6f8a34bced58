//! Prints the README's table: how long each operation takes, as a multiple of what the raw engine
//! takes for it in the same run.
//!
//! The machine may be shared and noisy: the subjects take turns, round by round, and what counts
//! is the ratio of their medians. `cargo bench --bench ratios`; a number after `--` sets the
//! rounds, a word picks the tables with it in their names (`hit`, `miss`, `set`, `policies`, `macro`).

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use cacheio_benches::{
    CacheioAsync, CacheioSync, MiniMoka, MokaFuture, MokaSync, Policies, RawQuickCache, Subject,
    Workload, macros,
};

/// One pass over the accesses of a workload, of one thread; the thread's number.
type Pass<'a> = Box<dyn Fn(usize) + Sync + 'a>;

struct Contestant<'a> {
    name: &'static str,
    pass: Pass<'a>,
    nanos: Vec<f64>,
    allocations: f64,
}

fn main() {
    let arguments = || {
        std::env::args()
            .skip(1)
            .filter(|argument| argument != "--bench")
    };
    let rounds = arguments()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(21);
    let only = arguments().find(|argument| argument.parse::<usize>().is_err());
    let is_wanted = |table: &str| only.as_ref().is_none_or(|only| table.contains(&**only));
    println!(
        "ns: of one operation, median of {rounds} interleaved rounds; x: as a multiple of the first line's"
    );
    for keys in [10_000, 100_000] {
        let workload = Workload::new(keys);
        for threads in [1, 2] {
            for operation in ["hit", "get_or_set hit", "miss", "set"] {
                if is_wanted(operation) {
                    table(operation, &workload, threads, rounds);
                }
            }
            if is_wanted("policies") {
                policies_table(&workload, threads, rounds);
            }
            if is_wanted("macro") {
                macro_table(&workload, threads, rounds);
            }
        }
    }
}

fn table(operation: &'static str, workload: &Workload, threads: usize, rounds: usize) {
    let capacity = workload.keys.len() as u64 * 2;
    fn contestant<'a, S: Subject + 'a>(
        operation: &str,
        capacity: u64,
        workload: &'a Workload,
    ) -> Contestant<'a> {
        let subject = S::new(capacity);
        subject.set(workload.keys.iter().map(String::as_str));
        let pass: Pass<'a> = match operation {
            "hit" => Box::new(move |thread| {
                let hits = subject.get(workload.accesses(&workload.keys, thread * 7919));
                assert_eq!(black_box(hits), Workload::ACCESSES, "{}", S::NAME);
            }),
            "get_or_set hit" => Box::new(move |thread| {
                let sum = subject.get_or_set(workload.accesses(&workload.keys, thread * 7919));
                assert_eq!(black_box(sum), Workload::ACCESSES as u64);
            }),
            "miss" => Box::new(move |thread| {
                let hits = subject.get(workload.accesses(&workload.absent, thread * 7919));
                assert_eq!(black_box(hits), 0);
            }),
            "set" => Box::new(move |thread| {
                subject.set(workload.accesses(&workload.keys, thread * 7919));
            }),
            other => unreachable!("no operation {other}"),
        };
        Contestant::new(S::NAME, pass)
    }
    let mut contestants = [
        contestant::<RawQuickCache>(operation, capacity, workload),
        contestant::<CacheioSync>(operation, capacity, workload),
        contestant::<CacheioAsync>(operation, capacity, workload),
        contestant::<MokaSync>(operation, capacity, workload),
        contestant::<MokaFuture>(operation, capacity, workload),
        contestant::<MiniMoka>(operation, capacity, workload),
    ];
    race(&mut contestants, threads, rounds);
    print(operation, workload, threads, &contestants);
}

/// What policies cost those who hit.
fn policies_table(workload: &Workload, threads: usize, rounds: usize) {
    let capacity = workload.keys.len() as u64 * 2;
    let keys = || workload.keys.iter().map(String::as_str);
    let none = Policies::<false>::new(capacity, keys());
    let all = Policies::<true>::new(capacity, keys());
    macro_rules! contestant {
        ($name:literal, $subject:ident.$method:ident) => {
            Contestant::new(
                $name,
                Box::new(|thread| {
                    let sum = $subject.$method(workload.accesses(&workload.keys, thread * 7919));
                    assert_eq!(black_box(sum), Workload::ACCESSES as u64);
                }),
            )
        };
    }
    let mut sync = [
        contestant!("get_or_set", none.get_or_set),
        contestant!("get_or_set, all policies", all.get_or_set),
        contestant!("fetch", none.fetch),
        contestant!("fetch, all policies", all.fetch),
    ];
    race(&mut sync, threads, rounds);
    print("sync hit with policies", workload, threads, &sync);
    let mut tasks = [
        contestant!("get_or_set", none.async_get_or_set),
        contestant!("get_or_set, all policies", all.async_get_or_set),
        contestant!("fetch", none.async_fetch),
        contestant!("fetch, all policies", all.async_fetch),
    ];
    race(&mut tasks, threads, rounds);
    print("async hit with policies", workload, threads, &tasks);
}

fn macro_table(workload: &Workload, threads: usize, rounds: usize) {
    fn contestant<'a, T>(
        name: &'static str,
        workload: &'a Workload,
        function: impl Fn(&str) -> T + Sync + 'a,
    ) -> Contestant<'a> {
        for key in &workload.keys {
            function(key);
        }
        let pass = move |thread| {
            for key in workload.accesses(&workload.keys, thread * 7919) {
                black_box(function(key));
            }
        };
        Contestant::new(name, Box::new(pass))
    }
    let mut contestants = [
        contestant("cacheio #[cached]", workload, macros::cacheio),
        contestant(
            "cached #[concurrent_cached]",
            workload,
            macros::concurrent_cached,
        ),
        contestant("cached #[cached]", workload, macros::cached),
    ];
    race(&mut contestants, threads, rounds);
    print("macro hit", workload, threads, &contestants);
}

impl<'a> Contestant<'a> {
    fn new(name: &'static str, pass: Pass<'a>) -> Self {
        pass(0);
        let counted = allocation_counter::measure(|| pass(0)).count_total;
        #[allow(clippy::cast_precision_loss)]
        let allocations = counted as f64 / Workload::ACCESSES as f64;
        Self {
            name,
            pass,
            nanos: Vec::new(),
            allocations,
        }
    }

    fn median(&self) -> f64 {
        let mut nanos = self.nanos.clone();
        nanos.sort_by(f64::total_cmp);
        nanos[nanos.len() / 2]
    }
}

fn race(contestants: &mut [Contestant<'_>], threads: usize, rounds: usize) {
    for round in 0..rounds {
        // No one always runs after the same neighbour.
        let count = contestants.len();
        for turn in 0..count {
            let contestant = &mut contestants[(round + turn) % count];
            let nanos = measure(&contestant.pass, threads);
            contestant.nanos.push(nanos);
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn measure(pass: &Pass<'_>, threads: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let timed = &|thread| {
        barrier.wait();
        let start = Instant::now();
        pass(thread);
        start.elapsed().as_nanos() as f64 / Workload::ACCESSES as f64
    };
    thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || timed(thread)))
            .collect();
        let nanos = runs
            .into_iter()
            .map(|run| run.join().expect("no pass panics"));
        nanos.sum::<f64>() / threads as f64
    })
}

fn print(operation: &str, workload: &Workload, threads: usize, contestants: &[Contestant<'_>]) {
    let keys = workload.keys.len();
    println!(
        "\n{operation}, {keys} keys, {threads} thread{}",
        if threads == 1 { "" } else { "s" }
    );
    let first = contestants[0].median();
    for contestant in contestants {
        let median = contestant.median();
        println!(
            "  {:<28} {:>7.0} ns {:>6.2} x {:>5.1} allocations",
            contestant.name,
            median,
            median / first,
            contestant.allocations,
        );
    }
}
