//! Looking in: `keys`, `entries`, `retain`, `len` and `weight`.
//!
//! A [`Walk`] goes through the keys that the store lists, reads the entries behind them, and leaves out those that
//! are not live. A listed key is only a hint: the entry is read as for `ttl`, without L1, and nothing is counted
//! as a look-up or recorded as a read.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::Engine;
use super::lookup::Lookup;
use super::replace::{MAX_CONFLICTS, too_many_conflicts};
use super::tags::Versions;
use crate::key::Key;
use crate::{
    CacheEntry, Entry, Error, ErrorKind, Form, KeyRule, ListedKey, Meta, Operation, RefreshAhead,
    Result, Usage, Value,
};

/// How many entries are read at once: their values are in memory together.
const READ_AT_ONCE: usize = 100;

impl Engine {
    pub async fn keys(&self, limit: usize) -> Result<Vec<ListedKey>> {
        let keys = self.list_keys(limit).await;
        keys.map_err(|error| error.during(Operation::Keys))
    }

    pub async fn entries<V: Value>(&self, limit: usize) -> Result<Vec<CacheEntry<V>>> {
        let entries = self.list_entries(limit).await;
        entries.map_err(|error| error.during(Operation::Entries))
    }

    pub async fn len(&self) -> Result<usize> {
        let usage = self.usage().await;
        let usage = usage.map_err(|error| error.during(Operation::Len))?;
        Ok(usage.entries)
    }

    pub async fn weight(&self) -> Result<u64> {
        let usage = self.usage().await;
        let usage = usage.map_err(|error| error.during(Operation::Weight))?;
        Ok(usage.weight)
    }

    /// Removes the entries for which `keep` returns `false`. Returns how many of them were live.
    pub async fn retain<V: Value>(&self, keep: impl FnMut(&str, &V) -> bool) -> Result<usize> {
        let removed = self.remove_unless(keep).await;
        removed.map_err(|error| error.during(Operation::Retain))
    }

    async fn list_keys(&self, limit: usize) -> Result<Vec<ListedKey>> {
        let mut walk = Walk::new(self, limit, false);
        let mut keys = Vec::new();
        while keys.len() < limit
            && let Some(read) = walk.next(keys.len()).await?
        {
            let live = read.into_iter().filter(|(_, entry)| self.is_listed(entry));
            let live = live.take(limit - keys.len());
            keys.extend(live.map(|(key, _)| self.listed_key(&key)));
        }
        Ok(keys)
    }

    async fn list_entries<V: Value>(&self, limit: usize) -> Result<Vec<CacheEntry<V>>> {
        let mut walk = Walk::new(self, limit, true);
        let mut entries = Vec::new();
        while entries.len() < limit
            && let Some(read) = walk.next(entries.len()).await?
        {
            for (key, entry) in read {
                if entries.len() < limit
                    && let Some(listed) = readable(self.listed::<V>(&key, entry))?.flatten()
                {
                    entries.push(listed);
                }
            }
        }
        Ok(entries)
    }

    /// Returns an entry as `entries` lists it; none if it is not live.
    fn listed<V: Value>(&self, key: &str, entry: Entry) -> Result<Option<CacheEntry<V>>> {
        let Some(ttl) = self.left_of(&entry)? else {
            return Ok(None);
        };
        let lookup = self.decode_live::<V>(Some(entry))?;
        Ok(lookup.live().map(|cached| {
            let key = self.listed_key(key);
            CacheEntry::new(key, V::from_stored(cached.value), ttl)
        }))
    }

    async fn usage(&self) -> Result<Usage> {
        match self.driver.form() {
            Form::Objects => self.driver.usage(&self.key_prefix).await,
            Form::Bytes => Err(Error::new(
                ErrorKind::Unsupported,
                "only a cache that keeps the values themselves in memory knows its size; on a server, `keys` \
                 lists the entries up to a limit",
            )),
        }
    }

