//! Values compressed, around any codec.
//!
//! What stands there is told by its first two bytes:
//!
//! | begins with | then follows |
//! | --- | --- |
//! | `C0 00` | what the inner codec made, which itself begins with `C0` |
//! | `C0 01` | a Zstandard frame that says how long its content is |
//! | `C0 02` | the length of what an LZ4 block unpacks to (4 bytes, little-endian), and the block |
//! | anything else | just what the inner codec made; so is a single `C0` |
//!
//! `C0` begins no UTF-8 text, and in `MessagePack` it is nil, which stands alone: so what JSON or
//! `MessagePack` wrote without compression is read with it too. The header of an entry, which begins
//! with `C1`, stands before all that.

use std::borrow::Cow;
use std::sync::Arc;

use super::Codec;
#[cfg(feature = "lz4")]
use super::lz4;
#[cfg(feature = "zstd")]
use super::zstd;
use crate::error::BoxError;

const MARK: u8 = 0xC0;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const LZ4: u8 = 2;

/// Another codec's bytes, compressed where that makes them smaller.
///
/// It reads what it wrote under other settings too, and what JSON and [`MessagePack`] wrote without
/// compression: both can change without a flush of the cache. With [`Postcard`], whose bytes may
/// begin with anything, turn compression on or off together with the namespace.
///
/// # Defaults
///
/// - [`above`](Self::above): 1,024 bytes
/// - [`at_most`](Self::at_most): 64 MiB
/// - [`level`](Self::level): 3, of Zstandard
///
/// [`MessagePack`]: https://docs.rs/cacheio-core/latest/cacheio_core/struct.MessagePack.html
/// [`Postcard`]: https://docs.rs/cacheio-core/latest/cacheio_core/struct.Postcard.html
#[derive(Clone, Debug)]
pub struct Compressed {
    codec: Arc<dyn Codec>,
    algorithm: Algorithm,
    above: usize,
    at_most: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Algorithm {
    #[cfg(feature = "zstd")]
    Zstd { level: i32 },
    #[cfg(feature = "lz4")]
    Lz4,
}

impl Algorithm {
    #[cfg(feature = "zstd")]
    pub(super) const ZSTD: Self = Self::Zstd { level: 3 };
}

impl Compressed {
    /// Compresses by [Zstandard](https://facebook.github.io/zstd): small, and fast enough for a
    /// server that is a network away.
    ///
    /// ```
    /// use cacheio::{Codec, Compressed, Json};
    ///
    /// let codec = Compressed::zstd(Json).above(100);
    /// assert_eq!(codec.encode(&"short")?, b"\"short\"");
    /// assert!(codec.encode(&"long".repeat(1000))?.len() < 50);
    /// # Ok::<(), cacheio::BoxError>(())
    /// ```
    #[cfg(feature = "zstd")]
    pub fn zstd(codec: impl Codec) -> Self {
        Self::over(Arc::new(codec), Algorithm::ZSTD)
    }

    /// Compresses by [LZ4](https://lz4.org): less, but in a fraction of the time, and without C
    /// code.
    ///
    /// ```
    /// use cacheio::{Codec, Compressed, Json};
    ///
    /// let codec = Compressed::lz4(Json).above(100);
    /// assert_eq!(codec.encode(&"short")?, b"\"short\"");
    /// assert!(codec.encode(&"long".repeat(1000))?.len() < 50);
    /// # Ok::<(), cacheio::BoxError>(())
    /// ```
    #[cfg(feature = "lz4")]
    pub fn lz4(codec: impl Codec) -> Self {
        Self::over(Arc::new(codec), Algorithm::Lz4)
    }

    pub(super) fn over(codec: Arc<dyn Codec>, algorithm: Algorithm) -> Self {
        Self {
            codec,
            algorithm,
            above: 1024,
            at_most: 64 << 20,
        }
    }

    /// How hard Zstandard tries: from 1, fast, to 22, small; below zero, faster still. What is
    /// beyond that is taken for the nearest level, and 0 for the default of 3. LZ4 has no levels.
    ///
    /// ```
    /// use cacheio::{Compressed, Json};
    ///
    /// let codec = Compressed::zstd(Json).level(9);
    /// ```
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        match &mut self.algorithm {
            Algorithm::Zstd { level: current } => *current = level,
            #[cfg(feature = "lz4")]
            Algorithm::Lz4 => {}
        }
        self
    }

    /// Compresses only what takes more than so many bytes. What does not get smaller is never
    /// stored compressed.
    #[must_use]
    pub fn above(mut self, bytes: usize) -> Self {
        self.above = bytes;
        self
    }

    /// How many bytes a value may unpack to, so that a few bytes on the server cannot fill this
    /// process's memory. A larger one is an error, when it is to be compressed as when it is read.
    ///
    /// ```
    /// use cacheio::{Codec, Compressed, Json};
    ///
    /// let codec = Compressed::zstd(Json).at_most(1000);
    /// assert!(codec.encode(&"long".repeat(1000)).is_err());
    /// ```
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.at_most = bytes;
        self
    }

    /// The compressed form of some bytes, with its mark.
    fn pack(&self, bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
        if bytes.len() > self.at_most {
            return Err(format!(
                "a value of {} bytes could not be read again: at most {} may be unpacked (`at_most`)",
                bytes.len(),
                self.at_most
            )
            .into());
        }
        let (mark, packed) = match self.algorithm {
            #[cfg(feature = "zstd")]
            Algorithm::Zstd { level } => (ZSTD, zstd::pack(bytes, level)?),
            #[cfg(feature = "lz4")]
            Algorithm::Lz4 => (LZ4, lz4::pack(bytes)?),
        };
        Ok([&[MARK, mark][..], &packed].concat())
    }

    /// What the inner codec made.
    fn unpack<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, BoxError> {
        Ok(match bytes {
            [MARK, PLAIN, plain @ ..] => plain.into(),
            #[cfg(feature = "zstd")]
            [MARK, ZSTD, packed @ ..] => zstd::unpack(packed, self.at_most)?.into(),
            #[cfg(feature = "lz4")]
            [MARK, LZ4, packed @ ..] => lz4::unpack(packed, self.at_most)?.into(),
            [MARK, mark, ..] => return Err(unknown(*mark).into()),
            plain => plain.into(),
        })
    }
}

impl Codec for Compressed {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, BoxError> {
        let plain = self.codec.encode(value)?;
        if plain.len() > self.above {
            let packed = self.pack(&plain)?;
            if packed.len() < plain.len() {
                return Ok(packed);
            }
        }
        Ok(match plain.as_slice() {
            [MARK, _, ..] => [&[MARK, PLAIN][..], &plain].concat(),
            _ => plain,
        })
    }

    fn decode(
        &self,
        bytes: &[u8],
        read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        self.codec.decode(&self.unpack(bytes)?, read)
    }
}

fn unknown(mark: u8) -> &'static str {
    match mark {
        ZSTD => "it is compressed by Zstandard: turn on the feature `zstd` of cacheio",
        LZ4 => "it is compressed by LZ4: turn on the feature `lz4` of cacheio",
        _ => "it is compressed in a way that is unknown here",
    }
}

/// The error for what says that it unpacks to more than it may.
pub(super) fn too_large(bytes: u64, at_most: usize) -> BoxError {
    format!("it unpacks to {bytes} bytes, and at most {at_most} are allowed (`at_most`)").into()
}
