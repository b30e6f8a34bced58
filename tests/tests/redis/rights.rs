//! The rights that the guide's chapter `two_servers` names are enough for all that cacheio does.

use std::time::{Duration, Instant};

use cacheio_async::{AsyncCache, L1, Memory, Options, Redis};
use cacheio_core::Ttl;
use cacheio_tests::servers;
use tokio::time::sleep;

use crate::support::run;

const GUIDE: &str = include_str!("../../../cacheio/src/guide/two_servers.md");

/// Long enough that a copy that is gone was told of.
const BOUND: Duration = Duration::from_secs(50);

/// Returns the command in the guide that creates the user.
fn user_of_the_guide() -> String {
    let (_, rest) = GUIDE.split_once("ACL SETUSER").unwrap();
    let (user, _) = rest.split_once("```").unwrap();
    let words: Vec<_> = user.split_whitespace().collect();
    format!("ACL SETUSER {}", words.join(" "))
}

#[test]
fn the_user_of_the_guide_may_do_everything() {
    let server = servers::Redis::start();
    assert_eq!(server.run(&user_of_the_guide()).text(), "OK");
    run(async {
        let url = format!("redis://shop:password@{}?timeout=10s", server.address());
        let l1 = L1::new(Memory::with_capacity(100)).max_staleness(BOUND);
        let cache = AsyncCache::builder()
            .store(Redis::new(url).unwrap())
            .namespace("shop")
            .l1(l1)
            .build()
            .unwrap();
        let minute = Duration::from_secs(60);

        cache.set("k", 1).await.unwrap();
        cache.set_many([("a", 1), ("b", 2)]).await.unwrap();
        let with_ttl = [("a", 1), ("b", 2)];
        cache.set_many_with(with_ttl, minute).await.unwrap();
        assert!(cache.add("added", 1).await.unwrap());
        assert_eq!(cache.increment_with("n", 1, minute).await.unwrap(), 1);
        assert_eq!(cache.increment("n", 1).await.unwrap(), 2);
        assert!(cache.touch("k", minute).await.unwrap());
        assert!(cache.touch("k", Ttl::Never).await.unwrap());
        assert!(cache.has("added").await.unwrap());
        let found = cache.get_many::<i32>(["a", "b", "c"]).await.unwrap();
        assert_eq!(found, [Some(1), Some(2), None]);
        assert!(cache.delete("a").await.unwrap());
        assert_eq!(cache.delete_many(["a", "b"]).await.unwrap(), 1);

        // Scripts on a header.
        let policies = Options::ttl(minute).stale_for(minute).ttl_idle(minute);
        cache.set_with("kept", 1, policies.clone()).await.unwrap();
        assert!(cache.touch("kept", minute).await.unwrap());
        assert_eq!(cache.increment("kept", 1).await.unwrap(), 2);

        // A load is claimed, and its claim is kept.
        let claims = || server.run("EXISTS shop:loaded\u{1}");
        let load = || async {
            sleep(Duration::from_millis(1_500)).await;
            format!("{:?}", claims())
        };
        let loaded = cache.get_or_set("loaded", load).await;
        assert_eq!(loaded, format!("{:?}", server.run("EXISTS shop:loaded")));

        let tagged = Options::ttl(minute).tags(["t"]);
        cache.set_with("tagged", 1, tagged.clone()).await.unwrap();
        cache.invalidate_tags(["t"]).await.unwrap();
        let load = || async { 2 };
        assert_eq!(cache.get_or_set_with("tagged", tagged, load).await, 2);

        // Changes are told.
        let begun = Instant::now();
        cache.set("told", 1).await.unwrap();
        assert_eq!(cache.get::<i32>("told").await.unwrap(), Some(1));
        assert_eq!(cache.get::<i32>("told").await.unwrap(), Some(1));
        assert!(cache.stats().l1_hits > 0);
        server.run("SET shop:told 2");
        while cache.get::<i32>("told").await.unwrap() != Some(2) {
            assert!(begun.elapsed() < BOUND / 2, "the change was not told");
        }

        cache.clear().await.unwrap();
        assert!(!cache.has("k").await.unwrap());
        assert_eq!(cache.stats().store_errors, 0);
    });
}
