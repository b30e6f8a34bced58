//! The beginning of a text that may be megabytes long.

use std::fmt::{self, Write};

/// Returns the text, cut to `at_most` bytes and a `…` if it is longer.
pub fn shortened(text: impl fmt::Display, at_most: usize) -> String {
    match cut(text, at_most) {
        Ok(whole) => whole,
        Err(beginning) => beginning + "…",
    }
}

/// Returns the text, or its beginning if it is longer than `at_most` bytes. No more than this is
/// composed.
pub(super) fn cut(text: impl fmt::Display, at_most: usize) -> Result<String, String> {
    let mut cut = Cut {
        text: String::new(),
        at_most,
        is_cut: false,
    };
    // An error only ends the writing early.
    let _ = write!(cut, "{text}");
    if cut.is_cut {
        Err(cut.text)
    } else {
        Ok(cut.text)
    }
}

struct Cut {
    text: String,
    at_most: usize,
    is_cut: bool,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(self.at_most - self.text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.push_str(&text[..end]);
        if end == text.len() {
            return Ok(());
        }
        self.is_cut = true;
        self.at_most = self.text.len();
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(shortened("", 0), "");
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abc", 2), "ab…");
        assert_eq!(shortened("aü", 2), "a…");
        assert_eq!(shortened(format_args!("{}{}", "aü", "b"), 2), "a…");
        assert_eq!(shortened("🦀".repeat(1_000_000), 9), "🦀🦀…");
    }
}
