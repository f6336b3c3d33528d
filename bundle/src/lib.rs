//! The bundle format: manifest, tar stream, chunks, packs and the repository they lie in.
//!
//! The stream half turns a filesystem's entries into chunks and back: [`tar`] writes and reads headers, [`cut`]
//! decides where chunks begin, [`frame`] compresses one chunk, [`pack`] gathers frames, [`list`] and [`catalog`] say
//! which chunks a volume is made of and where in them each path is. `docs/format.md` describes all of it byte for
//! byte. Nothing here opens a file of the captured system, and nothing needs to be root.

pub mod blocks;
pub mod catalog;
pub mod code;
pub mod cut;
pub mod document;
pub mod export;
pub mod frame;
mod hash;
pub mod limits;
pub mod list;
pub mod manifest;
pub mod pack;
pub mod placement;
pub mod receipt;
pub mod repository;
pub mod sign;
pub mod tar;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod trust;
pub mod verify;
mod wire;

pub use hash::{Hash, Hasher, InvalidHash};
pub use node_model;
