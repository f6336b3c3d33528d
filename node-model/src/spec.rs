//! What a node was.

use serde::{Deserialize, Serialize};

use crate::{BootChain, Bytes, ConfigFile, DeviceKey, Layout, MacAddress, NetworkSpec};

/// All that was recorded about a node, its data aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Who it is.
    pub identity: MachineIdentity,
    /// Which system it ran.
    pub os: OsRelease,
    /// Hardware that matters at boot.
    pub hardware: Hardware,
    /// Its disks and what stands on them.
    pub layout: Layout,
    /// What was mounted where.
    pub mounts: Vec<Mount>,
    /// `/etc/fstab`, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fstab: Option<ConfigFile>,
    /// How it starts.
    pub boot: BootChain,
    /// Its network.
    pub network: NetworkSpec,
}

/// By what a machine can be recognised.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineIdentity {
    /// SMBIOS system UUID, canonical lower-case text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_uuid: Option<String>,
    /// SMBIOS system serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_serial: Option<String>,
    /// Permanent addresses of the physical interfaces, ascending.
    pub macs: Vec<MacAddress>,
    /// `/etc/machine-id`; absent in the restore environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// Host name; absent in the restore environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

impl MachineIdentity {
    /// Whether `other` is the same machine: the same system UUID where both have one, else a shared address.
    pub fn is_same_machine(&self, other: &Self) -> bool {
        match (&self.system_uuid, &other.system_uuid) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.macs.iter().any(|mac| other.macs.contains(mac)),
        }
    }

    /// Stricter than [`Self::is_same_machine`], for whatever may erase something: firmware of one make may give every
    /// board the same UUID, so where both know their network addresses, one must be shared too.
    pub fn is_surely_same_machine(&self, other: &Self) -> bool {
        let shares_address = self.macs.iter().any(|mac| other.macs.contains(mac));
        self.is_same_machine(other) && (shares_address || self.macs.is_empty() || other.macs.is_empty())
    }
}

/// Which system a node ran.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OsRelease {
    /// `ID` of os-release, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
    /// The running kernel's release.
    pub kernel_release: String,
}

/// Hardware that matters at boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hardware {
    /// Machine architecture as `uname -m` says it.
    pub architecture: String,
    /// Installed memory.
    pub memory_bytes: Bytes,
    /// PCI functions.
    pub pci: Vec<PciDevice>,
}

/// One PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciDevice {
    /// Address, such as `0000:00:03.0`.
    pub address: String,
    /// What modules are matched by.
    pub modalias: String,
    /// Kernel driver bound to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// One mount of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The layout's device, for filesystems that are captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceKey>,
    /// The source as the mount table names it.
    pub source: String,
    /// Absolute path.
    pub target: String,
    /// Filesystem type.
    pub fstype: String,
    /// Options as the mount table lists them.
    pub options: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(system_uuid: Option<&str>, macs: &[&str]) -> MachineIdentity {
        let macs = macs.iter().map(|mac| mac.parse().unwrap()).collect();
        MachineIdentity { system_uuid: system_uuid.map(str::to_owned), macs, ..MachineIdentity::default() }
    }

    #[test]
    fn boards_that_share_a_uuid_are_told_apart_by_their_addresses_before_anything_is_erased() {
        let board = Some("03000200-0400-0500-0006-000700080009");
        let (one, other) = ("52:54:00:00:00:01", "52:54:00:00:00:02");
        let recorded = machine(board, &[one]);
        assert!(recorded.is_same_machine(&machine(board, &[other])), "the weak test takes them for one");
        assert!(!recorded.is_surely_same_machine(&machine(board, &[other])));
        assert!(recorded.is_surely_same_machine(&machine(board, &[one, other])));
        assert!(recorded.is_surely_same_machine(&machine(board, &[])), "its addresses are not known");
        assert!(recorded.is_surely_same_machine(&machine(None, &[one])));
        assert!(!recorded.is_surely_same_machine(&machine(Some("another"), &[one])));
        assert!(!machine(None, &[]).is_surely_same_machine(&machine(None, &[])), "nothing is known of either");
    }
}
