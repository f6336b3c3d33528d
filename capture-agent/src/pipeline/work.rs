//! Hashing and compressing, on every core.

use bundle::Hash;
use bundle::frame::FrameError;
use crossbeam_channel::{Receiver, Sender, select};

use super::{Cut, Hashed, Pipeline, Settled};
use crate::CaptureError;

/// One worker. Compressing comes first: it frees memory.
pub(super) fn work(
    pipeline: &Pipeline<'_>,
    mut compressor: impl FnMut(&[u8]) -> Result<Vec<u8>, FrameError>,
    to_hash: &Receiver<Cut>,
    hashed: Sender<Hashed>,
    to_compress: &Receiver<Hashed>,
    settled: &Sender<Settled>,
) -> Result<(), CaptureError> {
    // Once nothing more is to be hashed, this worker's end of the queue is closed: the resolver waits for that.
    let mut hashed = Some(hashed);
    while let Some(open) = &hashed {
        if let Ok(chunk) = to_compress.try_recv() {
            compress(&mut compressor, chunk, settled)?;
            continue;
        }
        select! {
            recv(to_compress) -> chunk => match chunk {
                Ok(chunk) => compress(&mut compressor, chunk, settled)?,
                // The resolver ended before its input did: it failed and has said so.
                Err(_) => return Ok(()),
            },
            recv(to_hash) -> chunk => match chunk {
                Ok(Cut { number, volume, ticket, content, charge }) => {
                    let hash = Hash::of(&content);
                    pipeline.note_hash(volume, ticket, hash);
                    if open.send(Hashed { number, hash, content, charge }).is_err() {
                        return Ok(());
                    }
                }
                Err(_) => hashed = None,
            },
        }
    }
    while let Ok(chunk) = to_compress.recv() {
        compress(&mut compressor, chunk, settled)?;
    }
    Ok(())
}

fn compress(
    compressor: &mut impl FnMut(&[u8]) -> Result<Vec<u8>, FrameError>,
    chunk: Hashed,
    settled: &Sender<Settled>,
) -> Result<(), CaptureError> {
    let Hashed { number, hash, content, charge } = chunk;
    let frame = compressor(&content)?;
    // If the packer is gone it has failed and said so.
    let _ = settled.send(Settled { number, charge, frame: Some((hash, frame)) });
    Ok(())
}
