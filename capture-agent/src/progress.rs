//! How far a capture is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use node_model::{Bytes, VolumeName};

/// What a capture is at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stage {
    /// Nothing is read yet.
    #[default]
    Starting,
    /// A volume is read.
    Reading(VolumeName),
    /// All is read; what is on its way is stored.
    Storing,
    /// The manifest is signed and committed.
    Committing,
    /// The snapshot is committed.
    Done,
}

/// How far a capture is. All counts only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureProgress {
    /// What it is at.
    pub stage: Stage,
    /// Entries read.
    pub entry_count: u64,
    /// Bytes of content read, retries included.
    pub read_bytes: Bytes,
    /// Bytes in use when the node was scanned: about what there is to read.
    pub expected_bytes: Bytes,
    /// Chunks that had to be stored.
    pub new_chunk_count: u64,
    /// Chunks seen.
    pub chunk_count: u64,
    /// Bytes uploaded.
    pub uploaded_bytes: Bytes,
    /// Since the beginning.
    pub elapsed: Duration,
}

/// What the threads of a capture count.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) entries: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) chunks: AtomicU64,
    pub(crate) new_chunks: AtomicU64,
    pub(crate) uploaded_bytes: AtomicU64,
    expected_bytes: u64,
    stage: Mutex<Stage>,
    started: Instant,
}

impl Counters {
    pub(crate) fn new(expected_bytes: u64) -> Self {
        Self {
            entries: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            new_chunks: AtomicU64::new(0),
            uploaded_bytes: AtomicU64::new(0),
            expected_bytes,
            stage: Mutex::default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn add(&self, counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = stage;
    }

    pub(crate) fn now(&self) -> CaptureProgress {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CaptureProgress {
            stage: self.stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
            entry_count: load(&self.entries),
            read_bytes: Bytes(load(&self.read_bytes)),
            expected_bytes: Bytes(self.expected_bytes),
            new_chunk_count: load(&self.new_chunks),
            chunk_count: load(&self.chunks),
            uploaded_bytes: Bytes(load(&self.uploaded_bytes)),
            elapsed: self.started.elapsed(),
        }
    }
}
