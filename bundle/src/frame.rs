//! One chunk, compressed: a zstd frame that decodes alone.

use zstd::zstd_safe::{self, CParameter};

use crate::Hash;
use crate::limits::{CHUNK_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX};

/// The level that captures compress at when nobody says otherwise.
pub const LEVEL_DEFAULT: i32 = 3;

/// The four bytes that every zstd frame begins with.
const FRAME_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// Why bytes are not the frame they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More content than a chunk may have.
    #[error("a chunk of {bytes} bytes is larger than the {CHUNK_BYTES_MAX} allowed")]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
    /// The bytes are not one zstd frame of the form the format allows.
    #[error("not a zstd frame of this format: {why}")]
    Malformed {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The frame holds another amount of content than it should.
    #[error("the frame says it holds {found} bytes and should hold {expected}")]
    WrongLength {
        /// Bytes it should hold.
        expected: u32,
        /// Bytes its header announces.
        found: u64,
    },
    /// zstd could not do it.
    #[error("zstd: {message}")]
    Zstd {
        /// zstd's own words.
        message: &'static str,
    },
    /// The content is not what was asked for.
    #[error("the content has the hash {found} and should have {expected}")]
    WrongHash {
        /// The hash asked for.
        expected: Hash,
        /// The hash of what was decoded.
        found: Hash,
    },
}

impl FrameError {
    fn zstd(code: zstd_safe::ErrorCode) -> Self {
        Self::Zstd { message: zstd_safe::get_error_name(code) }
    }
}

