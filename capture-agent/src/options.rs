//! What whoever captures may choose.

use std::num::NonZeroUsize;

/// Threads that hash and compress when nobody says otherwise: all cores, but no more than this, so that memory stays
/// bounded on large machines.
const THREADS_MAX: usize = 8;

/// How a capture is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// zstd level of chunks.
    pub level: i32,
    /// Threads that hash and compress.
    pub threads: NonZeroUsize,
    /// Whether to step back behind all else that wants the processor or the disks.
    pub lowered_priority: bool,
    /// Absolute paths in the node that are left out, as [`linux_io::fs::Excludes`] reads them: `/var/cache/apt`, or
    /// `/tmp/*` for all but the directory itself.
    pub excludes: Vec<String>,
    /// Absolute paths that may be missing from the snapshot if they cannot be read.
    pub accept_unreadable: Vec<String>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            level: bundle::frame::LEVEL_DEFAULT,
            threads: NonZeroUsize::new(cores.min(THREADS_MAX)).unwrap_or(NonZeroUsize::MIN),
            lowered_priority: true,
            excludes: Vec::new(),
            accept_unreadable: Vec::new(),
        }
    }
}
