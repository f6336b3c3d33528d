//! How far the running stage is.

use node_model::Bytes;
use serde::{Deserialize, Serialize};

use crate::Stage;

/// What holds a restore back now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The way to the server.
    Network,
    /// The server itself.
    Server,
    /// This machine's processors.
    Cpu,
    /// The target disks.
    Disk,
    /// Not known (yet).
    Unknown,
}

impl Limit {
    /// What people read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Server => "server",
            Self::Cpu => "CPU",
            Self::Disk => "disk",
            Self::Unknown => "not known yet",
        }
    }
}

/// How far the running stage is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// What is being done, in words: `making ext4 on partition 2`.
    #[serde(default)]
    pub step: Option<String>,
    /// Bytes done.
    pub done_bytes: Bytes,
    /// Bytes in all; 0 where the stage does not count bytes.
    pub total_bytes: Bytes,
    /// Files done.
    pub file_count: u64,
    /// Files in all.
    pub file_total: u64,
    /// Speed over the last seconds.
    pub bytes_per_second: Bytes,
    /// Time left, where it can be told.
    #[serde(default)]
    pub eta_ms: Option<u64>,
    /// What holds it back.
    pub limit: Limit,
}

impl Progress {
    /// Hundredths done, from 0 to 100; `None` where the stage does not count bytes.
    pub fn percent(&self) -> Option<u8> {
        let (done, total) = (u128::from(self.done_bytes.get()), u128::from(self.total_bytes.get()));
        (total > 0).then(|| (done.min(total) * 100 / total) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_stays_within_its_bounds() {
        let at = |done, total| Progress {
            stage: Stage::Data,
            step: None,
            done_bytes: Bytes(done),
            total_bytes: Bytes(total),
            file_count: 0,
            file_total: 0,
            bytes_per_second: Bytes(0),
            eta_ms: None,
            limit: Limit::Unknown,
        };
        assert_eq!(at(0, 0).percent(), None);
        assert_eq!(at(1, 3).percent(), Some(33));
        assert_eq!(at(9, 3).percent(), Some(100));
        assert_eq!(at(u64::MAX, u64::MAX).percent(), Some(100));
    }
}
