//! The keys of calls.

use std::any::{TypeId, type_name_of_val};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use super::by_type::ByType;
use crate::{CacheKey, KeyWriter};

/// A key that a closure writes.
pub struct KeyFn<F>(pub F);

impl<F: Fn(&mut KeyWriter<'_>)> CacheKey for KeyFn<F> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        (self.0)(key);
    }
}

/// The key of a function whose only argument is a string. With an empty prefix, the string is the
/// key and is not copied.
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
                parts.part(&Prefix(self.prefix)).part(self.text);
            });
        }
    }

    #[inline]
    fn as_key_text(&self) -> Option<&str> {
        self.prefix.is_empty().then_some(self.text)
    }
}

/// The text of a [`FunctionNames`] as part of a key.
pub struct Prefix<'a>(pub &'a str);

impl CacheKey for Prefix<'_> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.literal(self.0);
    }
}

/// The name of a function as part of a key. It is written with `.` instead of `::`, since `:` would
/// be escaped.
struct FunctionName<'a>(&'a str);

impl CacheKey for FunctionName<'_> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        for (at, segment) in self.0.split("::").enumerate() {
            if at > 0 {
                key.literal(".");
            }
            // Nearly always: only type arguments hold characters that need escaping.
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

/// A placeholder in a template: written as a [`CacheKey`] if it is one, otherwise by `Display`.
///
/// The choice is made by autoref: call `(&Placeholder(&value)).__cacheio_write(&mut key.placeholder(…))` with
/// [`WriteKey`], [`WriteDisplay`] and [`WriteNeither`] in scope.
pub struct Placeholder<'a, T: ?Sized>(pub &'a T);

pub trait WriteKey {
    fn __cacheio_write(&self, key: &mut KeyWriter<'_>);
}

impl<T: CacheKey + ?Sized> WriteKey for Placeholder<'_, T> {
    fn __cacheio_write(&self, key: &mut KeyWriter<'_>) {
        self.0.write_key(key);
    }
}

pub trait WriteDisplay {
    fn __cacheio_write(&self, key: &mut KeyWriter<'_>);
}

impl<T: std::fmt::Display + ?Sized> WriteDisplay for &Placeholder<'_, T> {
    fn __cacheio_write(&self, key: &mut KeyWriter<'_>) {
        key.display(self.0);
    }
}

/// Matches a value that is neither, so that the compiler shows the message of [`CacheKey`] and not
/// "method not found".
pub trait WriteNeither<T: ?Sized> {
    fn __cacheio_write(self, key: &mut KeyWriter<'_>)
    where
        T: CacheKey;
}

impl<T: ?Sized> WriteNeither<T> for Placeholder<'_, T> {
    fn __cacheio_write(self, key: &mut KeyWriter<'_>)
    where
        T: CacheKey,
    {
        self.0.write_key(key);
    }
}

/// Returns the name of the function that contains the closure `probe`, with its module, its type
/// and all their type arguments.
pub fn function_name<F>(probe: &F) -> &'static str {
    let mut name = type_name_of_val(probe);
    // Only at the end, since a function may itself be inside of a closure. An `async` function adds
    // a second level.
    while let Some(outer) = name.strip_suffix("::{{closure}}") {
        name = outer;
    }
    name
}

/// The name of one function in keys, once for each set of its type arguments.
///
/// A name does not identify a function: two types that are local to one function have the same
/// name, and so have all of its closures. The name of all types but the first one gets their id as
/// a suffix, and so does a name with a closure in it, which never tells what it names.
#[derive(Debug)]
pub struct FunctionNames(ByType<String>);

/// The first type that uses each name.
static NAMED: Mutex<BTreeMap<String, TypeId>> = Mutex::new(BTreeMap::new());

impl FunctionNames {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(ByType::new())
    }

    /// Returns the prefix of the keys in a cache that functions share.
    ///
    /// `probe` is a closure in the function, or in its `companion`. The type of `identity` differs
    /// for each set of type arguments, and is the same in the function and its companions.
    pub fn prefix<'a, P, I>(
        names: &'a Self,
        probe: &P,
        _identity: &I,
        function: &str,
        companion: &str,
    ) -> &'a str {
        names.0.get_or_insert(typeid::of::<P>(), || {
            let name = companion_name(function_name(probe), companion, function);
            unique_name(&name, typeid::of::<I>())
        })
    }

    /// Returns the prefix of the keys in a function's own cache: empty for a function that exists
    /// once.
    ///
    /// `not_generic` is the name of `probe` in a function that exists once. The compiler evaluates
    /// the comparison.
    #[inline]
    pub fn own_prefix<'a, P, I>(
        names: &'a Self,
        probe: &P,
        identity: &I,
        function: &str,
        companion: &str,
        not_generic: &str,
    ) -> &'a str {
        // Compares the text and not its length: `<u8 as Trait>` may be as long as the path of the
        // module.
        if type_name_of_val(probe) == not_generic {
            ""
        } else {
            Self::prefix(names, probe, identity, function, companion)
        }
    }
}

/// Returns the text of a name in keys, which no other type of this process has.
fn unique_name(name: &str, id: TypeId) -> String {
    let mut text = String::new();
    KeyWriter::new(&mut text).tuple(|parts| {
        parts.part(&FunctionName(name));
    });
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    let first = *named.entry(name.to_owned()).or_insert(id);
    if first != id || name.contains("{{closure}}") {
        // The same in all processes of one build, which may share a server.
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let _ = write!(text, "#{:016x}", hasher.finish());
    }
    text
}

/// Distinguishes the expansions of the macros: `N` is different for each.
#[derive(Debug)]
pub struct Expansion<const N: u64>;

/// Returns the type of a value, as a part of an identity.
pub fn type_of<T: ?Sized>(_: &T) -> PhantomData<T> {
    PhantomData
}

/// Returns the name of `function`, given the name that its `companion` (`function_key`, …) finds for
/// itself.
fn companion_name<'a>(name: &'a str, companion: &str, function: &str) -> Cow<'a, str> {
    if companion == function {
        return name.into();
    }
    let ends = |at: &usize| matches!(name.as_bytes().get(at + companion.len()), None | Some(b'<'));
    // Type arguments of the function follow its name; those of its type precede it.
    let at = name.match_indices(companion).map(|(at, _)| at).filter(ends);
    match at.filter(|at| name[..*at].ends_with("::")).last() {
        Some(at) => format!("{}{function}{}", &name[..at], &name[at + companion.len()..]).into(),
        None => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_companion_has_the_prefix_of_its_function() {
        let prefix = |name| companion_name(name, "find_key", "find");
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
