//! The errors of caches and loads.

mod shortened;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use self::shortened::cut;
pub use self::shortened::shortened;

/// The result of an operation on a cache.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed error of a codec or another library.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The number of characters to which errors cut a key, because a key may be a megabyte long.
const KEY_SHOWN: usize = 120;

/// The number of bytes to which errors and log events cut a message.
pub(crate) const TEXT_SHOWN: usize = 1000;

/// A cache operation that failed.
///
/// Programs match on [`kind`](Error::kind). `Display` shows what is wrong and, if possible, what to
/// do. [`source`](StdError::source) is the cause.
///
/// ```
/// use cacheio::{Error, ErrorKind, Operation};
///
/// let error = Error::new(ErrorKind::Unsupported, "counters cannot have tags")
///     .during(Operation::Increment)
///     .with_key("user:42");
/// assert_eq!(error.kind(), ErrorKind::Unsupported);
/// assert_eq!(error.to_string(), "increment `user:42`: counters cannot have tags");
/// ```
pub struct Error(Box<Details>);

struct Details {
    kind: ErrorKind,
    operation: Option<Operation>,
    key: Option<Box<str>>,
    message: Cow<'static, str>,
    source: Option<BoxError>,
}

impl Error {
    /// Creates an error with a message: what is wrong; what to do. A message of more than 1,000 bytes
    /// is cut.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self(Box::new(Details {
            kind,
            operation: None,
            key: None,
            message: match message.len() > TEXT_SHOWN {
                true => shortened(message, TEXT_SHOWN).into(),
                false => message,
            },
            source: None,
        }))
    }

    /// Sets the operation that failed, unless it is set already.
    #[must_use]
    pub fn during(mut self, operation: Operation) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Sets the key, unless it is set already. Keys of more than 120 characters are cut.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.0
            .key
            .get_or_insert_with(|| match key.char_indices().nth(KEY_SHOWN) {
                Some((end, _)) => format!("{}… ({} bytes)", &key[..end], key.len()).into(),
                None => key.into(),
            });
        self
    }

    /// Sets the cause. A cause whose message, or that of its own cause, has more than 1,000 bytes is
    /// replaced by the beginning of its message.
    ///
    /// ```
    /// use cacheio::{Error, ErrorKind};
    /// use std::error::Error as _;
    ///
    /// let error = Error::new(ErrorKind::Unavailable, "cannot open the file")
    ///     .with_source(std::io::Error::other("no such file"));
    /// assert_eq!(error.source().unwrap().to_string(), "no such file");
    /// ```
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        self.0.source = Some(match is_short(&*source) {
            true => source,
            false => shortened(source, TEXT_SHOWN).into(),
        });
        self
    }

    /// Returns what is wrong, without the operation and the key.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns a copy, for an error without a source.
    pub(crate) fn same(&self) -> Self {
        Self(Box::new(Details {
            kind: self.0.kind,
            operation: self.0.operation,
            key: self.0.key.clone(),
            message: self.0.message.clone(),
            source: None,
        }))
    }

    /// Returns the kind of the failure.
    ///
    /// ```
    /// use cacheio::{CacheFactory, ErrorKind};
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set("name", "Ada")?;
    /// let error = cache.increment("name", 1).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WrongType);
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation that failed, if it is known.
    ///
    /// ```
    /// use cacheio::{CacheFactory, Operation};
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set("name", "Ada")?;
    /// let error = cache.increment("name", 1).unwrap_err();
    /// assert_eq!(error.operation(), Some(Operation::Increment));
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    /// Returns the key of the operation, if it has one. Keys of more than 120 characters are cut.
    ///
    /// ```
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set("name", "Ada")?;
    /// let error = cache.increment("name", 1).unwrap_err();
    /// assert_eq!(error.key(), Some("name"));
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.operation, &self.0.key) {
            (Some(operation), Some(key)) => write!(f, "{operation} `{key}`: ")?,
            (Some(operation), None) => write!(f, "{operation}: ")?,
            (None, Some(key)) => write!(f, "`{key}`: ")?,
            (None, None) => {}
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("key", &self.0.key)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Returns whether an error and its causes have short messages.
fn is_short(error: &(dyn StdError + 'static)) -> bool {
    let shown = [
        cut(error, TEXT_SHOWN),
        cut(format_args!("{error:?}"), TEXT_SHOWN),
    ];
    shown.iter().all(Result::is_ok) && error.source().is_none_or(is_short)
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server cannot be reached, or the connection was lost.
    Unavailable,
    /// The operation took longer than its timeout.
    Timeout,
    /// The stored value cannot be read as the requested type.
    Decode,
    /// The value cannot be encoded as bytes.
    Encode,
    /// A counter operation found a value that is not a 64-bit integer; or a key of Redis holds no string, but for example a
    /// list. Reads that are sent together with others see no entry there.
    WrongType,
    /// The counter would overflow an `i64`.
    Overflow,
    /// The value is larger, or has a higher weight, than the store can hold.
    TooLarge,
    /// A setting, a URL or an option is invalid.
    Config,
    /// The store does not support the operation.
    Unsupported,
    /// A loader waits for the key that it loads.
    Reentrant,
    /// The server returned an error of another kind.
    Server,
}

/// An operation of a cache, in an [`Error`] or a `tracing` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Building a cache.
    Build,
    /// `has`.
    Has,
    /// `get` and `get_arc`.
    Get,
    /// `get_many`.
    GetMany,
    /// `set`.
    Set,
    /// `set_many`.
    SetMany,
    /// `add`.
    Add,
    /// `delete`.
    Delete,
    /// `delete_many`.
    DeleteMany,
    /// `increment` and `decrement`.
    Increment,
    /// `touch`.
    Touch,
    /// `ttl`.
    Ttl,
    /// `update`.
    Update,
    /// `take`.
    Take,
    /// `keys`.
    Keys,
    /// `entries`.
    Entries,
    /// `len`.
    Len,
    /// `weight`.
    Weight,
    /// `retain`.
    Retain,
    /// `save_snapshot`.
    SaveSnapshot,
    /// `clear`.
    Clear,
    /// `invalidate_tags`.
    InvalidateTags,
    /// `get_or_set`, `get_or_try_set`, `fetch` and their variants.
    Load,
    /// `ping`.
    Ping,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Has => "has",
            Self::Get => "get",
            Self::GetMany => "get_many",
            Self::Set => "set",
            Self::SetMany => "set_many",
            Self::Add => "add",
            Self::Delete => "delete",
            Self::DeleteMany => "delete_many",
            Self::Increment => "increment",
            Self::Touch => "touch",
            Self::Ttl => "ttl",
            Self::Update => "update",
            Self::Take => "take",
            Self::Keys => "keys",
            Self::Entries => "entries",
            Self::Len => "len",
            Self::Weight => "weight",
            Self::Retain => "retain",
            Self::SaveSnapshot => "save_snapshot",
            Self::Clear => "clear",
            Self::InvalidateTags => "invalidate_tags",
            Self::Load => "load",
            Self::Ping => "ping",
        })
    }
}

