//! Content-defined cutting of large files.

use ::fastcdc::v2020::{FastCDC, Normalization};

use crate::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_BYTES_TARGET};
use crate::tar::padded;

/// The length of the first chunk of `window`: FastCDC (2020, level 1, no seed), rounded up to whole blocks. The window
/// holds [`CHUNK_BYTES_MAX`] bytes, or all that is left of the file; more or fewer would move the cut.
pub(super) fn first_cut(window: &[u8]) -> usize {
    let cutter = FastCDC::with_level(
        window,
        CHUNK_BYTES_MIN as usize,
        CHUNK_BYTES_TARGET as usize,
        CHUNK_BYTES_MAX as usize,
        Normalization::Level1,
    );
    let (_, cut) = cutter.cut(0, window.len());
    (padded(cut as u64) as usize).min(window.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hash;

    #[test]
    fn defect_of_fastcdc_the_cuts_of_a_known_file_are_pinned() {
        // BLAKE3 as a source of bytes that no other implementation can get wrong.
        let mut file = vec![0; 16 << 20];
        blake3::Hasher::new().update(b"rerack golden").finalize_xof().fill(&mut file);
        let mut cuts = Vec::new();
        let mut rest = &file[..];
        while !rest.is_empty() {
            let cut = first_cut(&rest[..rest.len().min(CHUNK_BYTES_MAX as usize)]);
            cuts.push(cut);
            rest = &rest[cut..];
        }
        assert_eq!(Hash::of(&file).to_string(), "ba339898320abdf4bb52a9fc7e13dc0c1657c407416b89f28d1d0e9c3db3e915");
        assert_eq!(
            cuts,
            [
                1126400, 1064960, 333824, 2437632, 1314816, 1063936, 1382912, 916992, 315392, 1084928, 1155584,
                1894400, 2055168, 630272
            ]
        );
    }
}
