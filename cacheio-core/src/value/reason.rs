//! What an error shows of a codec's error: no part of the value.

use crate::Error;
use crate::error::BoxError;

const HIDDEN: &str = "the cause is not shown, because it may quote the value";

/// Returns the cause that an error shows for an error of a codec.
///
/// serde's messages quote their input, for example `invalid type: string "Ada", expected u64`, and so
/// may the messages of a type's own implementation. Only what certainly comes from the type is kept.
/// An [`Error`] of this crate is kept as it is.
pub(crate) fn reason(error: BoxError) -> BoxError {
    let error = match error.downcast::<Error>() {
        Ok(error) => return error,
        Err(error) => error,
    };
    if let Some(json) = error.downcast_ref::<serde_json::Error>()
        && (json.is_syntax() || json.is_eof())
    {
        return error;
    }
    match without_value(&error.to_string()) {
        Some(reason) => reason.into(),
        None => HIDDEN.into(),
    }
}

/// The beginnings of messages that contain no part of the value, but names of the type.
const HARMLESS: [&str; 18] = [
    // serde, while decoding
    "missing field `",
    "duplicate field `",
    "data did not match any variant of untagged enum ",
    "no variant of enum ",
    // serde, while encoding
    "can only flatten structs and maps (got ",
    "cannot serialize tagged newtype variant ",
    "the enum variant ",
    "path contains invalid UTF-8 characters",
    "SystemTime must be later than UNIX_EPOCH",
    "key must be a string",
    "float key must be finite",
    "number out of range",
    // the codecs
    "EOF while parsing",
    "IO error while reading",
    "numeric cast found out of range",
    "recursion limit exceeded",
    "the value is nested too deep",
    "the value has more elements than bytes",
];

/// The kinds of values, as serde writes them.
const KINDS: [&str; 18] = [
    "boolean",
    "integer",
    "floating point",
    "character",
    "string",
    "byte array",
    "unit value",
    "null",
    "Option value",
    "newtype struct",
    "newtype variant",
    "sequence",
    "map",
    "enum",
    "unit variant",
    "tuple variant",
    "struct variant",
    "number",
];

/// Returns a message without the parts that quote the value, or `None` if it may be anything.
fn without_value(message: &str) -> Option<String> {
    if HARMLESS.iter().any(|begin| message.starts_with(begin)) {
        return Some(message.to_owned());
    }
    if let Some(length) = message.strip_prefix("invalid length ")
        && length.starts_with(|c: char| c.is_ascii_digit())
    {
        return Some(message.to_owned());
    }
    for about in ["invalid type", "invalid value"] {
        if let Some(found) = message.strip_prefix(about) {
            let found = found.strip_prefix(": ")?;
            let kind = KINDS.iter().find(|kind| found.starts_with(**kind));
            let kind = kind.map_or_else(String::new, |kind| format!(": {kind}"));
            return Some(format!("{about}{kind}, expected {}", expected(found)?));
        }
    }
    for about in ["unknown variant", "unknown field"] {
        if let Some(found) = message.strip_prefix(about) {
            let expected = expected(found.strip_prefix(" `")?);
            let expected = expected.map(|names| format!(", expected {names}"));
            return Some(format!("{about}{}", expected.unwrap_or_default()));
        }
    }
    None
}

/// Returns what a type expected. It comes after the value, which may contain anything.
fn expected(message: &str) -> Option<&str> {
    if message.contains("`, there are no ") {
        return None;
    }
    Some(message.rsplit_once(", expected ")?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_serde_keep_what_the_type_says() {
        for (message, shown) in [
            (
                "invalid type: string \"Ada\", expected u64 at line 1 column 5",
                "invalid type: string, expected u64 at line 1 column 5",
            ),
            (
                "invalid type: string \", expected Ada\", expected u64",
                "invalid type: string, expected u64",
            ),
            (
                "invalid value: integer `-7`, expected u8",
                "invalid value: integer, expected u8",
            ),
            (
                "invalid type: Ada, expected a map",
                "invalid type, expected a map",
            ),
            (
                "unknown variant `Ada`, expected one of `Open`, `Closed`",
                "unknown variant, expected one of `Open`, `Closed`",
            ),
            ("unknown field `Ada`, there are no fields", "unknown field"),
            (
                "unknown field `x`, expected Ada`, there are no fields",
                "unknown field",
            ),
            (
                "invalid length 3, expected a tuple of size 2",
                "invalid length 3, expected a tuple of size 2",
            ),
            ("missing field `name`", "missing field `name`"),
        ] {
            assert_eq!(without_value(message).as_deref(), Some(shown));
        }
    }

    #[test]
    fn other_messages_are_not_shown() {
        for message in [
            "",
            "Ada",
            "invalid digit found in Ada",
            "invalid length of Ada",
            "invalid type: Ada",
            "invalid types: Ada, expected Ada",
            "unknown variants `Ada`, expected Ada",
        ] {
            assert_eq!(without_value(message), None, "{message}");
            assert_eq!(reason(message.into()).to_string(), HIDDEN);
        }
    }

    #[test]
    fn the_codecs_own_reasons_are_kept() {
        let syntax = serde_json::from_str::<u8>("{").unwrap_err();
        let text = syntax.to_string();
        assert_eq!(reason(syntax.into()).to_string(), text);
        let error = Error::new(crate::ErrorKind::Decode, "too deep");
        assert_eq!(reason(error.into()).to_string(), "too deep");
    }
}
