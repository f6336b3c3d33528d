//! Tar headers: how one entry is written into the stream, and read from it again.
//!
//! The stream is POSIX.1-2001 ("pax") without global headers. Every entry has exactly one spelling: [`Reader`] accepts
//! nothing but what [`encode_header`] writes, so equal trees give equal bytes, and what a reader does not know it
//! refuses rather than drops.

mod flags;
mod header;
mod pax;
mod read;
mod sparse;
mod time;
mod validate;

pub use header::encode_header;
pub use read::{Content, Reader, TarItem};
pub use validate::check_entry;

/// Tar counts in blocks of this size.
pub const BLOCK_BYTES: usize = 512;

/// What ends every tar stream: two blocks of zeros.
pub const END: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// Why an entry cannot be written, or bytes are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// An entry that the format cannot hold, or that no filesystem has.
    #[error("{path}: {why}")]
    Entry {
        /// Its path, as people read it.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An entry with more metadata than a tar reader takes.
    #[error("{path}: its extended attributes and names take {bytes} bytes, more than the 1 MiB a tar header may have")]
    TooMuchMetadata {
        /// Its path, as people read it.
        path: String,
        /// Bytes its PAX header would have.
        bytes: usize,
    },
    /// Bytes that are no entry.
    #[error("byte {offset} of the tar chunk: {why}")]
    Malformed {
        /// Where in the chunk the entry begins.
        offset: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// The length of `bytes` rounded up to whole blocks.
pub const fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}
