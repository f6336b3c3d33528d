//! The server's paths: once as templates for the router, once as functions for clients.

use bundle::Hash;
use bundle::node_model::{NodeName, SnapshotId, VolumeName};

/// Templates as axum's router reads them.
pub mod template {
    /// `GET`, no token: who is this server.
    pub const HELLO: &str = "/v1/hello";
    /// `GET`: `repository.json` and the caller's node certificate.
    pub const NODE: &str = "/v1/nodes/{node}";
    /// `POST`: which of these chunks has the node not uploaded.
    pub const CHUNKS_MISSING: &str = "/v1/nodes/{node}/chunks/missing";
    /// `POST`: a pack.
    pub const PACK_UPLOAD: &str = "/v1/nodes/{node}/packs/{hash}";
    /// `PUT`: a segment of a chunk list.
    pub const LIST_UPLOAD: &str = "/v1/nodes/{node}/lists/{hash}";
    /// `PUT`: a segment of a catalog.
    pub const CATALOG_UPLOAD: &str = "/v1/nodes/{node}/catalogs/{hash}";
    /// `GET`: the node's snapshots.
    pub const SNAPSHOTS: &str = "/v1/nodes/{node}/snapshots";
    /// `PUT`: the commit.
    pub const SNAPSHOT: &str = "/v1/nodes/{node}/snapshots/{id}";
    /// `GET`: the manifest's exact bytes.
    pub const MANIFEST: &str = "/v1/nodes/{node}/snapshots/{id}/manifest.json";
    /// `GET`: its signature's exact bytes.
    pub const SIGNATURE: &str = "/v1/nodes/{node}/snapshots/{id}/manifest.sig";
    /// `GET`: the receipt's exact bytes.
    pub const RECEIPT: &str = "/v1/nodes/{node}/snapshots/{id}/receipt.json";
    /// `GET`: where every chunk of the snapshot lies ([`crate::SnapshotPlacement`]).
    pub const PLACEMENT: &str = "/v1/nodes/{node}/snapshots/{id}/placement";
    /// `POST`: the state of every pack of the snapshot.
    pub const CHECK: &str = "/v1/nodes/{node}/snapshots/{id}/check";
    /// `GET`: a segment of a chunk list.
    pub const LIST: &str = "/v1/nodes/{node}/snapshots/{id}/lists/{hash}";
    /// `GET`: a segment of a catalog.
    pub const CATALOG: &str = "/v1/nodes/{node}/snapshots/{id}/catalogs/{hash}";
    /// `GET` with `Range`: bytes of a pack.
    pub const PACK: &str = "/v1/nodes/{node}/snapshots/{id}/packs/{hash}";
    /// `GET`: a whole volume: `VOLUME.tar.zst` for files, `VOLUME.raw.zst` for raw volumes.
    pub const VOLUME: &str = "/v1/nodes/{node}/snapshots/{id}/volumes/{file}";
    /// `POST`, no token: exchange a restore code for a token.
    pub const RESTORE_OPEN: &str = "/v1/restore/open";
    /// `POST`: bind the arm to a plan.
    pub const RESTORE_CLAIM: &str = "/v1/restore/claim";
    /// `POST`: the plan's disks are being erased.
    pub const RESTORE_ERASED: &str = "/v1/restore/erased";
    /// `POST`: the restore is over; the arm is burnt.
    pub const RESTORE_DONE: &str = "/v1/restore/done";
    /// `POST`: a batch of events.
    pub const RESTORE_EVENTS: &str = "/v1/restore/events";
}

/// Path of the node itself.
pub fn node(node: &NodeName) -> String {
    format!("/v1/nodes/{node}")
}

/// Path of the question for missing chunks.
pub fn chunks_missing(node: &NodeName) -> String {
    format!("/v1/nodes/{node}/chunks/missing")
}

/// Path to which a pack is sent.
pub fn pack_upload(node: &NodeName, pack: &Hash) -> String {
    format!("/v1/nodes/{node}/packs/{pack}")
}

/// Path to which a list segment is sent.
pub fn list_upload(node: &NodeName, list: &Hash) -> String {
    format!("/v1/nodes/{node}/lists/{list}")
}

/// Path to which a catalog segment is sent.
pub fn catalog_upload(node: &NodeName, catalog: &Hash) -> String {
    format!("/v1/nodes/{node}/catalogs/{catalog}")
}

/// Path of the list of snapshots.
pub fn snapshots(node: &NodeName) -> String {
    format!("/v1/nodes/{node}/snapshots")
}

/// Path of one snapshot; `object` is empty, or one of `manifest.json`, `manifest.sig`, `receipt.json`, `placement`,
/// `check`.
pub fn snapshot(node: &NodeName, id: &SnapshotId, object: &str) -> String {
    let separator = if object.is_empty() { "" } else { "/" };
    format!("/v1/nodes/{node}/snapshots/{id}{separator}{object}")
}

/// Path of a snapshot's list segment.
pub fn list(node: &NodeName, id: &SnapshotId, list: &Hash) -> String {
    format!("/v1/nodes/{node}/snapshots/{id}/lists/{list}")
}

/// Path of a snapshot's catalog segment.
pub fn catalog(node: &NodeName, id: &SnapshotId, catalog: &Hash) -> String {
    format!("/v1/nodes/{node}/snapshots/{id}/catalogs/{catalog}")
}

/// Path of a pack as one snapshot may read it.
pub fn pack(node: &NodeName, id: &SnapshotId, pack: &Hash) -> String {
    format!("/v1/nodes/{node}/snapshots/{id}/packs/{pack}")
}

/// Path of a whole volume of files as a compressed tar archive.
pub fn volume_tar_zst(node: &NodeName, id: &SnapshotId, volume: &VolumeName) -> String {
    format!("/v1/nodes/{node}/snapshots/{id}/volumes/{volume}.tar.zst")
}

/// Path of a whole raw volume, compressed.
pub fn volume_raw_zst(node: &NodeName, id: &SnapshotId, volume: &VolumeName) -> String {
    format!("/v1/nodes/{node}/snapshots/{id}/volumes/{volume}.raw.zst")
}
