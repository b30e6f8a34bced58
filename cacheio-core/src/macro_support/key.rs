//! The keys of calls.

use std::any::type_name_of_val;
use std::borrow::Cow;

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
                parts.part(&FunctionName(self.prefix)).part(self.text);
            });
        }
    }

    #[inline]
    fn as_key_text(&self) -> Option<&str> {
        self.prefix.is_empty().then_some(self.text)
    }
}

/// The name of a function as part of a key. It is written with `.` instead of `::`, since `:` would
/// be escaped.
pub struct FunctionName<'a>(pub &'a str);

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
/// The choice is made by autoref: call `(&Placeholder(&value)).write(&mut key.placeholder(…))` with
/// [`WriteKey`], [`WriteDisplay`] and [`WriteNeither`] in scope.
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

/// Matches a value that is neither, so that the compiler shows the message of [`CacheKey`] and not
/// "method not found".
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

/// Returns the prefix of the keys in a function's own cache: empty for a function that exists once,
/// and its name for one that exists once per type argument.
///
/// `not_generic` is the name of `probe` in a function that exists once. The compiler evaluates all
/// of this.
#[inline]
pub fn own_prefix<F>(probe: &F, not_generic: &str) -> &'static str {
    // Compares the text and not its length: `<u8 as Trait>` may be as long as the path of the
    // module.
    if type_name_of_val(probe) == not_generic {
        ""
    } else {
        function_name(probe)
    }
}

/// Returns the prefix of `function`, given the prefix that its `companion` (`function_key`, …)
/// finds for itself.
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
    // Type arguments of the function follow its name; those of its type precede it.
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
