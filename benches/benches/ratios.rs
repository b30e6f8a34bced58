//! Prints the README's tables: how long each operation in memory takes, as a multiple of what raw
//! quick_cache takes for it in the same run.
//!
//! The machine may be shared and noisy: the caches take turns, round by round, one thread is
//! measured by its CPU time, and what counts is the ratio of the medians. `cargo bench -p cacheio-benches --bench ratios` prints all tables.
//! After `--`, a number sets the rounds, and words select the rows that have all of them in their
//! titles: `-- 11 namespace`, `-- 41 set sequential 10,000 one`.

use std::cell::OnceCell;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use cacheio_benches::{
    CacheioAsync, CacheioSync, Layout, MiniMoka, MokaFuture, MokaSync, Policies, RawQuickCache,
    Subject, Workload, cpu_time, macros, runtime,
};

/// Makes one pass over the accesses of a workload, as the thread of this number.
type Pass<'a> = Box<dyn Fn(usize) + Sync + 'a>;

/// Makes the contestants of a table, raw quick_cache first.
type Contestants = fn(&Workload) -> Vec<Contestant<'_>>;

struct Contestant<'a> {
    name: &'static str,
    pass: Pass<'a>,
    nanos: Vec<f64>,
    allocations: f64,
}

/// One operation on raw quick_cache, cacheio and the peers.
macro_rules! everyone {
    ($pass:ident) => {
        |workload| {
            vec![
                $pass(filled::<RawQuickCache>(workload), workload),
                $pass(filled::<CacheioSync>(workload), workload),
                $pass(filled::<CacheioAsync>(workload), workload),
                $pass(filled::<MokaSync>(workload), workload),
                $pass(filled::<MokaFuture>(workload), workload),
                $pass(filled::<MiniMoka>(workload), workload),
            ]
        }
    };
}

/// One operation on caches without a feature, and on those of a constructor with it.
macro_rules! feature {
    ($pass:ident, $feature:literal, $constructor:ident($($argument:expr)?)) => {
        |workload| {
            let capacity = workload.capacity();
            let threads = CacheioSync::$constructor(capacity, $($argument)?);
            let tasks = CacheioAsync::$constructor(capacity, $($argument)?);
            vec![
                $pass(filled::<RawQuickCache>(workload), workload),
                $pass(filled::<CacheioSync>(workload), workload),
                $pass(fill(threads, workload), workload).named(concat!("sync, ", $feature)),
                $pass(filled::<CacheioAsync>(workload), workload),
                $pass(fill(tasks, workload), workload).named(concat!("async, ", $feature)),
            ]
        }
    };
}

/// A hit in memory with a namespace, and one in L1 with the same namespace.
fn l1(workload: &Workload) -> Vec<Contestant<'_>> {
    let capacity = workload.capacity();
    let threads = fill(CacheioSync::in_namespace(capacity, "shop"), workload);
    let tasks = fill(CacheioAsync::in_namespace(capacity, "shop"), workload);
    let threads_with_l1 = fill(CacheioSync::with_l1(capacity), workload);
    let tasks_with_l1 = fill(CacheioAsync::with_l1(capacity), workload);
    vec![
        hit(threads, workload).named("sync, namespace"),
        hit(threads_with_l1, workload).named("sync, L1"),
        hit(tasks, workload).named("async, namespace"),
        hit(tasks_with_l1, workload).named("async, L1"),
    ]
}

const TABLES: [(&str, Contestants); 15] = [
    ("`get_arc` hit", everyone!(hit)),
    ("`get_or_set` hit", everyone!(get_or_set)),
    ("miss", everyone!(miss)),
    ("`set`", everyone!(set)),
    ("`get` hit, u64 values", get_u64),
    ("`get_or_set` hit, u64 values", get_or_set_u64),
    ("`get_many` of 100 hits, u64 values", get_many),
    (
        "`get_arc` hit, with a namespace",
        feature!(hit, "namespace", in_namespace("shop")),
    ),
    ("`get_arc` hit in L1, by that in memory", l1),
    (
        "`get_arc` hit, with a removal listener",
        feature!(hit, "listener", with_listener()),
    ),
    (
        "`set`, with a namespace",
        feature!(set, "namespace", in_namespace("shop")),
    ),
    (
        "`set`, with a removal listener",
        feature!(set, "listener", with_listener()),
    ),
    ("macro hit", decorated),
    ("sync hit, with policies", SYNC_POLICIES),
    ("async hit, with policies", ASYNC_POLICIES),
];

