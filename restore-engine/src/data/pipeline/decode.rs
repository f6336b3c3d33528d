//! From frames in memory to the sink: decoding, comparing, writing, and asking again for what is damaged.

use bundle::frame::{Decompressor, FrameError};
use crossbeam_channel::Receiver;

use super::super::meter::Work;
use super::fetch::read_patiently;
use super::{Job, Notice, PipelineError, Shared, Sink};

/// How often a frame that does not match its hash is asked for in all.
const DAMAGED_TRIES: u32 = 3;

/// Decodes and writes until there are no more frames or somebody stops.
pub(super) fn work<T, S: Sink<T>, P>(shared: &Shared<'_, S::Error, P>, sink: &S, jobs: &Receiver<Job<T>>) {
    let mut decompressor = Decompressor::new();
    let mut worker = sink.worker();
    while let Ok(job) = shared.meter.time(Work::NetworkWait, || jobs.recv()) {
        if shared.stopped() {
            // Frames are still taken, so that their shares of the budget are given back.
            continue;
        }
        if let Err(error) = decode_and_write(shared, sink, &mut worker, &mut decompressor, &job) {
            shared.fail(error);
        }
    }
}

fn decode_and_write<T, S: Sink<T>, P>(
    shared: &Shared<'_, S::Error, P>,
    sink: &S,
    worker: &mut S::Worker,
    decompressor: &mut Decompressor,
    job: &Job<T>,
) -> Result<(), PipelineError<S::Error, P>> {
    let frame = &job.frame;
    let stored = &job.read.bytes[frame.offset_in_read..][..frame.stored_len as usize];
    let decoded =
        shared.meter.time(Work::Decode, || decompressor.decompress_exact(stored, frame.content_len, &frame.hash));
    let content = match decoded {
        Ok(content) => content,
        Err(error) => read_again(shared, decompressor, job, error)?,
    };
    for target in &frame.targets {
        shared.meter.time(Work::Write, || sink.write(worker, target, &content)).map_err(PipelineError::Write)?;
        shared.meter.written(content.len() as u64);
    }
    Ok(())
}

/// Asks again for a frame that arrived damaged. It may have been harmed on its way; if it is damaged where it lies,
/// the pipeline ends, and nothing wrong was written.
fn read_again<T, W, P>(
    shared: &Shared<'_, W, P>,
    decompressor: &mut Decompressor,
    job: &Job<T>,
    first: FrameError,
) -> Result<Vec<u8>, PipelineError<W, P>> {
    let (frame, pack) = (&job.frame, job.read.pack);
    let start = job.read.start + frame.offset_in_read as u64;
    let range = start..start + u64::from(frame.stored_len);
    let mut error = first;
    for _ in 1..DAMAGED_TRIES {
        (shared.notify)(Notice::Damaged { pack, chunk: frame.hash });
        let bytes = shared
            .runtime
            .block_on(read_patiently(shared, &pack, range.clone()))
            .map_err(|source| PipelineError::Source { pack, source })?;
        let Some(bytes) = bytes else { break };
        match decompressor.decompress_exact(&bytes, frame.content_len, &frame.hash) {
            Ok(content) => return Ok(content),
            Err(again) => error = again,
        }
    }
    Err(PipelineError::Damaged { pack, chunk: frame.hash, source: Box::new(error) })
}
