//! Where a bundle's bytes come from.

use std::ops::Range;

use bundle::Hash;
use bytes::Bytes;
use futures::future::BoxFuture;

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