fn main() {
    let arguments = || std::env::args().skip(1).filter(|word| word != "--bench");
    let number = |word: &String| word.parse::<usize>().ok();
    let rounds = arguments().find_map(|word| number(&word)).unwrap_or(21);
    let words: Vec<String> = arguments().filter(|word| number(word).is_none()).collect();
    println!(
        "Medians of {rounds} interleaved rounds: the multiple of the first column's, and the \
         nanoseconds of one operation."
    );
    for layout in [Layout::Shuffled, Layout::Sequential] {
        let workloads = [("10,000 keys", 10_000), ("100,000 keys", 100_000)]
            .map(|(size, keys)| (size, keys, OnceCell::new()));
        for (operation, contestants) in TABLES {
            let title = format!("{operation}, {} layout of keys", layout_name(layout));
            let is_wanted = |row: &str| {
                let row = format!("{title} {row}");
                words.iter().all(|word| row.contains(&**word))
            };
            let mut head = Some(&title);
            for (size, keys, workload) in &workloads {
                let mut rows = vec![(1, "one thread"), (2, "two threads")];
                rows.retain(|(_, threads)| is_wanted(&format!("{size}, {threads}")));
                if rows.is_empty() {
                    continue;
                }
                let workload = workload.get_or_init(|| Workload::new(*keys, layout));
                let mut contestants = contestants(workload);
                if let Some(title) = head.take() {
                    print_head(title, &contestants);
                }
                for (threads, label) in rows {
                    race(&mut contestants, threads, rounds);
                    print_times(&format!("{size}, {label}"), &contestants);
                }
                print_allocations(&format!("{size}, allocations"), &contestants);
            }
        }
    }
}

fn layout_name(layout: Layout) -> &'static str {
    match layout {
        Layout::Shuffled => "shuffled",
        Layout::Sequential => "sequential",
    }
}

fn filled<S: Subject>(workload: &Workload) -> S {
    fill(S::new(workload.capacity()), workload)
}

fn fill<S: Subject>(subject: S, workload: &Workload) -> S {
    subject.set(workload.keys.iter().map(String::as_str));
    subject
}

// The passes.

fn hit<'a, S: Subject + 'a>(subject: S, workload: &'a Workload) -> Contestant<'a> {
    Contestant::new(S::NAME, move |thread| {
        let hits = subject.get(workload.hits(thread));
        assert_eq!(black_box(hits), Workload::ACCESSES, "{}", S::NAME);
    })
}

fn get_or_set<'a, S: Subject + 'a>(subject: S, workload: &'a Workload) -> Contestant<'a> {
    Contestant::summing(S::NAME, move |thread| {
        subject.get_or_set(workload.hits(thread))
    })
}

fn miss<'a, S: Subject + 'a>(subject: S, workload: &'a Workload) -> Contestant<'a> {
    Contestant::new(S::NAME, move |thread| {
        let hits = subject.get(workload.misses(thread));
        assert_eq!(black_box(hits), 0, "{}", S::NAME);
    })
}

fn set<'a, S: Subject + 'a>(subject: S, workload: &'a Workload) -> Contestant<'a> {
    Contestant::new(S::NAME, move |thread| subject.set(workload.hits(thread)))
}

// The tables with contestants of their own.

fn get_u64(workload: &Workload) -> Vec<Contestant<'_>> {
    let threads = filled::<CacheioSync>(workload);
    let tasks = filled::<CacheioAsync>(workload);
    vec![
        get_or_set(filled::<RawQuickCache<u64>>(workload), workload),
        Contestant::summing("cacheio, sync", move |thread| {
            threads.get_u64(workload.hits(thread))
        }),
        Contestant::summing("cacheio, async", move |thread| {
            tasks.get_u64(workload.hits(thread))
        }),
    ]
}

fn get_or_set_u64(workload: &Workload) -> Vec<Contestant<'_>> {
    vec![
        get_or_set(filled::<RawQuickCache<u64>>(workload), workload),
        get_or_set(filled::<CacheioSync>(workload), workload),
        get_or_set(filled::<CacheioAsync>(workload), workload),
    ]
}

fn get_many(workload: &Workload) -> Vec<Contestant<'_>> {
    let threads = Arc::new(filled::<CacheioSync>(workload));
    let tasks = Arc::new(filled::<CacheioAsync>(workload));
    let (threads_in_loop, tasks_in_loop) = (Arc::clone(&threads), Arc::clone(&tasks));
    vec![
        get_or_set(filled::<RawQuickCache<u64>>(workload), workload),
        Contestant::summing("sync, loop of `get`", move |thread| {
            threads_in_loop.get_u64(workload.hits(thread))
        }),
        Contestant::summing("sync, `get_many`", move |thread| {
            threads.get_many(workload.hits(thread))
        }),
        Contestant::summing("async, loop of `get`", move |thread| {
            tasks_in_loop.get_u64(workload.hits(thread))
        }),
        Contestant::summing("async, `get_many`", move |thread| {
            tasks.get_many(workload.hits(thread))
        }),
    ]
}

fn decorated(workload: &Workload) -> Vec<Contestant<'_>> {
    fn contestant<'a, T>(
        name: &'static str,
        workload: &'a Workload,
        function: impl Fn(&str) -> T + Sync + 'a,
    ) -> Contestant<'a> {
        for key in &workload.keys {
            function(key);
        }
        Contestant::new(name, move |thread| {
            for key in workload.hits(thread) {
                black_box(function(key));
            }
        })
    }
    let tasks = Contestant::new("cacheio `async fn`", move |thread| {
        runtime().block_on(async {
            for key in workload.hits(thread) {
                black_box(macros::cacheio_async(key).await);
            }
        });
    });
    vec![
        hit(filled::<RawQuickCache>(workload), workload),
        contestant("cacheio `#[cached]`", workload, macros::cacheio),
        tasks,
        contestant(
            "cached `#[concurrent_cached]`",
            workload,
            macros::concurrent_cached,
        ),
        contestant("cached `#[cached]`", workload, macros::cached),
    ]
}

