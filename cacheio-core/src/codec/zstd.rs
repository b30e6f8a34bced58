//! Zstandard frames.

use ::zstd::bulk::{Compressor, Decompressor};
use ::zstd::zstd_safe::get_frame_content_size;

use super::compressed::too_large;
use crate::error::BoxError;

/// The most that 4 bytes unpack to: a block of a repeated byte.
const BLOCK: usize = 128 << 10;

pub(super) fn pack(bytes: &[u8], level: i32) -> Result<Vec<u8>, BoxError> {
    Ok(Compressor::new(level)?.compress(bytes)?)
}

pub(super) fn unpack(bytes: &[u8], at_most: usize) -> Result<Vec<u8>, BoxError> {
    let Ok(Some(length)) = get_frame_content_size(bytes) else {
        return Err("it is no Zstandard frame of a known length".into());
    };
    let length = match usize::try_from(length) {
        Ok(length) if length <= at_most => length,
        _ => return Err(too_large(length, at_most)),
    };
    // What the frame says is not believed further than its bytes can go.
    if length > (bytes.len() / 4).saturating_mul(BLOCK) {
        return Err("it is a Zstandard frame that is cut off".into());
    }
    let mut plain = Vec::with_capacity(length);
    Decompressor::new()?.decompress_to_buffer(bytes, &mut plain)?;
    Ok(plain)
}
