//! The keys of typed handles.

use super::{CacheKey, HANDLE, KeyWriter};

/// A key of a typed handle: the prefix of the handle, and the key that its caller passes.
///
/// No other key of a cache, and no key of a handle with another name, has the same text.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct HandleKey<'a, K> {
    prefix: &'a str,
    /// The key that the caller passes.
    pub key: K,
}

impl<'a, K> HandleKey<'a, K> {
    pub(crate) fn new(prefix: &'a str, key: K) -> Self {
        Self { prefix, key }
    }
}

/// Returns the prefix of the keys of a handle, which is the prefix of no other one.
pub(crate) fn handle_prefix(name: &str) -> String {
    let mut prefix = String::from(HANDLE);
    let mut writer = KeyWriter::new(&mut prefix);
    match name {
        // Different from all other names, whose `%` are escaped.
        "" => writer.literal("%"),
        name => writer.placeholder(None).text(name),
    }
    writer.literal(":");
    prefix
}

impl<K: CacheKey> CacheKey for HandleKey<'_, K> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.stored_form(|key| {
            key.literal(self.prefix);
            self.key.write_key(key);
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key_text;

    fn handle_key(name: &str, key: impl CacheKey) -> String {
        key_text(HandleKey::new(&handle_prefix(name), key))
    }

    #[test]
    fn keys_of_handles_are_written_as_documented() {
        assert_eq!(handle_key("user", 42), ":user:42");
        assert_eq!(handle_key("user:1", "a:b"), ":user%3A1:a:b");
        assert_eq!(handle_key("user", (1, "a")), ":user:1:a");
        assert_eq!(handle_key("", ":"), ":%::");
        assert_eq!(handle_key("%", ":"), ":%25::");
    }

    /// Texts of the characters that mean something in keys.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[:%()\\[\\]a25]{0,6}", ".{0,6}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn handles_do_not_collide_with_each_other(
            (name, key) in (text(), text()),
            (other_name, other_key) in (text(), text()),
        ) {
            let same = name == other_name && key == other_key;
            let collide = handle_key(&name, &*key) == handle_key(&other_name, &*other_key);
            prop_assert_eq!(collide, same);
        }

        #[test]
        fn handles_do_not_collide_with_other_keys(
            (name, key) in (text(), text()),
            (a, b) in (text(), text()),
        ) {
            let of_handle = handle_key(&name, &*key);
            prop_assert_ne!(&of_handle, &key_text(&*a));
            prop_assert_ne!(&of_handle, &key_text((&*a, &*b)));
            prop_assert_ne!(&of_handle, &key_text([&*a, &*b]));
            // The text itself, as any other text that begins like one.
            prop_assert_ne!(&of_handle, &key_text(&*of_handle));
        }

        #[test]
        fn other_texts_stay_different(a in ":{0,3}[a:]{0,3}", b in ":{0,3}[a:]{0,3}") {
            prop_assert_eq!(key_text(&*a) == key_text(&*b), a == b);
        }
    }
}
