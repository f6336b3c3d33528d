use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use bundle::pack::{Pack, PackBuilder};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::data::reads::{Place, READ_BYTES_MAX};

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
    let source = Counted { pack, handed_out: counter(), now: AtomicUsize::default(), at_once: AtomicUsize::default() };
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