    async fn remove_unless<V: Value>(
        &self,
        mut keep: impl FnMut(&str, &V) -> bool,
    ) -> Result<usize> {
        if self.driver.form() == Form::Bytes {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "only a cache that keeps the values themselves in memory can judge them all; on a server, give \
                 the entries a tag and invalidate the tag",
            ));
        }
        let mut walk = Walk::new(self, usize::MAX, false);
        let mut removed = 0;
        while let Some(read) = walk.next(0).await? {
            for (key, entry) in read {
                let was_live = self.remove_one_unless(&key, entry, &mut keep).await?;
                removed += usize::from(was_live);
            }
        }
        Ok(removed)
    }

    /// Removes an entry unless `keep` keeps it. Returns whether it was live and is removed.
    async fn remove_one_unless<V: Value>(
        &self,
        text: &str,
        mut entry: Entry,
        keep: &mut impl FnMut(&str, &V) -> bool,
    ) -> Result<bool> {
        let keys = [Key::new(text)];
        for attempt in 1..=MAX_CONFLICTS {
            let found = Some(entry.clone());
            let lookup = self.decode_entry::<V>(found, Duration::MAX, RefreshAhead::Never);
            let (cached, was_live) = match readable(lookup)? {
                Some(Lookup::Live(cached)) => (cached, true),
                // It might still be served.
                Some(Lookup::Stale(cached)) => (cached, false),
                Some(Lookup::Unreadable | Lookup::Absent) | None => return Ok(false),
            };
            if keep(self.own_text(text), &V::from_stored(cached.value)) {
                return Ok(false);
            }
            let swapped = {
                let _writes = self.begin_writes(&keys).await;
                self.driver
                    .compare_and_swap(&keys[0], Some(entry), None)
                    .await?
            };
            if swapped {
                return Ok(was_live);
            }
            // Another write came first. What it left is judged in turn.
            self.pause_after_conflict(attempt).await;
            let found = self.driver.get_with_ttls(&keys).await?;
            let Some(Some(found)) = found.into_iter().next() else {
                return Ok(false);
            };
            entry = found;
        }
        Err(too_many_conflicts())
    }

    /// Returns whether an entry that the store returned is live.
    fn is_listed(&self, entry: &Entry) -> bool {
        let is_live = |meta: &Meta| meta.is_live(self.clock.now());
        !self.has_expired(entry) && entry.meta.as_deref().is_none_or(is_live)
    }

    fn listed_key(&self, text: &str) -> ListedKey {
        ListedKey::new(self.own_text(text))
    }

    /// Returns the text of a key of the store without the namespace.
    pub(super) fn own_text<'a>(&self, text: &'a str) -> &'a str {
        text.strip_prefix(&*self.key_prefix).unwrap_or(text)
    }
}

/// Returns no value where an entry cannot be read as the type that was asked for: a namespace may hold several types.
fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == ErrorKind::Decode => Ok(None),
        Err(error) => Err(error),
    }
}

/// Goes through the entries of the namespace of a cache.
struct Walk<'a> {
    engine: &'a Engine,
    /// How many live entries the caller wants.
    limit: usize,
    with_ttls: bool,
    /// The keys that were listed and not read.
    listed: VecDeque<String>,
    /// The keys that were listed, where a key may be listed twice.
    seen: Option<HashSet<String>>,
    /// Where the next listing begins.
    next: Option<String>,
    has_begun: bool,
    has_read: bool,
}

impl<'a> Walk<'a> {
    /// Creates one. With `with_ttls`, the entries say what is left of their TTLs.
    fn new(engine: &'a Engine, limit: usize, with_ttls: bool) -> Self {
        let is_in_memory = engine.driver.form() == Form::Objects;
        // A store in memory that is asked for all keys has each of them once, and may have very many.
        let has_each_once = is_in_memory && limit == usize::MAX;
        Self {
            engine,
            limit,
            // In memory it costs nothing, and is no use of the entry that would keep it from being evicted.
            with_ttls: with_ttls || is_in_memory,
            listed: VecDeque::new(),
            seen: (!has_each_once).then(HashSet::new),
            next: None,
            has_begun: false,
            has_read: false,
        }
    }

    /// Reads the next entries; none after the last one. The caller has found some live ones already.
    async fn next(&mut self, found: usize) -> Result<Option<Vec<(String, Entry)>>> {
        while self.listed.is_empty() {
            if self.has_begun && self.next.is_none() {
                return Ok(None);
            }
            self.list(found).await?;
        }
        if std::mem::replace(&mut self.has_read, true) {
            self.engine.driver.yield_now().await;
        }
        let wanted = self.limit.saturating_sub(found).clamp(10, READ_AT_ONCE);
        let count = self.listed.len().min(wanted);
        let texts: Vec<_> = self.listed.drain(..count).collect();
        let keys: Vec<_> = texts.iter().map(|text| Key::new(text)).collect();
        let driver = &self.engine.driver;
        let mut entries = match self.with_ttls {
            true => driver.get_with_ttls(&keys).await?,
            false => driver.get_many(&keys).await?,
        };
        drop(keys);
        let mut versions = Versions::default();
        self.engine
            .remove_invalid(&mut entries, &mut versions, false)
            .await?;
        let read = texts.into_iter().zip(entries);
        Ok(Some(
            read.filter_map(|(key, entry)| Some((key, entry?)))
                .collect(),
        ))
    }

    /// Lists the next keys.
    async fn list(&mut self, found: usize) -> Result<()> {
        let engine = self.engine;
        self.has_begun = true;
        let wanted = match self.limit {
            usize::MAX => usize::MAX,
            limit => limit.saturating_sub(found),
        };
        let (prefix, from) = (&engine.key_prefix, self.next.take());
        let page = engine.driver.scan(prefix, from, wanted).await?;
        self.next = page.next;
        let rule = engine.driver.key_rule();
        let is_on_server = engine.driver.form() == Form::Bytes;
        for key in page.keys {
            // Other texts are those of claims, of the versions of tags, and of keys of which the server knows only a
            // digest.
            let is_of_tag = is_on_server && KeyRule::looks_replaced(&key);
            let is_text = !is_of_tag && rule.legal(&key) == *key;
            let is_new = match &mut self.seen {
                Some(seen) => is_text && seen.insert(key.clone()),
                None => true,
            };
            if is_text && is_new {
                self.listed.push_back(key);
            }
        }
        Ok(())
    }
}
