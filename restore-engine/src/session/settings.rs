//! What the engine is told when it starts: the file that PID 1 writes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use restore_events::{After, NetworkState, Secret};
use serde::Deserialize;

/// The version of the file that is read.
pub(super) const SETTINGS_FORMAT: u32 = 1;
/// The largest file that is read.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// The settings of one session. Every one of them may instead be asked for on the screen.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Settings {
    /// Version of this record; this program reads 1.
    pub format: u32,
    /// Bundle servers.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Pin of the repository's root key.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// Whose bundle.
    #[serde(default)]
    pub node: Option<String>,
    /// Which snapshot: `latest`, an id, or a time.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Restore code.
    #[serde(default)]
    pub code: Option<Secret>,
    /// Whether nobody is expected at the console.
    #[serde(default)]
    pub unattended: bool,
    /// What may be erased.
    #[serde(default)]
    pub erase: Option<String>,
    /// What follows success.
    #[serde(default)]
    pub after: Option<After>,
    /// What follows refusals at last, where nobody is expected.
    #[serde(default)]
    pub refused: Option<After>,
    /// Whether the rescue shell may be opened.
    #[serde(default)]
    pub shell: bool,
    /// Loop devices or disks that are taken for all that this machine has. PID 1 names none: the disks are those that
    /// the kernel found.
    #[serde(default)]
    pub disks: Vec<PathBuf>,
    /// How often the engine had begun before on this boot.
    #[serde(default)]
    pub engine_restarts: u32,
    /// What took how long until now.
    #[serde(default)]
    pub timeline: Timeline,
    /// The network.
    #[serde(default)]
    pub network: NetworkState,
}

/// Milliseconds since the kernel's start at which something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Timeline {
    /// PID 1 began.
    #[serde(default)]
    pub init_ms: u64,
    /// A driver was loaded or a device came last: disks may have been on their way still.
    #[serde(default)]
    pub devices_ms: u64,
    /// The network was up, or given up.
    #[serde(default)]
    pub network_ms: u64,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("the settings in {path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("the settings in {path} are malformed")]
    Malformed {
        /// The file.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Another release wrote the file.
    #[error("the settings in {path} have format {found}; this program reads format {SETTINGS_FORMAT}")]
    Format {
        /// The file.
        path: String,
        /// The format found.
        found: u32,
    },
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is not there, too long, or not of this format.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let named = || path.display().to_string();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(SETTINGS_BYTES_MAX).read_to_end(&mut bytes))
            .map_err(|source| SettingsError::Read { path: named(), source })?;
        let settings: Self =
            serde_json::from_slice(&bytes).map_err(|source| SettingsError::Malformed { path: named(), source })?;
        if settings.format != SETTINGS_FORMAT {
            return Err(SettingsError::Format { path: named(), found: settings.format });
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pid_1_writes_is_read() {
        let written = r#"{"format": 1, "servers": ["https://10.0.2.2:8443"], "fingerprint": null, "node": null,
            "snapshot": null, "code": "ABCD-EFGH-JKMN-PQRS-TVWX", "unattended": true, "erase": "identity",
            "after": "reboot", "refused": "poweroff", "shell": false, "engine_restarts": 0,
            "timeline": {"init_ms": 900, "devices_ms": 1500, "network_ms": 3200},
            "network": {"state": "up", "interfaces": [{"name": "eth0", "mac": "52:54:00:00:00:01",
            "driver": "virtio_net", "link_up": true, "speed_mbps": null, "addresses": ["10.0.2.15/24"]}],
            "gateway": "10.0.2.2", "dns": ["10.0.2.3"], "ntp": [], "note": "address by DHCP from 10.0.2.2"}}"#;
        let settings: Settings = serde_json::from_str(written).unwrap();
        assert_eq!((settings.after, settings.refused), (Some(After::Reboot), Some(After::Poweroff)));
        assert_eq!(settings.network.interfaces[0].addresses, ["10.0.2.15/24"]);
        assert!(!format!("{settings:?}").contains("ABCD"), "the code is not printed");
    }
}
