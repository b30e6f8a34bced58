//! What went wrong, where, and what to do about it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result of an operation on a cache.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What any error of a library or codec can be boxed into.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Keys longer than this are cut in errors: a key may be a megabyte long.
const KEY_SHOWN: usize = 120;

/// A cache operation that failed.
///
/// [`kind`](Error::kind) is for programs, `Display` says what happened and, where one can act,
/// what to do; [`source`](StdError::source) says why.
///
/// ```
/// use cacheio::{Error, ErrorKind, Operation};
///
/// let error = Error::new(ErrorKind::Unsupported, "tags need a cache in memory")
///     .during(Operation::Set)
///     .with_key("user:42");
/// assert_eq!(error.kind(), ErrorKind::Unsupported);
/// assert_eq!(error.to_string(), "set `user:42`: tags need a cache in memory");
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
    /// An error of a kind, with a sentence that says what happened.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Details {
            kind,
            operation: None,
            key: None,
            message: message.into(),
            source: None,
        }))
    }

    /// The operation during which it happened; the first one said stays.
    #[must_use]
    pub fn during(mut self, operation: Operation) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// The key it is about; the first one said stays. Long keys are cut.
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

    /// Why it happened.
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
        self.0.source = Some(source.into());
        self
    }

    /// The same error once more; one of ours has no source.
    pub(crate) fn same(&self) -> Self {
        Self(Box::new(Details {
            kind: self.0.kind,
            operation: self.0.operation,
            key: self.0.key.clone(),
            message: self.0.message.clone(),
            source: None,
        }))
    }

    /// What kind of failure it is.
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

    /// The operation during which it happened, if it was one on a cache.
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

    /// The key it is about, if it is about one. Keys of more than 120 characters are cut.
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

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server cannot be reached, or the connection broke.
    Unavailable,
    /// The operation took longer than its timeout.
    Timeout,
    /// What is stored cannot be read as the type asked for.
    Decode,
    /// The value cannot be turned into bytes.
    Encode,
    /// A counter operation on something that is no integer of 64 bits.
    WrongType,
    /// A counter would leave the range of `i64`.
    Overflow,
    /// The value is larger (or weighs more) than the store can hold.
    TooLarge,
    /// A setting, a URL or an option makes no sense.
    Config,
    /// This store cannot do that.
    Unsupported,
    /// A loader asked for the key that it is loading.
    Reentrant,
    /// The server refused, for a reason that is none of the above.
    Server,
}

/// An operation on a cache, as [`Error`] and `tracing` events name it.
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
    /// `clear`.
    Clear,
    /// `invalidate_tags`.
    InvalidateTags,
    /// `get_or_set` and its kin.
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
            Self::Clear => "clear",
            Self::InvalidateTags => "invalidate_tags",
            Self::Load => "load",
            Self::Ping => "ping",
        })
    }
}

/// Why `get_or_try_set` has no value: the loader failed, or it could not run.
///
/// The loader's error `E` is shared by all callers that waited for the one load. It prints as `E`
/// does with `{:#}` (an `anyhow::Error` with its causes), and is a [`std::error::Error`] whenever `E`
/// is `Debug + Display`, as `anyhow::Error` is. The causes of `E` are those of
/// [`load_error`](Self::load_error): an error over any such `E` has no `source` itself.
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
    /// The loader's own error.
    Load(Arc<E>),
    /// The loader waits for the key that it is loading, directly or through the loader of another
    /// key: waiting would never end. The error names the key.
    Reentrant(Error),
    /// The load took longer than `hard_timeout` or `max_load`, and there was nothing older to
    /// serve. The error names the key.
    Timeout(Error),
}

impl<E> LoadError<E> {
    /// The loader's error, if that is what it is.
    pub fn load_error(&self) -> Option<&E> {
        match self {
            Self::Load(error) => Some(error),
            Self::Reentrant(_) | Self::Timeout(_) => None,
        }
    }

    /// The loader's error by value.
    ///
    /// # Errors
    ///
    /// Gives `self` back where another caller shares the error, or where it is none of the
    /// loader's.
    pub fn into_load_error(self) -> Result<E, Self> {
        match self {
            Self::Load(error) => Arc::try_unwrap(error).map_err(Self::Load),
            other @ (Self::Reentrant(_) | Self::Timeout(_)) => Err(other),
        }
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(Arc::clone(error)),
            Self::Reentrant(error) => Self::Reentrant(error.same()),
            Self::Timeout(error) => Self::Timeout(error.same()),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => f.debug_tuple("Load").field(error).finish(),
            Self::Reentrant(error) => f.debug_tuple("Reentrant").field(error).finish(),
            Self::Timeout(error) => f.debug_tuple("Timeout").field(error).finish(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // There is no `source` over every `E`: `{:#}` is how `anyhow` shows its causes.
            Self::Load(error) => write!(f, "{error:#}"),
            Self::Reentrant(error) | Self::Timeout(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> StdError for LoadError<E> {}

/// The one wording of "this would wait for itself".
pub(crate) fn reentrant(key: &str) -> Error {
    Error::new(
        ErrorKind::Reentrant,
        "the loader of this key waits for the key itself (directly, or through the loader of \
         another key) and would wait for ever; let the loader compute the value without asking \
         the cache for it",
    )
    .during(Operation::Load)
    .with_key(key)
}

/// The one wording of "this takes too long".
pub(crate) fn timed_out(key: &str, limit: Limit) -> Error {
    let message = match limit {
        Limit::Caller => {
            "the load took longer than hard_timeout, and there is nothing older to serve; \
             stale_for keeps something, a longer hard_timeout waits for it"
        }
        Limit::Load => {
            "the load took longer than max_load and was given up, and there is nothing older to \
             serve; the next caller loads anew"
        }
        Limit::Runtime => "the load was dropped with the runtime that ran it",
    };
    Error::new(ErrorKind::Timeout, message)
        .during(Operation::Load)
        .with_key(key)
}

/// What ended the waiting for a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Caller,
    Load,
    Runtime,
}

/// The one wording of "this counter is full".
pub fn overflow() -> Error {
    Error::new(
        ErrorKind::Overflow,
        "the counter would leave the range of i64; it is left as it was",
    )
}
