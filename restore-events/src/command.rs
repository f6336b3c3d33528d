//! What the screens tell the engine.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::QuestionId;

/// One thing a screen tells the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Command {
    /// A screen attached (again): the engine answers with the records of its [`crate::Replay`].
    Hello {
        /// Which screen, such as `ttyS0`.
        screen: String,
    },
    /// An answer.
    Answer {
        /// To which question. An answer to another than the open one is ignored.
        question: QuestionId,
        /// The answer.
        answer: Answer,
    },
    /// Try again what failed.
    Retry,
    /// Open the rescue shell, where that is allowed.
    Shell,
    /// Reboot.
    Reboot,
    /// Power off.
    PowerOff,
}

/// An answer, of the kind that the question asks for; any other is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Answer {
    /// Plain text.
    Text(String),
    /// The restore code.
    Code(Secret),
    /// The key of a choice.
    Choice(String),
    /// What was typed to consent to a plan. Never implied by anything empty: see [`crate::PlanConsent::judge`].
    Consent {
        /// The digest of the plan that was on the screen.
        digest: String,
        /// What was typed for each disk.
        disks: Vec<DiskConfirmation>,
    },
    /// The operator does not consent.
    Decline,
}

/// What was typed for one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfirmation {
    /// The disk's serial number as [`crate::ConsentDisk::serial`] gave it.
    pub serial: String,
    /// What was typed.
    pub typed: String,
}

/// Text that must not reach a log: it prints as `[secret]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_code_does_not_print() {
        let command = Command::Answer { question: QuestionId(1), answer: Answer::Code(Secret("ABCD-EFGH".into())) };
        assert!(!format!("{command:?}").contains("ABCD"), "{command:?}");
    }
}
