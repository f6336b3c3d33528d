//! The JSON of requests and answers. Fields may be added with a default; nothing is renamed.

use bundle::Hash;
use bundle::node_model::{DiskId, MachineIdentity, NodeName, SnapshotId};
use restore_events::Record;
use serde::{Deserialize, Serialize};

/// The version of this interface, the `v1` of every path.
pub const API_VERSION: u32 = 1;

/// Answer of `GET /v1/hello`. It tells a stranger nothing but that here is a bundle server, and of which repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Always `rerack`.
    pub service: String,
    /// [`API_VERSION`] of the server.
    pub api: u32,
    /// Version of the server.
    pub version: String,
    /// The repository's root public key, 64 hexadecimal digits. A client under a pin or code compares its hash with
    /// the key that signed the TLS certificate it has just accepted.
    pub root_public_key: String,
    /// The server's clock, seconds since 1970. For error messages only: no decision rests on it.
    pub time_unix: i64,
}

/// What a client needs to know of a repository and a node in order to check what it reads: signed documents as they
/// are stored, so that the client's own `bundle` judges them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The node.
    pub node: NodeName,
    /// The root public key, 64 hexadecimal digits; its hash is the pin.
    pub root_public_key: String,
    /// Exact text of `repository.json`.
    pub repository: String,
    /// Exact text of the node's certificate.
    pub certificate: String,
}

/// One committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSummary {
    /// Its id.
    pub snapshot: SnapshotId,
    /// The server's order. The highest is `latest`.
    pub sequence: u64,
    /// When the server committed it, RFC 3339 in UTC.
    pub received_at: String,
    /// Hash of the manifest's bytes.
    pub manifest: Hash,
    /// Host name that the node had, if recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Sum of the volumes' streams.
    pub stream_bytes: u64,
    /// Identity of the machine that was captured, by which a restoring machine finds its own.
    pub identity: MachineIdentity,
}

/// Answer of `GET .../snapshots`: ascending by sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotList {
    /// The snapshots that can be read.
    pub snapshots: Vec<SnapshotSummary>,
    /// Ids of snapshots that exist but are damaged, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedSnapshot>,
}

/// A snapshot that exists but cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedSnapshot {
    /// Its id.
    pub snapshot: SnapshotId,
    /// What is wrong with it.
    pub problem: String,
    /// What an operator can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Body of the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRequest {
    /// Exact text of the manifest.
    pub manifest: String,
    /// Exact text of the signature document.
    pub signature: String,
}

/// Answer to a commit: the snapshot is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitAnswer {
    /// Its place in the server's order.
    pub sequence: u64,
    /// Exact text of the receipt.
    pub receipt: String,
}

/// Answer to a pack: every chunk in it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackStored {
    /// Chunks that the repository did not have before.
    pub new_chunk_count: u64,
    /// Chunks that it had already, and that were not stored again.
    pub known_chunk_count: u64,
    /// Bytes that the repository grew by.
    pub stored_bytes: u64,
}

/// Answer to a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCheck {
    /// Every pack that the snapshot needs.
    pub packs: Vec<PackCheck>,
    /// Chunks of the snapshot that lie in no pack; at most 100 are named.
    pub missing_chunks: Vec<Hash>,
    /// How many chunks lie in no pack.
    pub missing_chunk_count: u64,
    /// Segments of lists and catalogs that are not there or damaged; at most 100 are named.
    pub missing_segments: Vec<Hash>,
}

impl SnapshotCheck {
    /// Whether everything is there with the length it should have.
    pub fn is_whole(&self) -> bool {
        self.missing_chunk_count == 0 && self.missing_segments.is_empty() && self.packs.iter().all(PackCheck::is_whole)
    }
}

/// The state of one pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackCheck {
    /// The pack.
    pub pack: Hash,
    /// Bytes it should have.
    pub length_bytes: u64,
    /// Bytes it has; absent where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_bytes: Option<u64>,
    /// When all its bytes were last hashed, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<String>,
}

impl PackCheck {
    /// Whether it is there with the length it should have.
    pub fn is_whole(&self) -> bool {
        self.found_bytes == Some(self.length_bytes)
    }
}

/// Body of `POST /v1/restore/open`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRequest {
    /// The part of the restore code that is the secret. (The other part authenticates the server and is not sent.)
    pub secret: String,
    /// The machine that asks.
    pub machine: MachineIdentity,
}

impl std::fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenRequest").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// Answer to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAnswer {
    /// Bearer token for everything that follows. It replaces every earlier token of this arm.
    pub token: String,
    /// What is needed to check what is read.
    pub facts: NodeFacts,
    /// The claim that this machine made before, if any: a restore to be continued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

impl std::fmt::Debug for OpenAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenAnswer").field("facts", &self.facts).field("claim", &self.claim).finish_non_exhaustive()
    }
}

/// Body of `POST /v1/restore/claim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// Digest of the plan that was consented to.
    pub plan_digest: Hash,
    /// The disks it erases.
    pub disks: Vec<DiskId>,
    /// The snapshot it restores.
    pub snapshot: SnapshotId,
}

/// A claim as the server keeps it. Answer of `claim`, `erased` and `done`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Digest of the plan.
    pub plan_digest: Hash,
    /// The disks it erases.
    pub disks: Vec<DiskId>,
    /// The snapshot it restores.
    pub snapshot: SnapshotId,
    /// Whether the disks were reported as erased under this claim.
    pub erased: bool,
}

/// Body of `POST /v1/restore/erased` and `/v1/restore/done`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRequest {
    /// Digest of the claimed plan, so that no step is booked on another claim.
    pub plan_digest: Hash,
}

/// Body of `POST /v1/restore/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventBatch {
    /// Names one run of the engine: 1 to 64 lower-case letters, digits and `-`. Numbers begin anew with each.
    pub session: String,
    /// Records in the order of their numbers. Numbers the server has already are ignored, so a batch whose answer
    /// was lost is simply sent again.
    pub records: Vec<Record>,
}

/// Answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsStored {
    /// The number after the highest one stored of this session.
    pub next_seq: u64,
}
