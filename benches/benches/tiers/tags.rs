//! The invalidation of a tag with many entries, beside one with a single entry.

use std::time::Instant;

use cacheio::{AsyncCache, Options, Redis};
use cacheio_tests::servers;

use crate::clients::{TTL, runtime};
use crate::table::median;

pub(crate) const ENTRIES: usize = 1_000_000;
const BATCH: usize = 5_000;

/// Returns the medians of the time that an invalidation takes, in microseconds: of the tag of all entries, and of
/// that of one.
pub(crate) fn measure(rounds: usize) -> (f64, f64) {
    let server = servers::Redis::start();
    let redis = Redis::builder().url(server.url()).timeout(TTL).build();
    let cache = AsyncCache::builder().store(redis.expect("a URL"));
    let cache = cache.namespace("bench").build().expect("valid settings");
    runtime().block_on(async {
        let options = |tag| Options::ttl(TTL).tags([tag]);
        let stored = cache.set_with("one", 1, options("one")).await;
        stored.expect("the server answers");
        for batch in 0..ENTRIES / BATCH {
            let entries = (batch * BATCH..(batch + 1) * BATCH).map(|entry| (entry, entry));
            let stored = cache.set_many_with(entries, options("many")).await;
            stored.expect("the server answers");
        }
        let (mut many, mut one) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let pairs = [("many", &mut many), ("one", &mut one)];
            let turns: [usize; 2] = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            let mut pairs = pairs.map(Some);
            for turn in turns {
                let Some((tag, micros)) = pairs[turn].take() else {
                    continue;
                };
                let begun = Instant::now();
                let invalidated = cache.invalidate_tags([tag]).await;
                invalidated.expect("the server answers");
                micros.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
        let found = cache.get::<usize>(7_usize).await;
        assert_eq!(found.expect("the server answers"), None);
        (median(many.into_iter()), median(one.into_iter()))
    })
}
