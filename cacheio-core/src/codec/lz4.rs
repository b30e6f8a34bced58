//! LZ4 blocks, each behind its length.

use lz4_flex::block;

use super::compressed::too_large;
use crate::error::BoxError;

/// The most that a byte unpacks to.
const RATIO: usize = 255;

pub(super) fn pack(bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
    if u32::try_from(bytes.len()).is_err() {
        return Err("a value of 4 GiB or more is too large for LZ4".into());
    }
    Ok(block::compress_prepend_size(bytes))
}

pub(super) fn unpack(bytes: &[u8], at_most: usize) -> Result<Vec<u8>, BoxError> {
    let (length, block) = block::uncompressed_size(bytes)?;
    if length > at_most {
        return Err(too_large(length as u64, at_most));
    }
    // What the length says is not believed further than the block can go.
    if length > block.len().saturating_mul(RATIO) {
        return Err("it is an LZ4 block that is cut off".into());
    }
    let mut plain = vec![0; length];
    if block::decompress_into(block, &mut plain)? != length {
        return Err("it is an LZ4 block of another length than it says".into());
    }
    Ok(plain)
}
