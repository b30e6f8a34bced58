//! The buffers in which keys are composed.

use std::borrow::Cow;
use std::cell::Cell;

use super::{CacheKey, HANDLE, Key, KeyRule, write_whole};

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

    /// Composes the key that the store gets.
    #[inline]
    pub(crate) fn key<'a>(
        &'a mut self,
        prefix: &str,
        rule: KeyRule,
        key: &'a impl CacheKey,
    ) -> Key<'a> {
        let text = match key.as_key_text() {
            Some(text)
                if prefix.is_empty() && rule == KeyRule::Any && !text.starts_with(HANDLE) =>
            {
                text
            }
            _ => {
                self.compose(prefix, rule, key);
                &self.0
            }
        };
        Key::new(text)
    }

    /// Keeps the key after its look-up. `key` is the argument of [`key`](Self::key).
    #[cold]
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
        if self.0.capacity() == 0 {
            // While a thread exits, the thread-local may be destroyed.
            self.0 = SCRATCH.try_with(Cell::take).unwrap_or_default();
        }
        self.0.clear();
    }

    // Not inlined: a borrowed key does not pay for it.
    #[inline(never)]
    fn compose(&mut self, prefix: &str, rule: KeyRule, key: &impl CacheKey) {
        self.take_scratch();
        self.0.push_str(prefix);
        write_whole(&mut self.0, key);
        if let Cow::Owned(legal) = rule.legal(&self.0) {
            self.0 = legal;
        }
    }
}

impl Drop for KeyBuffer {
    #[inline]
    fn drop(&mut self) {
        if self.0.capacity() > 0 {
            keep_scratch(std::mem::take(&mut self.0));
        }
    }
}

#[inline(never)]
fn keep_scratch(text: String) {
    if text.capacity() <= SCRATCH_KEPT {
        let _ = SCRATCH.try_with(|scratch| scratch.set(text));
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

    /// Returns whether the store has no entry for the key.
    pub(crate) fn is_absent(&self) -> bool {
        self.is_absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_of_a_key_is_reused() {
        let mut buffer = KeyBuffer::new();
        assert_eq!(buffer.key("ns:", KeyRule::Any, &("a", 1)).text(), "ns:a:1");
        drop(buffer);
        let kept = SCRATCH.take();
        assert!(kept.capacity() > 0);
    }
}
