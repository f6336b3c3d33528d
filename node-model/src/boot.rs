//! How a node starts.

use serde::{Deserialize, Serialize};

use crate::{Guid, HexBytes};

/// What the machine's firmware is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Firmware {
    /// PC BIOS.
    Bios,
    /// UEFI.
    Uefi {
        /// Whether Secure Boot is enforced.
        secure_boot: bool,
    },
}

/// Everything recorded about the way from power-on to the node's kernel. Boot code and BIOS boot partitions are raw
/// volumes, the files of the ESP a files volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootChain {
    /// Firmware it was started by.
    pub firmware: Firmware,
    /// The firmware's boot entries that name a file on one of the node's disks, in boot order. Empty under BIOS.
    #[serde(default)]
    pub efi_entries: Vec<EfiBootEntry>,
    /// The kernel command line it ran with.
    pub kernel_cmdline: String,
}

/// One `Boot####` variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EfiBootEntry {
    /// The variable's number.
    pub number: u16,
    /// What the firmware's menu shows.
    pub description: String,
    /// The GPT partition that holds the loader.
    pub partition_guid: Guid,
    /// The loader's path as the firmware writes it, such as `\EFI\debian\shimx64.efi`.
    pub loader_path: String,
    /// Bytes handed to the loader.
    #[serde(default)]
    pub optional_data: HexBytes,
}
