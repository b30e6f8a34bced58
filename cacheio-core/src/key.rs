//! Keys: how they are written, and what makes any key legal on any server.

mod impls;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, Hasher as _};

/// A type that can be a key: text, integers, `bool`, `char`, and tuples, slices, options and
/// (derived) structs of such types.
///
/// The parts of a tuple are joined by `:`. Characters that could be mistaken for a join are escaped
/// in the parts, so that different tuples never make the same key. A single string is not escaped:
/// `"user:42"` and `("user", 42)` are the same key.
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
    note = "for your own struct or enum: `#[derive(CacheKey)]`",
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
    key.write_key(&mut KeyWriter::new(&mut text));
    text
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
}

impl<'a> KeyWriter<'a> {
    pub(crate) fn new(out: &'a mut String) -> Self {
        Self {
            out,
            nested: false,
            terminator: None,
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

    /// Whether nothing has to be escaped.
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

thread_local! {
    /// The buffer of the last composed key, which the next one reuses: look-ups do not allocate.
    static SCRATCH: Cell<String> = const { Cell::new(String::new()) };
}

/// A buffer that is larger than this is not reused.
const SCRATCH_KEPT: usize = 4096;

/// A buffer for the text of a composed key.
#[derive(Debug, Default)]
pub(crate) struct KeyBuffer(String);

impl KeyBuffer {
    pub(crate) fn new() -> Self {
        Self(String::new())
    }

    /// Returns a key as stores get it.
    #[inline]
    pub(crate) fn key<'a>(
        &'a mut self,
        prefix: &str,
        rule: KeyRule,
        key: &'a impl CacheKey,
    ) -> Key<'a> {
        if prefix.is_empty()
            && rule == KeyRule::Any
            && let Some(text) = key.as_key_text()
        {
            return Key::new(text);
        }
        self.compose(prefix, rule, key);
        Key::new(&self.0)
    }

    /// Keeps a key for longer than its look-up. `key` is the argument of [`key`](Self::key).
    pub(crate) fn into_missed(mut self, key: &impl CacheKey, is_absent: bool) -> MissedKey {
        if self.0.is_empty()
            && let Some(text) = key.as_key_text()
        {
            self.take_scratch();
            self.0.push_str(text);
        }
        MissedKey {
            buffer: self,
            is_absent,
        }
    }

    fn take_scratch(&mut self) {
        // While a thread exits, its thread-locals may be gone.
        self.0 = SCRATCH.try_with(Cell::take).unwrap_or_default();
        self.0.clear();
    }

    fn compose(&mut self, prefix: &str, rule: KeyRule, key: &impl CacheKey) {
        self.take_scratch();
        self.0.push_str(prefix);
        key.write_key(&mut KeyWriter::new(&mut self.0));
        if let Cow::Owned(legal) = rule.legal(&self.0) {
            self.0 = legal;
        }
    }
}

impl Drop for KeyBuffer {
    #[inline]
    fn drop(&mut self) {
        if self.0.capacity() > 0 && self.0.capacity() <= SCRATCH_KEPT {
            let _ = SCRATCH.try_with(|scratch| scratch.set(std::mem::take(&mut self.0)));
        }
    }
}

/// A key that was looked up without a hit, for the read or the load that follows: it is composed
/// only once.
#[doc(hidden)]
#[derive(Debug)]
pub struct MissedKey {
    buffer: KeyBuffer,
    is_absent: bool,
}

impl MissedKey {
    #[inline]
    pub(crate) fn key(&self) -> Key<'_> {
        Key::new(&self.buffer.0)
    }

    /// Whether the store has no entry under the key.
    pub(crate) fn is_absent(&self) -> bool {
        self.is_absent
    }
}

/// Which keys a store can hold. Others are replaced: see [`KeyRule::Wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyRule {
    /// Any text.
    Any,
    /// 1 to `max` bytes without spaces and control characters, which every server can hold.
    ///
    /// Another text is replaced by its first characters, `#`, and 160 bits of its SHA-256 in
    /// hexadecimal. A text that looks like a replacement is replaced too, so that it cannot collide
    /// with the key of another text.
    Wire {
        /// The longest key, in bytes; 250 for Memcached. At least 64.
        max: usize,
    },
}

