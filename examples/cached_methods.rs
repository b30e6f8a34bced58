//! `#[cached]` on methods: the type holds its cache, the key names the arguments that count.
//!
//! ```sh
//! cargo run --example cached_methods
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use cacheio::{AsyncCache, AsyncCacheable, Cache, CacheFactory, Cacheable, async_cached, cached};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

/// For threads: the cache is the field named `cache`.
#[derive(Cacheable)]
struct UserService {
    cache: Cache,
    queries: AtomicU64,
}

impl UserService {
    /// `request_id` is not part of the key: it does not change the user.
    #[cached(key = "user:{user_id}", ttl = 60)]
    fn fetch_user(&self, user_id: u64, request_id: &str) -> User {
        self.queries.fetch_add(1, Ordering::Relaxed);
        println!("  [{request_id}] queries the database for user {user_id}");
        User {
            id: user_id,
            name: String::from("Ada"),
        }
    }
}

/// The same for tasks.
#[derive(AsyncCacheable)]
struct AsyncUserService {
    cache: AsyncCache,
    queries: AtomicU64,
}

impl AsyncUserService {
    #[async_cached(key = "user:{user_id}", ttl = "1m")]
    async fn fetch_user(&self, user_id: u64, request_id: &str) -> User {
        self.queries.fetch_add(1, Ordering::Relaxed);
        println!("  [{request_id}] queries the database for user {user_id}");
        User {
            id: user_id,
            name: String::from("Ada"),
        }
    }
}

#[tokio::main]
async fn main() -> cacheio::Result<()> {
    println!("UserService");
    let service = UserService {
        cache: CacheFactory::memory_cache(),
        queries: AtomicU64::new(0),
    };
    for request_id in ["req-1", "req-1", "req-2"] {
        let user = service.fetch_user(42, request_id);
        println!("  [{request_id}] {user:?}");
    }
    println!(
        "  3 calls, {} query",
        service.queries.load(Ordering::Relaxed)
    );

    // The key is known, so other code can read and delete the entry.
    let stored: Option<User> = service.cache.get("user:42")?;
    println!("  under `user:42`: {stored:?}");
    service.cache.delete("user:42")?;
    service.fetch_user(42, "req-3");
    println!(
        "  after delete: {} queries",
        service.queries.load(Ordering::Relaxed)
    );

    println!("AsyncUserService");
    let cache = CacheFactory::async_memory_cache();
    let service = AsyncUserService {
        cache,
        queries: AtomicU64::new(0),
    };
    for request_id in ["req-1", "req-1", "req-2"] {
        let user = service.fetch_user(42, request_id).await;
        println!("  [{request_id}] {user:?}");
    }
    println!(
        "  3 calls, {} query",
        service.queries.load(Ordering::Relaxed)
    );
    Ok(())
}
