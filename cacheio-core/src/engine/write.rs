//! Preparing entries for the store: TTL, header, metadata, encoding.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Engine, boxed};
use crate::config::ttl::{Lifetime, lifetime, random_fraction};
use crate::entry::expiry::{Expiry, idle_retention};
use crate::entry::tags::Stamps;
use crate::entry::wire::{self, OwnedBody};
use crate::flight::WriteGuards;
use crate::key::Key;
use crate::l1::CopyGuard;
use crate::store::store_time::StoreTime;
use crate::{
    Encode, Entry, Form, Meta, Object, Operation, Options, RefreshAhead, Result, Timestamp, Ttl,
};

/// A value to be stored, in the form of the store.
pub(super) enum NewValue {
    Object(Arc<dyn Object>),
    Encoded(OwnedBody),
}

/// A value to be stored, and its TTL.
pub(super) type NewEntry = (NewValue, Option<Duration>);

/// An entry, and how long the store keeps it.
pub(super) type PreparedEntry = (Entry, Option<Duration>);

/// The policies that are recorded with an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryPolicy {
    stale_for: Duration,
    pub(super) refresh_ahead: RefreshAhead,
    pub(super) load_time: Duration,
    /// When the load began, on a clock that nothing sets.
    pub(super) began_at: Option<Instant>,
    /// Whether the age is recorded even if no policy needs it.
    dated: bool,
    idle: Option<Duration>,
}

/// When a load began.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadBegin {
    time: Timestamp,
    instant: Instant,
}

impl EntryPolicy {
    /// Returns the policies of an entry that a caller writes: only those of the call, so that
    /// entries written by `set` stay readable for other programs.
    pub(super) fn of_write(options: &Options) -> Self {
        let policies = &options.policies;
        Self {
            stale_for: policies.stale_for.unwrap_or_default(),
            refresh_ahead: policies.refresh_ahead.unwrap_or(RefreshAhead::Never),
            load_time: Duration::ZERO,
            began_at: None,
            dated: false,
            idle: policies.ttl_idle,
        }
    }
}

impl Engine {
    /// Notes that a load begins now.
    pub(super) fn begin_load(&self) -> LoadBegin {
        LoadBegin {
            time: self.clock.now(),
            instant: self.driver.now(),
        }
    }

    /// Returns the policies of an entry that was loaded just now.
    pub(super) fn policy_of_load(
        &self,
        options: &Options,
        began: LoadBegin,
        dated: bool,
    ) -> EntryPolicy {
        EntryPolicy {
            stale_for: self.stale_for(options),
            refresh_ahead: self.refresh_ahead(options),
            load_time: self.clock.now().since(began.time),
            began_at: Some(began.instant),
            dated,
            idle: self.policy(options, |policies| policies.ttl_idle),
        }
    }

    /// Returns the TTL of a loaded value: that of its loader, of `ttl_none`, or of the call.
    pub(super) fn ttl_of_load(
        &self,
        object: &dyn Object,
        by_loader: Option<Ttl>,
        options: &Options,
    ) -> Ttl {
        let ttl_none = || {
            let ttl = self.policy(options, |policies| policies.ttl_none)?;
            object.is_none().then_some(ttl)
        };
        by_loader.or_else(ttl_none).unwrap_or(options.ttl)
    }

    pub(super) fn lifetime(&self, ttl: Ttl, options: &Options) -> Lifetime {
        let jitter = self.policy(options, |policies| policies.jitter);
        let jitter = jitter.unwrap_or_default();
        let random = if jitter > 0.0 { random_fraction() } else { 0.0 };
        lifetime(ttl, self.settings.default_ttl, jitter, random)
    }

    /// Takes a value that a caller writes, and its TTL; returns `None` for a TTL of zero.
    pub(super) fn begin_one_write<By>(
        &self,
        value: impl Encode<By>,
        options: &Options,
    ) -> Result<Option<NewEntry>> {
        options.policies.check_values()?;
        match self.lifetime(options.ttl, options) {
            Lifetime::Live(ttl) => Ok(Some((self.new_value(value)?, ttl))),
            Lifetime::Zero => Ok(None),
        }
    }

    /// Prepares a value that a caller writes, with the versions of its tags. It does not depend on the type of the
    /// value, so that the program has it once.
    pub(super) async fn prepare_one_write(
        &self,
        begun: Result<Option<NewEntry>>,
        options: &Options,
        time: &StoreTime,
    ) -> Result<Option<PreparedEntry>> {
        let Some((value, ttl)) = begun? else {
            return Ok(None);
        };
        let stamps = match self.has_server_tags(options) {
            // On the heap, so that the future of every other write stays small.
            true => {
                let stamp = boxed(|| self.stamp(options));
                self.driver.timed(time, stamp).await?
            }
            false => self.stamp_in_process(options),
        };
        self.prepare(value, ttl, &stamps, EntryPolicy::of_write(options))
    }

    /// Prepares a value of a batch, whose options were checked; returns `None` for a TTL of zero. Each
    /// value has its own jitter.
    pub(super) fn prepare_one_of_many<By>(
        &self,
        value: impl Encode<By>,
        stamps: &Stamps,
        options: &Options,
    ) -> Result<Option<PreparedEntry>> {
        let Lifetime::Live(ttl) = self.lifetime(options.ttl, options) else {
            return Ok(None);
        };
        let value = self.new_value(value)?;
        self.prepare(value, ttl, stamps, EntryPolicy::of_write(options))
    }

    /// Takes a value for the store. For a server, it is encoded where it is.
    fn new_value<By>(&self, value: impl Encode<By>) -> Result<NewValue> {
        match self.driver.form() {
            Form::Bytes => self.encoded(value.as_object()),
            _ => Ok(NewValue::Object(value.into_object())),
        }
    }

