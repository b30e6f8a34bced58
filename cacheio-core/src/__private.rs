//! What the crates on top and the macros' code stand on; no part of the public interface.

#![allow(missing_docs, missing_debug_implementations)]

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::{Local, Value};

pub use crate::backend::{Backend, Runner};
pub use crate::circuit::{Attempt, Backoff, Circuit, Opens};
pub use crate::engine::{Coordination, Engine, Failure, Loaded, Manner, Missed, Sharing, now};
pub use crate::error::overflow;
pub use crate::own::{InMemory, Own};
pub use crate::policies::Policies;
pub use crate::settings::Settings;
pub use crate::ttl::parse_duration;
pub use crate::url::{CacheUrl, percent_decode};
pub use crate::{AsyncCacheable, CacheKey, Cacheable, KeyWriter, Options, Result, Ttl, key_text};
pub use std::any::type_name_of_val;
pub use std::time::Duration;

// What a function returns, taken apart by its type, not by its tokens: `Returns::<R>` picks, by
// autoref, `FallibleShape` where `R` is a `Result` under any alias, and `PlainShape` elsewhere.
// To be called as `(&Returns::<R>::new()).shape()`, with both traits in scope.

pub struct Returns<R>(PhantomData<fn() -> R>);

impl<R> Returns<R> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// What a return type holds.
pub trait Shape {
    type Output;
    type Value;
    type Error: Send + Sync + 'static;

    fn split(output: Self::Output) -> Result<Self::Value, Self::Error>;
    fn value(value: Self::Value) -> Self::Output;
    fn error(error: Self::Error) -> Self::Output;
}

pub struct Plain<R>(PhantomData<fn() -> R>);

impl<R> Shape for Plain<R> {
    type Output = R;
    type Value = R;
    type Error = Infallible;

    fn split(output: R) -> Result<R, Infallible> {
        Ok(output)
    }

    #[inline]
    fn value(value: R) -> R {
        value
    }

    fn error(error: Infallible) -> R {
        match error {}
    }
}

pub struct Fallible<V, E>(PhantomData<fn() -> (V, E)>);

impl<V, E: Send + Sync + 'static> Shape for Fallible<V, E> {
    type Output = Result<V, E>;
    type Value = V;
    type Error = E;

    fn split(output: Result<V, E>) -> Result<V, E> {
        output
    }

    #[inline]
    fn value(value: V) -> Result<V, E> {
        Ok(value)
    }

    fn error(error: E) -> Result<V, E> {
        Err(error)
    }
}

pub trait FallibleShape<V, E> {
    fn shape(&self) -> Fallible<V, E>;
}

impl<V, E> FallibleShape<V, E> for Returns<Result<V, E>> {
    fn shape(&self) -> Fallible<V, E> {
        Fallible(PhantomData)
    }
}

pub trait PlainShape<R> {
    fn shape(&self) -> Plain<R>;
}

impl<R> PlainShape<R> for &Returns<R> {
    fn shape(&self) -> Plain<R> {
        Plain(PhantomData)
    }
}

/// How the error of one load becomes that of all who waited: by cloning, where it can be.
/// To be called as `(&shape).share()`, with `ShareCloned` and `ShareNothing` in scope.
pub struct Share<E>(Option<fn(&E) -> E>);

pub trait ShareCloned<E> {
    fn share(&self) -> Share<E>;
}

impl<V, E: Clone> ShareCloned<E> for Fallible<V, E> {
    fn share(&self) -> Share<E> {
        Share(Some(E::clone))
    }
}

pub trait ShareNothing<E> {
    fn share(&self) -> Share<E>;
}

impl<S: Shape> ShareNothing<S::Error> for &S {
    fn share(&self) -> Share<S::Error> {
        Share(None)
    }
}

/// How a function's values are kept.
pub trait Keeping<V> {
    type Kept: Value;

    fn keep(value: V) -> Self::Kept;
    fn give(kept: Self::Kept) -> V;
    fn give_stored(stored: Arc<<Self::Kept as Value>::Stored>) -> V {
        Self::give(Self::Kept::from_stored(stored))
    }
}

/// In a cache that may stand on a server.
pub struct AsValue;

impl<V: Value> Keeping<V> for AsValue {
    type Kept = V;

    fn keep(value: V) -> V {
        value
    }

    #[inline]
    fn give(kept: V) -> V {
        kept
    }
}

/// In the function's own memory: needs no serde.
pub struct InProcess;

impl<V: Clone + Send + Sync + 'static> Keeping<V> for InProcess {
    type Kept = Local<V>;

    fn keep(value: V) -> Local<V> {
        Local::new(value)
    }

    #[inline]
    fn give(kept: Local<V>) -> V {
        kept.into_inner()
    }
}

/// A key that a closure writes.
pub struct KeyFn<F>(pub F);

