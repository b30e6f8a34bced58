//! Prints the tables of the guide's chapter "two servers, one cache": what memory before Redis, shared loads and
//! tags cost and gain, beside their bars, and beside other ways to have memory before Redis.
//!
//! The machine may be shared and noisy: in hits, reads and writes the contestants take turns, round by round, and
//! what counts is the ratio of the medians. A hit is measured by the CPU time of its thread. A row that misses its
//! bar is marked.
//!
//! ```sh
//! cargo bench -p cacheio-benches --bench tiers
//! cargo bench -p cacheio-benches --bench tiers -- 5 hits changes   # 5 rounds, of some sections
//! ```
//!
//! The sections are `hits`, `requests`, `tags`, `changes`, `loads` and `outages`. It starts `redis-server` itself,
//! on free ports, and processes of itself.

mod changes;
mod clients;
mod hits;
mod outages;
mod peers;
mod processes;
mod requests;
mod table;
mod tags;

use std::time::{Duration, Instant};

use changes::{BOUND, Changes, LIMIT};
use clients::{Cacheio, Client as _, runtime};
use outages::{OUTAGE, Outage, PAUSE};
use peers::{ByHand, CacheAio, MultiTier, Rustis};
use processes::{KEYS, PROCESSES};
use requests::CALLERS;
use table::{Bars, Peers};

/// The clients of the table of peers.
const NAMES: [&str; 5] = [
    Cacheio::NAME,
    CacheAio::NAME,
    ByHand::NAME,
    Rustis::NAME,
    MultiTier::NAME,
];

/// Calls a function for each of them.
macro_rules! each {
    ($module:ident::$function:ident $(, $argument:expr)*) => {
        [
            $module::$function::<Cacheio>($($argument),*),
            $module::$function::<CacheAio>($($argument),*),
            $module::$function::<ByHand>($($argument),*),
            $module::$function::<Rustis>($($argument),*),
            $module::$function::<MultiTier>($($argument),*),
        ]
    };
}

