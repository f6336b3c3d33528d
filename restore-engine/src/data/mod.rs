//! The data's way: which bytes to read, from where, and through the cores to the disk.

mod files;
mod meter;
mod patient;
mod pipeline;
mod reads;
mod reuse;
mod source;
mod volume;

pub use files::{FilesError, FilesRestore, FilesWriteError};
pub use meter::{Meter, Reading, Work};
pub(crate) use patient::Patient;
pub use pipeline::{Notice, PipelineError, PipelineOptions, Sink, run};
pub use reads::{Place, Want};
pub use reuse::Reuse;
pub(crate) use source::chain;
pub use source::{PackSource, ServerSource, SnapshotSource, SourceError};
pub use volume::{CatalogReadError, Locate, Piece, ProvenVolume};
