//! Packs, and their upload.

use std::collections::BTreeMap;

use bundle::pack::{Pack, PackBuilder};
use crossbeam_channel::{Receiver, Sender};

use super::{Pipeline, Settled};
use crate::CaptureError;

/// Puts frames into packs in the order their chunks were cut.
pub(super) fn pack(
    pipeline: &Pipeline<'_>,
    to_pack: &Receiver<Settled>,
    packed: &Sender<Pack>,
) -> Result<(), CaptureError> {
    let mut waiting: BTreeMap<u64, Settled> = BTreeMap::new();
    let mut next = 0;
    let mut builder = PackBuilder::new();
    while let Ok(chunk) = to_pack.recv() {
        waiting.insert(chunk.number, chunk);
        while let Some(Settled { charge, frame, .. }) = waiting.remove(&next) {
            next += 1;
            if let Some((hash, frame)) = frame {
                builder.push(hash, &frame)?;
                pipeline.counters.add(&pipeline.counters.new_chunks, 1);
            }
            pipeline.budget.give(charge);
            if builder.is_full() && !send(&mut builder, packed) {
                return Ok(());
            }
        }
    }
    if waiting.is_empty() {
        send(&mut builder, packed);
        Ok(())
    } else {
        // A worker ended with chunks in hand. It has said why, unless it could not.
        Err(CaptureError::BrokenOff)
    }
}

/// Hands a pack to the uploader, waiting for the one before it to be stored: no more than two are in memory. Whether
/// there is still an uploader.
fn send(builder: &mut PackBuilder, packed: &Sender<Pack>) -> bool {
    match std::mem::take(builder).finish() {
        Some(pack) => packed.send(pack).is_ok(),
        None => true,
    }
}

/// Uploads packs.
pub(super) fn upload(pipeline: &Pipeline<'_>, to_upload: &Receiver<Pack>) -> Result<(), CaptureError> {
    while let Ok(pack) = to_upload.recv() {
        let bytes = pack.bytes.len() as u64;
        pipeline.sink.put_pack(pack)?;
        pipeline.counters.add(&pipeline.counters.uploaded_bytes, bytes);
    }
    Ok(())
}
