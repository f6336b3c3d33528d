//! What the pipeline has done, and what it waits for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters that all parts of the pipeline add to and anybody may read.
#[derive(Debug, Default)]
pub struct Meter {
    fetched_bytes: AtomicU64,
    written_bytes: AtomicU64,
    reused_bytes: AtomicU64,
    files: AtomicU64,
    verified_bytes: AtomicU64,
    verified_files: AtomicU64,
    network_wait_ns: AtomicU64,
    decode_ns: AtomicU64,
    write_ns: AtomicU64,
}

/// What a [`Meter`] showed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Stored bytes that came over the wire.
    pub fetched_bytes: u64,
    /// Content written.
    pub written_bytes: u64,
    /// Content that was on the disk already.
    pub reused_bytes: u64,
    /// Files finished.
    pub files: u64,
    /// Content read back and found right or wrong.
    pub verified_bytes: u64,
    /// Files read back.
    pub verified_files: u64,
    /// Time that workers waited for frames, all of them together.
    pub network_wait: Duration,
    /// Time that workers decoded.
    pub decode: Duration,
    /// Time that workers wrote.
    pub write: Duration,
}

/// What a worker spends time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Waiting for a frame to arrive.
    NetworkWait,
    /// Decoding and hashing.
    Decode,
    /// Writing.
    Write,
}

impl Meter {
    /// Counts bytes that arrived.
    pub fn fetched(&self, bytes: u64) {
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts content written.
    pub fn written(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts content found in place.
    pub fn reused(&self, bytes: u64) {
        self.reused_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a file that was read back.
    pub fn verified(&self, bytes: u64) {
        self.verified_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.verified_files.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts finished files.
    pub fn files(&self, count: u64) {
        self.files.fetch_add(count, Ordering::Relaxed);
    }

    /// Runs `body` and adds the time it took to `work`.
    pub fn time<R>(&self, work: Work, body: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = body();
        let counter = match work {
            Work::NetworkWait => &self.network_wait_ns,
            Work::Decode => &self.decode_ns,
            Work::Write => &self.write_ns,
        };
        counter.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }

    /// What it shows now.
    pub fn read(&self) -> Reading {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Reading {
            fetched_bytes: load(&self.fetched_bytes),
            written_bytes: load(&self.written_bytes),
            reused_bytes: load(&self.reused_bytes),
            files: load(&self.files),
            verified_bytes: load(&self.verified_bytes),
            verified_files: load(&self.verified_files),
            network_wait: Duration::from_nanos(load(&self.network_wait_ns)),
            decode: Duration::from_nanos(load(&self.decode_ns)),
            write: Duration::from_nanos(load(&self.write_ns)),
        }
    }
}

impl Reading {
    /// What took most of the workers' time since `before`.
    pub fn limit_since(&self, before: &Self) -> Option<Work> {
        let spent = [
            (self.network_wait - before.network_wait, Work::NetworkWait),
            (self.decode - before.decode, Work::Decode),
            (self.write - before.write, Work::Write),
        ];
        spent.into_iter().max_by_key(|(time, _)| *time).filter(|(time, _)| !time.is_zero()).map(|(_, work)| work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_took_the_time() {
        let meter = Meter::default();
        let before = meter.read();
        assert_eq!(meter.read().limit_since(&before), None);
        meter.time(Work::Decode, || ());
        meter.time(Work::Write, || std::thread::sleep(Duration::from_millis(2)));
        assert_eq!(meter.read().limit_since(&before), Some(Work::Write));
    }
}
