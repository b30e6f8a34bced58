//! The examples of moka with a listener, ported.

use cacheio_core::Options;
use cacheio_sync::RemovalCause::{Cleared, Deleted, Evicted, Expired};

use super::*;

/// `examples/eviction_listener.rs`. No call is needed that runs pending tasks.
#[test]
fn eviction_listener() {
    in_both_worlds(2, |fixture| async move {
        let Fixture {
            cache, clock, told, ..
        } = fixture;
        let second = Duration::from_secs(1);
        let set = async |key: u32, value: &'static str| {
            cache.set_with(key, value, second).await.unwrap();
        };
        set(0, "zero").await;
        set(1, "one").await;
        set(2, "twice").await;
        let evicted = told.take();
        assert_eq!((evicted.len(), evicted[0].cause()), (1, Evicted));
        set(2, "two").await;
        let replaced = told.take();
        assert_eq!(replaced[0].value::<String>().unwrap().as_str(), "twice");
        clock.advance(2 * second);
        set(3, "three").await;
        let expired = told.take();
        assert_eq!(expired.len(), 2);
        assert!(expired.iter().all(|removal| removal.cause() == Expired));
        set(4, "four").await;
        cache.delete(3).await.unwrap();
        told.assert(&[("3", Deleted)]);
        cache.delete(4).await.unwrap();
        told.assert(&[("4", Deleted)]);
        set(5, "five").await;
        cache.clear().await.unwrap();
        told.assert(&[("5", Cleared)]);
        set(6, "six").await;
        clock.advance(2 * second);
        assert!(!cache.has(6).await.unwrap());
        told.assert(&[("6", Expired)]);
    });
}

/// `examples/reinsert_expired_entries_sync.rs`, without its two threads and its channel: the listener itself may
/// use the cache, and the cache's own use is enough to notice that entries have expired.
#[test]
fn reinsert_expired_entries() {
    guarded(|| {
        let clock = Arc::new(ManualClock::new());
        let builder = Memory::builder().capacity(7).clock(Arc::clone(&clock));
        let (memory, cache) = known(builder, |cache, removal| {
            if removal.cause() == Expired {
                let value = removal.value::<u32>().unwrap();
                cache
                    .add_with(removal.key(), *value * 2, Options::ttl(TTL))
                    .unwrap();
            }
        });
        for key in 1_u32..=9 {
            cache.set_with(key, key, TTL).unwrap();
        }
        let keys = || {
            (1_u32..=9)
                .filter(|key| cache.has(key).unwrap())
                .collect::<Vec<_>>()
        };
        let kept = keys();
        assert_eq!(kept.len(), 7);
        for round in 1..=3 {
            clock.advance(TTL + WITHIN);
            assert_eq!(keys(), kept);
            for key in &kept {
                let value = cache.get::<u32>(key).unwrap();
                assert_eq!(value, Some(key << round), "round {round}");
            }
        }
        assert_eq!(memory.len(), 7);
        // A newer value is not replaced by the expired one.
        clock.advance(TTL + WITHIN);
        cache.set(kept[0], 1_u32).unwrap();
        assert_eq!(cache.get(kept[0]).unwrap(), Some(1_u32));
    });
}