impl<F: Fn(&mut KeyWriter<'_>)> CacheKey for KeyFn<F> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        (self.0)(key);
    }
}

/// The key of a function of one string: not copied, where nothing stands before it.
pub struct TextKey<'a> {
    pub prefix: &'a str,
    pub text: &'a str,
}

impl CacheKey for TextKey<'_> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        if self.prefix.is_empty() {
            key.text(self.text);
        } else {
            key.tuple(|parts| {
                parts.part(&FunctionName(self.prefix)).part(self.text);
            });
        }
    }

    #[inline]
    fn as_key_text(&self) -> Option<&str> {
        self.prefix.is_empty().then_some(self.text)
    }
}

/// The name of a function as part of a key: `.` stands for `::`, which would have to be escaped.
pub struct FunctionName<'a>(pub &'a str);

impl CacheKey for FunctionName<'_> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        for (at, segment) in self.0.split("::").enumerate() {
            if at > 0 {
                key.literal(".");
            }
            // As good as always: only type arguments have what must be escaped.
            if segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                key.literal(segment);
            } else {
                key.text(segment);
            }
        }
    }
}

// A placeholder in a template is a `CacheKey`, or else what `Display` makes of it. To be called as
// `(&Placeholder(&value)).write(&mut key.placeholder(…))`, with the three traits in scope.

pub struct Placeholder<'a, T: ?Sized>(pub &'a T);

pub trait WriteKey {
    fn write(&self, key: &mut KeyWriter<'_>);
}

impl<T: CacheKey + ?Sized> WriteKey for Placeholder<'_, T> {
    fn write(&self, key: &mut KeyWriter<'_>) {
        self.0.write_key(key);
    }
}

pub trait WriteDisplay {
    fn write(&self, key: &mut KeyWriter<'_>);
}

impl<T: std::fmt::Display + ?Sized> WriteDisplay for &Placeholder<'_, T> {
    fn write(&self, key: &mut KeyWriter<'_>) {
        key.display(self.0);
    }
}

/// What is neither: for the message of [`CacheKey`], since a method that is not found has none.
pub trait WriteNeither<T: ?Sized> {
    fn write(self, key: &mut KeyWriter<'_>)
    where
        T: CacheKey;
}

impl<T: ?Sized> WriteNeither<T> for Placeholder<'_, T> {
    fn write(self, key: &mut KeyWriter<'_>)
    where
        T: CacheKey,
    {
        self.0.write_key(key);
    }
}

/// The name of a function, of the closure that stands in it: with its module, its type and all
/// type arguments around it.
pub fn function_name<F>(probe: &F) -> &'static str {
    let mut name = type_name_of_val(probe);
    // Only at the end: a function may itself stand in a closure. An `async` one has two levels.
    while let Some(outer) = name.strip_suffix("::{{closure}}") {
        name = outer;
    }
    name
}

/// What stands before the arguments in a key of a function's own cache: nothing for a function
/// that exists once (`plain` is the probe's name there), its name where generics make several.
/// All of it is known when the program is compiled.
#[inline]
pub fn own_prefix<F>(probe: &F, plain: &str) -> &'static str {
    // By the text, not by its length: `<u8 as Trait>` may be as long as the module's path.
    if type_name_of_val(probe) == plain {
        ""
    } else {
        function_name(probe)
    }
}

/// The prefix of `function`, as its `companion` (`function_key`, …) finds its own.
pub fn companion_prefix(
    prefix: &'static str,
    companion: &str,
    function: &str,
) -> Cow<'static, str> {
    let ends = |at: &usize| {
        matches!(
            prefix.as_bytes().get(at + companion.len()),
            None | Some(b'<')
        )
    };
    // Type arguments of the function stand behind its name; those of its type before.
    let at = prefix
        .match_indices(companion)
        .map(|(at, _)| at)
        .filter(ends);
    match at.filter(|at| prefix[..*at].ends_with("::")).last() {
        Some(at) => format!(
            "{}{function}{}",
            &prefix[..at],
            &prefix[at + companion.len()..]
        )
        .into(),
        None => prefix.into(),
    }
}

/// A function's value, if it is there at once.
///
/// # Errors
///
/// Not an error, but the miss.
#[inline]
pub fn lookup<S: Shape, K: Keeping<S::Value>>(
    engine: &Engine,
    _: &S,
    _: &K,
    key: &impl CacheKey,
) -> Result<S::Output, Missed> {
    match engine.get_plain::<K::Kept>(key) {
        Some(stored) => Ok(S::value(K::give_stored(stored))),
        None => Err(engine.missed(key)),
    }
}

