//! LZ4 blocks with the length of their content before them.

use lz4_flex::block;

use super::{invalid, too_large};
use crate::error::BoxError;

/// The highest compression ratio of the format.
const RATIO: usize = 255;

pub(super) fn pack(bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(invalid("LZ4 cannot compress a value of 4 GiB or more"));
    }
    Ok(block::compress_prepend_size(bytes))
}

/// Returns the length of the content, if it can be true and is at most `max`, and the block.
pub(super) fn content_length(bytes: &[u8], max: usize) -> Result<(usize, &[u8]), BoxError> {
    let (length, block) =
        block::uncompressed_size(bytes).map_err(|error| invalid(error.to_string()))?;
    if length > max {
        return Err(too_large(length as u64, max));
    }
    // A false length must not cause a large allocation.
    if length > block.len().saturating_mul(RATIO) {
        return Err(invalid("the LZ4 block is truncated"));
    }
    Ok((length, block))
}

pub(super) fn unpack(block: &[u8], length: usize) -> Result<Vec<u8>, BoxError> {
    let mut plain = vec![0; length];
    match block::decompress_into(block, &mut plain) {
        Ok(decompressed) if decompressed == length => Ok(plain),
        Ok(_) => Err(invalid("the LZ4 block has a wrong length")),
        Err(error) => Err(invalid(error.to_string())),
    }
}
