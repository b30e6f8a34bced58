//! The names of the codecs in URLs.

use std::sync::Arc;

#[cfg(any(feature = "zstd", feature = "lz4"))]
use super::Compressed;
use super::{Codec, Json};

const FORMATS: [&str; 3] = ["json", "msgpack", "postcard"];
const COMPRESSIONS: [&str; 2] = ["zstd", "lz4"];
const COMPRESSED: &str = "one that compresses, such as json+zstd, if there is `max_decompressed`";
const NAMES: &str = "json, msgpack or postcard, optionally with +zstd or +lz4, such as json+zstd";

/// Returns the codec with a name: `json`, `msgpack` or `postcard`, optionally with `+zstd` or `+lz4`.
/// `max_decompressed` is the limit of one that compresses.
///
/// # Errors
///
/// Returns the expected value, as the end of a sentence that begins with "must be".
pub(crate) fn codec_by_name(
    name: &str,
    max_decompressed: Option<usize>,
) -> Result<Arc<dyn Codec>, String> {
    // In a URL, a plus sign is a space.
    let (format, compression) = match name.split_once(['+', ' ']) {
        Some((format, compression)) => (format, Some(compression)),
        None => (name, None),
    };
    let codec = format_by_name(format)?;
    match compression {
        None if max_decompressed.is_some() => Err(COMPRESSED.to_owned()),
        None => Ok(codec),
        Some(compression) => compressed_by_name(codec, compression, max_decompressed),
    }
}

fn format_by_name(name: &str) -> Result<Arc<dyn Codec>, String> {
    match name {
        "json" => Ok(Arc::new(Json)),
        #[cfg(feature = "msgpack")]
        "msgpack" => Ok(Arc::new(super::MessagePack)),
        #[cfg(feature = "postcard")]
        "postcard" => Ok(Arc::new(super::Postcard)),
        name if FORMATS.contains(&name) => Err(feature_is_off(name)),
        _ => Err(NAMES.to_owned()),
    }
}

#[allow(
    unused_variables,
    clippy::needless_pass_by_value,
    reason = "no compression feature uses the codec"
)]
fn compressed_by_name(
    codec: Arc<dyn Codec>,
    name: &str,
    max_decompressed: Option<usize>,
) -> Result<Arc<dyn Codec>, String> {
    #[cfg(any(feature = "zstd", feature = "lz4"))]
    let compressed = |algorithm| -> Arc<dyn Codec> {
        let compressed = Compressed::over(codec, algorithm);
        Arc::new(match max_decompressed {
            Some(bytes) => compressed.max_decompressed(bytes),
            None => compressed,
        })
    };
    match name {
        #[cfg(feature = "zstd")]
        "zstd" => Ok(compressed(super::Algorithm::ZSTD)),
        #[cfg(feature = "lz4")]
        "lz4" => Ok(compressed(super::Algorithm::Lz4)),
        name if COMPRESSIONS.contains(&name) => Err(feature_is_off(name)),
        _ => Err(NAMES.to_owned()),
    }
}

fn feature_is_off(name: &str) -> String {
    format!("available: `{name}` needs the feature `{name}` of cacheio")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_is_available_or_the_error_names_its_feature() {
        for (name, is_available) in [
            ("json", true),
            ("msgpack", cfg!(feature = "msgpack")),
            ("postcard", cfg!(feature = "postcard")),
            ("json+zstd", cfg!(feature = "zstd")),
            ("json lz4", cfg!(feature = "lz4")),
        ] {
            match codec_by_name(name, None) {
                Ok(_) => assert!(is_available),
                Err(expected) => assert!(!is_available && expected.contains("needs the feature")),
            }
        }
        for name in ["", "JSON", "json+", "json+gzip", "+zstd", "json+zstd+lz4"] {
            assert_eq!(codec_by_name(name, None).unwrap_err(), NAMES);
        }
    }
}
