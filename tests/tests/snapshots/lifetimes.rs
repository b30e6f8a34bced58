//! TTLs, policies and tags go on.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cacheio_core::{Options, RefreshAhead, Ttl};
use cacheio_sync::Memory;

use super::{HOUR, both, cache, on};

#[test]
fn ttls_go_on() {
    both(async |world, path| {
        let (begun, first) = (Instant::now(), cache(world, path));
        first.set_with("hour", 1, HOUR).await.unwrap();
        first.set_with("forever", 1, Ttl::Never).await.unwrap();
        first
            .set_with("short", 1, Duration::from_millis(1_500))
            .await
            .unwrap();
        first
            .set_with("over", 1, Duration::from_millis(1))
            .await
            .unwrap();
        world.sleep(Duration::from_millis(20)).await;
        let saved = first.save_snapshot().await.unwrap();
        assert_eq!((saved.entries.max(3), saved.left_out), (3, 0));
        drop(first);
        let second = cache(world, path);
        let short = second.get::<i32>("short").await.unwrap();
        // The machine may have stood still.
        assert!(short == Some(1) || begun.elapsed() > Duration::from_millis(1_400));
        let entries = second.entries::<i32>(10).await.unwrap();
        let ttls: HashMap<_, _> = entries.into_iter().map(|e| (e.key, e.ttl)).collect();
        assert_eq!(ttls["forever"], Ttl::Never);
        let Ttl::After(left) = ttls["hour"] else {
            panic!()
        };
        assert!(
            left < HOUR - Duration::from_millis(10) && left > HOUR / 2,
            "{left:?}"
        );
        drop(second);
        // It expires while no program runs.
        world.sleep(Duration::from_millis(1_500)).await;
        let third = cache(world, path);
        assert_eq!(third.keys(10).await.unwrap(), ["forever", "hour"]);
        assert_eq!(third.get::<i32>("short").await.unwrap(), None);
    });
}

#[test]
fn policies_go_on() {
    both(async |world, path| {
        let first = cache(world, path);
        let short = Options::ttl(Duration::from_millis(100));
        let stale = short.clone().stale_for(HOUR);
        first.set_with("stale", "old", stale.clone()).await.unwrap();
        let idle = Options::ttl(HOUR).ttl_idle(Duration::from_millis(1_500));
        first.set_with("idle", "old", idle.clone()).await.unwrap();
        let mut last_read = Instant::now();
        first.set_with("read", "old", idle.clone()).await.unwrap();
        let ahead = Options::ttl(HOUR).refresh_ahead(RefreshAhead::Fraction(0.000_001));
        first.set_with("due", "old", ahead.clone()).await.unwrap();
        world.sleep(Duration::from_millis(150)).await;
        drop(first);

        let second = cache(world, path);
        assert_eq!(second.get::<String>("stale").await.unwrap(), None);
        let failed = second.get_or_try_set_with("stale", stale, async || {
            Err::<String, _>("the database is down")
        });
        assert_eq!(failed.await.unwrap(), "old");
        // A value that is due is loaded again, also if the fast path finds it first.
        let loaded = second.get_or_set_with("due", ahead, async || "new".to_owned());
        assert_eq!(loaded.await, "new");
        for _ in 0..5 {
            let read = second.get::<String>("read").await.unwrap();
            // The machine may have stood still.
            if last_read.elapsed() < Duration::from_millis(1_400) {
                assert_eq!(read.as_deref(), Some("old"));
            }
            last_read = Instant::now();
            world.sleep(Duration::from_millis(400)).await;
        }
        assert_eq!(second.get::<String>("idle").await.unwrap(), None);
    });
}

#[test]
fn tags_go_on() {
    both(async |world, path| {
        let memory = || on(world, path, Memory::new(), "shop", "json").unwrap();
        let first = memory();
        let tagged = |tags: &[&str]| {
            let tags = tags.iter().map(|tag| (*tag).to_owned());
            Options::ttl(HOUR).tags(tags.collect::<Vec<_>>())
        };
        first.set_with("a", 1, tagged(&["x"])).await.unwrap();
        first.set_with("b", 2, tagged(&["y"])).await.unwrap();
        first
            .set_with("both", 3, tagged(&["x", "y"]))
            .await
            .unwrap();
        first.set_with("gone", 4, tagged(&["z"])).await.unwrap();
        first.invalidate_tags(vec!["z".to_owned()]).await.unwrap();
        let saved = first.save_snapshot().await.unwrap();
        assert_eq!((saved.entries, saved.left_out), (3, 0));
        drop(first);
        let second = memory();
        assert_eq!(second.keys(10).await.unwrap(), ["a", "b", "both"]);
        for _ in 0..2 {
            assert_eq!(second.get::<i32>("both").await.unwrap(), Some(3));
        }
        second.invalidate_tags(vec!["x".to_owned()]).await.unwrap();
        assert_eq!(second.keys(10).await.unwrap(), ["b"]);
        assert_eq!(second.get::<i32>("both").await.unwrap(), None);
        drop(second);
        assert_eq!(memory().keys(10).await.unwrap(), ["b"]);
    });
}
