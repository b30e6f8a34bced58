//! The raw clients of Redis.

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, Client, Commands, Connection, Pipeline};

use super::{Name, Sample, TTL, TaskClient, ThreadClient, decode, encode};

/// The connection that tasks share.
#[derive(Clone)]
pub struct Multiplexed(MultiplexedConnection);

impl Multiplexed {
    /// Connects.
    pub async fn connect(url: &str) -> Self {
        let client = Client::open(url).expect("a URL");
        let connection = client.get_multiplexed_async_connection().await;
        Self(connection.expect("the server is there"))
    }
}

impl TaskClient for Multiplexed {
    async fn get<V: Sample>(&mut self, name: Name) -> V {
        let bytes: Option<Vec<u8>> = self.0.get(name.text).await.expect("the server answers");
        decode(bytes.expect("a hit"))
    }

    async fn set<V: Sample>(&mut self, name: Name, value: &'static V) {
        let stored = self.0.pset_ex(name.text, encode(value), milliseconds());
        let () = stored.await.expect("the server answers");
    }

    async fn get_many<V: Sample>(&mut self, names: &[Name]) -> Vec<V> {
        let texts: Vec<&str> = names.iter().map(|name| name.text).collect();
        let found: Vec<Option<Vec<u8>>> = self.0.mget(texts).await.expect("the server answers");
        let found = found.into_iter();
        found.map(|bytes| decode(bytes.expect("a hit"))).collect()
    }

    async fn set_many<V: Sample>(&mut self, names: &[Name], value: &'static V) {
        let stored = pipeline(names, value).query_async(&mut self.0).await;
        let () = stored.expect("the server answers");
    }
}

/// A thread's own connection.
pub struct Blocking(Connection);

impl Blocking {
    /// Connects.
    pub fn connect(url: &str) -> Self {
        let client = Client::open(url).expect("a URL");
        Self(client.get_connection().expect("the server is there"))
    }
}

impl ThreadClient for Blocking {
    fn get<V: Sample>(&mut self, name: Name) -> V {
        let bytes: Option<Vec<u8>> = self.0.get(name.text).expect("the server answers");
        decode(bytes.expect("a hit"))
    }

    fn set<V: Sample>(&mut self, name: Name, value: &'static V) {
        let stored = self.0.pset_ex(name.text, encode(value), milliseconds());
        let () = stored.expect("the server answers");
    }

    fn get_many<V: Sample>(&mut self, names: &[Name]) -> Vec<V> {
        let texts: Vec<&str> = names.iter().map(|name| name.text).collect();
        let found: Vec<Option<Vec<u8>>> = self.0.mget(texts).expect("the server answers");
        let found = found.into_iter();
        found.map(|bytes| decode(bytes.expect("a hit"))).collect()
    }

    fn set_many<V: Sample>(&mut self, names: &[Name], value: &'static V) {
        let stored = pipeline(names, value).query(&mut self.0);
        let () = stored.expect("the server answers");
    }
}

/// Writes of several entries in one round trip.
fn pipeline<V: Sample>(names: &[Name], value: &V) -> Pipeline {
    let mut pipeline = redis::pipe();
    for name in names {
        pipeline
            .pset_ex(name.text, encode(value), milliseconds())
            .ignore();
    }
    pipeline
}

fn milliseconds() -> u64 {
    u64::try_from(TTL.as_millis()).expect("not that long")
}
