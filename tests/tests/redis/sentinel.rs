//! A master that its sentinels know.

use std::time::{Duration, Instant};

use cacheio_async::Redis;
use cacheio_tests::servers::{self, Reply};
use tokio::time::sleep;

use crate::support::{free_port, run, set};

#[test]
fn the_master_is_found_through_sentinels_and_after_a_failover() {
    let master = servers::Redis::start();
    let of = master.port().to_string();
    let replica = servers::Redis::start_with(&["--replicaof", "127.0.0.1", &of]);
    let sentinel = Sentinel::start(master.port());
    run(async {
        let store = Redis::builder()
            .sentinel("main", ["redis://127.0.0.1:1".to_owned(), sentinel.url()])
            .build()
            .unwrap();
        set(&store, "k", "v").await.unwrap();
        assert_eq!(master.run("EXISTS k"), Reply::Integer(1));
        let deadline = Instant::now() + Duration::from_secs(20);
        while replica.run("EXISTS k") != Reply::Integer(1) || !sentinel.knows_a_replica() {
            assert!(Instant::now() < deadline, "the replica does not follow");
            sleep(Duration::from_millis(50)).await;
        }
        sentinel.fail_over();
        let deadline = Instant::now() + Duration::from_secs(20);
        while set(&store, "later", "v").await.is_err()
            || replica.run("EXISTS later") != Reply::Integer(1)
        {
            assert!(Instant::now() < deadline, "the new master is not found");
            sleep(Duration::from_millis(20)).await;
        }
    });
}

/// A sentinel that watches a master with the name `main`.
struct Sentinel {
    process: std::process::Child,
    port: u16,
    folder: std::path::PathBuf,
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let port = free_port();
        let folder =
            std::env::temp_dir().join(format!("cacheio-sentinel-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let config = folder.join("sentinel.conf");
        std::fs::write(
            &config,
            format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
            ),
        )
        .unwrap();
        let process = std::process::Command::new("redis-server")
            .arg(&config)
            .arg("--sentinel")
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("redis-server must be installed: apt-get install redis-server");
        let sentinel = Self {
            process,
            port,
            folder,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the sentinel does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        sentinel
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn query(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection()?;
        redis::cmd("SENTINEL").arg(words).query(&mut connection)
    }

    fn knows_a_replica(&self) -> bool {
        matches!(self.query(&["REPLICAS", "main"]), Ok(redis::Value::Array(known)) if !known.is_empty())
    }

    fn fail_over(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = self.query(&["FAILOVER", "main"]) {
            assert!(Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
