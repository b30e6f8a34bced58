//! Keys: how they are written, and what makes any key legal on any server.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

/// What can be a key: text, integers, `bool`, `char`, and tuples, slices, options and (derived)
/// structs of such.
///
/// The parts of a tuple are joined by `:`, and what could be mistaken for a join is escaped in
/// the parts, so that different tuples never make the same key. A single string is taken as it
/// stands: `"user:42"` and `("user", 42)` are the same key.
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
/// For your own types, `#[derive(CacheKey)]` does the right thing; by hand:
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
    /// Writes the key, the same text for the same key, on every machine and in every run.
    fn write_key(&self, key: &mut KeyWriter<'_>);

    /// The text of the whole key, if it stands ready in memory: it is then not copied for a
    /// look-up. Must be what [`write_key`](Self::write_key) writes.
    fn as_key_text(&self) -> Option<&str> {
        None
    }
}

/// The text of a key, as a store in memory knows it in a cache without a namespace.
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

/// What is escaped in the parts of a tuple.
const SPECIAL: [char; 6] = ['%', ':', '(', ')', '[', ']'];

/// Takes the text of a key, escaping what stands inside a tuple.
#[derive(Debug)]
pub struct KeyWriter<'a> {
    out: &'a mut String,
    nested: bool,
    /// In a template: what ends this placeholder, beyond what ends a part of a tuple.
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

    /// Whether there is nothing to escape.
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

    /// Writes what `value` displays.
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
        // Nothing here fails but a `Display` that does; what it wrote until then is the key.
        let _ = write!(Escaping(self), "{value}");
    }

    /// Writes several parts, joined by `:`; inside another tuple they stand in parentheses.
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
            // Not what one empty part is, nor what any text can be: its `%` are escaped.
            self.out.push('%');
        }
        self.out.push(']');
    }

    /// Writes what may be missing.
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
        // An option in an option. Text never looks so: its `%` are escaped.
        if written.starts_with("%none") || written.starts_with("%some") {
            self.out.insert_str(start, "%some");
        }
    }

    /// Writes what a template says between its placeholders.
    #[doc(hidden)]
    pub fn literal(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Where a template's placeholder goes; `terminator` is the character that follows it.
    #[doc(hidden)]
    pub fn placeholder(&mut self, terminator: Option<char>) -> KeyWriter<'_> {
        KeyWriter {
            out: self.out,
            nested: true,
            terminator: terminator.filter(|end| !SPECIAL.contains(end)),
        }
    }

    /// Writes parts; whether there were any.
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

/// Takes the parts of a tuple.
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

/// A key as stores get it: its text, with the cache's namespace in front, and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    text: &'a str,
    hash: u64,
}

impl<'a> Key<'a> {
    /// The key with this text.
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

    /// The key's text.
    #[inline]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The hash of the text: [`hash`](Key::hash_of) of its bytes, the same for the same text as
    /// long as the process lives, and in no other process.
    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// What [`hash`](Self::hash) gives for a key of these bytes.
    #[inline]
    pub fn hash_of(text: &[u8]) -> u64 {
        hash(text)
    }
}

#[inline]
fn hash(text: &[u8]) -> u64 {
    use foldhash::{SharedSeed, fast::SeedableRandomState};
    // One seed a process, random in each: keys come from outside.
    let mut hasher =
        SeedableRandomState::with_seed(0x6361_6368_6569_6f00, SharedSeed::global_random())
            .build_hasher();
    hasher.write(text);
    hasher.finish()
}

thread_local! {
    /// The text of the last composed key, to be written over: looking up allocates nothing.
    static SCRATCH: Cell<String> = const { Cell::new(String::new()) };
}

/// A key that outgrew this is not kept for the next look-up.
const SCRATCH_KEPT: usize = 4096;

/// Room for the text of a composed key.
#[derive(Debug, Default)]
pub(crate) struct KeyBuffer(String);

impl KeyBuffer {
    pub(crate) fn new() -> Self {
        Self(String::new())
    }

    /// The key as stores get it.
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

    /// Keeps the key for longer than its look-up: `key` is what [`key`](Self::key) was given.
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
        // While the thread ends there is no scratch any more.
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

/// Which texts a store takes as keys. Others are replaced: see [`KeyRule::Wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyRule {
    /// Any text.
    Any,
    /// 1 to `max` bytes, no spaces or control characters: what every server can hold.
    ///
    /// Another text is replaced by its beginning, `#`, and 160 bits of its SHA-256 in hexadecimal;
    /// so is a text that looks like such a replacement, so that nobody can name another's key.
    Wire {
        /// The longest key, in bytes; 250 for Memcached. At least 64.
        max: usize,
    },
}

impl KeyRule {
    const DIGEST: usize = 40;

    /// Whether keys that begin with `prefix` do so still when they were replaced.
    pub(crate) fn keeps(self, prefix: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Wire { max } => prefix.len() + 1 + Self::DIGEST <= max,
        }
    }

    /// The text that stands for `text` on this store.
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

/// What stands before every key of a cache with this namespace: nothing, or the namespace and
/// `:`. What would be mistaken for that `:`, or is no legal character on a server, is escaped.
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

impl CacheKey for str {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.text(self);
    }

    #[inline]
    fn as_key_text(&self) -> Option<&str> {
        Some(self)
    }
}

impl CacheKey for String {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.text(self);
    }

    #[inline]
    fn as_key_text(&self) -> Option<&str> {
        Some(self)
    }
}

macro_rules! forwarding {
    ($(($($generics:tt)*) $pointer:ty;)*) => {$(
        impl<$($generics)*> CacheKey for $pointer {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                (**self).write_key(key);
            }

            #[inline]
            fn as_key_text(&self) -> Option<&str> {
                (**self).as_key_text()
            }
        }
    )*};
}

forwarding! {
    (K: CacheKey + ?Sized) &K;
    (K: CacheKey + ?Sized) &mut K;
    (K: CacheKey + ?Sized) Box<K>;
    (K: CacheKey + ?Sized) Rc<K>;
    (K: CacheKey + ?Sized) Arc<K>;
    (K: CacheKey + ToOwned + ?Sized) Cow<'_, K>;
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl CacheKey for $integer {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                key.integer(*self);
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! displayed {
    ($($displayed:ty)*) => {$(
        impl CacheKey for $displayed {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                key.display(self);
            }
        }
    )*};
}

displayed!(char IpAddr Ipv4Addr Ipv6Addr SocketAddr);

#[cfg(feature = "uuid")]
displayed!(uuid::Uuid);

impl CacheKey for bool {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.text(if *self { "true" } else { "false" });
    }
}

impl<K: CacheKey> CacheKey for Option<K> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.option(self.as_ref());
    }
}

impl<K: CacheKey> CacheKey for [K] {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.slice(|parts| {
            for part in self {
                parts.part(part);
            }
        });
    }
}

impl<K: CacheKey, const N: usize> CacheKey for [K; N] {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        self.as_slice().write_key(key);
    }
}

impl<K: CacheKey> CacheKey for Vec<K> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        self.as_slice().write_key(key);
    }
}

impl CacheKey for () {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.literal("%unit");
    }
}

macro_rules! tuples {
    ($($($part:ident)+;)*) => {$(
        #[allow(non_snake_case)]
        impl<$($part: CacheKey),+> CacheKey for ($($part,)+) {
            fn write_key(&self, key: &mut KeyWriter<'_>) {
                let ($($part,)+) = self;
                key.tuple(|parts| {
                    $(parts.part($part);)+
                });
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}

#[cfg(test)]
mod tests {
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
