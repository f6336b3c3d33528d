//! Reading one node's snapshots.

use std::ops::Range;

use bundle::Hash;
use bundle::limits::SEGMENT_BYTES_MAX;
use bundle::manifest::MANIFEST_BYTES_MAX;
use bundle::node_model::{NodeName, SnapshotId, VolumeName};
use bundle::trust::BearerToken;
use bytes::Bytes;

use super::connection::Connection;
use super::error::ClientError;
use super::transport::{Answer, Request};
use crate::limits::{JSON_ANSWER_BYTES_MAX, LIST_ANSWER_BYTES_MAX, PLACEMENT_BYTES_MAX, RANGE_BYTES_MAX};
use crate::{NodeFacts, ServerUrl, SnapshotCheck, SnapshotList, SnapshotPlacement, routes};

/// Reads what one node has stored. What it returns is not yet trusted, except that objects named by hash have that
/// hash: documents are judged by `bundle`, under the root key and the node's certificate.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) connection: Connection,
    pub(super) node: NodeName,
    pub(super) token: BearerToken,
}

/// The three documents of a snapshot, exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDocuments {
    /// `manifest.json`.
    pub manifest: Bytes,
    /// `manifest.sig`.
    pub signature: Bytes,
    /// `receipt.json`.
    pub receipt: Bytes,
}

impl Reader {
    pub(super) fn new(connection: Connection, node: NodeName, token: BearerToken) -> Self {
        Self { connection, node, token }
    }

    /// The node.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// The connection it reads through.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// `repository.json` and the node's certificate.
    pub async fn facts(&self) -> Result<NodeFacts, ClientError> {
        self.get(routes::node(&self.node)).await?.json(JSON_ANSWER_BYTES_MAX).await
    }

    /// The node's snapshots, ascending by sequence.
    pub async fn snapshots(&self) -> Result<SnapshotList, ClientError> {
        self.get(routes::snapshots(&self.node)).await?.json(LIST_ANSWER_BYTES_MAX).await
    }

    /// Manifest, signature and receipt of a snapshot.
    pub async fn documents(&self, id: &SnapshotId) -> Result<SnapshotDocuments, ClientError> {
        let document = async |name, max| self.get(routes::snapshot(&self.node, id, name)).await?.collect(max).await;
        Ok(SnapshotDocuments {
            manifest: document("manifest.json", MANIFEST_BYTES_MAX).await?,
            signature: document("manifest.sig", JSON_ANSWER_BYTES_MAX).await?,
            receipt: document("receipt.json", JSON_ANSWER_BYTES_MAX).await?,
        })
    }

    /// Where the snapshot's chunks lie.
    pub async fn placement(&self, id: &SnapshotId) -> Result<SnapshotPlacement, ClientError> {
        let bytes = self.get(routes::snapshot(&self.node, id, "placement")).await?.collect(PLACEMENT_BYTES_MAX).await?;
        SnapshotPlacement::decode(&bytes).map_err(|error| ClientError::AnswerMalformed {
            server: self.connection.server().clone(),
            reason: error.to_string(),
        })
    }

    /// The state of every pack the snapshot needs.
    pub async fn check(&self, id: &SnapshotId) -> Result<SnapshotCheck, ClientError> {
        let path = routes::snapshot(&self.node, id, "check");
        let request = Request::send(reqwest::Method::POST, path, &self.token, Bytes::new());
        self.connection.send(request).await?.json(LIST_ANSWER_BYTES_MAX).await
    }

    /// A segment of a chunk list; its hash is checked.
    pub async fn list(&self, id: &SnapshotId, list: &Hash) -> Result<Bytes, ClientError> {
        self.segment(routes::list(&self.node, id, list), "chunk list", list).await
    }

    /// A segment of a catalog; its hash is checked.
    pub async fn catalog(&self, id: &SnapshotId, catalog: &Hash) -> Result<Bytes, ClientError> {
        self.segment(routes::catalog(&self.node, id, catalog), "catalog", catalog).await
    }

    async fn segment(&self, path: String, object: &'static str, name: &Hash) -> Result<Bytes, ClientError> {
        let bytes = self.get(path).await?.collect(SEGMENT_BYTES_MAX as usize).await?;
        if Hash::of(&bytes) == *name {
            Ok(bytes)
        } else {
            Err(ClientError::WrongBytes { server: self.connection.server().clone(), object, expected: *name })
        }
    }

    /// Bytes of a pack, from any of the servers: exactly the range, or an error. The server gives them only if the
    /// range is wholly covered by chunks of the snapshot, so ranges may join neighbours but bridge no gaps. The
    /// bytes are not checked: the reader of the chunks does that.
    pub async fn pack_range(
        &self,
        server: &ServerUrl,
        id: &SnapshotId,
        pack: &Hash,
        range: Range<u64>,
    ) -> Result<Answer, ClientError> {
        let asked = range.end.saturating_sub(range.start);
        if asked > RANGE_BYTES_MAX {
            return Err(ClientError::TooMuchAsked { what: "bytes", asked, max: RANGE_BYTES_MAX });
        }
        let path = routes::pack(&self.node, id, pack);
        let request = Request { range: Some(range), ..Request::get(path, &self.token) };
        let answer = self.connection.send_to(server, request).await?;
        if answer.status() == 206 && answer.length() == Some(asked) {
            return Ok(answer);
        }
        let reason = format!("status {} with {:?} bytes for a range of {asked}", answer.status(), answer.length());
        Err(ClientError::AnswerMalformed { server: server.clone(), reason })
    }

    /// A whole volume of files as a `.tar.zst`.
    pub async fn volume_tar_zst(&self, id: &SnapshotId, volume: &VolumeName) -> Result<Answer, ClientError> {
        self.get(routes::volume_tar_zst(&self.node, id, volume)).await
    }

    async fn get(&self, path: String) -> Result<Answer, ClientError> {
        self.connection.send(Request::get(path, &self.token)).await
    }
}