/// The error of `get_or_try_set` and `fetch`: the loader failed, or its result did not arrive.
///
/// All callers that waited for the load share the loader's error `E`. `Display` shows `E` as `{:#}`
/// does: an `anyhow::Error` with its causes. This type implements [`std::error::Error`] if `E` is
/// `Debug + Display`. It has no `source` of its own: get the causes of `E` from
/// [`load_error`](Self::load_error). To return it from a function with the error `E`, see
/// [`into_error`](Self::into_error).
///
/// ```
/// use cacheio::LoadError;
/// use std::sync::Arc;
///
/// let error = LoadError::Load(Arc::new("no such user"));
/// assert_eq!(error.to_string(), "no such user");
/// assert_eq!(error.load_error(), Some(&"no such user"));
/// assert_eq!(error.into_load_error().unwrap(), "no such user");
/// ```
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader returned an error.
    Load(Arc<E>),
    /// The loader would wait for its own key forever, directly or through the loader of another key.
    /// The error names the key.
    Reentrant(Error),
    /// The load took longer than `hard_timeout` or `max_load`, and there was no stale value. The
    /// error names the key.
    Timeout(Error),
    /// An option of the call is invalid: no load was started.
    Config(Error),
}

impl<E> LoadError<E> {
    /// Returns the loader's error, if the loader returned one.
    pub fn load_error(&self) -> Option<&E> {
        match self {
            Self::Load(error) => Some(error),
            Self::Reentrant(_) | Self::Timeout(_) | Self::Config(_) => None,
        }
    }

