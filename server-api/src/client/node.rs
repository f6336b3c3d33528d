//! What a node may do: upload, commit, and read its own.

use bundle::Hash;
use bundle::limits::{PACK_BYTES_MAX, SEGMENT_BYTES_MAX};
use bundle::node_model::{NodeName, SnapshotId};
use bundle::trust::BearerToken;
use bytes::Bytes;
use reqwest::Method;

use super::connection::Connection;
use super::error::ClientError;
use super::reader::Reader;
use super::transport::Request;
use crate::limits::{JSON_ANSWER_BYTES_MAX, MISSING_CHUNKS_MAX};
use crate::{CommitAnswer, CommitRequest, MissingChunks, PackStored, routes};

/// A client that has a node's token.
#[derive(Debug, Clone)]
pub struct NodeClient {
    reader: Reader,
}

impl NodeClient {
    pub(super) fn new(connection: Connection, node: NodeName, token: BearerToken) -> Self {
        Self { reader: Reader::new(connection, node, token) }
    }

    /// Reads the node's own snapshots.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Which of these chunks the node has not uploaded yet; at most [`MISSING_CHUNKS_MAX`].
    pub async fn missing_chunks(&self, chunks: &[Hash]) -> Result<MissingChunks, ClientError> {
        if chunks.len() > MISSING_CHUNKS_MAX {
            let (asked, max) = (chunks.len() as u64, MISSING_CHUNKS_MAX as u64);
            return Err(ClientError::TooMuchAsked { what: "chunks", asked, max });
        }
        let body: Vec<u8> = chunks.iter().flat_map(|chunk| *chunk.as_bytes()).collect();
        let path = routes::chunks_missing(&self.reader.node);
        let request = Request::send(Method::POST, path, &self.reader.token, body.into());
        let bits = self.reader.connection.send(request).await?.collect(MISSING_CHUNKS_MAX.div_ceil(8)).await?;
        MissingChunks::from_bytes(&bits, chunks.len()).map_err(|error| self.malformed(&error))
    }

    /// Uploads a pack. When this returns, every chunk in it is durable.
    pub async fn put_pack(&self, name: &Hash, pack: Bytes) -> Result<PackStored, ClientError> {
        check_length("bytes of a pack", pack.len(), PACK_BYTES_MAX)?;
        let path = routes::pack_upload(&self.reader.node, name);
        let request = Request::send(Method::POST, path, &self.reader.token, pack);
        self.reader.connection.send(request).await?.json(JSON_ANSWER_BYTES_MAX).await
    }

    /// Uploads a segment of a chunk list. When this returns, it is durable.
    pub async fn put_list(&self, name: &Hash, segment: Bytes) -> Result<(), ClientError> {
        self.put_segment(routes::list_upload(&self.reader.node, name), segment).await
    }

    /// Uploads a segment of a catalog. When this returns, it is durable.
    pub async fn put_catalog(&self, name: &Hash, segment: Bytes) -> Result<(), ClientError> {
        self.put_segment(routes::catalog_upload(&self.reader.node, name), segment).await
    }

    async fn put_segment(&self, path: String, segment: Bytes) -> Result<(), ClientError> {
        check_length("bytes of a segment", segment.len(), u64::from(SEGMENT_BYTES_MAX))?;
        let request = Request::send(Method::PUT, path, &self.reader.token, segment);
        self.reader.connection.send(request).await?.collect(JSON_ANSWER_BYTES_MAX).await.map(|_| ())
    }

    /// Commits a snapshot: manifest and signature as exact text. When this returns, the snapshot is durable and
    /// listed. Sent again with the same bytes, it answers the same.
    pub async fn commit_snapshot(
        &self,
        id: &SnapshotId,
        manifest: &str,
        signature: &str,
    ) -> Result<CommitAnswer, ClientError> {
        let path = routes::snapshot(&self.reader.node, id, "");
        let body = CommitRequest { manifest: manifest.to_owned(), signature: signature.to_owned() };
        self.reader.connection.send_json(Method::PUT, &path, Some(&self.reader.token), &body).await
    }

    fn malformed(&self, error: &impl ToString) -> ClientError {
        ClientError::AnswerMalformed { server: self.reader.connection.server().clone(), reason: error.to_string() }
    }
}

fn check_length(what: &'static str, length: usize, max: u64) -> Result<(), ClientError> {
    match length as u64 {
        asked if asked > max => Err(ClientError::TooMuchAsked { what, asked, max }),
        _ => Ok(()),
    }
}