impl KeyRule {
    const DIGEST: usize = 40;

    /// Whether keys that begin with `prefix` still do when they are replaced.
    pub(crate) fn keeps(self, prefix: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Wire { max } => prefix.len() + 1 + Self::DIGEST <= max,
        }
    }

    /// Returns `text`, or its replacement if the store cannot hold it.
    ///
    /// ```
    /// use cacheio::store::KeyRule;
    ///
    /// let rule = KeyRule::Wire { max: 250 };
    /// assert_eq!(rule.legal("user:42"), "user:42");
    /// assert_eq!(rule.legal("a b").len(), "a_b#".len() + 40);
    /// assert_ne!(rule.legal("a b"), rule.legal("a_b"));
    /// assert_eq!(rule.legal(&"x".repeat(1_000_000)).len(), 250);
    /// ```
    pub fn legal(self, text: &str) -> Cow<'_, str> {
        let Self::Wire { max } = self else {
            return Cow::Borrowed(text);
        };
        let fits = (1..=max).contains(&text.len())
            && text.bytes().all(|byte| byte > b' ' && byte != 0x7F)
            && !Self::looks_replaced(text);
        if fits {
            return Cow::Borrowed(text);
        }
        let mut end = text.len().min(max.saturating_sub(Self::DIGEST + 1));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut legal: String = text[..end]
            .chars()
            .map(|c| if c <= ' ' || c == '\x7F' { '_' } else { c })
            .collect();
        legal.push('#');
        for byte in &hmac_sha256::Hash::hash(text.as_bytes())[..Self::DIGEST / 2] {
            let _ = write!(legal, "{byte:02x}");
        }
        Cow::Owned(legal)
    }

    fn looks_replaced(text: &str) -> bool {
        text.len() > Self::DIGEST && {
            let (_, digest) = text.as_bytes().split_at(text.len() - Self::DIGEST - 1);
            digest[0] == b'#' && digest[1..].iter().all(u8::is_ascii_hexdigit)
        }
    }
}

/// Returns the prefix of the keys of a namespace: nothing, or the namespace and `:`. Characters that
/// could be mistaken for that `:`, or that a server cannot hold, are escaped.
pub(crate) fn namespace_prefix(namespace: &str) -> String {
    let mut prefix = String::with_capacity(namespace.len() + 1);
    if namespace.is_empty() {
        return prefix;
    }
    for c in namespace.chars() {
        if c <= ' ' || matches!(c, '\x7F' | ':' | '%' | '#') {
            escape(&mut prefix, c);
        } else {
            prefix.push(c);
        }
    }
    prefix.push(':');
    prefix
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    #[test]
    fn texts_of_keys() {
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
    fn a_placeholder_cannot_run_into_what_follows_it() {
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

    #[test]
    fn namespaces_do_not_contain_each_other() {
        assert_eq!(namespace_prefix(""), "");
        assert_eq!(namespace_prefix("shop"), "shop:");
        assert_eq!(namespace_prefix("shop:v1"), "shop%3Av1:");
        assert_eq!(namespace_prefix("a b"), "a%20b:");
    }

    #[test]
    fn replaced_keys_cannot_be_forged() {
        let rule = KeyRule::Wire { max: 250 };
        let replaced = rule.legal("with space").into_owned();
        assert_ne!(rule.legal(&replaced), replaced);
        assert_eq!(rule.legal("").len(), 41);
        assert_eq!(rule.legal("ünïcödé"), "ünïcödé");
        let long = "ü".repeat(500);
        assert!(rule.legal(&long).len() <= 250);
    }

    #[test]
    fn a_key_is_written_into_the_scratch_of_its_thread() {
        let mut buffer = KeyBuffer::new();
        assert_eq!(buffer.key("ns:", KeyRule::Any, &("a", 1)).text(), "ns:a:1");
        drop(buffer);
        let kept = SCRATCH.take();
        assert!(kept.capacity() > 0);
    }
}
