//! A plan as screens show it.

use node_model::Bytes;
use serde::{Deserialize, Serialize};

/// A plan for people: everything is text already, and nothing in it is decided upon by a screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// Digest that consent names.
    pub digest: String,
    /// The node.
    pub node: String,
    /// When the server received the snapshot, as its signed receipt says, and the snapshot's id.
    pub snapshot: String,
    /// One row for each disk of the node.
    pub disks: Vec<DiskView>,
    /// What will differ from the captured node, each with its reason.
    pub changes: Vec<ChangeView>,
    /// What the planner and the checker have to say.
    pub findings: Vec<FindingView>,
    /// Disks of this machine that are left alone.
    pub untouched: Vec<UntouchedView>,
    /// Bytes to write.
    pub data_bytes: Bytes,
    /// Files to write.
    pub file_count: u64,
}

/// A captured disk and the disk that takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskView {
    /// The captured disk as people know it.
    pub old: String,
    /// The disk of this machine as people know it.
    pub new: String,
    /// Its serial number, or the strongest identifier it has instead.
    pub new_serial: String,
    /// Its kernel name now.
    pub kernel_name: String,
    /// Its size.
    pub size_bytes: Bytes,
    /// Why these two belong together: `same serial number`, `the only free disk that is large enough`.
    pub matched_by: String,
    /// What lies on it now and will be gone; empty for a blank disk.
    pub erased: Vec<String>,
    /// What will stand on it.
    pub holds: Vec<String>,
}

/// Something that will differ from the captured node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// What: `/etc/fstab: /dev/sda2 becomes UUID=…`.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// The node may need attention after the restore.
    Warning,
    /// The plan must not be carried out.
    Blocker,
}

/// Something the planner or the checker found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingView {
    /// How much it matters.
    pub severity: Severity,
    /// What, and which.
    pub what: String,
    /// What to do.
    #[serde(default)]
    pub hint: Option<String>,
}

/// A disk that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UntouchedView {
    /// The disk as people know it.
    pub disk: String,
    /// Why.
    pub reason: String,
}
