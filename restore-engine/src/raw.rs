//! Raw volumes: small regions, byte for byte.

use std::sync::Mutex;

use bundle::list::ChunkKind;
use node_model::VolumeName;
use tokio::runtime::Handle;

use crate::data::{Meter, Notice, PipelineError, PipelineOptions, ProvenVolume, Sink, SnapshotSource, Want, run};

/// The largest raw volume: a BIOS boot partition is 1 MiB as a rule, a LUKS2 header 16 MiB.
pub const RAW_BYTES_MAX: u64 = 64 << 20;

/// Why a raw volume could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// It is no raw volume, or larger than one may be.
    #[error("volume `{volume}` is not a raw volume of at most {RAW_BYTES_MAX} bytes")]
    NotRaw {
        /// The volume.
        volume: VolumeName,
    },
    /// Its chunks could not be had.
    #[error("volume `{volume}` cannot be read")]
    Pipeline {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: Box<PipelineError<BeyondEnd, Misplaced>>,
    },
}

/// A chunk lies beyond the end of its volume.
#[derive(Debug, thiserror::Error)]
#[error("a chunk lies beyond the volume's end")]
pub struct BeyondEnd;

/// A chunk has no place.
#[derive(Debug, thiserror::Error)]
#[error("a chunk has no place")]
pub struct Misplaced;

struct Buffer(Mutex<Vec<u8>>);

impl Sink<u64> for Buffer {
    type Error = BeyondEnd;
    type Worker = ();
    fn worker(&self) {}
    fn write(&self, (): &mut (), offset: &u64, content: &[u8]) -> Result<(), BeyondEnd> {
        let mut bytes = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let start = usize::try_from(*offset).map_err(|_| BeyondEnd)?;
        let place = start.checked_add(content.len()).and_then(|end| bytes.get_mut(start..end)).ok_or(BeyondEnd)?;
        place.copy_from_slice(content);
        Ok(())
    }
}

/// All bytes of a raw volume.
///
/// # Errors
/// If it is none, or cannot be read.
pub fn read_raw(
    volume: &ProvenVolume,
    source: &dyn SnapshotSource,
    runtime: &Handle,
    options: &PipelineOptions,
    meter: &Meter,
    notify: &(dyn Fn(Notice) + Sync),
) -> Result<Vec<u8>, RawError> {
    let length = volume.content_bytes();
    if length > RAW_BYTES_MAX || volume.rows.iter().any(|row| row.kind != ChunkKind::Data) {
        return Err(RawError::NotRaw { volume: volume.name.clone() });
    }
    let buffer = Buffer(Mutex::new(vec![0; length as usize]));
    let wants = volume.rows.iter().map(|row| {
        let place = (volume.locate)(&row.hash).ok_or(Misplaced)?;
        Ok(Want { hash: row.hash, content_len: row.content_len, place, target: row.packed_offset })
    });
    run(source, wants, &buffer, options, meter, notify, runtime)
        .map_err(|source| RawError::Pipeline { volume: volume.name.clone(), source: Box::new(source) })?;
    Ok(buffer.0.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}
