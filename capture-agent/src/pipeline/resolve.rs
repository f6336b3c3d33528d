//! Which chunks have to be stored.

use std::collections::HashSet;

use bundle::Hash;
use crossbeam_channel::{Receiver, Sender};

use super::{Hashed, Pipeline, Settled};
use crate::CaptureError;
use crate::sink::SinkError;

/// Chunks asked about at once. While one answer is waited for, the next question gathers.
const BATCH_MAX: usize = 1024;

/// Asks the repository about chunks as they come, each only once.
pub(super) fn resolve(
    pipeline: &Pipeline<'_>,
    to_resolve: &Receiver<Hashed>,
    missing: &Sender<Hashed>,
    settled: &Sender<Settled>,
) -> Result<(), CaptureError> {
    let mut seen: HashSet<Hash> = HashSet::new();
    while let Ok(first) = to_resolve.recv() {
        let mut batch = Vec::new();
        for chunk in std::iter::once(first).chain(to_resolve.try_iter()).take(BATCH_MAX) {
            if seen.insert(chunk.hash) {
                batch.push(chunk);
            } else {
                let _ = settled.send(Settled { number: chunk.number, charge: chunk.charge, frame: None });
            }
        }
        if batch.is_empty() {
            continue;
        }
        let hashes: Vec<Hash> = batch.iter().map(|chunk| chunk.hash).collect();
        let answer = pipeline.sink.missing_chunks(&hashes)?;
        if answer.len() != hashes.len() {
            return Err(SinkError::OtherCount { asked: hashes.len(), found: answer.len() }.into());
        }
        for (chunk, is_missing) in batch.into_iter().zip(answer) {
            // If the other end of either queue is gone it has failed and said so.
            if is_missing {
                let _ = missing.send(chunk);
            } else {
                let _ = settled.send(Settled { number: chunk.number, charge: chunk.charge, frame: None });
            }
        }
    }
    Ok(())
}
