//! The data's way: which bytes to read, from where, and through the cores to the disk.

mod meter;
mod pipeline;
mod reads;
mod source;

pub use meter::{Meter, Reading, Work};
pub use pipeline::{Notice, PipelineError, PipelineOptions, Sink, run};
pub use reads::{Place, Want};
pub use source::{PackSource, SourceError};