/// A function's value, by its body.
pub async fn load<S: Shape, K: Keeping<S::Value>, F: Future<Output = S::Output>>(
    engine: &Engine,
    _: &S,
    _: &K,
    missed: Missed,
    call: Call<S::Error, impl FnOnce(&S::Value) -> bool>,
    body: impl FnOnce() -> F,
) -> S::Output {
    let manner = call.share.manner();
    let loader = || loader::<S, K, F>(call.keep, body);
    let loaded = engine.load(missed, &call.options, manner, loader).await;
    output::<S, K>(loaded, &call.share)
}

/// A function's value, by its body, whatever the cache has.
pub async fn refresh<S: Shape, K: Keeping<S::Value>, F: Future<Output = S::Output>>(
    engine: &Engine,
    _: &S,
    _: &K,
    key: impl CacheKey,
    call: Call<S::Error, impl FnOnce(&S::Value) -> bool>,
    body: impl FnOnce() -> F,
) -> S::Output {
    let manner = call.share.manner();
    let loader = || loader::<S, K, F>(call.keep, body);
    let loaded = engine.refresh(key, &call.options, manner, loader).await;
    output::<S, K>(loaded, &call.share)
}

/// What a miss needs, beyond the body.
pub struct Call<E, P> {
    pub options: Options,
    pub share: Share<E>,
    /// Whether to store a value.
    pub keep: P,
}

// Which values to store.

pub fn keep_all<S: Shape>(_: &S) -> impl FnOnce(&S::Value) -> bool + use<S> {
    |_| true
}

pub fn keep_some<S: Shape<Value: Optional>>(_: &S) -> impl FnOnce(&S::Value) -> bool + use<S> {
    |value| value.is_some()
}

pub fn keep_if<S: Shape, P: FnOnce(&S::Value) -> bool>(_: &S, keep: P) -> P {
    keep
}

pub fn keep_some_if<S: Shape<Value: Optional>, P: FnOnce(&S::Value) -> bool>(
    _: &S,
    keep: P,
) -> impl FnOnce(&S::Value) -> bool + use<S, P> {
    |value| value.is_some() && keep(value)
}

/// A value that may be none.
#[diagnostic::on_unimplemented(
    message = "`cache_none` is for functions that return an `Option<T>` or a `Result<Option<T>, E>`",
    label = "this is no `Option`",
    note = "to leave out other values, write `cache_if = |value| …`"
)]
pub trait Optional {
    fn is_some(&self) -> bool;
}

impl<T> Optional for Option<T> {
    fn is_some(&self) -> bool {
        self.is_some()
    }
}

/// A function's body as the future that [`load`] takes.
pub fn at_once<R>(body: impl FnOnce() -> R) -> impl FnOnce() -> Ready<R> {
    || ready(body())
}

async fn loader<S: Shape, K: Keeping<S::Value>, F: Future<Output = S::Output>>(
    keep: impl FnOnce(&S::Value) -> bool,
    body: impl FnOnce() -> F,
) -> Result<Loaded<K::Kept>, S::Error> {
    let value = S::split(body().await)?;
    let ttl = (!keep(&value)).then_some(Ttl::After(Duration::ZERO));
    Ok(Loaded {
        value: K::keep(value),
        ttl,
    })
}

fn output<S: Shape, K: Keeping<S::Value>>(
    loaded: Result<K::Kept, Failure<S::Error>>,
    share: &Share<S::Error>,
) -> S::Output {
    match loaded {
        Ok(kept) => S::value(K::give(kept)),
        Err(Failure::Own(error)) => S::error(error),
        Err(Failure::Load(error)) => S::error(match (Arc::try_unwrap(error), share.0) {
            (Ok(error), _) => error,
            (Err(error), Some(clone)) => clone(&error),
            (Err(_), None) => unreachable!("errors are shared only where they can be cloned"),
        }),
        Err(Failure::Reentrant(error) | Failure::TimedOut(error)) => panic!("cacheio: {error}"),
    }
}

impl<E> Share<E> {
    fn manner(&self) -> Manner {
        Manner {
            sharing: match self.0 {
                Some(_) => Sharing::Shared,
                None => Sharing::Alone,
            },
            // The error of a function cannot say so.
            times_out: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_companion_has_the_prefix_of_its_function() {
        let prefix = |name| companion_prefix(name, "find_key", "find");
        assert_eq!(prefix("app::find_key"), "app::find");
        assert_eq!(prefix("app::find_key<u8>"), "app::find<u8>");
        assert_eq!(
            prefix("app::find_key::Users<app::find_keys>::find_key"),
            "app::find_key::Users<app::find_keys>::find"
        );
        assert_eq!(prefix(""), "");
    }

    #[test]
    fn a_function_in_a_closure_has_its_own_name() {
        fn probe() -> &'static str {
            let outer = || {
                fn inner() -> &'static str {
                    let probe = || ();
                    function_name(&probe)
                }
                inner()
            };
            outer()
        }
        assert!(
            probe().ends_with("probe::{{closure}}::inner"),
            "{}",
            probe()
        );
    }
}
