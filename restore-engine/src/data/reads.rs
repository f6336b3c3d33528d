//! Which bytes of which packs to ask for, so that a restore is few long reads.
//!
//! Chunks come in stream order. Within a window, those of one pack are gathered, and neighbours become one read.

use std::collections::HashMap;
use std::ops::Range;

use bundle::Hash;
use bundle::limits::{CHUNK_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX};

/// A read is closed at this length: long enough that a round trip costs little, short enough that several share the
/// byte budget.
pub(super) const READ_BYTES_MAX: u64 = 8 << 20;

/// Content that one window looks over. A chunk may so be written this much before its turn, never more.
pub(super) const WINDOW_BYTES: u64 = 128 << 20;

/// Chunks in one window, which bounds its memory where all are small.
pub(super) const WINDOW_CHUNKS_MAX: usize = 16_384;

const _: () = assert!(READ_BYTES_MAX >= (CHUNK_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX) as u64);

/// Where a chunk's frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: Hash,
    /// First byte of the frame in the pack.
    pub offset: u64,
    /// Bytes of the frame.
    pub stored_len: u32,
}

/// A chunk that is wanted, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want<T> {
    /// Hash of its content.
    pub hash: Hash,
    /// Bytes of its content.
    pub content_len: u32,
    /// Where it lies.
    pub place: Place,
    /// What it is wanted for.
    pub target: T,
}

/// One frame within a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame<T> {
    /// Where it begins in the read.
    pub offset_in_read: usize,
    /// Its length.
    pub stored_len: u32,
    /// Hash of its content.
    pub hash: Hash,
    /// Bytes of its content.
    pub content_len: u32,
    /// Everything it is wanted for: equal chunks near each other are read once.
    pub targets: Vec<T>,
}

/// One ranged read of one pack. Its bytes are whole frames without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read<T> {
    /// The pack.
    pub pack: Hash,
    /// The bytes.
    pub range: Range<u64>,
    /// The frames in them, in order.
    pub frames: Vec<Frame<T>>,
}

impl<T> Read<T> {
    /// Bytes of the read.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Takes one window's worth of wants from the front of `wants`.
///
/// # Errors
/// The first error that `wants` yields.
pub(super) fn take_window<T, E>(wants: &mut impl Iterator<Item = Result<Want<T>, E>>) -> Result<Vec<Want<T>>, E> {
    let mut window = Vec::new();
    let mut content_bytes = 0;
    while content_bytes < WINDOW_BYTES && window.len() < WINDOW_CHUNKS_MAX {
        let Some(want) = wants.next().transpose()? else { break };
        content_bytes += u64::from(want.content_len);
        window.push(want);
    }
    Ok(window)
}

/// The reads that bring all of `window`, in the order in which the stream first needs them.
pub(super) fn plan_reads<T>(window: Vec<Want<T>>) -> Vec<Read<T>> {
    // Each frame with the turn at which it is first needed.
    let mut frames: Vec<(usize, Place, Frame<T>)> = Vec::with_capacity(window.len());
    let mut seen: HashMap<Hash, usize> = HashMap::with_capacity(window.len());
    for want in window {
        let next = frames.len();
        match *seen.entry(want.hash).or_insert(next) {
            index if index < next => frames[index].2.targets.push(want.target),
            _ => {
                let Want { hash, content_len, place, target } = want;
                let stored_len = place.stored_len;
                let frame = Frame { offset_in_read: 0, stored_len, hash, content_len, targets: vec![target] };
                frames.push((next, place, frame));
            }
        }
    }
    frames.sort_by_key(|(_, place, _)| (place.pack, place.offset));
    let mut reads: Vec<(usize, Read<T>)> = Vec::new();
    for (turn, place, mut frame) in frames {
        let end = place.offset + u64::from(place.stored_len);
        match reads.last_mut() {
            Some((first, read))
                if read.pack == place.pack
                    && read.range.end == place.offset
                    && end - read.range.start <= READ_BYTES_MAX =>
            {
                frame.offset_in_read = (place.offset - read.range.start) as usize;
                read.range.end = end;
                read.frames.push(frame);
                *first = turn.min(*first);
            }
            _ => reads.push((turn, Read { pack: place.pack, range: place.offset..end, frames: vec![frame] })),
        }
    }
    reads.sort_by_key(|(first, _)| *first);
    reads.into_iter().map(|(_, read)| read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(name: u8, pack: u8, offset: u64, stored_len: u32) -> Want<u8> {
        let place = Place { pack: Hash::of(&[pack]), offset, stored_len };
        Want { hash: Hash::of(&[0, name]), content_len: stored_len, place, target: name }
    }

    fn shape(reads: &[Read<u8>]) -> Vec<(Range<u64>, Vec<Vec<u8>>)> {
        reads.iter().map(|r| (r.range.clone(), r.frames.iter().map(|f| f.targets.clone()).collect())).collect()
    }

    #[test]
    fn neighbours_become_one_read_and_strangers_do_not() {
        let reads = plan_reads(vec![want(1, 1, 0, 10), want(2, 1, 10, 5), want(3, 1, 16, 5), want(4, 2, 21, 5)]);
        assert_eq!(shape(&reads), [(0..15, vec![vec![1], vec![2]]), (16..21, vec![vec![3]]), (21..26, vec![vec![4]])]);
        assert_eq!(reads[0].frames[1].offset_in_read, 10);
    }

    #[test]
    fn reads_come_in_the_order_in_which_the_stream_needs_them() {
        let reads = plan_reads(vec![want(1, 2, 100, 10), want(2, 1, 0, 10), want(3, 2, 90, 10)]);
        assert_eq!(shape(&reads), [(90..110, vec![vec![3], vec![1]]), (0..10, vec![vec![2]])]);
    }

    #[test]
    fn a_chunk_wanted_twice_is_read_once() {
        let again = Want { target: 9, ..want(1, 1, 0, 10) };
        let reads = plan_reads(vec![want(1, 1, 0, 10), want(2, 1, 10, 5), again]);
        assert_eq!(shape(&reads), [(0..15, vec![vec![1, 9], vec![2]])]);
    }

    #[test]
    fn a_read_is_closed_before_it_grows_too_long() {
        let piece = 3 << 20;
        let reads = plan_reads((0..5).map(|i| want(i, 1, u64::from(i) * u64::from(piece), piece)).collect());
        assert!(reads.iter().all(|read| read.stored_bytes() <= READ_BYTES_MAX));
        assert_eq!(reads.iter().map(|read| read.frames.len()).collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[test]
    fn a_window_ends_where_it_holds_enough() {
        let mut wants = (0..=255u8).map(|i| Ok::<_, ()>(want(i, 1, 0, 4 << 20)));
        assert_eq!(take_window(&mut wants).unwrap().len(), 32);
    }
}
