//! Where a bundle's bytes come from.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bundle::Hash;
use bundle::node_model::SnapshotId;
use bundle::repository::{Repository, RepositoryError};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use server_api::client::{ClientError, Reader};

/// Why a source gave no bytes.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It may work again: the connection broke, the server is overloaded or starting.
    #[error("{from} does not deliver: {why}")]
    Passing {
        /// The source, as people know it.
        from: String,
        /// What happened.
        why: String,
    },
    /// It will not work again by waiting: the object is not there, the token is refused.
    #[error("{from} refuses: {why}")]
    Lasting {
        /// The source, as people know it.
        from: String,
        /// What happened.
        why: String,
    },
}

/// Something that holds packs: a bundle server, a repository in a directory.
pub trait PackSource: Send + Sync {
    /// The bytes `range` of `pack`, exactly as many. They are not checked: whoever asks compares hashes.
    fn read<'a>(&'a self, pack: &'a Hash, range: Range<u64>) -> BoxFuture<'a, Result<Bytes, SourceError>>;
}

/// A source of whole snapshots: packs, and the segments that say what is in them.
pub trait SnapshotSource: PackSource {
    /// A segment of a chunk list; its hash is checked.
    fn list<'a>(&'a self, name: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>>;
    /// A segment of a catalog; its hash is checked.
    fn catalog<'a>(&'a self, name: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>>;
}

/// One snapshot on bundle servers, read by ranges from all of them in turn.
pub struct ServerSource {
    reader: Reader,
    snapshot: SnapshotId,
    turn: AtomicUsize,
}

impl ServerSource {
    /// The snapshot `snapshot` of the reader's node.
    pub fn new(reader: Reader, snapshot: SnapshotId) -> Self {
        Self { reader, snapshot, turn: AtomicUsize::new(0) }
    }
}

fn from_client(error: &ClientError) -> SourceError {
    let (from, why) = ("the server".to_owned(), chain(error));
    if error.is_transient() { SourceError::Passing { from, why } } else { SourceError::Lasting { from, why } }
}

impl PackSource for ServerSource {
    fn read<'a>(&'a self, pack: &'a Hash, range: Range<u64>) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        let servers = self.reader.connection().servers();
        let server = &servers[self.turn.fetch_add(1, Ordering::Relaxed) % servers.len()];
        let length = (range.end - range.start) as usize;
        async move {
            let answer = self.reader.pack_range(server, &self.snapshot, pack, range).await;
            let bytes = match answer {
                Ok(answer) => answer.collect(length).await,
                Err(error) => Err(error),
            };
            bytes.map_err(|error| from_client(&error))
        }
        .boxed()
    }
}

impl SnapshotSource for ServerSource {
    fn list<'a>(&'a self, name: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        async move { self.reader.list(&self.snapshot, name).await.map_err(|error| from_client(&error)) }.boxed()
    }

    fn catalog<'a>(&'a self, name: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        async move { self.reader.catalog(&self.snapshot, name).await.map_err(|error| from_client(&error)) }.boxed()
    }
}

fn from_repository(error: &RepositoryError) -> SourceError {
    SourceError::Lasting { from: "the repository".to_owned(), why: chain(error) }
}

impl PackSource for Repository {
    fn read<'a>(&'a self, pack: &'a Hash, range: Range<u64>) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        async move { self.pack_range(pack, range).await.map_err(|error| from_repository(&error)) }.boxed()
    }
}

impl SnapshotSource for Repository {
    fn list<'a>(&'a self, name: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        async move { self.list_segment(name).await.map_err(|error| from_repository(&error)) }.boxed()
    }

    fn catalog<'a>(&'a self, name: &'a Hash) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        async move { self.catalog_segment(name).await.map_err(|error| from_repository(&error)) }.boxed()
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
