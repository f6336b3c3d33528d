//! What a test node is made of, and the name under which it is cached.

use serde::Serialize;
use serde_json::{Value, json};

use crate::Firmware;

/// A filesystem for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filesystem {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
}

/// What a test node is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRecipe {
    /// Changes whenever the way of building changes.
    version: u32,
    /// Its host name.
    pub hostname: String,
    /// Started by UEFI (an ESP) instead of BIOS (a BIOS boot partition).
    pub uefi: bool,
    /// The permanent address of its network card: the network's configuration matches it.
    pub mac: String,
    /// Debian's release.
    pub suite: String,
    /// Packages beyond the ones that every small node has.
    pub packages: Vec<String>,
    /// A second filesystem, mounted at `/srv`.
    pub data: Option<Filesystem>,
    /// Bytes of the disk.
    pub disk_bytes: u64,
    /// Serial number of the disk.
    pub disk_serial: String,
    /// System UUID that the firmware tells.
    pub system_uuid: String,
    /// System serial number that the firmware tells.
    pub system_serial: String,
    /// Whether it carries files that are awkward to restore.
    pub awkward_files: bool,
}

/// Packages of every small node.
const PACKAGES: [&str; 20] = [
    "acl",
    "attr",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "efibootmgr",
    // Both loaders' files and what installs either, so that nodes of both kinds share one Debian: the packages that
    // would install themselves exclude each other.
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "grub2-common",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "libcap2-bin",
    "linux-image-cloud-amd64",
    "openssh-server",
    "procps",
    "systemd-sysv",
    "udev",
    "xfsprogs",
    "zstd",
];

/// Raised when a change of the builder makes cached nodes wrong.
const VERSION: u32 = 4;

impl NodeRecipe {
    /// A small Debian bookworm node that starts by BIOS: 1 MiB BIOS boot, swap, ext4 root, XFS data.
    pub fn small() -> Self {
        NodeRecipe {
            version: VERSION,
            hostname: "node1".into(),
            uefi: false,
            mac: "52:54:00:aa:00:01".into(),
            suite: "bookworm".into(),
            packages: Vec::new(),
            data: Some(Filesystem::Xfs),
            disk_bytes: 3 << 30,
            disk_serial: "OLD-DISK-0001".into(),
            system_uuid: "6f1d5a6e-0000-4000-8000-000000000001".into(),
            system_serial: "NODE-0001".into(),
            awkward_files: true,
        }
    }

    /// The same, started by UEFI: ESP, ext4 root, swap, XFS data.
    pub fn small_uefi() -> Self {
        NodeRecipe { hostname: "node2".into(), uefi: true, mac: "52:54:00:aa:00:02".into(), ..NodeRecipe::small() }
            .identity("OLD-DISK-0002", "6f1d5a6e-0000-4000-8000-000000000002", "NODE-0002")
    }

    /// Gives it another disk and other firmware strings.
    #[must_use]
    pub fn identity(mut self, disk_serial: &str, system_uuid: &str, system_serial: &str) -> Self {
        self.disk_serial = disk_serial.into();
        self.system_uuid = system_uuid.into();
        self.system_serial = system_serial.into();
        self
    }

    /// The firmware that starts it.
    pub fn firmware(&self) -> Firmware {
        if self.uefi { Firmware::Uefi } else { Firmware::Bios }
    }

    /// Every package, sorted.
    pub fn all_packages(&self) -> Vec<String> {
        let mut all: Vec<String> =
            PACKAGES.iter().copied().map(str::to_owned).chain(self.packages.iter().cloned()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The name of the folder that caches it: any change of the recipe makes another node.
    pub fn cache_key(&self) -> String {
        hashed(&format!("node-{}", self.hostname), &json!({ "recipe": self, "packages": self.all_packages() }))
    }

    /// The name of the folder that caches what is installed, before it is anybody's node.
    pub(crate) fn debian_key(&self) -> String {
        hashed(&format!("debian-{}", self.suite), &json!({ "version": self.version, "packages": self.all_packages() }))
    }
}

fn hashed(name: &str, what: &Value) -> String {
    format!("{name}-{}", &blake3::hash(what.to_string().as_bytes()).to_hex()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_recipe_is_another_node() {
        let recipe = NodeRecipe::small();
        let mut others = vec![NodeRecipe::small_uefi()];
        others.push(NodeRecipe { disk_bytes: recipe.disk_bytes + 1, ..recipe.clone() });
        others.push(NodeRecipe { packages: vec!["nginx".into()], ..recipe.clone() });
        others.push(NodeRecipe { data: None, ..recipe.clone() });
        assert_eq!(recipe.cache_key(), NodeRecipe::small().cache_key());
        for other in others {
            assert_ne!(recipe.cache_key(), other.cache_key(), "{other:?}");
        }
    }

    #[test]
    fn nodes_of_equal_packages_share_one_debian() {
        let recipe = NodeRecipe::small();
        assert_eq!(recipe.debian_key(), NodeRecipe::small_uefi().debian_key());
        let other = NodeRecipe { packages: vec!["nginx".into()], ..recipe.clone() };
        assert_ne!(recipe.debian_key(), other.debian_key());
    }
}
