//! Compression, for any codec.
//!
//! The first two bytes of a value tell what follows:
//!
//! | first bytes | followed by |
//! | --- | --- |
//! | `C0 00` | the bytes of the inner codec, which themselves begin with `C0` |
//! | `C0 01` | a Zstandard frame that contains the length of its content |
//! | `C0 02` | the length of the content of an LZ4 block (4 bytes, little-endian), and the block |
//!
//! Values with other first bytes, and a single `C0`, are the unchanged bytes of the inner codec.
//!
//! No UTF-8 text begins with `C0`, and in `MessagePack` it is nil, which is the whole value. So values
//! that JSON or `MessagePack` wrote without compression can be read. The header of an entry, which
//! begins with `C1`, comes before the bytes above.

use std::borrow::Cow;
use std::sync::Arc;

#[cfg(feature = "lz4")]
use super::lz4;
use super::room::Room;
#[cfg(feature = "zstd")]
use super::zstd;
use super::{Codec, Format, invalid};
use crate::error::BoxError;

const MARK: u8 = 0xC0;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const LZ4: u8 = 2;

/// Compresses the bytes of another codec, if that makes them smaller.
///
/// Values that were written with other settings can be read, and also uncompressed values of JSON
/// and [`MessagePack`]: settings can change without a flush of the cache. The bytes of [`Postcard`]
/// can begin with anything; to turn its compression on or off, change the namespace too.
///
/// # Defaults
///
/// - [`above`](Self::above): 1,024 bytes
/// - [`max_decompressed`](Self::max_decompressed): 16 MiB
/// - [`level`](Self::level) of Zstandard: 3
///
/// [`MessagePack`]: https://docs.rs/cacheio-core/latest/cacheio_core/struct.MessagePack.html
/// [`Postcard`]: https://docs.rs/cacheio-core/latest/cacheio_core/struct.Postcard.html
#[derive(Clone, Debug)]
pub struct Compressed {
    codec: Arc<dyn Codec>,
    algorithm: Algorithm,
    above: usize,
    max_decompressed: usize,
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
    /// Creates a codec that compresses with [Zstandard](https://facebook.github.io/zstd): small
    /// values, at a cost that is low compared with a network.
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

    /// Creates a codec that compresses with [LZ4](https://lz4.org): larger values than Zstandard's, in
    /// a fraction of the time, without C code.
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
            max_decompressed: 16 << 20,
        }
    }

    /// Sets the level of Zstandard, from 1 (fast) to 22 (small). Negative levels are faster still.
    ///
    /// A level out of range means the nearest one, and 0 means the default of 3. LZ4 has no levels.
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

    /// Sets the size in bytes above which values are compressed. A value that would not get smaller is
    /// stored uncompressed.
    #[must_use]
    pub fn above(mut self, bytes: usize) -> Self {
        self.above = bytes;
        self
    }

    /// Limits the size of a decompressed value, in bytes, so that a few bytes on a server cannot fill
    /// the memory of this process. To compress or read a larger value is an error. The parameter of a
    /// URL has the same name: `codec=json+zstd&max_decompressed=64MiB`.
    ///
    /// All readers of the process together decompress at most 64 MiB at the same time, or one larger
    /// value; further ones wait until others have been decoded.
    ///
    /// ```
    /// use cacheio::{Codec, Compressed, Json};
    ///
    /// let codec = Compressed::zstd(Json).max_decompressed(1000);
    /// assert!(codec.encode(&"long".repeat(1000)).is_err());
    /// ```
    #[must_use]
    pub fn max_decompressed(mut self, bytes: usize) -> Self {
        self.max_decompressed = bytes;
        self
    }

    /// Compresses bytes, and puts the mark before them.
    fn pack(&self, bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
        if bytes.len() > self.max_decompressed {
            return Err(invalid(format!(
                "the value has {} bytes; at most {} can be read again (`max_decompressed`)",
                bytes.len(),
                self.max_decompressed
            )));
        }
        let (mark, packed) = match self.algorithm {
            #[cfg(feature = "zstd")]
            Algorithm::Zstd { level } => (ZSTD, zstd::pack(bytes, level)?),
            #[cfg(feature = "lz4")]
            Algorithm::Lz4 => (LZ4, lz4::pack(bytes)?),
        };
        Ok([&[MARK, mark][..], &packed].concat())
    }

    /// Returns the bytes of the inner codec.
    fn unpack<'a>(&self, bytes: &'a [u8]) -> Result<Plain<'a>, BoxError> {
        let (bytes, room) = match bytes {
            [MARK, PLAIN, plain @ ..] => (plain.into(), None),
            #[cfg(feature = "zstd")]
            [MARK, ZSTD, packed @ ..] => {
                let length = zstd::content_length(packed, self.max_decompressed)?;
                let room = Room::reserve(length);
                (zstd::unpack(packed, length)?.into(), Some(room))
            }
            #[cfg(feature = "lz4")]
            [MARK, LZ4, packed @ ..] => {
                let (length, block) = lz4::content_length(packed, self.max_decompressed)?;
                let room = Room::reserve(length);
                (lz4::unpack(block, length)?.into(), Some(room))
            }
            [MARK, mark, ..] => return Err(invalid(unknown(*mark))),
            plain => (plain.into(), None),
        };
        Ok(Plain { bytes, _room: room })
    }
}

/// The bytes of the inner codec, and the room that they take.
struct Plain<'a> {
    bytes: Cow<'a, [u8]>,
    // Dropped after the bytes.
    _room: Option<Room>,
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
        self.codec.decode(&self.unpack(bytes)?.bytes, read)
    }

    fn format(&self) -> Option<Format> {
        self.codec.format()
    }
}

fn unknown(mark: u8) -> &'static str {
    match mark {
        ZSTD => "the value is compressed with Zstandard; turn on the feature `zstd` of cacheio",
        LZ4 => "the value is compressed with LZ4; turn on the feature `lz4` of cacheio",
        _ => "the value is compressed with an unknown algorithm",
    }
}
