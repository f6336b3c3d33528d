//! From the plan of reads to frames in memory: planning, connections, waiting for a source.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundle::Hash;
use bytes::Bytes;
use crossbeam_channel::Sender;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::super::reads::{READ_BYTES_MAX, Read, Want, plan_reads, take_window};
use super::super::source::SourceError;
use super::{Arrived, Job, Notice, PipelineError, Shared};

/// The unit in which the byte budget is counted, because a semaphore counts in 32 bits.
const PERMIT_BYTES: u64 = 1 << 10;

/// First wait before a failed read is tried again; it doubles up to [`BACKOFF_MAX`].
pub(in crate::data) const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest wait between two tries.
pub(in crate::data) const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Plans reads window by window until the wants end or somebody stops.
pub(super) fn plan_all<T, W, P>(
    shared: &Shared<'_, W, P>,
    mut wants: impl Iterator<Item = Result<Want<T>, P>>,
    reads: &mpsc::Sender<Read<T>>,
) {
    loop {
        let window = match take_window(&mut wants) {
            Ok(window) if window.is_empty() => return,
            Ok(window) => window,
            Err(error) => return shared.fail(PipelineError::Plan(error)),
        };
        for read in plan_reads(window) {
            if shared.stopped() || reads.blocking_send(read).is_err() {
                return;
            }
        }
    }
}

/// Keeps all connections busy until the reads end or somebody stops.
pub(super) async fn fetch_all<T, W, P>(
    shared: &Shared<'_, W, P>,
    reads: mpsc::Receiver<Read<T>>,
    jobs: Sender<Job<T>>,
) {
    let permits = (shared.options.budget_bytes.max(READ_BYTES_MAX) / PERMIT_BYTES) as usize;
    let budget = Arc::new(Semaphore::new(permits));
    let reads = Mutex::new(reads);
    let connection = || async {
        loop {
            // The lock is held while waiting for the budget, so that reads are paid for in their order.
            let mut queue = reads.lock().await;
            let Some(read) = queue.recv().await else { return };
            let share = read.stored_bytes().div_ceil(PERMIT_BYTES) as u32;
            let Ok(share) = budget.clone().acquire_many_owned(share).await else { return };
            drop(queue);
            if shared.stopped() || !fetch(shared, read, share, &jobs).await {
                return;
            }
        }
    };
    futures::future::join_all((0..shared.options.connections.max(1)).map(|_| connection())).await;
}

/// Fetches one read and hands out its frames. Says whether to go on.
async fn fetch<T, W, P>(
    shared: &Shared<'_, W, P>,
    read: Read<T>,
    share: OwnedSemaphorePermit,
    jobs: &Sender<Job<T>>,
) -> bool {
    let bytes = match read_patiently(shared, &read.pack, read.range.clone()).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return false,
        Err(source) => {
            shared.fail(PipelineError::Source { pack: read.pack, source });
            return false;
        }
    };
    let arrived = Arc::new(Arrived { bytes, pack: read.pack, start: read.range.start, _share: share });
    read.frames.into_iter().all(|frame| jobs.send(Job { read: arrived.clone(), frame }).is_ok())
}

/// Reads until the source delivers, refuses, or has been silent for too long. `None` if somebody said stop.
pub(super) async fn read_patiently<W, P>(
    shared: &Shared<'_, W, P>,
    pack: &Hash,
    range: Range<u64>,
) -> Result<Option<Bytes>, SourceError> {
    let started = Instant::now();
    let mut wait = BACKOFF_FIRST;
    let wanted = range.end - range.start;
    loop {
        if shared.stopped() {
            return Ok(None);
        }
        let error = match shared.source.read(pack, range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == wanted => {
                if wait > BACKOFF_FIRST {
                    (shared.notify)(Notice::Resumed);
                }
                shared.meter.fetched(wanted);
                return Ok(Some(bytes));
            }
            Ok(bytes) => SourceError::Passing {
                from: "the source".to_owned(),
                why: format!("{} bytes came instead of {wanted}", bytes.len()),
            },
            Err(error) => error,
        };
        let passing = matches!(error, SourceError::Passing { .. });
        if !passing || started.elapsed() >= shared.options.patience {
            return Err(error);
        }
        (shared.notify)(Notice::Waiting { why: error.to_string(), again_in: wait });
        tokio::time::sleep(wait).await;
        wait = (2 * wait).min(BACKOFF_MAX);
    }
}
