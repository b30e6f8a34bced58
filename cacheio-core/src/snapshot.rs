//! Snapshots: the entries of a cache in memory, in a file.
//!
//! [`file`] reads and writes the file, [`record`] an entry in it. What is saved and loaded is decided in
//! `engine/snapshot.rs`.

pub(crate) mod file;
pub(crate) mod record;

use std::any::Any;
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::entry::wire::{self, Body};
use crate::value::{Encoded, downcast};
use crate::{Codec, Object, Result, Value};

/// What `save_snapshot` has saved.
///
/// ```
/// use cacheio::{Cache, Local};
///
/// # let path = std::env::temp_dir().join(format!("cacheio-saved-{}", std::process::id()));
/// let cache = Cache::builder().snapshot(&path).build()?;
/// cache.set("greeting", "hello")?;
/// cache.set("connection", Local::new(7))?;
/// let saved = cache.save_snapshot()?;
/// assert_eq!((saved.entries, saved.left_out), (1, 1));
/// # drop(cache);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// The number of entries in the file.
    pub entries: usize,
    /// The number of entries whose values cannot be encoded, such as a [`Local`](crate::Local).
    pub left_out: usize,
}

/// The snapshot of a cache.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) path: PathBuf,
    /// Whether the cache is off: then nothing is loaded, and nothing saved over the entries of a cache that is not.
    pub(crate) is_off: bool,
    /// One save at a time, so that the last one to begin is in the file.
    pub(crate) saving: Mutex<()>,
}

/// A value of a snapshot that was not read yet as the type that it was stored as: only the reader knows the type.
#[derive(Debug)]
pub(crate) struct EncodedValue {
    /// The bytes, as on a server.
    pub(crate) bytes: Vec<u8>,
    /// The name of the type that the value was stored as. The bytes are kept until the value is read as this type,
    /// because another one may keep less of it.
    pub(crate) stored_as: Arc<str>,
    pub(crate) codec: Arc<dyn Codec>,
}

impl EncodedValue {
    pub(crate) fn of(object: &dyn Object) -> Option<&Self> {
        let object: &dyn Any = object;
        object.downcast_ref()
    }

    pub(crate) fn body(&self) -> Result<Body<'_>> {
        Ok(wire::open(&self.bytes)?.0)
    }

    pub(crate) fn decode<V: Value>(&self) -> Result<Arc<V::Stored>> {
        self.body()?.decode::<V>(&*self.codec)
    }
}

/// Returns an object as a value of the type that it was stored as, also if it comes from a snapshot and was not read yet.
pub fn value_of_object<V: Value>(object: &Arc<dyn Object>) -> Option<Arc<V>> {
    let stored = match EncodedValue::of(&**object) {
        Some(encoded) => {
            let stored = encoded.decode::<V>().ok()?;
            (Object::type_name(&*stored) == &*encoded.stored_as).then_some(stored)
        }
        None => downcast(Arc::clone(object)),
    };
    stored.map(V::shared)
}

/// What this thread does with values of snapshots.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    None,
    /// It puts those of one cache into memory, whose codec has this address.
    Loading(usize),
    /// It puts a value that was decoded in the place of its bytes.
    Decoding,
}

thread_local! {
    static STEP: Cell<Step> = const { Cell::new(Step::None) };
}

impl Step {
    pub(crate) fn loading(codec: &Arc<dyn Codec>) -> Self {
        Self::Loading(address(codec))
    }

    /// Makes this the step of the thread until the guard is dropped.
    pub(crate) fn begin(self) -> StepGuard {
        StepGuard(STEP.replace(self))
    }
}

/// Restores the step of before.
pub(crate) struct StepGuard(Step);

impl Drop for StepGuard {
    fn drop(&mut self) {
        STEP.set(self.0);
    }
}

/// Returns whether a removal from memory is not reported: an entry of a snapshot has no room when it is loaded, or its
/// value is decoded. A program must not be told of either, and its listener must not run while a cache is built.
pub fn is_unreported(object: &dyn Object, is_replaced: bool) -> bool {
    match STEP.get() {
        Step::None => false,
        Step::Loading(codec) => {
            EncodedValue::of(object).is_some_and(|encoded| address(&encoded.codec) == codec)
        }
        Step::Decoding => is_replaced && EncodedValue::of(object).is_some(),
    }
}

/// Calls code of the user, which may use any cache: what it does is no part of a step.
pub fn outside_of_steps<T>(call: impl FnOnce() -> T) -> T {
    let _step = Step::None.begin();
    call()
}

fn address(codec: &Arc<dyn Codec>) -> usize {
    Arc::as_ptr(codec).cast::<()>().addr()
}

impl Object for EncodedValue {
    fn encode_to_keep(&self, _: &dyn Codec) -> Result<Encoded> {
        Ok(match self.body()? {
            Body::Integer(bytes) | Body::Encoded(bytes) => Encoded::Codec(bytes.to_vec()),
            Body::Exact(bytes) => Encoded::Exact(bytes.to_vec()),
        })
    }

    fn digits(&self) -> Option<String> {
        match self.body() {
            Ok(Body::Integer(digits)) => std::str::from_utf8(digits).ok().map(str::to_owned),
            _ => None,
        }
    }

    fn is_none(&self) -> bool {
        false
    }

    fn type_name(&self) -> &'static str {
        "value of a snapshot"
    }

    fn value(&self) -> &(dyn Any + Send + Sync) {
        &self.bytes
    }
}
