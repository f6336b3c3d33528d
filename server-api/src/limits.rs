//! How much either side accepts. Every bound is checked before memory is taken; a body beyond its bound is answered
//! with `413` and read no further.

/// Chunk hashes in one question for missing chunks: 2 MiB of hashes, 8 KiB of answer.
pub const MISSING_CHUNKS_MAX: usize = 65_536;

/// Body of a commit: a manifest of at most 8 MiB as a JSON string, in which every byte may need an escape of two,
/// and its signature.
pub const COMMIT_BODY_BYTES_MAX: usize = 17 << 20;

/// Any other JSON request: a machine identity, a claim with its disks.
pub const JSON_BODY_BYTES_MAX: usize = 256 << 10;

/// One batch of events: some hundreds, of which a plan may be as long as the longest line.
pub const EVENTS_BODY_BYTES_MAX: usize = 8 << 20;

/// Events kept of one restore. What a restore says fits many times; a stuck one cannot fill the disk.
pub const EVENTS_STORED_BYTES_MAX: u64 = 64 << 20;

/// Any JSON answer but a list of snapshots.
pub const JSON_ANSWER_BYTES_MAX: usize = 1 << 20;

/// A list of snapshots or the state of a snapshot's packs: about 200 bytes for each, so far more than a node has.
pub const LIST_ANSWER_BYTES_MAX: usize = 64 << 20;

/// The placement of one snapshot: 56 bytes for each chunk, so 19 million chunks or about 19 TiB of stored data.
pub const PLACEMENT_BYTES_MAX: usize = 1 << 30;

/// An error's body. A longer one is cut: it is for people.
pub const ERROR_BODY_BYTES_MAX: usize = 16 << 10;

/// The longest range of a pack in one request. The fetch pipeline asks for 8 to 16 MiB.
pub const RANGE_BYTES_MAX: u64 = 80 << 20;
