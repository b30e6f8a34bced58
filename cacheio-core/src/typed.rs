//! What typed handles of both worlds share: how their keys and values are passed, and their settings.

use std::convert::Infallible;

use crate::config::options::DEFAULT_OPTIONS;
use crate::key::{HandleKey, handle_prefix};
use crate::value::{ByReference, ByValue};
use crate::{CacheKey, Options, Ttl};

/// A key of a typed handle whose keys are of type `K`: a `K`, or a reference to one or to its borrowed form,
/// such as a `&str` for a `String`.
///
/// The borrowed forms are all `&Q` with `Q: ToOwned<Owned = K>`: `&str` for `String`, `&Path` for `PathBuf`, `&[T]` for
/// `Vec<T>`. A tuple with borrowed parts is none: a handle for `(String, u64)` takes no `(&str, u64)`, but a
/// `&(String, u64)`.
///
/// A call that finds the value copies no key. `By` tells how a key is passed, and is never written.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key of this handle",
    label = "not a `{K}`, and not a reference to one",
    note = "the key is a `{K}`, or a reference to one or to its borrowed form, such as a `&str` for a `String`"
)]
pub trait KeyOf<K, By = ByValue> {
    /// The form in which the key is looked up.
    #[doc(hidden)]
    type Borrowed: CacheKey + ?Sized;

    #[doc(hidden)]
    fn borrowed(&self) -> &Self::Borrowed;

    #[doc(hidden)]
    fn into_key(self) -> K;
}

impl<K: CacheKey> KeyOf<K> for K {
    type Borrowed = K;

    #[inline]
    fn borrowed(&self) -> &K {
        self
    }

    fn into_key(self) -> K {
        self
    }
}

impl<K, Q> KeyOf<K, ByReference> for &Q
where
    Q: CacheKey + ToOwned<Owned = K> + ?Sized,
{
    type Borrowed = Q;

    #[inline]
    fn borrowed(&self) -> &Q {
        self
    }

    fn into_key(self) -> K {
        self.to_owned()
    }
}

/// A value of a typed handle whose values are of type `V`: a `V`, or a reference to one or to its borrowed form,
/// such as a `&str` for a `String`.
///
/// A value that is passed by reference is cloned. `By` tells how a value is passed, and is never written.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a value of this handle",
    label = "not a `{V}`, and not a reference to one",
    note = "the value is a `{V}`, or a reference to one or to its borrowed form, such as a `&str` for a `String`"
)]
pub trait ValueOf<V, By = ByValue> {
    #[doc(hidden)]
    fn into_value(self) -> V;
}

impl<V> ValueOf<V> for V {
    fn into_value(self) -> V {
        self
    }
}

impl<V, Q: ToOwned<Owned = V> + ?Sized> ValueOf<V, ByReference> for &Q {
    fn into_value(self) -> V {
        self.to_owned()
    }
}

/// What a loader of `V` returns: a `V`, or a `Result` of one.
#[diagnostic::on_unimplemented(
    message = "a loader of this handle does not return `{Self}`",
    label = "neither a `{V}` nor a `Result<{V}, _>`",
    note = "the loader returns (a future of) a `{V}`, or a `Result<{V}, E>` with an error of your own"
)]
pub trait Loads<V, E> {
    #[doc(hidden)]
    fn into_result(self) -> Result<V, E>;
}

impl<V, E> Loads<V, E> for Result<V, E> {
    fn into_result(self) -> Self {
        self
    }
}

impl<V> Loads<V, Infallible> for V {
    fn into_result(self) -> Result<V, Infallible> {
        Ok(self)
    }
}

/// Marks what a loader returns as a `Result`.
#[doc(hidden)]
#[derive(Debug)]
pub struct ByResult(());

/// What a loader of many keys returns: pairs of a key and its value, or a `Result` of them.
///
/// `By` tells which of the two, and is never written.
#[diagnostic::on_unimplemented(
    message = "a batch loader of this handle does not return `{Self}`",
    label = "neither pairs `({K}, {V})` nor a `Result` of them",
    note = "the loader returns (a future of) pairs such as a `Vec<({K}, {V})>`, or a `Result` of them with the error \
            of the loader"
)]
pub trait LoadsMany<K, V, E, By> {
    #[doc(hidden)]
    fn into_result(self) -> Result<Vec<(K, V)>, E>;
}

impl<K, V, E, L> LoadsMany<K, V, E, ByResult> for Result<L, E>
where
    L: IntoIterator<Item = (K, V)>,
{
    fn into_result(self) -> Result<Vec<(K, V)>, E> {
        self.map(|loaded| loaded.into_iter().collect())
    }
}

impl<K, V, L> LoadsMany<K, V, Infallible, ByValue> for L
where
    L: IntoIterator<Item = (K, V)>,
{
    fn into_result(self) -> Result<Vec<(K, V)>, Infallible> {
        Ok(self.into_iter().collect())
    }
}

/// The name and the options of a typed handle.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct TypedSettings {
    prefix: String,
    options: Options,
}

impl TypedSettings {
    /// Returns the settings of a handle without options.
    pub fn new(name: &str) -> Self {
        Self {
            prefix: handle_prefix(name),
            options: DEFAULT_OPTIONS.clone(),
        }
    }

    /// Sets the options of all calls.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Returns a key of the handle, as the cache gets it.
    #[inline]
    pub fn key<K: CacheKey>(&self, key: K) -> HandleKey<'_, K> {
        HandleKey::new(&self.prefix, key)
    }

    /// Returns the options of a call that passes none.
    #[inline]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns whether reads skip L1.
    #[inline]
    pub fn skips_l1(&self) -> bool {
        self.options.skip_l1
    }

    /// Returns the options of a call that passes some.
    pub fn options_with(&self, options: impl Into<Options>) -> Options {
        options.into().__or(&self.options)
    }

    /// Returns a TTL of a call, or that of the handle instead of the default.
    pub fn ttl(&self, ttl: impl Into<Ttl>) -> Ttl {
        match ttl.into() {
            Ttl::Default => self.options.ttl,
            ttl => ttl,
        }
    }
}
