//! What the engine asks.

use serde::{Deserialize, Serialize};

use crate::PlanConsent;

/// The number of a question; it never names another one within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuestionId(pub u64);

/// A question that the engine waits on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its number; the answer names it.
    pub id: QuestionId,
    /// What is asked.
    pub ask: QuestionKind,
    /// Why the last answer did not do, in words.
    #[serde(default)]
    pub problem: Option<String>,
}

/// What is asked, and the kind of answer that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum QuestionKind {
    /// The bundle server's address. Answer: [`crate::Answer::Text`].
    ServerAddress {
        /// What the field holds at first.
        #[serde(default)]
        default: Option<String>,
    },
    /// The restore code that `rerack arm` printed. Answer: [`crate::Answer::Code`].
    RestoreCode,
    /// Which node to restore. Answer: [`crate::Answer::Choice`] with a key.
    Node {
        /// The nodes that may be restored.
        choices: Vec<Choice>,
        /// The key to begin on.
        #[serde(default)]
        default: Option<String>,
    },
    /// Which snapshot of the node. Answer: [`crate::Answer::Choice`] with a key.
    Snapshot {
        /// Snapshots, newest first.
        choices: Vec<Choice>,
        /// The key to begin on.
        #[serde(default)]
        default: Option<String>,
    },
    /// Which disk takes the place of one that is gone. Answer: [`crate::Answer::Choice`] with a key.
    Disk {
        /// The captured disk that is to be replaced, as people know it.
        old: String,
        /// Disks of this machine.
        choices: Vec<Choice>,
    },
    /// Whether the plan shown may be carried out. Answer: [`crate::Answer::Consent`].
    PlanConsent(PlanConsent),
}

impl QuestionKind {
    /// The title that the screen bears; scripts on serial lines wait for it.
    pub const fn title(&self) -> &'static str {
        match self {
            Self::ServerAddress { .. } => "Server address",
            Self::RestoreCode => "Restore code",
            Self::Node { .. } => "Node",
            Self::Snapshot { .. } => "Snapshot",
            Self::Disk { .. } => "Disk",
            Self::PlanConsent(_) => "Consent",
        }
    }
}

/// One of several things to choose from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What the answer names.
    pub key: String,
    /// What people read.
    pub label: String,
    /// More about it, such as a time or a size.
    #[serde(default)]
    pub detail: Option<String>,
}
