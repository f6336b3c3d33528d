//! The map of a sparse file, GNU's PAX format 1.0: decimal numbers in lines, before the data.

use std::fmt::Write;

use node_model::Extent;

use super::BLOCK_BYTES;
use crate::limits::SPARSE_EXTENTS_MAX;

/// The map, padded to blocks. A file that ends in a hole has a last extent of no bytes at its end, because GNU tar
/// takes the size to restore from there.
pub(super) fn encode(size: u64, extents: &[Extent]) -> Vec<u8> {
    let end = extents.last().map_or(0, |last| last.offset + last.length);
    let terminator = (end < size || size == 0).then_some(Extent { offset: size, length: 0 });
    let mut map = format!("{}\n", extents.len() + usize::from(terminator.is_some()));
    for extent in extents.iter().chain(&terminator) {
        // Writing to a String cannot fail.
        let _ = write!(map, "{}\n{}\n", extent.offset, extent.length);
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK_BYTES), 0);
    map
}

/// Reads the map that `bytes` begin with: the extents that hold data. Whether it is spelled as [`encode`] does is
/// left to the caller.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Extent>> {
    let mut lines = bytes.split(|&b| b == b'\n');
    let mut number = || {
        let line = lines.next().filter(|line| (1..=19).contains(&line.len()))?;
        let digit = |n: u64, b: &u8| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0'));
        line.iter().try_fold(0, digit)
    };
    let count = usize::try_from(number()?).ok().filter(|&count| count <= SPARSE_EXTENTS_MAX + 1)?;
    let mut extents = Vec::with_capacity(count);
    for _ in 0..count {
        extents.push(Extent { offset: number()?, length: number()? });
    }
    extents.pop_if(|last| last.length == 0);
    Some(extents)
}
