//! What the closure of `update` decides.

use crate::Ttl;

/// What becomes of an entry: the answer of the closure that `update` calls with its value.
///
/// ```
/// # fn main() -> cacheio::Result<()> {
/// use cacheio::{CacheFactory, Update};
///
/// // One more attempt for the code that was sent by mail, of at most three. The third one removes it.
/// fn failed(attempts: Option<u32>) -> Update<u32> {
///     match attempts {
///         None => Update::Keep,
///         Some(attempts @ 0..2) => Update::Set(attempts + 1),
///         Some(_) => Update::Remove,
///     }
/// }
///
/// let cache = CacheFactory::memory_cache();
/// cache.set(("attempts", "code"), 0)?;
/// assert_eq!(cache.update(("attempts", "code"), failed)?, Some(1));
/// assert_eq!(cache.update(("attempts", "code"), failed)?, Some(2));
/// assert_eq!(cache.update(("attempts", "code"), failed)?, None);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update<V> {
    /// Nothing changes. It counts as a read.
    Keep,
    /// This value is stored. An existing entry keeps its TTL, its tags and its policies, as with
    /// `increment`; a new one gets those of the call.
    Set(V),
    /// This value is stored with this TTL, counted from now. An existing entry keeps its tags and its policies, as
    /// with `touch`; a new one gets those of the call. [`Ttl::Default`] is the TTL of the call.
    SetFor(V, Ttl),
    /// There is no entry afterwards, and no load stores one that began before.
    Remove,
}
