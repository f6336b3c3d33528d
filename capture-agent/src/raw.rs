//! Small regions of a disk, byte for byte.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bundle::cut::{ChunkSink, CutVolume, RawCutter};
use node_model::VolumeName;

use crate::CaptureError;
use crate::progress::Counters;

/// Bytes read at once.
const READ_BYTES: u64 = 1 << 20;

/// Reads `length` bytes of `device` from `offset` on.
pub(crate) fn read_raw(
    volume: &VolumeName,
    device: &Path,
    offset: u64,
    length: u64,
    counters: &Counters,
    chunks: impl ChunkSink,
) -> Result<CutVolume, CaptureError> {
    let failed =
        |source| CaptureError::Raw { volume: volume.clone(), device: device.to_owned(), offset, length, source };
    let cut = |source| CaptureError::Cut { volume: volume.clone(), source };
    let file = File::open(device).map_err(failed)?;
    let mut cutter = RawCutter::new(chunks);
    let mut buffer = vec![0; READ_BYTES.min(length) as usize];
    let mut done = 0;
    while done < length {
        let piece = &mut buffer[..READ_BYTES.min(length - done) as usize];
        file.read_exact_at(piece, offset + done).map_err(failed)?;
        cutter.write(piece).map_err(cut)?;
        done += piece.len() as u64;
        counters.add(&counters.read_bytes, piece.len() as u64);
    }
    cutter.finish().map_err(cut)
}
