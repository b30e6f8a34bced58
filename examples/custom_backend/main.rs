//! A store of your own: a folder with a file for each entry (`folder.rs`). The cache does everything else: types,
//! TTLs, one load per key, invalidation during loads, statistics. `contract.rs` tests the store.
//!
//! ```sh
//! cargo run --example custom_backend
//! cargo test -p cacheio-examples --test custom_backend
//! ```

mod folder;

use std::fs;
use std::process;
use std::time::Duration;

use cacheio::{AsyncCache, Cache};

use crate::folder::Folder;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::temp_dir().join(format!("cacheio-folder-{}", process::id()));
    let folder = Folder::new(&path)?;

    let cache = Cache::builder().store(folder.clone()).build()?;
    cache.set("greeting", "hello")?;
    cache.set_with("token", "s3cret", Duration::from_millis(50))?;
    let primes = cache.get_or_set("primes", || vec![2, 3, 5, 7]);
    println!("primes:  {primes:?}");
    for file in fs::read_dir(&path)? {
        let file = file?;
        let content = fs::read_to_string(file.path())?;
        println!("  {} {content}", file.file_name().display());
    }

    // Another cache on the same folder, for tasks, as after a restart.
    let cache = AsyncCache::builder().store(folder).build()?;
    let greeting: Option<String> = cache.get("greeting").await?;
    println!("greeting: {greeting:?}");
    let primes = cache.get_or_set("primes", async || Vec::<u32>::new()).await;
    println!("primes:   {primes:?}, {} loads", cache.stats().loads);

    tokio::time::sleep(Duration::from_millis(60)).await;
    let token: Option<String> = cache.get("token").await?;
    println!("token:    {token:?}, after 50 ms");

    let first = cache.delete("greeting").await?;
    let again = cache.delete("greeting").await?;
    println!("delete:   {first}, then {again}");

    // Counters need an atomic operation, which this store does not implement.
    let error = cache.increment("visits", 1).await.unwrap_err();
    println!("error:    {error}");

    cache.clear().await?;
    println!("clear:    {} files left", fs::read_dir(&path)?.count());
    fs::remove_dir_all(path)?;
    Ok(())
}
