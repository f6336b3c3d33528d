//! How much of anything that comes from outside is taken in, and why. Each bound is checked before memory is taken.

/// Content of one chunk. A reader holds whole chunks, one for each core and some that wait, so this bounds its memory.
pub const CHUNK_BYTES_MAX: u32 = 4 << 20;

/// Content of one chunk on average, which the cut rules aim for: large enough for a good ratio and few rows, small
/// enough that a changed file costs little.
pub const CHUNK_BYTES_TARGET: u32 = 1 << 20;

/// The shortest piece that content-defined cutting makes of a large file, its last one aside.
pub const CHUNK_BYTES_MIN: u32 = 256 << 10;

/// Regular files that store at least this much have their content in data chunks of their own.
pub const LARGE_FILE_BYTES: u64 = 256 << 10;

/// A compressed frame is never longer than its content by more than this: zstd's own bound for 4 MiB is 16 KiB.
pub const FRAME_OVERHEAD_BYTES_MAX: u32 = 64 << 10;

/// Stored bytes at which a pack is closed.
pub const PACK_BYTES_TARGET: u64 = 64 << 20;

/// The largest pack that is accepted, index included. A pack travels as one body and is checked in memory.
pub const PACK_BYTES_MAX: u64 = 80 << 20;

/// Chunks in one pack, so that its index stays below 2.6 MB.
pub const PACK_ROWS_MAX: u32 = 65_536;

/// One segment of a chunk list or catalog, as it is stored and as it is decoded.
pub const SEGMENT_BYTES_MAX: u32 = 4 << 20;

/// Content at which a catalog segment is closed: several cores can then share a large catalog.
pub const CATALOG_SEGMENT_BYTES_TARGET: usize = 1 << 20;

/// Bytes of all paths in one catalog segment, written out: front coding could make them much more than the segment.
pub const CATALOG_SEGMENT_PATH_BYTES_MAX: usize = 16 << 20;

/// Segments of one volume's list or catalog: 16,384 full list segments are a thousand million chunks.
pub const SEGMENTS_MAX: usize = 16_384;

/// The PAX header of one entry, the bound of bsdtar.
pub const PAX_BYTES_MAX: usize = 1 << 20;

/// One path, and one link target: `PATH_MAX` bounds what a system call takes, not what a tree holds, so this is
/// wider.
pub const PATH_BYTES_MAX: usize = 64 << 10;

/// Data extents of one sparse file. Its map then fits into the tar chunk that its header is in, and its catalog entry
/// into a segment, whatever the offsets; a file with more is stored densely.
pub const SPARSE_EXTENTS_MAX: usize = 65_536;

/// The largest file that the kernel can have, and that any size or offset may speak of.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;
