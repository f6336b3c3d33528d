//! Fetch, decode, write: bounded in bytes, parallel in all three.
//!
//! A thread plans reads, a few connections fetch them, and a worker on every core decodes whole frames, compares
//! their hashes and writes their content. Whatever is in flight is paid for from one byte budget, so memory depends
//! neither on the number of files nor on the speed of the network.

mod decode;
mod fetch;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bundle::Hash;
use bundle::frame::FrameError;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

pub(super) use self::fetch::{BACKOFF_FIRST, BACKOFF_MAX};
use super::meter::Meter;
use super::reads::{Frame, Want};
use super::source::{PackSource, SourceError};

/// How the pipeline runs.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Bytes of frames that may be in memory.
    pub budget_bytes: u64,
    /// Reads under way at once.
    pub connections: usize,
    /// Threads that decode and write.
    pub workers: usize,
    /// How long a source that does not deliver is waited for.
    pub patience: Duration,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self { budget_bytes: 48 << 20, connections: 4, workers: cores.max(2), patience: Duration::from_secs(1800) }
    }
}

/// Where decoded content goes. Content comes in any order, from several threads at once.
pub trait Sink<T>: Sync {
    /// Why content cannot be written.
    type Error: Send;
    /// What each thread keeps for itself.
    type Worker;
    /// What a new thread begins with.
    fn worker(&self) -> Self::Worker;
    /// Writes the content of one chunk.
    ///
    /// # Errors
    /// Any error ends the pipeline.
    fn write(&self, worker: &mut Self::Worker, target: &T, content: &[u8]) -> Result<(), Self::Error>;
}

/// Something the pipeline wants known while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A source does not deliver; it is tried again.
    Waiting {
        /// What it said.
        why: String,
        /// In how long.
        again_in: Duration,
    },
    /// It delivers again.
    Resumed,
    /// A frame arrived damaged and is asked for again.
    Damaged {
        /// The pack.
        pack: Hash,
        /// The chunk.
        chunk: Hash,
    },
}

/// Why the pipeline stopped. `W` is what the sink says, `P` what the plan of reads says.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError<W, P> {
    /// What to read could not be found out.
    #[error("cannot tell what to read next")]
    Plan(P),
    /// A source did not deliver for as long as was to be waited, or refused.
    #[error("cannot read pack {pack}")]
    Source {
        /// The pack.
        pack: Hash,
        /// What the source said last.
        source: SourceError,
    },
    /// A frame is damaged wherever it is read from.
    #[error("chunk {chunk} in pack {pack} is damaged")]
    Damaged {
        /// The pack.
        pack: Hash,
        /// The chunk.
        chunk: Hash,
        /// How.
        source: Box<FrameError>,
    },
    /// Content could not be written.
    #[error("cannot write")]
    Write(W),
}

/// The bytes of one read, and its share of the budget, which ends with its last frame.
struct Arrived {
    bytes: Bytes,
    pack: Hash,
    start: u64,
    _share: OwnedSemaphorePermit,
}

/// One frame for a worker.
struct Job<T> {
    read: Arc<Arrived>,
    frame: Frame<T>,
}

/// What all parts share.
struct Shared<'a, W, P> {
    source: &'a dyn PackSource,
    options: &'a PipelineOptions,
    meter: &'a Meter,
    notify: &'a (dyn Fn(Notice) + Sync),
    runtime: &'a Handle,
    stop: AtomicBool,
    failure: std::sync::Mutex<Option<PipelineError<W, P>>>,
}

impl<W, P> Shared<'_, W, P> {
    /// Keeps the first failure and tells every part to stop.
    fn fail(&self, error: PipelineError<W, P>) {
        let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.get_or_insert(error);
        self.stop.store(true, Ordering::Release);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// Brings everything in `wants` to `sink`. Returns when all is written, or after the first failure when all parts
/// have stopped. `runtime` has threads of its own: connections live on it, and workers wait on it too.
///
/// # Errors
/// The first failure of any part.
pub fn run<T, S, P>(
    source: &dyn PackSource,
    wants: impl Iterator<Item = Result<Want<T>, P>> + Send,
    sink: &S,
    options: &PipelineOptions,
    meter: &Meter,
    notify: &(dyn Fn(Notice) + Sync),
    runtime: &Handle,
) -> Result<(), PipelineError<S::Error, P>>
where
    T: Send,
    S: Sink<T>,
    P: Send,
{
    let failure = std::sync::Mutex::new(None);
    let shared = Shared { source, options, meter, notify, runtime, stop: AtomicBool::new(false), failure };
    thread::scope(|scope| {
        let shared = &shared;
        let (reads_in, reads_out) = mpsc::channel(2 * options.connections.max(1));
        // Unbounded in frames: the budget bounds it in bytes.
        let (jobs_in, jobs_out) = crossbeam_channel::unbounded();
        scope.spawn(move || fetch::plan_all(shared, wants, &reads_in));
        for _ in 0..options.workers.max(1) {
            let jobs = jobs_out.clone();
            scope.spawn(move || decode::work(shared, sink, &jobs));
        }
        drop(jobs_out);
        runtime.block_on(fetch::fetch_all(shared, reads_out, jobs_in));
    });
    match shared.failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
