//! How a restore ended.

use node_model::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Limit, Stage};

/// The report of a restore, as it is shown, sent to the server and kept on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The node.
    pub node: String,
    /// The snapshot.
    pub snapshot: String,
    /// When each stage began and ended.
    pub timeline: Vec<StageTime>,
    /// Bytes of content written.
    pub written_bytes: Bytes,
    /// Bytes fetched from the server.
    pub fetched_bytes: Bytes,
    /// Bytes found on the disks and kept.
    pub reused_bytes: Bytes,
    /// Files written.
    pub file_count: u64,
    /// Bytes written in each second of the data stage, on average.
    pub bytes_per_second: Bytes,
    /// What held the data stage back for most of its time.
    pub limit: Limit,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// What follows.
    pub after: After,
    /// The node is back, and the server does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<Untold>,
}

/// Why the server could not be told that a restore is done: its arm is not burnt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// The server's address.
    pub server: String,
    /// What kept it from hearing.
    pub why: String,
    /// What to do about the arm.
    pub now_what: String,
}

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Outcome {
    /// The node is back.
    Restored,
    /// It did not work; the targets are not bootable.
    Failed {
        /// Why.
        reason: String,
    },
}

/// When a stage began and ended, in milliseconds since the session's start of time (the kernel's start in the
/// restore environment).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// Begin.
    pub started_ms: u64,
    /// End.
    pub finished_ms: u64,
}

/// What follows a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// Reboot.
    Reboot,
    /// Power off.
    Poweroff,
    /// Wait for the operator.
    Wait,
}
