//! Raw volumes: bytes as they are.

use super::{ChunkSink, CutError, CutVolume, Output, PendingRow};
use crate::limits::CHUNK_BYTES_MAX;
use crate::list::{ChunkKind, RowFlags};

/// Cuts a region of bytes into data chunks of 4 MiB; the last one has what is left.
pub struct RawCutter<S> {
    output: Output<S>,
    waiting: Vec<u8>,
    volume: CutVolume,
}

impl<S: ChunkSink> RawCutter<S> {
    /// A cutter of one volume.
    pub fn new(sink: S) -> Self {
        let volume = CutVolume { rows: Vec::new(), entry_count: 0, stream_bytes: 0 };
        Self { output: Output::new(sink), waiting: Vec::new(), volume }
    }

    /// Takes the next bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), CutError> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES_MAX as usize - self.waiting.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
            if self.waiting.len() == CHUNK_BYTES_MAX as usize {
                self.cut()?;
            }
        }
        Ok(())
    }

    /// Ends the volume.
    pub fn finish(mut self) -> Result<CutVolume, CutError> {
        if !self.waiting.is_empty() {
            self.cut()?;
        }
        Ok(self.volume)
    }

    fn cut(&mut self) -> Result<(), CutError> {
        let content = std::mem::take(&mut self.waiting);
        let content_len = content.len() as u32;
        let ticket = self.output.give(content)?;
        self.volume.rows.push(PendingRow {
            kind: ChunkKind::Data,
            flags: RowFlags::default(),
            content_len,
            ticket,
            entry: 0,
            packed_offset: self.volume.stream_bytes,
        });
        self.volume.stream_bytes += u64::from(content_len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::RawChunk;

    #[test]
    fn a_region_is_cut_every_four_mebibytes_however_it_comes() {
        let region: Vec<u8> = (0..9 << 20).map(|i| (i >> 9) as u8).collect();
        for piece in [1 << 20, 4 << 20, 5 << 20, 100_001] {
            let mut chunks = Vec::new();
            let mut cutter = RawCutter::new(|chunk: RawChunk| {
                chunks.push(chunk.content);
                Ok(())
            });
            region.chunks(piece).for_each(|bytes| cutter.write(bytes).unwrap());
            let volume = cutter.finish().unwrap();
            let rows: Vec<_> = volume.rows.iter().map(|row| (row.packed_offset, row.content_len)).collect();
            assert_eq!(rows, [(0, 4 << 20), (4 << 20, 4 << 20), (8 << 20, 1 << 20)]);
            assert_eq!(chunks.concat(), region);
            assert_eq!(volume.stream_bytes, 9 << 20);
        }
    }
}
