//! Keys: how they are written, and how any key becomes legal on any server.

mod buffer;
mod handle;
mod impls;
mod listed;
mod rule;

pub(crate) use self::buffer::KeyBuffer;
pub use self::buffer::MissedKey;
pub use self::handle::HandleKey;
pub(crate) use self::handle::handle_prefix;
pub use self::listed::ListedKey;
pub use self::rule::KeyRule;
pub(crate) use self::rule::namespace_prefix;

use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, Hasher as _};
use std::ops::Range;

/// A type that can be a key: text, integers, `bool`, `char`, paths, `Duration`, network addresses, and
/// tuples (of up to 12 parts), slices, options and (derived) structs of such types.
///
/// The parts of a tuple are joined by `:`. Characters that could be mistaken for a join are escaped
/// in the parts, so that different tuples never make the same key. A single string is not escaped:
/// `"user:42"` and `("user", 42)` are the same key. Only the keys of typed handles begin with a single
/// `:`, as `:user:42`; another key that begins with one is written with one more.
///
/// ```
/// use cacheio::key_text;
///
/// assert_eq!(key_text(("user", 42)), "user:42");
/// assert_eq!(key_text("user:42"), "user:42");
/// assert_eq!(key_text(("a:b", "c")), "a%3Ab:c");
/// assert_eq!(key_text(("a", "b:c")), "a:b%3Ac");
/// assert_eq!(key_text((1, (2, 3), [4, 5])), "1:(2:3):[4:5]");
/// ```
///
/// For your own types, derive it with `#[derive(CacheKey)]`, or implement it:
///
/// ```
/// use cacheio::{CacheKey, KeyWriter, key_text};
///
/// struct Sku { shop: u32, code: String }
///
/// impl CacheKey for Sku {
///     fn write_key(&self, key: &mut KeyWriter<'_>) {
///         key.tuple(|parts| {
///             parts.part(&self.shop).part(&self.code);
///         });
///     }
/// }
///
/// assert_eq!(key_text(Sku { shop: 7, code: "a:1".into() }), "7:a%3A1");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be (part of) a cache key",
    label = "not a `CacheKey`",
    note = "for your own struct or enum: `#[derive(CacheKey)]`; for `uuid::Uuid`, turn on the feature `uuid` of cacheio",
    note = "in `#[cached]`: leave the argument out with `skip(argument)`, or write the key yourself, as in `key = \"user:{{id}}\"`"
)]
pub trait CacheKey {
    /// Writes the key. Equal keys must write the same text, on every machine and in every run.
    fn write_key(&self, key: &mut KeyWriter<'_>);

    /// Returns the text of the whole key if it is already in memory: a look-up then copies nothing.
    /// It must be the text that [`write_key`](Self::write_key) writes.
    fn as_key_text(&self) -> Option<&str> {
        None
    }
}

/// Returns the text of a key, without a namespace.
///
/// ```
/// use cacheio::key_text;
///
/// assert_eq!(key_text(("user", 42)), "user:42");
/// ```
pub fn key_text(key: impl CacheKey) -> String {
    let mut text = String::new();
    write_whole(&mut text, &key);
    text
}

/// The first character of the keys of typed handles.
const HANDLE: char = ':';

/// Writes a key that is no part of another one. A key that looks like one of a handle gets one character
/// more, which makes it different from all others.
fn write_whole(out: &mut String, key: &impl CacheKey) {
    let start = out.len();
    let mut writer = KeyWriter::new(out);
    key.write_key(&mut writer);
    let is_stored_form = writer.stored_form == Some(start..writer.out.len());
    if !is_stored_form && out[start..].starts_with(HANDLE) {
        out.insert(start, HANDLE);
    }
}

/// The characters that are escaped in the parts of a tuple.
const SPECIAL: [char; 6] = ['%', ':', '(', ')', '[', ']'];

/// Writes the text of a key, and escapes the parts of tuples.
#[derive(Debug)]
pub struct KeyWriter<'a> {
    out: &'a mut String,
    nested: bool,
    /// In a template: the character after this placeholder, which is escaped too.
    terminator: Option<char>,
    /// Where the key of a typed handle or a listed key was written.
    stored_form: Option<Range<usize>>,
}

impl<'a> KeyWriter<'a> {
    pub(crate) fn new(out: &'a mut String) -> Self {
        Self {
            out,
            nested: false,
            terminator: None,
            stored_form: None,
        }
    }

    /// Writes text.
    ///
    /// ```
    /// use cacheio::{CacheKey, KeyWriter, key_text};
    ///
    /// struct Email(String);
    ///
    /// impl CacheKey for Email {
    ///     fn write_key(&self, key: &mut KeyWriter<'_>) {
    ///         key.text(&self.0.to_lowercase());
    ///     }
    /// }
    ///
    /// assert_eq!(key_text(Email("Ada@example.org".into())), "ada@example.org");
    /// ```
    pub fn text(&mut self, text: &str) {
        if !self.nested || self.is_clean(text) {
            self.out.push_str(text);
            return;
        }
        for c in text.chars() {
            if SPECIAL.contains(&c) || Some(c) == self.terminator {
                escape(self.out, c);
            } else {
                self.out.push(c);
            }
        }
    }

