//! Reads a live node and writes its bundle.
//!
//! [`capture`] takes what a scan found ([`CaptureRequest`]), reads each volume once, and gives chunks, lists, catalogs
//! and the signed manifest to a [`Sink`]: a bundle server or a repository directory. It blocks until the snapshot is
//! committed; nothing is a snapshot before.
//!
//! ```text
//! walk and read -> cut -> hash -> which are missing? -> compress -> pack -> upload -> lists -> manifest -> receipt
//! one thread       same   all     one thread            all         one     one
//! ```
//!
//! Memory is bounded by one budget of bytes between cutting and packing and two packs, whatever the node holds.

mod capture;
mod error;
mod files;
mod options;
mod pipeline;
mod progress;
mod raw;
mod report;
pub mod sink;
mod source;

pub use capture::{CaptureRequest, capture};
pub use error::{CaptureError, Unreadable};
pub use options::CaptureOptions;
pub use progress::{CaptureProgress, Stage};
pub use report::{CaptureReport, VolumeReport, Warning, WarningKind};
pub use sink::{Sink, SinkError};
pub use source::{FilesRoot, SourceKind, VolumeSource, sources};
