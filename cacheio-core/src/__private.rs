//! What the crates on top and the macros' code stand on; no part of the public interface.

#![allow(missing_docs, missing_debug_implementations)]

use std::borrow::{Borrow, Cow};
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::{Error, LoadContext, Local, Value};

#[cfg(feature = "tokio")]
pub use crate::bridge::{Spawner, block_on};
pub use crate::config::policies::Policies;
pub use crate::config::settings::Settings;
pub use crate::config::ttl::parse_duration;
pub use crate::config::url::{CacheUrl, percent_decode};
pub use crate::engine::driver::{Driver, Executor};
pub use crate::engine::{
    Engine, Failure, Loaded, Manner, Missed, SharedState, Sharing, boxed, now,
};
pub use crate::error::overflow;
pub use crate::own::{InMemory, Own};
pub use crate::store::circuit_breaker::{Attempt, Backoff, Circuit, Opens};
pub use crate::{
    AsyncCacheable, CacheKey, Cacheable, KeyWriter, Options, RefreshAhead, Result, Ttl, key_text,
};
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
pub trait Shape: Copy {
    type Output;
    type Value;
    type Error: Send + Sync + 'static;

    fn split(output: Self::Output) -> Result<Self::Value, Self::Error>;
    fn value(value: Self::Value) -> Self::Output;
    fn error(error: Self::Error) -> Self::Output;
}

pub struct Plain<R>(PhantomData<fn() -> R>);

impl<R> Copy for Plain<R> {}

impl<R> Clone for Plain<R> {
    fn clone(&self) -> Self {
        *self
    }
}

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

impl<V, E> Copy for Fallible<V, E> {}

impl<V, E> Clone for Fallible<V, E> {
    fn clone(&self) -> Self {
        *self
    }
}

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

/// How an error of the cache becomes one of the function: where it can be.
/// To be called as `(&shape).convert()`, with `ConvertError` and `ConvertNothing` in scope.
pub struct Convert<E>(Option<fn(Error) -> E>);

pub trait ConvertError<E> {
    fn convert(&self) -> Convert<E>;
}

impl<V, E: From<Error>> ConvertError<E> for Fallible<V, E> {
    fn convert(&self) -> Convert<E> {
        Convert(Some(E::from))
    }
}

pub trait ConvertNothing<E> {
    fn convert(&self) -> Convert<E>;
}

impl<S: Shape> ConvertNothing<S::Error> for &S {
    fn convert(&self) -> Convert<S::Error> {
        Convert(None)
    }
}

/// What `hard_timeout` asks of a function.
#[diagnostic::on_unimplemented(
    message = "`hard_timeout` needs a function that returns a `Result`",
    label = "there is no error to return",
    note = "`soft_timeout` with `stale_for` returns something older instead of an error"
)]
pub trait TimesOut: Shape {}

impl<V, E: FromCache + Send + Sync + 'static> TimesOut for Fallible<V, E> {}

/// What it asks of the function's error.
#[diagnostic::on_unimplemented(
    message = "`hard_timeout` needs an error that can say so, and `{Self}` is not `From<cacheio::Error>`",
    label = "cannot be made of a `cacheio::Error`",
    note = "write `impl From<cacheio::Error> for {Self}`, or return an error that is made of any, such as `anyhow::Error`"
)]
pub trait FromCache {}

#[diagnostic::do_not_recommend]
impl<E: From<Error>> FromCache for E {}

pub fn hard_timeout<S: TimesOut>(_: S, timeout: Duration) -> Duration {
    timeout
}

/// How a function's values are kept.
pub trait Keeping<V>: Copy {
    type Kept: Value;

    fn keep(value: V) -> Self::Kept;
    fn give(kept: Self::Kept) -> V;
    fn give_stored(stored: Arc<<Self::Kept as Value>::Stored>) -> V {
        Self::give(Self::Kept::from_stored(stored))
    }
}

/// In a cache that may stand on a server.
#[derive(Clone, Copy)]
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
#[derive(Clone, Copy)]
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
    match engine.get_fast::<K::Kept>(key) {
        Some(stored) => Ok(S::value(K::give_stored(stored))),
        None => Err(engine.missed(key)),
    }
}

/// A function's value, by its body.
pub async fn load<S: Shape, K: Keeping<S::Value>, F: Load<S, K>>(
    engine: &Engine,
    _: &S,
    _: &K,
    missed: Missed,
    call: Call<S::Error>,
    loader: impl FnOnce() -> F,
) -> S::Output {
    // On the heap: a function that calls itself goes deep.
    let loaded = boxed(|| engine.load(missed, &call.options, call.manner(), loader));
    call.output::<S, K>(loaded.await)
}

/// A function's value, by its body, which may go on when its caller has left.
///
/// `prepare` copies what the caller lends.
pub async fn fetch<S: Shape, K: Keeping<S::Value>, F: Load<S, K> + Send + 'static, L>(
    engine: &Arc<Engine>,
    _: &S,
    _: &K,
    missed: Missed,
    call: Call<S::Error>,
    prepare: impl FnOnce() -> L,
) -> S::Output
where
    L: FnOnce() -> F + Send + 'static,
{
    let prepare = || {
        let loader = prepare();
        |context: LoadContext<K::Kept>| async move {
            let Loaded { value, ttl } = loader().await?;
            if let Some(ttl) = ttl {
                context.ttl(ttl);
            }
            Ok(value)
        }
    };
    let fetched = boxed(|| engine.fetch(missed, call.options.clone(), call.manner(), prepare));
    call.output::<S, K>(fetched.await.map(|fetched| fetched.value))
}