    /// Returns whether no character of `text` has to be escaped.
    fn is_clean(&self, text: &str) -> bool {
        let special = |byte: u8| matches!(byte, b'%' | b':' | b'(' | b')' | b'[' | b']');
        !text.bytes().any(special) && self.terminator.is_none_or(|end| !text.contains(end))
    }

    /// Writes an integer.
    ///
    /// ```
    /// use cacheio::{CacheKey, KeyWriter, key_text};
    ///
    /// struct Id(u64);
    ///
    /// impl CacheKey for Id {
    ///     fn write_key(&self, key: &mut KeyWriter<'_>) {
    ///         key.integer(self.0);
    ///     }
    /// }
    ///
    /// assert_eq!(key_text(("user", Id(7))), "user:7");
    /// ```
    pub fn integer(&mut self, integer: impl itoa::Integer) {
        self.text(itoa::Buffer::new().format(integer));
    }

    /// Writes the `Display` text of `value`.
    ///
    /// ```
    /// use cacheio::{CacheKey, KeyWriter, key_text};
    ///
    /// struct Version(u8, u8);
    ///
    /// impl CacheKey for Version {
    ///     fn write_key(&self, key: &mut KeyWriter<'_>) {
    ///         key.display(format_args!("{}.{}", self.0, self.1));
    ///     }
    /// }
    ///
    /// assert_eq!(key_text(Version(1, 2)), "1.2");
    /// ```
    pub fn display(&mut self, value: impl fmt::Display) {
        struct Escaping<'w, 'a>(&'w mut KeyWriter<'a>);
        impl fmt::Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.text(text);
                Ok(())
            }
        }
        // Only a `Display` that fails can fail here. What it wrote before is the key.
        let _ = write!(Escaping(self), "{value}");
    }

    /// Writes several parts, joined by `:`; inside another tuple, in parentheses.
    ///
    /// ```
    /// use cacheio::{CacheKey, KeyWriter, key_text};
    ///
    /// struct Point(i32, i32);
    ///
    /// impl CacheKey for Point {
    ///     fn write_key(&self, key: &mut KeyWriter<'_>) {
    ///         key.tuple(|parts| {
    ///             parts.part(&self.0).part(&self.1);
    ///         });
    ///     }
    /// }
    ///
    /// assert_eq!(key_text(Point(1, 2)), "1:2");
    /// assert_eq!(key_text(("at", Point(1, 2))), "at:(1:2)");
    /// ```
    pub fn tuple(&mut self, write: impl FnOnce(&mut KeyParts<'_>)) {
        if self.nested {
            self.out.push('(');
            self.parts(write);
            self.out.push(')');
        } else {
            self.parts(write);
        }
    }

    /// Writes several parts, joined by `:`, in brackets.
    ///
    /// ```
    /// use cacheio::{CacheKey, KeyWriter, key_text};
    ///
    /// struct Path(Vec<String>);
    ///
    /// impl CacheKey for Path {
    ///     fn write_key(&self, key: &mut KeyWriter<'_>) {
    ///         key.slice(|parts| {
    ///             for part in &self.0 {
    ///                 parts.part(part);
    ///             }
    ///         });
    ///     }
    /// }
    ///
    /// assert_eq!(key_text(Path(vec!["a".into(), "b".into()])), "[a:b]");
    /// ```
    pub fn slice(&mut self, write: impl FnOnce(&mut KeyParts<'_>)) {
        self.out.push('[');
        if !self.parts(write) {
            // Different from one empty part and from any text, whose `%` are escaped.
            self.out.push('%');
        }
        self.out.push(']');
    }

    /// Writes an optional part.
    ///
    /// ```
    /// use cacheio::{CacheKey, KeyWriter, key_text};
    ///
    /// struct Page(Option<u32>);
    ///
    /// impl CacheKey for Page {
    ///     fn write_key(&self, key: &mut KeyWriter<'_>) {
    ///         key.option(self.0.as_ref());
    ///     }
    /// }
    ///
    /// assert_eq!(key_text(Page(Some(3))), "3");
    /// assert_eq!(key_text(Page(None)), "%none");
    /// ```
    pub fn option(&mut self, some: Option<&(impl CacheKey + ?Sized)>) {
        let Some(some) = some else {
            self.out.push_str("%none");
            return;
        };
        let start = self.out.len();
        some.write_key(&mut self.placeholder(self.terminator));
        let written = &self.out[start..];
        // A nested option. Text never looks like this: its `%` are escaped.
        if written.starts_with("%none") || written.starts_with("%some") {
            self.out.insert_str(start, "%some");
        }
    }

    /// Writes a key in the form that is stored. If there is nothing else in the whole key, a `:` at its
    /// beginning stays single.
    fn stored_form(&mut self, write: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        write(self);
        self.stored_form = Some(start..self.out.len());
    }

    /// Writes the text of a template between its placeholders.
    #[doc(hidden)]
    pub fn literal(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Returns a writer for a placeholder of a template; `terminator` is the character after it.
    #[doc(hidden)]
    pub fn placeholder(&mut self, terminator: Option<char>) -> KeyWriter<'_> {
        KeyWriter {
            out: self.out,
            nested: true,
            terminator: terminator.filter(|end| !SPECIAL.contains(end)),
            stored_form: None,
        }
    }

    /// Writes parts. Returns whether there were any.
    fn parts(&mut self, write: impl FnOnce(&mut KeyParts<'_>)) -> bool {
        let terminator = self.terminator;
        let mut parts = KeyParts {
            key: self.placeholder(terminator),
            first: true,
        };
        write(&mut parts);
        !parts.first
    }
}

fn escape(out: &mut String, special: char) {
    let mut bytes = [0; 4];
    for byte in special.encode_utf8(&mut bytes).bytes() {
        // Writing to a String does not fail.
        let _ = write!(out, "%{byte:02X}");
    }
}

/// Writes the parts of a tuple.
#[derive(Debug)]
pub struct KeyParts<'a> {
    key: KeyWriter<'a>,
    first: bool,
}

impl KeyParts<'_> {
    /// Writes the next part.
    pub fn part(&mut self, part: &(impl CacheKey + ?Sized)) -> &mut Self {
        if !std::mem::take(&mut self.first) {
            self.key.literal(":");
        }
        part.write_key(&mut self.key);
        self
    }
}

