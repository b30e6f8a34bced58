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

pub(super) fn unpack(bytes: &[u8], at_most: usize) -> Result<Vec<u8>, BoxError> {
    let (length, block) =
        block::uncompressed_size(bytes).map_err(|error| invalid(error.to_string()))?;
    if length > at_most {
        return Err(too_large(length as u64, at_most));
    }
    // A false length must not cause a large allocation.
    if length > block.len().saturating_mul(RATIO) {
        return Err(invalid("the LZ4 block is truncated"));
    }
    let mut plain = vec![0; length];
    match block::decompress_into(block, &mut plain) {
        Ok(decompressed) if decompressed == length => Ok(plain),
        Ok(_) => Err(invalid("the LZ4 block has a wrong length")),
        Err(error) => Err(invalid(error.to_string())),
    }
}
