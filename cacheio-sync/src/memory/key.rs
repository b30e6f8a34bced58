//! Keys as the shards know them: the code of a namespace and the text of a key.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hash, Hasher};

use cacheio_core::Key;
use quick_cache::Equivalent;

/// A namespace, and the code that replaces it in stored keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace {
    prefix: Box<str>,
    code: ShortBytes,
    seed: u64,
}

/// The first byte of the codes of one byte; the second one is [`LAST_BYTE`]. In UTF-8 no text
/// begins with one of them, nor with [`MARKER`] or [`ROOM`]: no key's text begins like a code.
pub(super) const FIRST_BYTE: u8 = 0x80;
const LAST_BYTE: u8 = 0xBF;
/// The first byte of longer codes: it is followed by the length of the prefix and the prefix.
const MARKER: u8 = 0xFF;
/// The only byte of the key of an entry that makes room for others.
const ROOM: u8 = 0xFE;

impl Namespace {
    /// How many namespaces have a code of one byte.
    pub(super) const ONE_BYTE_CODES: usize = (LAST_BYTE - FIRST_BYTE + 1) as usize;

    /// Returns the namespace with this prefix, which has one of the codes of one byte.
    pub(super) fn with_index(prefix: &str, index: u8) -> Self {
        Self::with_code(prefix, ShortBytes::new(&[FIRST_BYTE + index], &[]))
    }

    /// Returns the namespace with this prefix, without a code of one byte.
    pub(super) fn with_len(prefix: &str, len: u8) -> Self {
        Self::with_code(prefix, ShortBytes::new(&[MARKER, len], prefix.as_bytes()))
    }

    fn with_code(prefix: &str, code: ShortBytes) -> Self {
        Self {
            prefix: prefix.into(),
            seed: seed(code.as_slice()),
            code,
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.prefix.is_empty()
    }

    #[inline]
    pub(super) fn code(&self) -> &[u8] {
        self.code.as_slice()
    }

    /// Returns the text of a key with the namespace.
    pub(super) fn full_text<'a>(&self, key: &Key<'a>) -> Cow<'a, str> {
        match &*self.prefix {
            "" => Cow::Borrowed(key.text()),
            prefix => Cow::Owned([prefix, key.text()].concat()),
        }
    }

    #[inline]
    pub(super) fn key<'a>(&'a self, key: &Key<'a>) -> MemoryKey<'a> {
        MemoryKey {
            code: self.code(),
            text: key.text(),
            hash: key.hash() ^ self.seed,
        }
    }
}

/// What distinguishes the hashes of a namespace: nothing without one.
fn seed(code: &[u8]) -> u64 {
    match code {
        [] => 0,
        code => Key::hash_of(code),
    }
}

/// A key to look up.
#[derive(Clone, Copy)]
pub(super) struct MemoryKey<'a> {
    code: &'a [u8],
    text: &'a str,
    hash: u64,
}

impl MemoryKey<'_> {
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn has_namespace(&self) -> bool {
        !self.code.is_empty()
    }

    pub(super) fn stored(&self) -> StoredKey {
        StoredKey(ShortBytes::new(self.code, self.text.as_bytes()))
    }
}

impl Hash for MemoryKey<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<StoredKey> for MemoryKey<'_> {
    #[inline]
    fn equivalent(&self, key: &StoredKey) -> bool {
        match self.code {
            [] => equal(key.0.as_slice(), self.text.as_bytes()),
            _ => self.is_stored_as(key),
        }
    }
}

impl MemoryKey<'_> {
    /// Compares with a key of a namespace. Not inlined: a key without one does not pay for it.
    #[inline(never)]
    fn is_stored_as(&self, key: &StoredKey) -> bool {
        let (stored, text) = (key.0.as_slice(), self.text.as_bytes());
        match self.code {
            [code] => match stored.split_first() {
                Some((first, stored)) => first == code && equal(stored, text),
                None => false,
            },
            code => stored.strip_prefix(code) == Some(text),
        }
    }
}

/// Compares the texts of keys. Most have 8 to 32 bytes: two comparisons of a fixed size, which
/// overlap, cost a third of a call of `memcmp`.
#[inline]
fn equal(stored: &[u8], text: &[u8]) -> bool {
    fn ends<const N: usize>(bytes: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
        Some((bytes.first_chunk()?, bytes.last_chunk()?))
    }
    stored.len() == text.len()
        && match text.len() {
            8..16 => ends::<8>(stored) == ends::<8>(text),
            16..=32 => ends::<16>(stored) == ends::<16>(text),
            _ => stored == text,
        }
}

/// A key in a shard: the code of its namespace, then its text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct StoredKey(ShortBytes);

