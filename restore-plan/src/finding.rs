//! What the planner and the checker found.

use serde::{Deserialize, Serialize};

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

/// One thing an operator should know about a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What kind it is, for programs: `other-machine`, `table-changed`.
    pub code: String,
    /// What, and which.
    pub what: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    pub(crate) fn note(code: &str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Note, code: code.to_owned(), what: what.into(), hint: None }
    }

    pub(crate) fn warning(code: &str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, code: code.to_owned(), what: what.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn blocker(code: &str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Blocker, code: code.to_owned(), what: what.into(), hint: Some(hint.into()) }
    }
}
