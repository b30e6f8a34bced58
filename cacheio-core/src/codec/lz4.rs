//! LZ4 blocks with the length of their content before them.

use lz4_flex::block;

use super::too_large;
use crate::error::BoxError;

/// The highest compression ratio of the format.
const RATIO: usize = 255;

pub(super) fn pack(bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
    if u32::try_from(bytes.len()).is_err() {
        return Err("LZ4 cannot compress a value of 4 GiB or more".into());
    }
    Ok(block::compress_prepend_size(bytes))
}

pub(super) fn unpack(bytes: &[u8], at_most: usize) -> Result<Vec<u8>, BoxError> {
    let (length, block) = block::uncompressed_size(bytes)?;
    if length > at_most {
        return Err(too_large(length as u64, at_most));
    }
    // A false length must not cause a large allocation.
    if length > block.len().saturating_mul(RATIO) {
        return Err("the LZ4 block is truncated".into());
    }
    let mut plain = vec![0; length];
    if block::decompress_into(block, &mut plain)? != length {
        return Err("the LZ4 block has a wrong length".into());
    }
    Ok(plain)
}
