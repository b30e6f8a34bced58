//! A store without entries.

use std::time::Duration;

use crate::{Entry, Form, Key, Result, ScanPage, Store, TtlChange, Usage, immediate_store};

/// A store that keeps nothing: each read misses, and each write succeeds.
///
/// A cache on it turns caching off, without a change in the code that uses the cache: each
/// `get_or_set` loads. Calls that miss the same key at the same time still share one load. Its URL is
/// `null://`, with the parameters of every cache URL.
///
/// [`Config::enabled`](crate::Config::enabled) turns off all caches of a process.
///
/// ```
/// use cacheio::Cache;
///
/// let cache = Cache::from_url("null://")?;
/// cache.set("k", 1)?;
/// assert_eq!(cache.get::<i32>("k")?, None);
/// assert_eq!(cache.get_or_set("k", || 2), 2);
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Null;

impl Store for Null {
    fn form(&self) -> Form {
        Form::Objects
    }

    fn get(&self, _: &Key<'_>) -> Result<Option<Entry>> {
        Ok(None)
    }

    fn set(&self, _: &Key<'_>, _: Entry, _: Option<Duration>) -> Result<()> {
        Ok(())
    }

    fn delete(&self, _: &Key<'_>) -> Result<bool> {
        Ok(false)
    }

    fn clear(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn add(&self, _: &Key<'_>, _: Entry, _: Option<Duration>) -> Result<bool> {
        Ok(true)
    }

    fn increment(&self, _: &Key<'_>, by: i64, _: Option<Duration>) -> Result<i64> {
        Ok(by)
    }

    fn touch(&self, _: &Key<'_>, _: Option<Duration>) -> Result<bool> {
        Ok(false)
    }

    fn take(&self, _: &Key<'_>) -> Result<Option<Entry>> {
        Ok(None)
    }

    fn compare_and_swap(
        &self,
        _: &Key<'_>,
        _: Option<Entry>,
        _: Option<(Entry, TtlChange)>,
    ) -> Result<bool> {
        Ok(true)
    }

    fn scan(&self, _: &str, _: Option<String>, _: usize) -> Result<ScanPage> {
        Ok(ScanPage::default())
    }

    fn usage(&self, _: &str) -> Result<Usage> {
        Ok(Usage::default())
    }
}

immediate_store!(Null);
