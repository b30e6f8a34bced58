//! Saving the entries to a file.

use std::sync::Arc;

use cacheio_core::__private::run_blocking;
use cacheio_core::{Result, Saved};

use super::AsyncCache;

impl AsyncCache {
    /// Saves the live and stale entries of this cache's namespace to the file of its
    /// [`snapshot`](crate::AsyncCacheBuilder::snapshot). Returns how many were saved.
    ///
    /// The last clone of a cache saves them when it is dropped. Call this where that does not happen, such as before
    /// [`std::process::exit`], or at intervals, for a program that may be killed. After it is killed, it serves what was
    /// saved last, also what was replaced or deleted since.
    ///
    /// An entry is saved with its key, its tags, and the times of its life. An entry whose value cannot be encoded is left
    /// out. The entries are read one after another: what is written or deleted meanwhile may be saved or not. The order in
    /// which entries would be evicted is not saved.
    ///
    /// A file is replaced only when the new one is on the disk, so that a program that is killed while it saves leaves the
    /// old one. For that time, the folder has both. The file is readable by its owner only.
    ///
    /// It runs on a thread for blocking work, and goes on if the future is dropped. A million small entries take a second or two.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> cacheio::Result<()> {
    /// use cacheio::AsyncCache;
    ///
    /// # let path = std::env::temp_dir().join(format!("cacheio-save-tasks-{}", std::process::id()));
    /// let cache = AsyncCache::builder().snapshot(&path).build()?;
    /// cache.set("greeting", "hello").await?;
    /// let saved = cache.save_snapshot().await?;
    /// assert_eq!((saved.entries, saved.left_out), (1, 0));
    /// # drop(cache);
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`](crate::ErrorKind::Config) when the cache has no path for a snapshot,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the file cannot be written, and
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the store cannot list its keys.
    #[doc(alias = "persist")]
    #[doc(alias = "dump")]
    pub async fn save_snapshot(&self) -> Result<Saved> {
        let engine = Arc::clone(&self.engine);
        run_blocking(move || engine.save_snapshot()).await?
    }
}
