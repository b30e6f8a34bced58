//! Review: stress.
#![cfg(not(shuttle))]
#![allow(missing_docs, missing_debug_implementations, clippy::pedantic)]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::Arc;
use std::time::{Duration, Instant};
use cacheio_core::Options;
use cacheio_sync::{Cache, Memory};
use cacheio_core::{Entry, Form, Key, Payload, Result, Store};

fn run(cache: Cache, how: usize) {
    let version = Arc::new(AtomicU64::new(0));
    // What the last invalidation that has returned guarantees.
    let floor = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for t in 0..6 {
        let (cache, version, floor, stop) = (cache.clone(), version.clone(), floor.clone(), stop.clone());
        threads.push(std::thread::spawn(move || {
            let mut n = 0u64;
            while !stop.load(SeqCst) {
                n += 1;
                if t == 0 || (t == 1 && n % 3 == 0) {
                    let v = version.fetch_add(1, SeqCst) + 1;
                    match how {
                        0 => drop(cache.delete("k").unwrap()),
                        1 => cache.clear().unwrap(),
                        2 => cache.invalidate_tags(["t"]).unwrap(),
                        _ => drop(cache.delete_many(["x", "k", "k"]).unwrap()),
                    }
                    floor.fetch_max(v, SeqCst);
                    std::thread::yield_now();
                } else {
                    let least = floor.load(SeqCst);
                    let got = cache.get_or_set_with("k", Options::new().tags(if how == 2 { vec!["t"] } else { vec![] }), || {
                        let v = version.load(SeqCst);
                        if n % 5 == 0 { std::thread::yield_now(); }
                        v
                    });
                    assert!(got >= least, "stale: {got} < {least} (how {how})");
                    let least = floor.load(SeqCst);
                    if let Some(got) = cache.get::<u64>("k").unwrap() {
                        assert!(got >= least, "stale get: {got} < {least} (how {how})");
                    }
                }
            }
            n
        }));
    }
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end { std::thread::sleep(Duration::from_millis(50)); }
    stop.store(true, SeqCst);
    let start = Instant::now();
    for t in &threads { while !t.is_finished() { assert!(start.elapsed() < Duration::from_secs(5), "HANGS"); std::thread::yield_now() } }
    threads.into_iter().for_each(|t| assert!(t.join().unwrap() > 0));
}
#[test]
fn memory() {
    for how in 0..4 { run(Cache::builder().store(Memory::with_capacity(100)).build().unwrap(), how); }
}

#[derive(Debug, Default)]
struct Bytes(std::sync::Mutex<std::collections::HashMap<String, Vec<u8>>>);
impl Store for Bytes {
    fn form(&self) -> Form { Form::Bytes }
    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let v = self.0.lock().unwrap().get(key.text()).cloned().map(Entry::bytes);
        std::thread::yield_now();
        Ok(v)
    }
    fn set(&self, key: &Key<'_>, entry: Entry, _: Option<Duration>) -> Result<()> {
        let Payload::Bytes(bytes) = entry.payload else { unreachable!() };
        std::thread::yield_now();
        self.0.lock().unwrap().insert(key.text().into(), bytes);
        std::thread::yield_now();
        Ok(())
    }
    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        std::thread::yield_now();
        let v = self.0.lock().unwrap().remove(key.text()).is_some();
        std::thread::yield_now();
        Ok(v)
    }
    fn clear(&self, _: &str) -> Result<()> {
        std::thread::yield_now();
        Ok(self.0.lock().unwrap().clear())
    }
}
#[test]
fn bytes() {
    for how in [0, 1, 3] { run(Cache::builder().store(Bytes::default()).build().unwrap(), how); }
}
fn rss() -> u64 {
    let s = std::fs::read_to_string("/proc/self/statm").unwrap();
    s.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
/// 64 MB of entries of 64 KB: a thousand of them. What else is kept?
#[test]
fn ghosts_of_weighed_memory() {
    let memory = Arc::new(Memory::builder().capacity(64 << 20).weigher(|_, _| 64 << 10).build());
    let cache = Cache::builder().store(Arc::clone(&memory)).build().unwrap();
    let before = rss();
    for k in 0..2_500_000_u64 { cache.set(k, ()).unwrap(); }
    let grown = (rss() - before) >> 20;
    eprintln!("{} entries (of no size at all) and {grown} MB", memory.len());
    assert!(grown < 20, "{grown} MB for {} entries", memory.len());
}