/// A key as stores get it: its text, which begins with the namespace of the cache, and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    text: &'a str,
    hash: u64,
}

impl<'a> Key<'a> {
    /// Creates a key from its text.
    ///
    /// ```
    /// use cacheio::store::Key;
    ///
    /// let key = Key::new("shop:user:42");
    /// assert_eq!(key.text(), "shop:user:42");
    /// assert_eq!(key.hash(), Key::hash_of(b"shop:user:42"));
    /// ```
    #[inline]
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            hash: hash(text.as_bytes()),
        }
    }

    /// Returns the text.
    #[inline]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the [hash](Key::hash_of) of the text. It is stable within a process, and differs
    /// between processes.
    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the [`hash`](Self::hash) of a key with this text.
    #[inline]
    pub fn hash_of(text: &[u8]) -> u64 {
        hash(text)
    }
}

#[inline]
fn hash(text: &[u8]) -> u64 {
    use foldhash::{SharedSeed, fast::SeedableRandomState};
    // The seed is random in each process, because keys may come from an attacker.
    let mut hasher =
        SeedableRandomState::with_seed(0x6361_6368_6569_6f00, SharedSeed::global_random())
            .build_hasher();
    hasher.write(text);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    #[test]
    fn keys_are_written_as_documented() {
        assert_eq!(key_text("a b"), "a b");
        assert_eq!(key_text(String::new()), "");
        assert_eq!(key_text(-42_i64), "-42");
        assert_eq!(key_text(true), "true");
        assert_eq!(key_text('ß'), "ß");
        assert_eq!(key_text(("user", 42_u64)), "user:42");
        assert_eq!(
            key_text((Some("x"), None::<u8>, "%none")),
            "x:%none:%25none"
        );
        assert_eq!(key_text((("a", "b"), "c")), "(a:b):c");
        assert_eq!(key_text(("(a:b)", "c")), "%28a%3Ab%29:c");
        assert_eq!(key_text((vec!["a", "b"], ())), "[a:b]:%unit");
        assert_eq!(key_text(IpAddr::from([127, 0, 0, 1])), "127.0.0.1");
        assert_eq!(key_text((Ipv6Addr::LOCALHOST,)), "%3A%3A1");
    }

    #[test]
    fn only_keys_of_handles_begin_with_one_colon() {
        assert_eq!(key_text(":user:1"), "::user:1");
        assert_eq!(key_text("::user:1"), ":::user:1");
        assert_eq!(key_text(("", "user", 1)), "::user:1");
        assert_eq!(key_text(("a", ":")), "a:%3A");
    }

    #[test]
    fn the_character_after_a_placeholder_is_escaped_in_it() {
        let text = |a: &str, b: &str| {
            let mut text = String::new();
            let mut key = KeyWriter::new(&mut text);
            a.write_key(&mut key.placeholder(Some('-')));
            key.literal("-");
            b.write_key(&mut key.placeholder(None));
            text
        };
        assert_eq!(text("x-y", "z"), "x%2Dy-z");
        assert_eq!(text("x", "y-z"), "x-y-z");
    }
}
