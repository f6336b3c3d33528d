//! Fetch, decode, write: bounded in bytes, parallel in all three.
//!
//! A thread plans reads, a few connections fetch them, and a worker on every core decodes whole frames, compares
//! their hashes and writes their content. Whatever is in flight is paid for from one byte budget, so memory depends
//! neither on the number of files nor on the speed of the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bundle::Hash;
use bundle::frame::{Decompressor, FrameError};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::meter::{Meter, Work};
use super::reads::{Frame, READ_BYTES_MAX, Read, Want, plan_reads, take_window};
use super::source::{PackSource, SourceError};

/// The unit in which the byte budget is counted, because a semaphore counts in 32 bits.
const PERMIT_BYTES: u64 = 1 << 10;

/// First wait before a failed read is tried again; it doubles up to [`BACKOFF_MAX`].
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest wait between two tries.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How often a frame that does not match its hash is asked for in all.
const DAMAGED_TRIES: u32 = 3;

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
        scope.spawn(move || plan_all(shared, wants, &reads_in));
        for _ in 0..options.workers.max(1) {
            let jobs = jobs_out.clone();
            scope.spawn(move || work(shared, sink, &jobs));
        }
        drop(jobs_out);
        runtime.block_on(fetch_all(shared, reads_out, jobs_in));
    });
    match shared.failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Plans reads window by window until the wants end or somebody stops.
