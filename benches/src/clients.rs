//! What the benchmarks on servers measure: the same values, encoding, keys and TTL through cacheio
//! and through the raw clients that it uses.

mod memcached;
mod redis;

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use cacheio::{AsyncCache, Cache};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use memcached::{AsyncMeta, Classic, Meta};
pub use redis::{Blocking, Multiplexed};

/// The TTL of all entries.
const TTL: Duration = Duration::from_secs(600);

/// A client under test, as one thread has it.
pub trait ThreadClient: 'static {
    /// Reads an existing entry.
    fn get<V: Sample>(&mut self, name: Name) -> V;

    /// Replaces an entry.
    fn set<V: Sample>(&mut self, name: Name, value: &'static V);

    /// Reads an existing entry, with a loader for a missing one if the client has such a call.
    fn get_or_set<V: Sample>(&mut self, name: Name) -> V {
        self.get(name)
    }

    /// Reads existing entries, in the order of the keys.
    fn get_many<V: Sample>(&mut self, names: &[Name]) -> Vec<V>;

    /// Replaces entries.
    fn set_many<V: Sample>(&mut self, names: &[Name], value: &'static V);
}

/// A client under test, as one task has it: a clone of the shared one.
pub trait TaskClient: Clone + Send + Sync + 'static {
    /// Reads an existing entry.
    fn get<V: Sample>(&mut self, name: Name) -> impl Future<Output = V> + Send;

    /// Replaces an entry.
    fn set<V: Sample>(&mut self, name: Name, value: &'static V) -> impl Future<Output = ()> + Send;

    /// Reads an existing entry, with a loader for a missing one if the client has such a call.
    fn get_or_set<V: Sample>(&mut self, name: Name) -> impl Future<Output = V> + Send {
        self.get(name)
    }

    /// Reads existing entries, in the order of the keys.
    fn get_many<V: Sample>(&mut self, names: &[Name]) -> impl Future<Output = Vec<V>> + Send;

    /// Replaces entries.
    fn set_many<V: Sample>(
        &mut self,
        names: &[Name],
        value: &'static V,
    ) -> impl Future<Output = ()> + Send;
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// The key that a cache gets.
    pub key: &'static str,
    /// The key on the server: with the cache's namespace.
    pub text: &'static str,
}

impl Name {
    /// Returns the keys of one kind of value. Their text is leaked.
    pub fn all(kind: &str, count: usize) -> Vec<Self> {
        let name = |at| {
            let text: &'static str = format!("bench:{kind}:{at:08}").leak();
            let key = text.strip_prefix("bench:").expect("it begins so");
            Self { key, text }
        };
        (0..count).map(name).collect()
    }
}

/// What is cached.
pub trait Sample:
    Serialize + DeserializeOwned + Clone + Debug + PartialEq + Send + Sync + 'static
{
    /// Its name in the table and in the keys of its entries.
    const KIND: &'static str;

    /// How many entries of it there are.
    const COUNT: usize = 10_000;

    /// The value of every entry.
    fn sample() -> Self;
}

/// A text that has this number of bytes as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<const BYTES: usize>(String);

macro_rules! texts {
    ($($bytes:literal: $kind:literal, $count:literal;)*) => {$(
        impl Sample for Text<$bytes> {
            const KIND: &'static str = $kind;
            const COUNT: usize = $count;

            fn sample() -> Self {
                Self("v".repeat($bytes - 2))
            }
        }
    )*};
}

texts! {
    10: "10B", 10_000;
    500: "500B", 10_000;
    100_000: "100kB", 100;
    1_000_000: "1MB", 20;
}

/// A product of a web shop: 500 bytes as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Article {
    id: u64,
    name: String,
    price: f64,
    stock: Option<u32>,
    on_sale: bool,
    tags: Vec<String>,
    description: String,
}

impl Sample for Article {
    const KIND: &'static str = "struct";

    fn sample() -> Self {
        let mut article = Self {
            id: 4_711_000_042,
            name: "A \"quoted\" name, as they come".into(),
            price: 1999.95,
            stock: Some(17),
            on_sale: true,
            tags: ["garden", "outdoor", "sale", "new"].map(Into::into).into(),
            description: String::new(),
        };
        article.description = "d".repeat(500 - encode(&article).len());
        article
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("samples can be encoded")
}

fn decode<V: Sample>(bytes: impl AsRef<[u8]>) -> V {
    serde_json::from_slice(bytes.as_ref()).expect("what was stored was encoded")
}

impl ThreadClient for Cache {
    fn get<V: Sample>(&mut self, name: Name) -> V {
        Self::get(self, name.key)
            .expect("the server answers")
            .expect("a hit")
    }

    fn set<V: Sample>(&mut self, name: Name, value: &'static V) {
        self.set_with(name.key, value, TTL)
            .expect("the server answers");
    }

    fn get_or_set<V: Sample>(&mut self, name: Name) -> V {
        Self::get_or_set(self, name.key, || -> V { panic!("{} is stored", name.key) })
    }

    fn get_many<V: Sample>(&mut self, names: &[Name]) -> Vec<V> {
        let found = Self::get_many::<V>(self, names.iter().map(|name| name.key));
        let found = found.expect("the server answers").into_iter();
        found.map(|value| value.expect("a hit")).collect()
    }

    fn set_many<V: Sample>(&mut self, names: &[Name], value: &'static V) {
        let entries = names.iter().map(|name| (name.key, value));
        let stored = self.set_many_with(entries, TTL);
        stored.expect("the server answers");
    }
}

impl TaskClient for AsyncCache {
    async fn get<V: Sample>(&mut self, name: Name) -> V {
        Self::get(self, name.key)
            .await
            .expect("the server answers")
            .expect("a hit")
    }

    async fn set<V: Sample>(&mut self, name: Name, value: &'static V) {
        self.set_with(name.key, value, TTL)
            .await
            .expect("the server answers");
    }

    async fn get_or_set<V: Sample>(&mut self, name: Name) -> V {
        let load = async || -> V { panic!("{} is stored", name.key) };
        Self::get_or_set(self, name.key, load).await
    }

    async fn set_many<V: Sample>(&mut self, names: &[Name], value: &'static V) {
        let entries: Vec<_> = names.iter().map(|name| (name.key, value)).collect();
        let stored = self.set_many_with(entries, TTL).await;
        stored.expect("the server answers");
    }

    async fn get_many<V: Sample>(&mut self, names: &[Name]) -> Vec<V> {
        let keys: Vec<&'static str> = names.iter().map(|name| name.key).collect();
        let found = Self::get_many::<V>(self, keys).await;
        let found = found.expect("the server answers").into_iter();
        found.map(|value| value.expect("a hit")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_length_that_they_state() {
        assert_eq!(encode(&Article::sample()).len(), 500);
        assert_eq!(encode(&Text::<10>::sample()).len(), 10);
        assert_eq!(encode(&Text::<1_000_000>::sample()).len(), 1_000_000);
    }
}
