//! Prints how long a snapshot takes to be saved and to be loaded, and how much memory that takes beside the entries.
//!
//! `cargo bench -p cacheio-benches --bench snapshots`; a number after `--` sets how many entries there are.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use allocation_counter::{AllocationInfo, measure};
use cacheio::Cache;
use cacheio_benches::cpu_time;
use serde::{Deserialize, Serialize};

const TTL: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    email: String,
}

impl User {
    fn new(id: u64) -> Self {
        Self {
            id,
            name: format!("Ann Example the {id}th"),
            email: format!("ann.{id}@example.org"),
        }
    }
}

fn main() {
    let entries = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(1_000_000);
    let path = std::env::temp_dir().join(format!("cacheio-bench-{}.cache", std::process::id()));
    let mut cache = None;
    let filled = measure(|| cache = Some(fill(&path, entries)));
    let in_memory = filled.bytes_current;
    println!("{entries} entries, {} in memory", megabytes(in_memory));
    println!(
        "| | time | CPU time of the thread | most memory beside the entries | memory after it |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    let saved = cache.expect("a cache");
    row("save", in_memory, || {
        let count = saved.save_snapshot().expect("a folder").entries;
        assert_eq!(count, entries as usize);
    });
    // Otherwise it would save again.
    std::mem::forget(saved);
    let size = fs::metadata(&path).expect("the file").len();
    let mut loaded = None;
    row("load", 0, || loaded = Some(open(&path, entries)));
    let loaded = loaded.expect("a cache");
    assert_eq!(loaded.len().expect("memory has it"), entries as usize);
    row("read each entry once", in_memory, || {
        for id in 0..entries {
            assert_eq!(loaded.get(id).expect("what was saved"), Some(User::new(id)));
        }
    });
    println!(
        "\nThe file has {}.",
        megabytes(i64::try_from(size).expect("a small file"))
    );
    std::mem::forget(loaded);
    let _ = fs::remove_file(path);
}

fn open(path: &Path, entries: u64) -> Cache {
    let cache = Cache::builder()
        .capacity(2 * usize::try_from(entries).unwrap_or(usize::MAX))
        .default_ttl(TTL);
    cache.snapshot(path).build().expect("valid settings")
}

fn fill(path: &Path, entries: u64) -> Cache {
    let cache = open(path, entries);
    for id in 0..entries {
        cache.set(id, &User::new(id)).expect("memory does not fail");
    }
    cache
}

/// Prints what a step takes. Before it, the entries take this many bytes.
fn row(name: &str, entries: i64, step: impl FnOnce()) {
    let (start, cpu_start) = (Instant::now(), cpu_time());
    let AllocationInfo {
        bytes_max,
        bytes_current,
        ..
    } = measure(step);
    println!(
        "| {name} | {:.2} s | {:.2} s | {} | {} |",
        start.elapsed().as_secs_f64(),
        (cpu_time() - cpu_start).as_secs_f64(),
        megabytes(i64::try_from(bytes_max).unwrap_or(i64::MAX)),
        megabytes(entries + bytes_current),
    );
}

fn megabytes(bytes: i64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
