//! Zstandard frames.

use ::zstd::bulk::{Compressor, Decompressor};
use ::zstd::zstd_safe::get_frame_content_size;

use super::{invalid, too_large};
use crate::error::BoxError;

/// The largest content of 4 bytes: a block of a repeated byte.
const BLOCK: usize = 128 << 10;

pub(super) fn pack(bytes: &[u8], level: i32) -> Result<Vec<u8>, BoxError> {
    Ok(Compressor::new(level)?.compress(bytes)?)
}

/// Returns the length of the content, if it can be true and is at most `max`.
pub(super) fn content_length(bytes: &[u8], max: usize) -> Result<usize, BoxError> {
    let Ok(Some(length)) = get_frame_content_size(bytes) else {
        return Err(invalid(
            "not a Zstandard frame with the length of its content",
        ));
    };
    let length = match usize::try_from(length) {
        Ok(length) if length <= max => length,
        _ => return Err(too_large(length, max)),
    };
    // A false length must not cause a large allocation.
    if length > (bytes.len() / 4).saturating_mul(BLOCK) {
        return Err(invalid("the Zstandard frame is truncated"));
    }
    Ok(length)
}

pub(super) fn unpack(bytes: &[u8], length: usize) -> Result<Vec<u8>, BoxError> {
    let mut plain = Vec::with_capacity(length);
    Decompressor::new()?
        .decompress_to_buffer(bytes, &mut plain)
        .map_err(|error| invalid(error.to_string()))?;
    Ok(plain)
}
