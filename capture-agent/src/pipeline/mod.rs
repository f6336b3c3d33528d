//! The way of chunks from the cutter to the repository.
//!
//! Queues are unbounded; what bounds them is the [`Budget`] that a chunk takes when it is cut and gives back when it
//! is in a pack or known. Packs hold chunks in the order they were cut in, whichever thread was done first, so that a
//! restore reads them in long stretches and equal captures make equal packs.

mod budget;
mod pack;
mod resolve;
#[cfg(test)]
mod tests;
mod work;

use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

use bundle::Hash;
use bundle::cut::{ChunkHashes, ChunkSink, RawChunk, Stopped, Ticket};
use bundle::frame::{Compressor, FrameError};
use crossbeam_channel::{Sender, bounded, unbounded};

use crate::progress::Counters;
use crate::{CaptureError, CaptureOptions, Sink};
use budget::Budget;

/// Bytes of chunks on their way for each thread, so that each has one in hand and one waiting, and at most in all.
const BUDGET_BYTES_PER_THREAD: u64 = 8 << 20;
const BUDGET_BYTES_MAX: u64 = 24 << 20;

/// What all threads of a pipeline share.
pub(crate) struct Pipeline<'a> {
    sink: &'a dyn Sink,
    counters: &'a Counters,
    level: i32,
    threads: usize,
    budget: Budget,
    hashes: Mutex<Vec<ChunkHashes>>,
    failure: Mutex<Option<CaptureError>>,
}

/// A chunk that was cut.
struct Cut {
    number: u64,
    volume: usize,
    ticket: Ticket,
    content: Vec<u8>,
    charge: u64,
}

/// A chunk whose hash is known.
struct Hashed {
    number: u64,
    hash: Hash,
    content: Vec<u8>,
    charge: u64,
}

/// A chunk at the end of its way.
struct Settled {
    number: u64,
    charge: u64,
    /// Its frame, if it has to be stored.
    frame: Option<(Hash, Vec<u8>)>,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(sink: &'a dyn Sink, counters: &'a Counters, options: &CaptureOptions) -> Self {
        let threads = options.threads.get();
        let budget = (BUDGET_BYTES_PER_THREAD * threads as u64).min(BUDGET_BYTES_MAX);
        Self {
            sink,
            counters,
            level: options.level,
            threads,
            budget: Budget::new(budget),
            hashes: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Starts the threads. They end when the intake is dropped and all chunks are stored, or after a failure.
    pub(crate) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Intake<'scope> {
        self.start_with(scope, |level| {
            let mut compressor = Compressor::new(level)?;
            Ok(move |content: &[u8]| compressor.compress(content))
        })
    }

    /// As [`start`](Self::start), each thread compressing by what `compressor` gives it for a level.
    fn start_with<'scope, C>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        compressor: impl Fn(i32) -> Result<C, FrameError> + Copy + Send + 'scope,
    ) -> Intake<'scope>
    where
        C: FnMut(&[u8]) -> Result<Vec<u8>, FrameError>,
    {
        let (cut, to_hash) = unbounded();
        let (hashed, to_resolve) = unbounded();
        let (missing, to_compress) = unbounded();
        let (settled, to_pack) = unbounded();
        let (packed, to_upload) = bounded(0);
        for _ in 0..self.threads {
            let (hashed, settled) = (hashed.clone(), settled.clone());
            let (to_hash, to_compress) = (to_hash.clone(), to_compress.clone());
            let work = move || work::work(self, compressor(self.level)?, &to_hash, hashed, &to_compress, &settled);
            scope.spawn(move || self.guard(work));
        }
        drop(hashed);
        scope.spawn(move || self.guard(|| resolve::resolve(self, &to_resolve, &missing, &settled)));
        scope.spawn(move || self.guard(|| pack::pack(self, &to_pack, &packed)));
        scope.spawn(move || self.guard(|| pack::upload(self, &to_upload)));
        Intake { pipeline: self, cut, next_number: 0 }
    }

    /// Runs a thread's work; its failure stops the others.
    fn guard(&self, work: impl FnOnce() -> Result<(), CaptureError>) {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        if let Err(error) = ended.unwrap_or(Err(CaptureError::BrokenOff)) {
            self.fail(error);
        }
    }

    /// Notes the first failure and stops everything.
    pub(crate) fn fail(&self, error: CaptureError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that only notices that another one ended may be quicker than the one that knows why.
        if matches!(*failure, None | Some(CaptureError::BrokenOff)) {
            *failure = Some(error);
        }
        drop(failure);
        self.budget.stop();
    }

    /// The first failure, if there was one.
    pub(crate) fn take_failure(&self) -> Option<CaptureError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The hash of each ticket, by volume.
    pub(crate) fn into_hashes(self) -> Vec<ChunkHashes> {
        self.hashes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_hash(&self, volume: usize, ticket: Ticket, hash: Hash) {
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if hashes.len() <= volume {
            hashes.resize_with(volume + 1, ChunkHashes::new);
        }
        hashes[volume].set(ticket, hash);
    }
}

/// Where cutters put their chunks.
pub(crate) struct Intake<'p> {
    pipeline: &'p Pipeline<'p>,
    cut: Sender<Cut>,
    next_number: u64,
}

impl Intake<'_> {
    /// The sink for one volume's cutter.
    pub(crate) fn of_volume(&mut self, volume: usize) -> impl ChunkSink {
        move |RawChunk { ticket, content }: RawChunk| {
            let charge = self.pipeline.budget.take(content.len())?;
            let number = self.next_number;
            self.next_number += 1;
            self.pipeline.counters.add(&self.pipeline.counters.chunks, 1);
            self.cut.send(Cut { number, volume, ticket, content, charge }).map_err(|_| Stopped)
        }
    }
}
