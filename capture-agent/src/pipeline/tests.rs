//! The pipeline as a whole: how much is on its way, and how much is done at once.

use std::sync::Condvar;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bundle::limits::{CHUNK_BYTES_MAX, PACK_BYTES_TARGET};
use bundle::pack::Pack;
use bundle::repository::{RepositoryInfo, VerifiedSnapshot};
use crossbeam_channel::{Receiver, Sender, unbounded};
use node_model::{NodeName, SnapshotId};

use super::*;
use crate::sink::SinkError;

/// How long something is waited for that should come at once: a test that fails must end, too.
const LIMIT: Duration = Duration::from_secs(60);

/// A repository that knows no chunk, and stores each pack only when it is told to.
struct Gate {
    asked: Sender<()>,
    told: Receiver<()>,
    stored_chunks: AtomicU64,
}

impl Sink for Gate {
    fn info(&self) -> &RepositoryInfo {
        unreachable!("the pipeline stores packs, and nothing else")
    }
    fn node(&self) -> &NodeName {
        unreachable!()
    }
    fn latest(&self) -> Result<Option<SnapshotId>, SinkError> {
        unreachable!()
    }
    fn missing_chunks(&self, chunks: &[Hash]) -> Result<Vec<bool>, SinkError> {
        Ok(vec![true; chunks.len()])
    }
    fn put_pack(&self, pack: Pack) -> Result<(), SinkError> {
        let _ = self.asked.send(());
        let _ = self.told.recv_timeout(LIMIT);
        self.stored_chunks.fetch_add(pack.index.rows().len() as u64, Ordering::SeqCst);
        Ok(())
    }
    fn put_list(&self, _: Hash, _: Vec<u8>) -> Result<(), SinkError> {
        unreachable!()
    }
    fn put_catalog(&self, _: Hash, _: Vec<u8>) -> Result<(), SinkError> {
        unreachable!()
    }
    fn commit(&self, _: &SnapshotId, _: Vec<u8>, _: Vec<u8>) -> Result<VerifiedSnapshot, SinkError> {
        unreachable!()
    }
}

/// Whether it becomes true in time.
fn comes(is_there: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !is_there() {
        if started.elapsed() > LIMIT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn options(threads: usize) -> CaptureOptions {
    CaptureOptions { level: 1, threads: threads.try_into().unwrap(), ..CaptureOptions::default() }
}

#[test]
fn what_is_on_its_way_to_a_slow_repository_is_bounded_by_the_budget_and_two_packs() {
    // Noise in the largest chunks: what is stored is as long as what was read.
    const CHUNKS_PER_PACK: u64 = PACK_BYTES_TARGET / CHUNK_BYTES_MAX as u64;
    const CHUNKS: u64 = 4 * CHUNKS_PER_PACK;
    let options = options(2);
    let budget_chunks = BUDGET_BYTES_PER_THREAD * 2 / u64::from(CHUNK_BYTES_MAX);
    let on_its_way_max = 2 * CHUNKS_PER_PACK + budget_chunks;
    assert!(CHUNKS > on_its_way_max, "there is more than fits");

    let (asked, is_asked) = unbounded();
    let (tell, told) = unbounded();
    let gate = Gate { asked, told, stored_chunks: AtomicU64::new(0) };
    let counters = Counters::new(0);
    let pipeline = Pipeline::new(&gate, &counters, &options);
    let (taken, most) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let mut intake = pipeline.start(scope);
        let reader = scope.spawn(|| {
            let mut chunks = intake.of_volume(0);
            for number in 0..CHUNKS {
                let content = bundle::testing::noise(number, CHUNK_BYTES_MAX as usize);
                chunks.take(RawChunk { ticket: Ticket(number), content }).unwrap();
                let taken = taken.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(taken - gate.stored_chunks.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            drop(chunks);
            drop(intake);
        });
        for _ in 0..CHUNKS / CHUNKS_PER_PACK {
            // Until this pack is stored nothing is, so all go as far as they are let.
            let on_its_way = || taken.load(Ordering::SeqCst) - gate.stored_chunks.load(Ordering::SeqCst);
            let is_full = || pipeline.budget.is_waited_for() && on_its_way() >= on_its_way_max;
            if is_asked.recv_timeout(LIMIT).is_err() || !comes(|| is_full() || reader.is_finished()) {
                break;
            }
            // Whoever is not held goes further meanwhile. Whoever is held cannot, however long this takes.
            std::thread::sleep(Duration::from_millis(200));
            let _ = tell.send(());
        }
    });
    assert!(pipeline.take_failure().is_none());
    assert_eq!(gate.stored_chunks.load(Ordering::SeqCst), CHUNKS);
    assert_eq!(most.into_inner(), on_its_way_max);
}

/// Where threads wait for each other.
#[derive(Default)]
struct Meeting {
    here: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    /// Waits until `all` are here; whoever waits in vain leaves, and says so.
    fn wait_for(&self, all: usize) {
        let mut here = self.here.lock().unwrap();
        *here += 1;
        self.changed.notify_all();
        let (mut here, waited) = self.changed.wait_timeout_while(here, LIMIT, |here| *here < all).unwrap();
        if waited.timed_out() {
            *here -= 1;
            panic!("the other threads do not compress meanwhile");
        }
    }
}

#[test]
fn every_thread_compresses_at_once() {
    const THREADS: usize = 4;
    let options = options(THREADS);
    let (asked, _is_asked) = unbounded();
    let (_, told) = unbounded();
    let gate = Gate { asked, told, stored_chunks: AtomicU64::new(0) };
    let counters = Counters::new(0);
    let pipeline = Pipeline::new(&gate, &counters, &options);
    let meeting = Meeting::default();
    std::thread::scope(|scope| {
        let mut intake = pipeline.start_with(scope, |level| {
            let mut compressor = Compressor::new(level)?;
            let mut has_met = false;
            let meeting = &meeting;
            Ok(move |content: &[u8]| {
                if !std::mem::replace(&mut has_met, true) {
                    meeting.wait_for(THREADS);
                }
                compressor.compress(content)
            })
        });
        let mut chunks = intake.of_volume(0);
        for number in 0..2 * THREADS as u64 {
            chunks.take(RawChunk { ticket: Ticket(number), content: bundle::testing::noise(number, 512) }).unwrap();
        }
    });
    assert!(pipeline.take_failure().is_none());
    assert_eq!(*meeting.here.lock().unwrap(), THREADS);
}
