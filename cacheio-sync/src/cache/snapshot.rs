//! Saving the entries to a file.

use cacheio_core::{Result, Saved};

use super::Cache;

impl Cache {
    /// Saves the live and stale entries of this cache's namespace to the file of its
    /// [`snapshot`](crate::CacheBuilder::snapshot). Returns how many were saved.
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
    /// It blocks the thread: a million small entries take a second or two.
    ///
    /// ```
    /// # fn main() -> cacheio::Result<()> {
    /// use cacheio::Cache;
    ///
    /// # let path = std::env::temp_dir().join(format!("cacheio-save-threads-{}", std::process::id()));
    /// let cache = Cache::builder().snapshot(&path).build()?;
    /// cache.set("greeting", "hello")?;
    /// let saved = cache.save_snapshot()?;
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
    pub fn save_snapshot(&self) -> Result<Saved> {
        self.engine.save_snapshot()
    }
}
