//! A node's network: its interfaces and the files that configure them.

use serde::{Deserialize, Serialize};

use crate::{HexBytes, MacAddress};

/// What is recorded of a node's network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Physical interfaces.
    pub interfaces: Vec<NetworkInterface>,
    /// The files that configure them.
    pub files: Vec<ConfigFile>,
}

/// One physical network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// Its name when it was recorded.
    pub name: String,
    /// Its permanent address, not one that a bond gave it.
    pub permanent_mac: MacAddress,
    /// Path of its bus device, such as `pci0000:00/0000:00:03.0`.
    pub bus_path: String,
    /// Kernel driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Whether it had a link.
    pub link_up: bool,
}

/// Which program reads a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkBackend {
    /// `/etc/network/interfaces` and its directory.
    Ifupdown,
    /// `/etc/systemd/network/*`.
    SystemdNetworkd,
    /// `/etc/netplan/*.yaml`.
    Netplan,
    /// `/etc/NetworkManager/system-connections/*`.
    NetworkManager,
    /// `/etc/udev/rules.d/70-persistent-net.rules` and its like.
    Udev,
    /// `/etc/fstab`, read together with the mounts.
    Fstab,
}

/// A small configuration file that the planner may rewrite, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// Absolute path in the node.
    pub path: String,
    /// Who reads it.
    pub backend: NetworkBackend,
    /// Its bytes; at most 64 KiB.
    pub content: HexBytes,
}
