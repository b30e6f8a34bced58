//! The raw clients of Memcached.

use std::net::SocketAddr;
use std::sync::Arc;

use memcache::Client;
use memcache::exp::{AsyncMetaClient, Error, Get, GetResult, MetaClient, Set};

use super::{Name, Sample, TTL, TaskClient, ThreadClient, decode, encode};

/// The classic client, with its default protocol, the binary one.
#[derive(Clone)]
pub struct Classic(Client);

impl Classic {
    /// Connects, with this number of connections.
    pub fn connect(url: &str, connections: usize) -> Self {
        let connections = u32::try_from(connections).expect("not that many");
        Self(Client::with_pool_size(url, connections).expect("the server is there"))
    }
}

impl ThreadClient for Classic {
    fn get<V: Sample>(&mut self, name: Name) -> V {
        let bytes: Option<Vec<u8>> = self.0.get(name.text).expect("the server answers");
        decode(bytes.expect("a hit"))
    }

    fn set<V: Sample>(&mut self, name: Name, value: &'static V) {
        let bytes = encode(value);
        let stored = self.0.set(name.text, &*bytes, seconds());
        stored.expect("the server answers");
    }

    fn get_many<V: Sample>(&mut self, names: &[Name]) -> Vec<V> {
        let texts: Vec<&str> = names.iter().map(|name| name.text).collect();
        let found = self.0.gets::<Vec<u8>>(&texts).expect("the server answers");
        let found = texts.iter().map(|text| found.get(*text).expect("a hit"));
        found.map(decode).collect()
    }

    fn set_many<V: Sample>(&mut self, names: &[Name], value: &'static V) {
        // It has no call for several entries.
        for name in names {
            self.set(*name, value);
        }
    }
}

/// The newer client, of the meta protocol.
#[derive(Clone)]
pub struct Meta(Arc<MetaClient>);

impl Meta {
    /// Connects.
    pub fn connect(server: SocketAddr) -> Self {
        let client = MetaClient::connect(server).expect("the server is there");
        Self(Arc::new(client))
    }
}

impl ThreadClient for Meta {
    fn get<V: Sample>(&mut self, name: Name) -> V {
        value(self.0.get(name.text).send())
    }

    fn set<V: Sample>(&mut self, name: Name, value: &'static V) {
        let request = self.0.set(name.text, encode(value)).ttl(TTL);
        let stored = request.send().expect("the server answers");
        assert!(stored.applied());
    }

    fn get_many<V: Sample>(&mut self, names: &[Name]) -> Vec<V> {
        let found = self
            .0
            .run_many(names.iter().map(|name| Get::new(name.text)));
        let found = found.expect("the server answers");
        found.into_iter().map(value).collect()
    }

    fn set_many<V: Sample>(&mut self, names: &[Name], value: &'static V) {
        let stored = self.0.run_many(writes(names, value));
        let stored = stored.expect("the server answers");
        assert!(stored.iter().all(Result::is_ok));
    }
}

/// The same client, for tasks. With many callers, some wait for a connection until they time out: they ask again.
#[derive(Clone)]
pub struct AsyncMeta(Arc<AsyncMetaClient>);

impl AsyncMeta {
    /// Connects.
    pub async fn connect(server: SocketAddr) -> Self {
        let client = AsyncMetaClient::connect(server).await;
        Self(Arc::new(client.expect("the server is there")))
    }
}

impl TaskClient for AsyncMeta {
    async fn get<V: Sample>(&mut self, name: Name) -> V {
        loop {
            match self.0.get(name.text).send().await {
                Err(error) if is_overload(&error) => {}
                found => return value(found),
            }
        }
    }

    async fn set<V: Sample>(&mut self, name: Name, value: &'static V) {
        loop {
            let request = self.0.set(name.text, encode(value)).ttl(TTL);
            match request.send().await {
                Err(error) if is_overload(&error) => {}
                stored => return assert!(stored.expect("the server answers").applied()),
            }
        }
    }

    async fn get_many<V: Sample>(&mut self, names: &[Name]) -> Vec<V> {
        let requests: Vec<Get> = names.iter().map(|name| Get::new(name.text)).collect();
        let found = self.0.run_many(requests).await;
        let found = found.expect("the server answers");
        found.into_iter().map(value).collect()
    }

    async fn set_many<V: Sample>(&mut self, names: &[Name], value: &'static V) {
        let stored = self.0.run_many(writes(names, value)).await;
        let stored = stored.expect("the server answers");
        assert!(stored.iter().all(Result::is_ok));
    }
}

/// The client opens a connection for each request that waits. If there are many, some time out, and others
/// are reset.
fn is_overload(error: &Error) -> bool {
    matches!(
        error,
        Error::Timeout { .. } | Error::Io(_) | Error::Ambiguous { .. }
    )
}

fn writes<V: Sample>(names: &[Name], value: &V) -> Vec<Set> {
    let write = |name: &Name| Set::new(name.text, encode(value)).ttl(TTL);
    names.iter().map(write).collect()
}

fn value<V: Sample>(result: memcache::exp::Result<GetResult>) -> V {
    let found = result.expect("the server answers");
    decode(found.value.expect("a hit"))
}

fn seconds() -> u32 {
    u32::try_from(TTL.as_secs()).expect("not that long")
}
