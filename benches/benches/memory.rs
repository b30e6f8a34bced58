//! The operations one by one, by a standard harness: `cargo bench --bench memory`.

use cacheio_benches::{
    CacheioAsync, CacheioSync, Layout, MiniMoka, MokaFuture, MokaSync, RawQuickCache, Subject,
    Workload, macros,
};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

const KEYS: [u32; 2] = [10_000, 100_000];

fn filled<S: Subject>(keys: u32) -> (S, Workload) {
    let workload = Workload::new(keys, Layout::Sequential);
    let subject = S::new(workload.capacity());
    subject.set(workload.keys.iter().map(String::as_str));
    (subject, workload)
}

#[divan::bench(
    types = [RawQuickCache, CacheioSync, CacheioAsync, MokaSync, MokaFuture, MiniMoka],
    args = KEYS, threads = [1, 2], sample_count = 20,
)]
fn hit<S: Subject>(bencher: Bencher<'_, '_>, keys: u32) {
    let (subject, workload) = filled::<S>(keys);
    bencher
        .counter(ItemsCount::new(Workload::ACCESSES))
        .bench(|| subject.get(workload.hits(0)));
}

#[divan::bench(
    types = [RawQuickCache, CacheioSync, CacheioAsync, MokaSync, MokaFuture, MiniMoka],
    args = KEYS, threads = [1, 2], sample_count = 20,
)]
fn get_or_set_hit<S: Subject>(bencher: Bencher<'_, '_>, keys: u32) {
    let (subject, workload) = filled::<S>(keys);
    bencher
        .counter(ItemsCount::new(Workload::ACCESSES))
        .bench(|| subject.get_or_set(workload.hits(0)));
}

#[divan::bench(
    types = [RawQuickCache, CacheioSync, CacheioAsync, MokaSync, MokaFuture, MiniMoka],
    args = KEYS, threads = [1, 2], sample_count = 20,
)]
fn miss<S: Subject>(bencher: Bencher<'_, '_>, keys: u32) {
    let (subject, workload) = filled::<S>(keys);
    bencher
        .counter(ItemsCount::new(Workload::ACCESSES))
        .bench(|| subject.get(workload.misses(0)));
}

#[divan::bench(
    types = [RawQuickCache, CacheioSync, CacheioAsync, MokaSync, MokaFuture, MiniMoka],
    args = KEYS, threads = [1, 2], sample_count = 20,
)]
fn set<S: Subject>(bencher: Bencher<'_, '_>, keys: u32) {
    let (subject, workload) = filled::<S>(keys);
    bencher
        .counter(ItemsCount::new(Workload::ACCESSES))
        .bench(|| subject.set(workload.hits(0)));
}

#[divan::bench(args = KEYS, threads = [1, 2], sample_count = 20)]
fn macro_hit_cacheio(bencher: Bencher<'_, '_>, keys: u32) {
    macro_hit(bencher, keys, macros::cacheio);
}

#[divan::bench(args = KEYS, threads = [1, 2], sample_count = 20)]
fn macro_hit_concurrent_cached(bencher: Bencher<'_, '_>, keys: u32) {
    macro_hit(bencher, keys, macros::concurrent_cached);
}

#[divan::bench(args = KEYS, threads = [1, 2], sample_count = 20)]
fn macro_hit_cached(bencher: Bencher<'_, '_>, keys: u32) {
    macro_hit(bencher, keys, macros::cached);
}

fn macro_hit<T>(bencher: Bencher<'_, '_>, keys: u32, function: impl Fn(&str) -> T + Sync) {
    let workload = Workload::new(keys, Layout::Sequential);
    for key in &workload.keys {
        function(key);
    }
    bencher
        .counter(ItemsCount::new(Workload::ACCESSES))
        .bench(|| {
            for key in workload.hits(0) {
                divan::black_box(function(key));
            }
        });
}
