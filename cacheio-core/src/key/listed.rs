//! The keys that a cache lists.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use super::{CacheKey, KeyWriter};

/// A key that `keys` or `entries` lists, or that a removal listener gets. Every method of the cache takes it, and finds
/// just that entry.
///
/// Its text is that of [`key_text`](crate::key_text). A key of a typed handle begins with one `:`, as `:user:42`, and any
/// other key that begins with one has one more: the key `":a"` is listed as `::a`. So pass the listed key itself to a
/// method: its text, as a `&str`, is another key if it begins with `:`.
///
/// ```
/// use cacheio::CacheFactory;
///
/// let cache = CacheFactory::memory_cache();
/// cache.typed::<u64, u8>("user").set(42, 1)?;
/// cache.set(":a", 2)?;
/// for key in cache.keys(1_000)? {
///     println!("{key}");
///     assert!(cache.delete(&key)?);
/// }
/// assert!(cache.keys(1_000)?.is_empty());
/// # Ok::<(), cacheio::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListedKey(String);

impl ListedKey {
    /// Creates one from a text as it is stored, without the namespace.
    #[doc(hidden)]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the text.
    ///
    /// ```
    /// use cacheio::CacheFactory;
    ///
    /// let cache = CacheFactory::memory_cache();
    /// cache.set(("user", 42), "Ada")?;
    /// let key = cache.keys(1_000)?.remove(0);
    /// assert_eq!(key.as_str(), "user:42");
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CacheKey for ListedKey {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.stored_form(|key| key.text(&self.0));
    }

    fn as_key_text(&self) -> Option<&str> {
        Some(&self.0)
    }
}

impl Deref for ListedKey {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ListedKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ListedKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<ListedKey> for String {
    fn from(key: ListedKey) -> Self {
        key.0
    }
}

impl fmt::Display for ListedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ListedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl PartialEq<str> for ListedKey {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for ListedKey {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<String> for ListedKey {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key_text;

    #[test]
    fn a_listed_key_is_its_text() {
        for text in ["", "a", ":", ":user:42", "::a", "a b"] {
            let key = ListedKey::new(text);
            assert_eq!(key_text(&key), text);
            assert_eq!(key_text(key), text);
        }
    }

    #[test]
    fn a_part_of_a_key_is_escaped() {
        let key = ListedKey::new(":user:42");
        assert_eq!(key_text(("copy", &key)), "copy:%3Auser%3A42");
        assert_eq!(key_text((&key, 1)), "%3Auser%3A42:1");
        assert_eq!(key_text(Some(&key)), "%3Auser%3A42");
    }

    /// A key of a program that writes more than the listed key.
    struct Around<'a>(&'a str, ListedKey, &'a str);

    impl CacheKey for Around<'_> {
        fn write_key(&self, key: &mut KeyWriter<'_>) {
            key.text(self.0);
            self.1.write_key(key);
            key.text(self.2);
        }
    }

    proptest! {
        #[test]
        fn only_the_listed_key_itself_is_a_key_of_a_handle(
            before in ":{0,2}a?",
            after in "a?:{0,2}",
        ) {
            let of_handle = ":user:42";
            let around = key_text(Around(&before, ListedKey::new(of_handle), &after));
            let is_alone = before.is_empty() && after.is_empty();
            prop_assert_eq!(around.starts_with(':') && !around.starts_with("::"), is_alone);
        }
    }
}
