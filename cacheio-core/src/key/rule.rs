//! Which keys a store can hold, and the replacements of other keys.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::escape;

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

    /// Returns whether replacements of keys keep `prefix`.
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
        let digest = hmac_sha256::Hash::hash(text.as_bytes());
        Cow::Owned(Self::replaced(text, max, digest))
    }

    /// Returns the key under which a store keeps the version of a tag. It differs from the keys of all
    /// texts that a [`KeyRule::Wire`] allows: it looks like a replacement, and its digest is one of bytes that
    /// are not text.
    pub(crate) fn of_tag(self, prefix: &str, tag: &str) -> String {
        let parts = [b"\xFFtag\xFF", prefix.as_bytes(), b"\xFF", tag.as_bytes()];
        self.reserved(&[prefix, tag].concat(), &parts.concat())
    }

    /// Returns the key of the item that names the holder of the claim on `key`. It differs from the keys of
    /// texts in the same way as those of tags.
    #[doc(hidden)]
    pub fn of_holder(self, key: &str) -> String {
        self.reserved(key, &[b"\xFFclaim\xFF", key.as_bytes()].concat())
    }

    /// Returns a key that looks like the replacement of a text. Its digest is that of bytes that are not text.
    fn reserved(self, text: &str, bytes: &[u8]) -> String {
        let max = match self {
            Self::Any => 250,
            Self::Wire { max } => max,
        };
        Self::replaced(text, max, hmac_sha256::Hash::hash(bytes))
    }

    /// Returns the first characters of a text, `#` and a digest.
    fn replaced(text: &str, max: usize, digest: [u8; 32]) -> String {
        let mut end = text.len().min(max.saturating_sub(Self::DIGEST + 1));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut replaced: String = text[..end]
            .chars()
            .map(|c| if c <= ' ' || c == '\x7F' { '_' } else { c })
            .collect();
        replaced.push('#');
        for byte in &digest[..Self::DIGEST / 2] {
            let _ = write!(replaced, "{byte:02x}");
        }
        replaced
    }

    /// Returns whether a text has the form of a replacement. The texts that a [`KeyRule::Wire`] replaces are
    /// stored under such keys, and others are not.
    pub(crate) fn looks_replaced(text: &str) -> bool {
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
    use super::*;

    #[test]
    fn namespaces_do_not_contain_each_other() {
        assert_eq!(namespace_prefix(""), "");
        assert_eq!(namespace_prefix("shop"), "shop:");
        assert_eq!(namespace_prefix("shop:v1"), "shop%3Av1:");
        assert_eq!(namespace_prefix("a b"), "a%20b:");
    }

    #[test]
    fn the_key_of_a_tag_is_the_key_of_no_text() {
        let rule = KeyRule::Wire { max: 250 };
        let tag = rule.of_tag("shop:", "users");
        assert!(tag.starts_with("shop:users#"));
        for text in ["shop:users", &tag, "\u{FF}tag\u{FF}shop:users"] {
            assert_ne!(rule.legal(text), tag);
        }
        assert_ne!(rule.of_tag("", "users"), rule.of_tag("", "users2"));
        assert_ne!(rule.of_tag("a:", "b"), rule.of_tag("", "a:b"));
        let long = "ü".repeat(500);
        let key = rule.of_tag("a:", &long);
        assert!(key.len() <= 250);
        assert_ne!(key, rule.of_tag("a:", &(long + "ü")));
        assert!(!rule.of_tag("", "a b\n").contains([' ', '\n']));
    }

    #[test]
    fn the_key_of_a_holder_is_the_key_of_no_text() {
        let rule = KeyRule::Wire { max: 250 };
        let holder = rule.of_holder("shop:user");
        assert!(holder.starts_with("shop:user#"));
        for text in ["shop:user", &holder, "\u{FF}claim\u{FF}shop:user"] {
            assert_ne!(rule.legal(text), holder);
        }
        assert_ne!(rule.of_tag("shop:", "user"), holder);
        let long = rule.legal(&"x".repeat(500)).into_owned();
        assert!(rule.of_holder(&long).len() <= 250);
        assert_ne!(rule.of_holder(&long), rule.legal(&long));
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
}