    /// Returns the loader's error by value.
    ///
    /// # Errors
    ///
    /// Returns `self` if another caller shares the error, or if the loader did not return one.
    pub fn into_load_error(self) -> Result<E, Self> {
        match self {
            Self::Load(error) => Arc::try_unwrap(error).map_err(Self::Load),
            other @ (Self::Reentrant(_) | Self::Timeout(_) | Self::Config(_)) => Err(other),
        }
    }
}

impl<E: Clone + From<Error>> LoadError<E> {
    /// Returns an error of the loader's type: that of the loader, cloned if callers share it, or one made
    /// of the cache's error. With it, a function returns its own error by `?`.
    ///
    /// For a loader's error that is not `Clone`, let the function's error implement
    /// `From<LoadError<E>>`, such as by `#[from]` of thiserror, or return an `anyhow::Error`. For both,
    /// `?` is enough.
    ///
    /// ```
    /// use cacheio::{Cache, CacheFactory, LoadError};
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct DbError(String);
    ///
    /// impl From<cacheio::Error> for DbError {
    ///     fn from(error: cacheio::Error) -> Self {
    ///         Self(error.to_string())
    ///     }
    /// }
    ///
    /// fn load() -> Result<u32, DbError> {
    ///     Err(DbError("no such page".into()))
    /// }
    ///
    /// fn page(cache: &Cache) -> Result<u32, DbError> {
    ///     cache.get_or_try_set("page", load).map_err(LoadError::into_error)
    /// }
    ///
    /// assert_eq!(page(&CacheFactory::memory_cache()), Err(DbError("no such page".into())));
    /// ```
    pub fn into_error(self) -> E {
        match self {
            Self::Load(error) => Arc::unwrap_or_clone(error),
            Self::Reentrant(error) | Self::Timeout(error) | Self::Config(error) => error.into(),
        }
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(Arc::clone(error)),
            Self::Reentrant(error) => Self::Reentrant(error.same()),
            Self::Timeout(error) => Self::Timeout(error.same()),
            Self::Config(error) => Self::Config(error.same()),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => f.debug_tuple("Load").field(error).finish(),
            Self::Reentrant(error) => f.debug_tuple("Reentrant").field(error).finish(),
            Self::Timeout(error) => f.debug_tuple("Timeout").field(error).finish(),
            Self::Config(error) => f.debug_tuple("Config").field(error).finish(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // `{:#}` shows the causes of an `anyhow::Error`, which cannot be the `source`.
            Self::Load(error) => write!(f, "{error:#}"),
            Self::Reentrant(error) | Self::Timeout(error) | Self::Config(error) => {
                fmt::Display::fmt(error, f)
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> StdError for LoadError<E> {}

/// Returns the error for a loader that would wait for its own key.
pub(crate) fn reentrant(key: &str) -> Error {
    Error::new(
        ErrorKind::Reentrant,
        "the loader of this key would wait for the key itself forever, directly or through the \
         loader of another key; do not read the key from the cache in its own loader",
    )
    .during(Operation::Load)
    .with_key(key)
}

/// Returns the error for a load that exceeded `limit`.
pub(crate) fn timed_out(key: &str, limit: Limit) -> Error {
    let message = match limit {
        Limit::Caller => {
            "the load took longer than `hard_timeout`, and there is no stale value; set `stale_for`, \
             or a longer `hard_timeout`"
        }
        Limit::Load => {
            "the load took longer than `max_load`, and there is no stale value; the next call starts \
             a new load"
        }
        Limit::Runtime => "the load was dropped, because its runtime shut down",
    };
    Error::new(ErrorKind::Timeout, message)
        .during(Operation::Load)
        .with_key(key)
}

/// The limit that ended the wait for a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Caller,
    Load,
    Runtime,
}

/// Returns the error for a counter that would overflow.
pub fn overflow() -> Error {
    Error::new(
        ErrorKind::Overflow,
        "the counter would overflow an `i64`; its value has not changed",
    )
}