/// Compresses chunks, one after another, with memory that is taken once.
pub struct Compressor(zstd_safe::CCtx<'static>);

impl Compressor {
    /// A compressor of the given zstd level.
    pub fn new(level: i32) -> Result<Self, FrameError> {
        let mut context = zstd_safe::CCtx::create();
        for parameter in [
            CParameter::CompressionLevel(level),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            context.set_parameter(parameter).map_err(FrameError::zstd)?;
        }
        Ok(Self(context))
    }

    /// One frame that holds `content`. Its window is never larger than the content, so never larger than 4 MiB.
    pub fn compress(&mut self, content: &[u8]) -> Result<Vec<u8>, FrameError> {
        if content.len() > CHUNK_BYTES_MAX as usize {
            return Err(FrameError::TooLarge { bytes: content.len() as u64 });
        }
        let mut frame = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
        self.0.compress2(&mut frame, content).map_err(FrameError::zstd)?;
        frame.shrink_to_fit();
        Ok(frame)
    }
}

/// One frame that holds `content`. [`Compressor`] is quicker for many.
pub fn compress(content: &[u8], level: i32) -> Result<Vec<u8>, FrameError> {
    Compressor::new(level)?.compress(content)
}

/// Decompresses chunks, one after another, with memory that is taken once.
pub struct Decompressor(zstd_safe::DCtx<'static>);

impl Default for Decompressor {
    fn default() -> Self {
        Self(zstd_safe::DCtx::create())
    }
}

impl Decompressor {
    /// A decompressor.
    pub fn new() -> Self {
        Self::default()
    }

    /// The content of `frame`, which must be exactly `content_len` bytes and have the hash `hash`. No more memory is
    /// taken than that, whatever the frame says.
    pub fn decompress_exact(&mut self, frame: &[u8], content_len: u32, hash: &Hash) -> Result<Vec<u8>, FrameError> {
        let content = self.decompress_unhashed(frame, content_len)?;
        let found = Hash::of(&content);
        if found != *hash {
            return Err(FrameError::WrongHash { expected: *hash, found });
        }
        Ok(content)
    }

    /// As [`Self::decompress_exact`], for content whose hash is checked elsewhere: catalog segments are named by the
    /// hash of the frame.
    pub(crate) fn decompress_unhashed(&mut self, frame: &[u8], content_len: u32) -> Result<Vec<u8>, FrameError> {
        let announced = content_len_of(frame)?;
        if announced != u64::from(content_len) {
            return Err(FrameError::WrongLength { expected: content_len, found: announced });
        }
        let mut content = Vec::with_capacity(content_len as usize);
        self.0.decompress(&mut content, frame).map_err(FrameError::zstd)?;
        if content.len() != content_len as usize {
            return Err(FrameError::WrongLength { expected: content_len, found: content.len() as u64 });
        }
        Ok(content)
    }
}

/// The content of one frame, as [`Decompressor::decompress_exact`], which is quicker for many.
pub fn decompress_exact(frame: &[u8], content_len: u32, hash: &Hash) -> Result<Vec<u8>, FrameError> {
    Decompressor::new().decompress_exact(frame, content_len, hash)
}

/// How much content a frame announces, after checking that `bytes` are exactly one frame that may be decoded: no
/// dictionary, no window beyond a chunk's size, its content's length in its header and within bounds.
pub fn content_len_of(bytes: &[u8]) -> Result<u64, FrameError> {
    let malformed = |why| FrameError::Malformed { why };
    if bytes.len() as u64 > u64::from(CHUNK_BYTES_MAX) + u64::from(FRAME_OVERHEAD_BYTES_MAX) {
        return Err(FrameError::TooLarge { bytes: bytes.len() as u64 });
    }
    if !bytes.starts_with(&FRAME_MAGIC) {
        return Err(malformed("it does not begin with zstd's magic number"));
    }
    // RFC 8878, 3.1.1.1: the descriptor, then a window descriptor unless the frame is a single segment.
    let &[descriptor, next, ..] = &bytes[4..] else { return Err(malformed("it ends within its header")) };
    if descriptor & 0b0000_1011 != 0 {
        return Err(malformed("it needs a dictionary or uses a reserved bit"));
    }
    let single_segment = descriptor & 0b0010_0000 != 0;
    if !single_segment {
        let (exponent, mantissa) = (u64::from(next >> 3), u64::from(next & 7));
        let base = 1u64 << (10 + exponent);
        if base + base / 8 * mantissa > u64::from(CHUNK_BYTES_MAX) {
            return Err(malformed("its window is larger than a chunk"));
        }
    }
    let content_len = zstd_safe::get_frame_content_size(bytes)
        .map_err(|_| malformed("its header is damaged"))?
        .ok_or_else(|| malformed("it does not say how much it holds"))?;
    if content_len > u64::from(CHUNK_BYTES_MAX) {
        return Err(FrameError::TooLarge { bytes: content_len });
    }
    match zstd_safe::find_frame_compressed_size(bytes) {
        Ok(length) if length == bytes.len() => Ok(content_len),
        Ok(_) => Err(malformed("bytes follow it")),
        Err(_) => Err(malformed("it is cut short or damaged")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_survives_at_every_level_and_size() {
        for level in [-5, 1, 3, 19, 22] {
            for size in [0, 1, 512, 300_000, CHUNK_BYTES_MAX as usize] {
                let content: Vec<u8> = (0..size).map(|i| ((i * i) >> 7) as u8).collect();
                let frame = compress(&content, level).unwrap();
                assert_eq!(decompress_exact(&frame, size as u32, &Hash::of(&content)).unwrap(), content);
            }
        }
    }

    #[test]
    fn a_chunk_beyond_the_limit_is_not_compressed() {
        let content = vec![0; CHUNK_BYTES_MAX as usize + 1];
        assert_eq!(compress(&content, 3), Err(FrameError::TooLarge { bytes: content.len() as u64 }));
    }

    #[test]
    fn other_content_than_asked_for_is_refused() {
        let frame = compress(b"content", 3).unwrap();
        let wrong = decompress_exact(&frame, 7, &Hash::of(b"another"));
        assert!(matches!(wrong, Err(FrameError::WrongHash { .. })), "{wrong:?}");
        let short = decompress_exact(&frame, 6, &Hash::of(b"content"));
        assert_eq!(short, Err(FrameError::WrongLength { expected: 6, found: 7 }));
    }

    #[test]
    fn only_exactly_one_frame_is_accepted() {
        let frame = compress(b"content", 3).unwrap();
        let skippable = [&0x184D_2A50_u32.to_le_bytes()[..], &0_u32.to_le_bytes()].concat();
        for (bytes, why) in [
            ([&frame[..], &frame].concat(), "two frames"),
            ([&frame[..], &[0]].concat(), "a byte behind"),
            (frame[..frame.len() - 1].to_vec(), "cut short"),
            (skippable.clone(), "a skippable frame"),
            ([&skippable[..], &frame].concat(), "a skippable frame before"),
            (Vec::new(), "nothing"),
        ] {
            assert!(content_len_of(&bytes).is_err(), "{why}");
        }
    }

    #[test]
    fn fault_37_a_bomb_or_a_huge_window_takes_no_memory() {
        // A gibibyte of zeros in a few kilobytes.
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        assert_eq!(content_len_of(&bomb), Err(FrameError::TooLarge { bytes: 64 << 20 }));

        // A frame that lies about its length: the header says 7, the blocks hold more.
        let mut lying = compress(&[b'x'; 200], 3).unwrap();
        assert_eq!(lying[5], 200, "single segment with a content size of one byte");
        lying[5] = 7;
        assert!(decompress_exact(&lying, 7, &Hash::of(b"xxxxxxx")).is_err());

        // A window of 128 MiB for a few bytes.
        let mut context = zstd_safe::CCtx::create();
        context.set_parameter(CParameter::WindowLog(27)).unwrap();
        let mut frame = Vec::with_capacity(1024);
        let mut input = zstd_safe::InBuffer::around(b"small");
        let mut output = zstd_safe::OutBuffer::around(&mut frame);
        context
            .compress_stream2(&mut output, &mut input, zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_flush)
            .unwrap();
        context.end_stream(&mut output).unwrap();
        let refused = content_len_of(&frame);
        assert_eq!(refused, Err(FrameError::Malformed { why: "its window is larger than a chunk" }));
    }

    proptest! {
        #[test]
        fn damaged_frames_are_errors_and_never_another_content(
            seed in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let content: Vec<u8> = (0..2000u64).map(|i| (seed.rotate_left(i as u32 % 64) >> (i % 8)) as u8 & 0x3f).collect();
            let mut frame = compress(&content, 3).unwrap();
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            if let Ok(found) = decompress_exact(&frame, 2000, &Hash::of(&content)) {
                prop_assert_eq!(found, content);
            }
        }
    }
}
