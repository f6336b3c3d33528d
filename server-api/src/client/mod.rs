//! The client: a [`Connection`] knows who the servers are, a [`NodeClient`] may write as a node, a [`RestoreClient`]
//! may restore one, and both lend a [`Reader`].
//!
//! A server that is gone for the time being is replaced by another of the same repository. Nothing else here retries: the caller knows what a failure costs, and [`ClientError::is_transient`] says whether trying
//! again makes sense. All requests but [`RestoreClient`]'s first may be repeated without harm.

mod connection;
mod error;
mod node;
mod reader;
mod restore;
mod transport;

pub use connection::Connection;
pub use error::ClientError;
pub use node::NodeClient;
pub use reader::{Reader, SnapshotDocuments};
pub use restore::RestoreClient;
pub use transport::{Answer, Patience};