/// A hit in a cache without policies and in one with all of them.
macro_rules! policies {
    ($get_or_set:ident, $fetch:ident) => {
        |workload| {
            let keys = || workload.keys.iter().map(String::as_str);
            let none = Arc::new(Policies::<false>::new(workload.capacity(), keys()));
            let all = Arc::new(Policies::<true>::new(workload.capacity(), keys()));
            let (none_fetch, all_fetch) = (Arc::clone(&none), Arc::clone(&all));
            vec![
                get_or_set(filled::<RawQuickCache<u64>>(workload), workload),
                Contestant::summing("`get_or_set`", move |thread| {
                    none.$get_or_set(workload.hits(thread))
                }),
                Contestant::summing("`get_or_set`, all policies", move |thread| {
                    all.$get_or_set(workload.hits(thread))
                }),
                Contestant::summing("`fetch`", move |thread| {
                    none_fetch.$fetch(workload.hits(thread))
                }),
                Contestant::summing("`fetch`, all policies", move |thread| {
                    all_fetch.$fetch(workload.hits(thread))
                }),
            ]
        }
    };
}

const SYNC_POLICIES: Contestants = policies!(get_or_set, fetch);
const ASYNC_POLICIES: Contestants = policies!(async_get_or_set, async_fetch);

impl<'a> Contestant<'a> {
    fn new(name: &'static str, pass: impl Fn(usize) + Sync + 'a) -> Self {
        pass(0);
        let counted = allocation_counter::measure(|| pass(0)).count_total;
        #[allow(clippy::cast_precision_loss)]
        let allocations = counted as f64 / Workload::ACCESSES as f64;
        Self {
            name,
            pass: Box::new(pass),
            nanos: Vec::new(),
            allocations,
        }
    }

    /// Makes a contestant whose pass returns the sum of values, each of which is 1.
    fn summing(name: &'static str, sum: impl Fn(usize) -> u64 + Sync + 'a) -> Self {
        Self::new(name, move |thread| {
            assert_eq!(black_box(sum(thread)), Workload::ACCESSES as u64);
        })
    }

    fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    fn median(&self) -> f64 {
        let mut nanos = self.nanos.clone();
        nanos.sort_by(f64::total_cmp);
        nanos[nanos.len() / 2]
    }
}

fn race(contestants: &mut [Contestant<'_>], threads: usize, rounds: usize) {
    for contestant in &mut *contestants {
        contestant.nanos.clear();
    }
    for round in 0..rounds {
        // No contestant always runs after the same one.
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
        let cpu_start = cpu_time();
        pass(thread);
        // A single thread never waits for another: the time in which it does not run belongs to
        // other programs.
        let elapsed = match threads {
            1 => cpu_time().saturating_sub(cpu_start),
            _ => start.elapsed(),
        };
        elapsed.as_nanos() as f64 / Workload::ACCESSES as f64
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

// Tables in Markdown, to be pasted.

fn print_head(title: &str, contestants: &[Contestant<'_>]) {
    println!("\n{title}\n");
    print_row(
        "",
        contestants.iter().map(|contestant| contestant.name.into()),
    );
    println!("|{}", " --- |".repeat(contestants.len() + 1));
}

fn print_times(label: &str, contestants: &[Contestant<'_>]) {
    let first = contestants[0].median();
    let times = contestants.iter().map(|contestant| {
        let median = contestant.median();
        format!("{:.2} ({median:.0} ns)", median / first)
    });
    print_row(label, times);
}

fn print_allocations(label: &str, contestants: &[Contestant<'_>]) {
    let allocations = contestants
        .iter()
        .map(|contestant| format!("{:.1}", contestant.allocations));
    print_row(label, allocations);
}

fn print_row(label: &str, cells: impl Iterator<Item = String>) {
    print!("| {label:<26} |");
    for cell in cells {
        print!(" {cell:>16} |");
    }
    println!();
}