fn plan_all<T, W, P>(
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
async fn fetch_all<T, W, P>(shared: &Shared<'_, W, P>, reads: mpsc::Receiver<Read<T>>, jobs: Sender<Job<T>>) {
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
async fn read_patiently<W, P>(
    shared: &Shared<'_, W, P>,
    pack: &Hash,
    range: std::ops::Range<u64>,
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

/// Decodes and writes until there are no more frames or somebody stops.
fn work<T, S: Sink<T>, P>(shared: &Shared<'_, S::Error, P>, sink: &S, jobs: &Receiver<Job<T>>) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicUsize;

    use bundle::pack::{Pack, PackBuilder};
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;
    use crate::data::reads::Place;

    /// A source that holds one pack and has a fault to show on each read, until the faults are used up.
    struct Faulty {
        pack: Pack,
        faults: std::sync::Mutex<Vec<Fault>>,
        reads: AtomicUsize,
    }

    #[derive(Clone, Copy)]
    enum Fault {
        Break,
        Short,
        FlipBit(usize),
        Refuse,
    }

    impl PackSource for Faulty {
        fn read<'a>(&'a self, _: &'a Hash, range: std::ops::Range<u64>) -> BoxFuture<'a, Result<Bytes, SourceError>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let mut bytes = self.pack.bytes[range.start as usize..range.end as usize].to_vec();
            let from = "faulty".to_owned();
            let result = match self.faults.lock().unwrap().pop() {
                None => Ok(bytes.into()),
                Some(Fault::Break) => Err(SourceError::Passing { from, why: "connection reset".to_owned() }),
                Some(Fault::Refuse) => Err(SourceError::Lasting { from, why: "no such pack".to_owned() }),
                Some(Fault::Short) => Ok(bytes.split_off(1).into()),
                Some(Fault::FlipBit(at)) => {
                    let at = at % bytes.len();
                    bytes[at] ^= 1;
                    Ok(bytes.into())
                }
            };
            async move { result }.boxed()
        }
    }

    /// Keeps what is written, by target.
    #[derive(Default)]
    struct Kept(std::sync::Mutex<BTreeMap<usize, Vec<u8>>>);

    impl Sink<usize> for Kept {
        type Error = &'static str;
        type Worker = ();
        fn worker(&self) {}
        fn write(&self, (): &mut (), target: &usize, content: &[u8]) -> Result<(), &'static str> {
            if *target == 666 {
                return Err("the disk is full");
            }
            self.0.lock().unwrap().insert(*target, content.to_vec());
            Ok(())
        }
    }

    fn contents() -> Vec<Vec<u8>> {
        (0..40u32)
            .map(|i| (0..50_000 + i * 977).map(|b| (b.wrapping_mul(2_654_435_761) >> (i % 24)) as u8).collect())
            .collect()
    }

    fn faulty(faults: &[Fault]) -> Faulty {
        let mut builder = PackBuilder::new();
        for content in contents() {
            builder.push(Hash::of(&content), &bundle::frame::compress(&content, 1).unwrap()).unwrap();
        }
        let pack = builder.finish().unwrap();
        let faults = std::sync::Mutex::new(faults.iter().rev().copied().collect());
        Faulty { pack, faults, reads: AtomicUsize::new(0) }
    }

    fn wants(pack: &Pack) -> Vec<Want<usize>> {
        let rows = pack.index.rows().iter().enumerate();
        rows.map(|(target, row)| Want {
            hash: row.hash,
            content_len: row.content_len,
            place: Place { pack: pack.name, offset: row.offset, stored_len: row.stored_len },
            target,
        })
        .collect()
    }

    fn restore(source: &Faulty, wants: Vec<Want<usize>>) -> (Kept, Result<(), PipelineError<&'static str, ()>>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let kept = Kept::default();
        let options = PipelineOptions { patience: Duration::from_secs(2), ..PipelineOptions::default() };
        let wants = wants.into_iter().map(Ok);
        let result = run(source, wants, &kept, &options, &Meter::default(), &|_| (), runtime.handle());
        (kept, result)
    }

    fn assert_whole(kept: &Kept) {
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept.values().cloned().collect::<Vec<_>>(), contents());
    }

    #[test]
    fn everything_wanted_arrives() {
        let source = faulty(&[]);
        let (kept, result) = restore(&source, wants(&source.pack));
        result.unwrap();
        assert_whole(&kept);
        assert_eq!(source.reads.load(Ordering::Relaxed), 1, "neighbours are one read");
    }

    #[test]
    fn fault_22_a_connection_that_breaks_is_read_again() {
        let source = faulty(&[Fault::Break, Fault::Short, Fault::Break]);
        let (kept, result) = restore(&source, wants(&source.pack));
        result.unwrap();
        assert_whole(&kept);
    }

    #[test]
    fn fault_24_a_flipped_bit_is_never_written() {
        for at in [0, 5, 100, 40_000] {
            let source = faulty(&[Fault::FlipBit(at)]);
            let (kept, result) = restore(&source, wants(&source.pack));
            result.unwrap();
            assert_whole(&kept);
            assert_eq!(source.reads.load(Ordering::Relaxed), 2, "one frame is asked for again");
        }
    }

    #[test]
    fn fault_24_a_frame_that_stays_damaged_ends_the_restore() {
        let source = faulty(&[Fault::FlipBit(100); 3]);
        let (kept, result) = restore(&source, wants(&source.pack));
        assert!(matches!(result, Err(PipelineError::Damaged { .. })));
        for (target, content) in kept.0.lock().unwrap().iter() {
            assert_eq!(*content, contents()[*target]);
        }
    }

    #[test]
    fn fault_38_chunks_that_are_swapped_are_never_written() {
        let mut builder = PackBuilder::new();
        let contents = [[1u8; 5000], [2; 5000], [3; 5000]];
        for content in &contents {
            builder.push(Hash::of(content), &bundle::frame::compress(content, 1).unwrap()).unwrap();
        }
        let pack = builder.finish().unwrap();
        let mut wants = wants(&pack);
        assert_eq!(wants[1].content_len, wants[2].content_len, "nothing but the hash tells them apart");
        // Where chunks lie is not signed: a server may say what it likes.
        (wants[1].place, wants[2].place) = (wants[2].place, wants[1].place);
        let source = Faulty { pack, faults: std::sync::Mutex::default(), reads: AtomicUsize::new(0) };
        let (kept, result) = restore(&source, wants);
        assert!(matches!(result, Err(PipelineError::Damaged { .. })));
        let kept = kept.0.lock().unwrap();
        assert!(kept.iter().all(|(target, content)| *target == 0 && *content == contents[0]), "{:?}", kept.keys());
    }

    #[test]
    fn a_refusal_is_not_waited_for() {
        let source = faulty(&[Fault::Refuse]);
        let (_, result) = restore(&source, wants(&source.pack));
        assert!(matches!(result, Err(PipelineError::Source { source: SourceError::Lasting { .. }, .. })));
        assert_eq!(source.reads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_source_that_stays_away_ends_the_restore_after_the_patience_given() {
        let source = faulty(&[Fault::Break; 100]);
        let (_, result) = restore(&source, wants(&source.pack));
        assert!(matches!(result, Err(PipelineError::Source { source: SourceError::Passing { .. }, .. })));
    }

    #[test]
    fn a_disk_that_fails_ends_the_restore_and_nothing_hangs() {
        let source = faulty(&[]);
        let mut wants = wants(&source.pack);
        wants[7].target = 666;
        let (_, result) = restore(&source, wants);
        assert!(matches!(result, Err(PipelineError::Write("the disk is full"))));
    }

    /// A sink in which as many writes as there are workers must be under way at once before any of them ends.
    struct Meeting {
        all: usize,
        here: std::sync::Mutex<usize>,
        changed: std::sync::Condvar,
    }

    impl Sink<usize> for Meeting {
        type Error = &'static str;
        type Worker = bool;
        fn worker(&self) -> bool {
            false
        }
        fn write(&self, has_met: &mut bool, _: &usize, _: &[u8]) -> Result<(), &'static str> {
            if std::mem::replace(has_met, true) {
                return Ok(());
            }
            let mut here = self.here.lock().unwrap();
            *here += 1;
            self.changed.notify_all();
            let limit = Duration::from_secs(20);
            let waiting = |here: &mut usize| *here < self.all;
            let (_here, waited) = self.changed.wait_timeout_while(here, limit, waiting).unwrap();
            if waited.timed_out() { Err("the other workers do not write meanwhile") } else { Ok(()) }
        }
    }

    #[test]
    fn all_workers_write_at_once() {
        let source = faulty(&[]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let meeting = Meeting { all: 5, here: std::sync::Mutex::default(), changed: std::sync::Condvar::default() };
        let options = PipelineOptions { workers: 5, ..PipelineOptions::default() };
        let wants = wants(&source.pack).into_iter().map(Ok::<_, ()>);
        run(&source, wants, &meeting, &options, &Meter::default(), &|_| (), runtime.handle()).unwrap();
        assert_eq!(*meeting.here.lock().unwrap(), 5, "each worker wrote something");
    }

    /// A source that counts what it handed out, and how many reads were under way at once.
    struct Counted {
        pack: Pack,
        handed_out: std::sync::atomic::AtomicU64,
        now: AtomicUsize,
        at_once: AtomicUsize,
    }

    impl PackSource for Counted {
        fn read<'a>(&'a self, _: &'a Hash, range: std::ops::Range<u64>) -> BoxFuture<'a, Result<Bytes, SourceError>> {
            async move {
                let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
                self.at_once.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.now.fetch_sub(1, Ordering::SeqCst);
                self.handed_out.fetch_add(range.end - range.start, Ordering::SeqCst);
                Ok(self.pack.bytes[range.start as usize..range.end as usize].to_vec().into())
            }
            .boxed()
        }
    }

    /// A slow disk, which looks how much was handed out that it has not seen yet.
    struct Slow<'a> {
        source: &'a Counted,
        stored_lens: Vec<u64>,
        written: std::sync::atomic::AtomicU64,
        most_waiting: std::sync::atomic::AtomicU64,
    }

    impl Sink<usize> for Slow<'_> {
        type Error = &'static str;
        type Worker = ();
        fn worker(&self) {}
        fn write(&self, (): &mut (), target: &usize, _: &[u8]) -> Result<(), &'static str> {
            thread::sleep(Duration::from_millis(10));
            // In this order, so that what is handed out meanwhile is not taken for more than it is.
            let handed_out = self.source.handed_out.load(Ordering::SeqCst);
            let written = self.written.fetch_add(self.stored_lens[*target], Ordering::SeqCst);
            self.most_waiting.fetch_max(handed_out.saturating_sub(written), Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn what_waits_to_be_written_stays_within_the_budget_however_slow_the_disk_is() {
        // Noise, so that what is stored is as long as its content. Each chunk is as if in a pack of its own, so that each
        // is a read of its own.
        let contents = (0..40).map(|seed| bundle::testing::noise(seed, 1 << 20));
        let mut builder = PackBuilder::new();
        for content in contents {
            builder.push(Hash::of(&content), &bundle::frame::compress(&content, 1).unwrap()).unwrap();
        }
        let pack = builder.finish().unwrap();
        let mut wants = wants(&pack);
        wants.iter_mut().for_each(|want| want.place.pack = Hash::of(&want.target.to_le_bytes()));
        let stored_lens: Vec<u64> = wants.iter().map(|want| want.place.stored_len.into()).collect();
        let all = stored_lens.iter().sum::<u64>();
        let budget_bytes = READ_BYTES_MAX + (READ_BYTES_MAX >> 1);
        assert!(all > 3 * budget_bytes, "there is more than fits");
        let counter = std::sync::atomic::AtomicU64::default;
        let source =
            Counted { pack, handed_out: counter(), now: AtomicUsize::default(), at_once: AtomicUsize::default() };
        let slow = Slow { source: &source, stored_lens, written: counter(), most_waiting: counter() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options = PipelineOptions { budget_bytes, connections: 8, workers: 2, ..PipelineOptions::default() };
        let wants = wants.into_iter().map(Ok::<_, ()>);
        run(&source, wants, &slow, &options, &Meter::default(), &|_| (), runtime.handle()).unwrap();

        assert_eq!(slow.written.into_inner(), all);
        let most = slow.most_waiting.into_inner();
        assert!(most <= budget_bytes, "{most} bytes waited; {budget_bytes} may");
        assert!(most > budget_bytes / 2, "only {most} bytes waited: nothing was tested");
        assert!(source.at_once.into_inner() > 1, "reads are under way at once");
    }
}