/// What a miss needs, beyond the body.
pub struct Call<E> {
    pub options: Options,
    pub share: Share<E>,
    pub convert: Convert<E>,
}

/// What a loader gives.
pub trait Load<S: Shape, K: Keeping<S::Value>>:
    Future<Output = Result<Loaded<K::Kept>, S::Error>>
{
}

impl<S: Shape, K: Keeping<S::Value>, F> Load<S, K> for F where
    F: Future<Output = Result<Loaded<K::Kept>, S::Error>>
{
}

/// A function's body as a loader; `keep` says for how long, if not for as long as the call says.
pub async fn loader<S: Shape, K: Keeping<S::Value>, F: Future<Output = S::Output>>(
    _: S,
    _: K,
    keep: impl FnOnce(&S::Value) -> Option<Ttl>,
    body: impl FnOnce() -> F,
) -> Result<Loaded<K::Kept>, S::Error> {
    let value = S::split(body().await)?;
    let ttl = keep(&value);
    Ok(Loaded {
        value: K::keep(value),
        ttl,
    })
}

/// A function's body as the future that [`loader`] takes.
pub fn at_once<R>(body: impl FnOnce() -> R) -> impl FnOnce() -> Ready<R> {
    || ready(body())
}

// For how long to keep which values.

/// Not at all.
const NOT: Ttl = Ttl::After(Duration::ZERO);

pub fn keep_all<S: Shape>(_: S) -> impl FnOnce(&S::Value) -> Option<Ttl> + use<S> {
    |_| None
}

pub fn keep_some<S: Shape<Value: Optional>>(
    _: S,
    none: impl Into<Ttl>,
) -> impl FnOnce(&S::Value) -> Option<Ttl> {
    let none = none.into();
    move |value| (!value.is_some()).then_some(none)
}

pub fn keep_if<S: Shape, P: FnOnce(&S::Value) -> bool>(
    _: S,
    keep: P,
) -> impl FnOnce(&S::Value) -> Option<Ttl> + use<S, P> {
    |value| (!keep(value)).then_some(NOT)
}

pub fn keep_some_if<S: Shape<Value: Optional>, P: FnOnce(&S::Value) -> bool>(
    _: S,
    none: impl Into<Ttl>,
    keep: P,
) -> impl FnOnce(&S::Value) -> Option<Ttl> {
    let none = none.into();
    move |value| match value.is_some() {
        // It need not know what to say of none, if none is kept.
        false if none == NOT => Some(NOT),
        _ if !keep(value) => Some(NOT),
        is_some => (!is_some).then_some(none),
    }
}

/// A value that may be none.
#[diagnostic::on_unimplemented(
    message = "`cache_none` and `ttl_none` are for functions that return an `Option<T>` or a `Result<Option<T>, E>`",
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

/// What a caller lends, copied for a body that may go on when it has left.
pub struct Copied<T: Outlive + ?Sized>(T::Copy);

impl<T: Outlive + ?Sized> Copied<T> {
    pub fn of(lent: &T) -> Self {
        Self(lent.copy())
    }

    pub fn lend(&self) -> &T {
        self.0.borrow()
    }
}

/// What can be copied so.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be copied for a body that may go on when its caller has left",
    label = "not `Clone + Send + Sync + 'static`",
    note = "with `refresh_ahead`, `soft_timeout`, `hard_timeout` or `max_load`, the body gets copies of what is \
            lent to the function: derive `Clone`, lend an `Arc`, or take the argument by value"
)]
pub trait Outlive {
    type Copy: Borrow<Self> + Send + Sync + 'static;

    fn copy(&self) -> Self::Copy;
}

#[diagnostic::do_not_recommend]
impl<T: ToOwned<Owned: Send + Sync + 'static> + ?Sized> Outlive for T {
    type Copy = T::Owned;

    fn copy(&self) -> T::Owned {
        self.to_owned()
    }
}

/// Whether one is longer than the other; to be asked when the program is compiled.
pub const fn is_longer(one: Duration, other: Duration) -> bool {
    one.as_nanos() > other.as_nanos()
}

impl<E> Call<E> {
    fn manner(&self) -> Manner {
        Manner {
            sharing: match self.share.0 {
                Some(_) => Sharing::Shared,
                None => Sharing::Alone,
            },
            times_out: self.convert.0.is_some(),
            dated: false,
        }
    }

    fn output<S: Shape<Error = E>, K: Keeping<S::Value>>(
        &self,
        loaded: Result<K::Kept, Failure<E>>,
    ) -> S::Output {
        S::error(match loaded {
            Ok(kept) => return S::value(K::give(kept)),
            Err(Failure::Own(error)) => error,
            Err(Failure::Load(error)) => match (Arc::try_unwrap(error), self.share.0) {
                (Ok(error), _) => error,
                (Err(error), Some(clone)) => clone(&error),
                (Err(_), None) => unreachable!("errors are shared only where they can be cloned"),
            },
            Err(Failure::Reentrant(error) | Failure::TimedOut(error)) => match self.convert.0 {
                Some(convert) => convert(error),
                None => panic!("cacheio: {error}"),
            },
        })
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
