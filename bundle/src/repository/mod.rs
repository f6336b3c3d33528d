//! A repository: objects in a store, and what is true of them.

mod info;

pub use info::{Chunking, ChunkingAlgorithm, CipherSuite, CutKey, InfoError, RepositoryId, RepositoryInfo};