fn main() {
    if processes::is_child() {
        return;
    }
    let start = Instant::now();
    let arguments = || std::env::args().skip(1).filter(|word| word != "--bench");
    let number = |word: &String| word.parse::<usize>().ok();
    let rounds = arguments().find_map(|word| number(&word)).unwrap_or(21);
    let sections: Vec<_> = arguments().filter(|word| number(word).is_none()).collect();
    let is_wanted =
        |section: &str| sections.is_empty() || sections.iter().any(|word| word == section);
    let (mut bars, mut peers) = (Bars::new(), Peers::new());
    if is_wanted("hits") {
        hits(&mut bars, &mut peers, rounds);
    }
    if is_wanted("requests") {
        requests(&mut bars, &mut peers, rounds);
    }
    if is_wanted("tags") {
        let times = tags::measure(rounds * 20);
        let what = format!(
            "`invalidate_tags`, a tag of {} entries / of one",
            tags::ENTRIES
        );
        bars.at_most(what, times, "µs", 1.10);
    }
    if is_wanted("changes") {
        changes(&mut bars, &mut peers, rounds);
    }
    if is_wanted("loads") {
        loads(&mut bars, &mut peers);
    }
    if is_wanted("outages") {
        outages(&mut bars, &mut peers);
    }
    peers.print(NAMES);
    println!(
        "\nMedians of {rounds} interleaved rounds. Values are structs of 500 bytes as JSON. B, the bound of cacheio and \
         the TTL by hand, is {BOUND:?}. {} rows miss their bar. {:.0} s in all, on {} cores that clients and servers \
         share.",
        bars.missed(),
        start.elapsed().as_secs_f64(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
}

fn hits(bars: &mut Bars, peers: &mut Peers, rounds: usize) {
    let hits = hits::measure(rounds);
    let l1 = hits.peers[0];
    bars.at_most(
        "L1 hit / hit in memory alone",
        (l1, hits.in_memory),
        "ns",
        1.1,
    );
    let rate = 1e9 / l1;
    let shown = format!("{:.1} M/s", rate / 1e6);
    bars.alone("L1 hits of one task", shown, "≥ 8 M/s", rate >= 8e6);
    bars.at_most("L1 hit with a tag / without", (hits.tagged, l1), "ns", 2.2);
    peers.row("hits of one task", hits.peers, |nanos| {
        format!("{:.2} M/s", 1e3 / nanos)
    });
}

fn requests(bars: &mut Bars, peers: &mut Peers, rounds: usize) {
    let reads = requests::reads(rounds);
    for ((callers, reads), bar) in CALLERS.iter().zip(&reads).zip([0.85, 1.0, 1.4]) {
        let what = format!("read past L1 / raw, {callers} callers");
        bars.at_least(what, (reads.peers[0], reads.raw), bar);
        let what = format!("read past its memory / raw, {callers} callers");
        peers.row(what, reads.peers, |rate| format!("{:.2}", rate / reads.raw));
    }
    let writes = requests::writes(rounds);
    for ((callers, writes), bar) in CALLERS.iter().zip(&writes).zip([0.95, 0.95, 1.1]) {
        let what = format!("set that ends claims / raw, {callers} callers");
        bars.at_least(what, (writes.without_l1, writes.raw), bar);
        let what = format!("the same with L1 / raw, {callers} callers");
        bars.at_least(what, (writes.with_l1, writes.raw), bar);
    }
}

fn changes(bars: &mut Bars, peers: &mut Peers, rounds: usize) {
    let races = rounds * 50;
    let changes: [Changes; 5] = each!(changes::measure, rounds * 20, races);
    let (median, nearly_all) = changes[0].told;
    let shown = format!("{} (99 %: {})", show(median), show(nearly_all));
    let is_met = median <= Duration::from_millis(1);
    bars.alone(
        "write answered → the other L1 is without the old value",
        shown,
        "≤ 1 ms",
        is_met,
    );
    let silent = changes[0].silent;
    let is_met = silent <= BOUND;
    bars.alone(
        "silent connection: old value served for",
        show(silent),
        "≤ B",
        is_met,
    );
    peers.row(
        "change by the same client seen after",
        each_of(&changes, |changes| changes.told.0),
        show,
    );
    peers.row(
        "change by another program seen after",
        each_of(&changes, |changes| changes.foreign),
        show,
    );
    let what = format!("old value kept after a read raced with a change, of {races}");
    peers.row(what, each_of(&changes, |changes| changes.stale), |stale| {
        stale.to_string()
    });
    peers.row(
        "silent connection: old value served for",
        each_of(&changes, |changes| changes.silent),
        show,
    );
}

fn loads(bars: &mut Bars, peers: &mut Peers) {
    let cold: [u64; 5] = each!(processes::cold);
    let what = format!("loads of {KEYS} cold keys by {PROCESSES} processes");
    bars.alone(&what, cold[0], KEYS, cold[0] == KEYS as u64);
    peers.row(what, cold, |loads| loads.to_string());
    let killed = processes::killed();
    let is_met = killed <= Duration::from_millis(3_500);
    bars.alone(
        "`kill -9` of the loading process → another loads",
        show(killed),
        "≤ 3.5 s",
        is_met,
    );
}

fn outages(bars: &mut Bars, peers: &mut Peers) {
    let started = each!(outages::start);
    let outages = started.map(|outage| runtime().block_on(outage).expect("none panics"));
    let ours = outages[0];
    let most = OUTAGE.as_secs() / BOUND.as_secs();
    let what = format!("server dead for {OUTAGE:?}, a call each {PAUSE:?}: loads");
    bars.alone(
        &what,
        ours.loads,
        format!("≤ {most}, one in B"),
        ours.loads <= most,
    );
    peers.row(what, outages, |outage| {
        let Outage {
            loads,
            calls,
            longest,
        } = outage;
        format!("{loads} of {calls} calls, longest {}", show(longest))
    });
}

fn each_of<T, U>(all: &[T; 5], of: impl Fn(&T) -> U) -> [U; 5] {
    all.each_ref().map(of)
}

fn show(time: Duration) -> String {
    if time >= LIMIT {
        return format!("> {LIMIT:?}");
    }
    format!("{time:.2?}")
}