impl StoredKey {
    /// Returns the key of an entry that makes room for others.
    pub(super) fn room() -> Self {
        Self(ShortBytes::new(&[ROOM], &[]))
    }

    pub(super) fn is_room(&self) -> bool {
        self.0.as_slice() == [ROOM]
    }

    /// Computes the hash that a [`MemoryKey`] for this key has.
    pub(super) fn hash_code(&self) -> u64 {
        let (code, text) = self.parts();
        Key::hash_of(text) ^ seed(code)
    }

    /// Whether the key is in this namespace, and its text begins with `prefix`.
    pub(super) fn is_in(&self, namespace: &Namespace, prefix: &str) -> bool {
        let (code, text) = self.parts();
        code == namespace.code() && text.starts_with(prefix.as_bytes())
    }

    /// Returns the text of the key.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(self.parts().1).unwrap_or_default()
    }

    /// Returns the code of the namespace, and the text.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        let stored = self.0.as_slice();
        let code = match *stored {
            [FIRST_BYTE..=LAST_BYTE, ..] => 1,
            [MARKER, len, ..] => 2 + usize::from(len),
            _ => 0,
        };
        stored.split_at(code)
    }
}

impl Hash for StoredKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash_code());
    }
}

/// Bytes that are stored in place when they are few.
#[derive(Clone, Debug)]
enum ShortBytes {
    Inline { len: u8, bytes: [u8; Self::INLINE] },
    Boxed(Box<[u8]>),
}

impl ShortBytes {
    /// As many as fit into three words next to the length and the tag.
    const INLINE: usize = 22;

    /// Joins two parts.
    fn new(head: &[u8], tail: &[u8]) -> Self {
        let len = head.len() + tail.len();
        if len > Self::INLINE {
            return Self::Boxed([head, tail].concat().into());
        }
        let mut bytes = [0; Self::INLINE];
        bytes[..head.len()].copy_from_slice(head);
        bytes[head.len()..len].copy_from_slice(tail);
        #[allow(clippy::cast_possible_truncation)]
        let len = len as u8;
        Self::Inline { len, bytes }
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Boxed(bytes) => bytes,
        }
    }
}

impl Default for ShortBytes {
    fn default() -> Self {
        Self::new(&[], &[])
    }
}

impl PartialEq for ShortBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for ShortBytes {}

/// Builds hashers that return the hash which a key brings along.
#[derive(Clone, Copy)]
pub(super) struct BuildKeyHasher;

impl BuildHasher for BuildKeyHasher {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(0)
    }
}

pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys write their hash as one u64");
    }

    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_is_found_by_its_namespace_and_text_alone() {
        let long = "n".repeat(99) + ":";
        let namespaces = [
            Namespace::default(),
            Namespace::with_index("a:", 0),
            Namespace::with_index("ab:", 63),
            Namespace::with_len("a:", 2),
            Namespace::with_len(&long, 100),
        ];
        let texts = [
            "",
            "k",
            "a:k",
            "twenty-one bytes long",
            "22 bytes: stored inline",
            "ÿ",
            &long,
        ];
        let keys = || {
            let texts = texts.iter().map(|text| Key::new(text));
            texts.flat_map(|text| namespaces.iter().map(move |namespace| namespace.key(&text)))
        };
        for (at, stored) in keys().enumerate() {
            for (other, key) in keys().enumerate() {
                let stored = stored.stored();
                assert_eq!(key.equivalent(&stored), at == other);
                assert!(at != other || key.hash() == stored.hash_code());
            }
        }
    }

    #[test]
    fn texts_are_equal_if_all_their_bytes_are() {
        for len in 0..70 {
            let text = vec![b'a'; len];
            assert!(equal(&text, &text.clone()));
            assert!(!equal(&text, &vec![b'a'; len + 1]));
            for at in 0..len {
                let mut other = text.clone();
                other[at] = b'b';
                assert!(!equal(&text, &other), "{len} bytes, different at {at}");
            }
        }
    }

    #[test]
    fn a_key_is_in_one_namespace() {
        let [none, a, b] = [
            Namespace::default(),
            Namespace::with_index("a:", 0),
            Namespace::with_len("b:", 2),
        ];
        let key = Key::new("b:k");
        for namespace in [&none, &a, &b] {
            let stored = namespace.key(&key).stored();
            for other in [&none, &a, &b] {
                let same = std::ptr::eq(namespace, other);
                assert_eq!(stored.is_in(other, ""), same);
                assert_eq!(stored.is_in(other, "b:"), same);
                assert!(!stored.is_in(other, "c"));
            }
        }
    }
}
