//! A master that its sentinels know.

use std::time::{Duration, Instant};

use cacheio_async::Redis;
use cacheio_tests::servers::{self, Reply, Sentinel};
use tokio::time::sleep;

use crate::support::{run, set};

#[test]
fn the_master_is_found_through_sentinels_and_after_a_failover() {
    let master = servers::Redis::start();
    let replica = master.start_replica();
    let sentinel = Sentinel::start(&master);
    run(async {
        let sentinels = [
            "redis://127.0.0.1:1".to_owned(),
            format!("redis://{}", sentinel.address()),
        ];
        let store = Redis::builder()
            .sentinel("main", sentinels)
            .build()
            .unwrap();
        set(&store, "k", "v").await.unwrap();
        assert_eq!(master.run("EXISTS k"), Reply::Integer(1));
        master.until_replicated("");
        sentinel.until_it_knows_a_replica();
        sentinel.fail_over(&replica);
        let deadline = Instant::now() + Duration::from_secs(20);
        while set(&store, "later", "v").await.is_err()
            || replica.run("EXISTS later") != Reply::Integer(1)
        {
            assert!(Instant::now() < deadline, "the new master is not found");
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(replica.run("EXISTS k"), Reply::Integer(1));
    });
}
