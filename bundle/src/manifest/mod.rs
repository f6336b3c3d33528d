//! The manifest: what a node was, and which chunks hold its bytes.

pub mod v1;

pub use v1::{MANIFEST_BYTES_MAX, Manifest, ManifestError, ManifestVolume};