    /// Takes a value that others have too.
    pub(super) fn shared_value(&self, object: &Arc<dyn Object>) -> Result<NewValue> {
        match self.driver.form() {
            Form::Bytes => self.encoded(&**object),
            _ => Ok(NewValue::Object(Arc::clone(object))),
        }
    }

    fn encoded(&self, object: &dyn Object) -> Result<NewValue> {
        OwnedBody::of(object, &*self.settings.codec).map(NewValue::Encoded)
    }

    /// Prepares a value to be stored for `ttl`; returns `None` if the versions of its tags are not known.
    pub(super) fn prepare(
        &self,
        value: NewValue,
        ttl: Option<Duration>,
        stamps: &Stamps,
        policy: EntryPolicy,
    ) -> Result<Option<PreparedEntry>> {
        let Some(entry) = self.entry(value, stamps, ttl, policy)? else {
            return Ok(None);
        };
        let idle = policy.idle.filter(|_| self.driver.form() == Form::Bytes);
        Ok(Some((entry, retention(ttl, policy.stale_for, idle))))
    }

    fn entry(
        &self,
        value: NewValue,
        stamps: &Stamps,
        ttl: Option<Duration>,
        policy: EntryPolicy,
    ) -> Result<Option<Entry>> {
        let expiry = self.expiry(ttl, policy);
        let object = match value {
            NewValue::Object(object) => object,
            NewValue::Encoded(body) => {
                let Some(tags) = stamps.versions() else {
                    return Ok(None);
                };
                let bytes = match expiry {
                    Some(expiry) => wire::seal_with(expiry, body.as_body()),
                    None => body.sealed(),
                };
                if tags.is_empty() {
                    return Ok(Some(Entry::bytes(bytes)));
                }
                self.note_headers_in_use();
                return Ok(Some(Entry::bytes(wire::with_tags(&bytes, tags)?)));
            }
        };
        let mut entry = Entry::object(object);
        if !stamps.is_empty() || expiry.is_some() {
            let meta = Meta::new(stamps.clone(), expiry, policy.refresh_ahead);
            entry.meta = Some(Arc::new(meta));
        }
        Ok(Some(entry))
    }

    /// Returns the moments of an entry that is created now, if a policy needs them.
    fn expiry(&self, ttl: Option<Duration>, policy: EntryPolicy) -> Option<Expiry> {
        let outlives_ttl = !policy.stale_for.is_zero();
        let is_refreshed = policy.refresh_ahead != RefreshAhead::Never;
        let decides_liveness =
            policy.idle.is_some() || (ttl.is_some() && (outlives_ttl || is_refreshed));
        if decides_liveness {
            self.note_headers_in_use();
        } else if !policy.dated {
            return None;
        }
        // The store alone decides how long it keeps an entry that only records its age.
        let ttl = ttl.filter(|_| decides_liveness);
        Some(Expiry {
            idle: policy.idle,
            ..Expiry::new(self.clock.now(), policy.load_time, ttl, policy.stale_for)
        })
    }

    /// Stores entries in one round trip. A failure is counted and logged. Returns whether there was none.
    pub(super) async fn set_entries(
        &self,
        mut entries: Vec<(Key<'_>, Entry, Option<Duration>)>,
    ) -> bool {
        let stored = match entries.len() {
            0 => return true,
            1 => {
                let (key, entry, ttl) = entries.remove(0);
                let stored = self.driver.set(&key, entry, ttl).await;
                stored.map_err(|error| self.in_operation(error, Operation::Set, &key))
            }
            _ => {
                let stored = self.driver.set_many(entries).await;
                stored.map_err(|error| error.during(Operation::SetMany))
            }
        };
        if let Err(error) = &stored {
            self.on_store_error(error);
        }
        stored.is_ok()
    }

    /// Registers a write, and runs it when it may go to the store. The wait for that and the operations of the
    /// write have the time that earlier steps of the call have left.
    pub(super) async fn write<T>(
        &self,
        time: &StoreTime,
        key: Key<'_>,
        write: impl Future<Output = T>,
    ) -> T {
        let keys = [key];
        let _copies = self.remove_copies(&keys);
        let mut guard = self.flights().write(key);
        if let Some(publishing) = guard.take_publishing() {
            self.driver.timed(time, pin!(self.wait(publishing))).await;
        }
        self.driver.timed(time, pin!(write)).await
    }

    /// Registers writes of several keys, until the result is dropped.
    pub(super) async fn begin_writes<'a>(
        &'a self,
        keys: &'a [Key<'a>],
    ) -> (WriteGuards<'a>, CopyGuard<'a>) {
        let copies = self.remove_copies(keys);
        let mut writes = WriteGuards(keys.iter().map(|key| self.flights().write(*key)).collect());
        for write in &mut writes.0 {
            if let Some(publishing) = write.take_publishing() {
                self.wait(publishing).await;
            }
        }
        (writes, copies)
    }
}

/// Returns how long a store keeps an entry: past its TTL as long as it may be served stale, but
/// no longer than it may be idle.
fn retention(
    ttl: Option<Duration>,
    stale_for: Duration,
    idle: Option<Duration>,
) -> Option<Duration> {
    let whole = ttl.map(|ttl| ttl.saturating_add(stale_for));
    let whole = whole.filter(|whole| *whole <= Ttl::MAX);
    match idle.map(idle_retention) {
        Some(idle) => Some(whole.map_or(idle, |whole| whole.min(idle))),
        None => whole,
    }
}
