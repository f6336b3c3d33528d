//! Between which entries a tar chunk ends.

use crate::limits::CHUNK_BYTES_TARGET;

/// Whether a tar chunk ends behind the entry with this path, which takes `stream_bytes` of the stream: a keyed hash of
/// the path, read as a fraction of one, is below the entry's share of the average chunk. Neither the place in the tree
/// nor anything of the filesystem's own has a part in it, so equal trees are cut alike wherever they lie.
pub(super) fn ends_chunk(cut_key: &[u8; 32], path: &[u8], stream_bytes: u64) -> bool {
    let hash = blake3::keyed_hash(cut_key, path);
    let first_eight: [u8; 8] = std::array::from_fn(|i| hash.as_bytes()[i]);
    let fraction = u128::from(u64::from_le_bytes(first_eight));
    fraction * u128::from(CHUNK_BYTES_TARGET) < u128::from(stream_bytes) << 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_pinned() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let cut_behind: Vec<u32> =
            (0..300).filter(|i| ends_chunk(&key, format!("usr/share/doc/file-{i}").as_bytes(), 16 << 10)).collect();
        assert_eq!(cut_behind, GOLDEN);
        assert!(ends_chunk(&key, b"anything", u64::from(CHUNK_BYTES_TARGET)), "a whole share always cuts");
        assert!(!ends_chunk(&key, b"anything", 0));
    }

    const GOLDEN: [u32; 6] = [0, 75, 136, 218, 220, 295];

    #[test]
    fn chunks_come_out_at_about_a_mebibyte() {
        let key = [7; 32];
        let entries = 64 * 1024;
        let cuts = (0..entries).filter(|i: &u32| ends_chunk(&key, &i.to_le_bytes(), 1024)).count();
        assert!((48..=80).contains(&cuts), "{cuts} cuts in 64 MiB");
    }
}
