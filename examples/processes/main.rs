//! Four processes share one Redis, as four replicas behind a load balancer do. Each step runs twice: with caches
//! that only share the entries, and with caches that also share loads and have memory before Redis.
//!
//! ```sh
//! cargo run --example processes
//! ```
//!
//! It starts its own `redis-server`, or uses the one at `REDIS_URL` if that is not installed, and processes of itself.

#[path = "../guide/redis_server.rs"]
#[allow(dead_code, reason = "the other example also lets the server hang")]
mod redis_server;
mod worker;
mod workers;

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::redis_server::RedisServer;
use crate::worker::Mode;
use crate::workers::Workers;

const CHANGES: u32 = 20;
const OUTAGE: Duration = Duration::from_secs(5);

/// The result of a step: with entries alone, and with loads and memory too.
type Pair = [String; 2];

fn main() -> anyhow::Result<()> {
    if let Some((mode, url)) = worker::asked_for() {
        return worker::run(mode, &url);
    }
    let mut server = RedisServer::start()?;
    let url = match &server {
        Some(server) => server.url(),
        None => env::var("REDIS_URL").context("install redis-server, or set REDIS_URL")?,
    };
    let mut modes = [
        Workers::start(Mode::Entries, &url)?,
        Workers::start(Mode::All, &url)?,
    ];
    row("4 processes on one Redis", &Mode::NAMES.map(Into::into));
    row("---", &["---"; 2].map(Into::into));
    row(
        "a cold key that all need at once: loads",
        &both(&mut modes, cold_key)?,
    );
    row(
        "reads of a hot key, all processes",
        &both(&mut modes, hot_key)?,
    );
    row(
        "a change in one, seen by all others after",
        &both(&mut modes, change)?,
    );
    row(
        "`kill -9` of the loading process: another loads after",
        &both(&mut modes, kill)?,
    );
    match &mut server {
        Some(server) => {
            let [calls, slowest] = outage(&mut modes, server)?;
            row(
                &format!("Redis dead for {OUTAGE:?}, one key: loads, errors"),
                &calls,
            );
            row("the slowest call meanwhile", &slowest);
        }
        None => println!("\nThe Redis at {url} is not killed: the last step needs redis-server."),
    }
    Ok(())
}

fn row(step: &str, results: &Pair) {
    let [entries, all] = results;
    println!("| {step:<54} | {entries:<24} | {all:<24} |");
}

/// Runs a step in one mode and then in the other.
fn both(
    modes: &mut [Workers; 2],
    step: fn(&mut Workers) -> anyhow::Result<String>,
) -> anyhow::Result<Pair> {
    let [entries, all] = modes;
    Ok([step(entries)?, step(all)?])
}

/// All processes ask for a key that is not cached.
fn cold_key(workers: &mut Workers) -> anyhow::Result<String> {
    workers.tell_all("get cold");
    let loads = workers.sum("loads")?;
    Ok(loads.to_string())
}

/// Each process reads a key as fast as it can, with one task.
fn hot_key(workers: &mut Workers) -> anyhow::Result<String> {
    workers.tell_all("hits");
    let hits = workers.sum("hits")?;
    Ok(format!("{hits} a second"))
}

/// One process sets a key again and again, while all others read it. The time runs from the end of the `set`.
fn change(workers: &mut Workers) -> anyhow::Result<String> {
    let mut times = Vec::new();
    for change in 1..=CHANGES {
        let (writer, readers) = workers.all.split_first_mut().context("no process")?;
        for reader in &mut *readers {
            reader.tell(&format!("watch {change}"));
        }
        for reader in &mut *readers {
            reader.expect("watching")?;
        }
        writer.tell(&format!("set {change}"));
        let written = writer.expect("set")?;
        for reader in readers {
            // It may have come before the reply to the writer.
            let seen = reader.expect("seen")?;
            times.push(seen.saturating_duration_since(written));
        }
    }
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    Ok(format!("{}, {} at most", show(median), show(longest)))
}

fn show(time: Duration) -> String {
    match time.as_secs_f64() * 1e3 {
        ..0.1 => "under 0.1 ms".into(),
        milliseconds => format!("{milliseconds:.1} ms"),
    }
}

/// A process is killed while it loads a key that another one wants too.
fn kill(workers: &mut Workers) -> anyhow::Result<String> {
    workers.all[0].tell("hang");
    workers.all[0].expect("loading")?;
    workers.all[1].tell("hang");
    thread::sleep(Duration::from_millis(500));
    let killed = Instant::now();
    workers.all[0].kill()?;
    let loading = workers.all[1].expect("loading")?;
    let result = match loading.checked_duration_since(killed) {
        Some(time) => format!("{time:.1?}"),
        None => "it did not wait".into(),
    };
    // Both are replaced: the other one would load forever.
    workers.restart(0)?;
    workers.restart(1)?;
    Ok(result)
}

/// Redis is killed while all processes of both modes read a key.
fn outage(modes: &mut [Workers; 2], server: &mut RedisServer) -> anyhow::Result<[Pair; 2]> {
    for workers in &mut *modes {
        workers.tell_all("outage");
        workers.expect_all("warm")?;
    }
    server.kill()?;
    for workers in &mut *modes {
        workers.tell_all("killed");
    }
    let mut results = [Pair::default(), Pair::default()];
    for (mode, workers) in modes.iter_mut().enumerate() {
        let (calls, loads, errors) = (
            workers.sum("calls")?,
            workers.sum("loads")?,
            workers.sum("errors")?,
        );
        if calls == 0 {
            bail!("there was no call");
        }
        results[0][mode] = format!("{loads} for {calls} calls, {errors}");
        let slowest = workers.max("slowest")?;
        results[1][mode] = format!("{slowest} ms");
    }
    Ok(results)
}
