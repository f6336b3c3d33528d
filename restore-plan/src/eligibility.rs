//! Which disks of a machine may be erased at all. The default is no.

use node_model::{InventoryDisk, Transport};

use crate::error::Override;
use crate::policy::AllowedForeign;

/// Why a disk must not be erased, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) hint: String,
    pub(crate) overruled_by: Option<Override>,
}

fn refuse(reason: impl Into<String>, hint: impl Into<String>) -> Option<Refusal> {
    Some(Refusal { reason: reason.into(), hint: hint.into(), overruled_by: None })
}

/// A refusal that somebody may overrule.
fn refuse_unless(word: Override, reason: impl Into<String>, hint: impl Into<String>) -> Option<Refusal> {
    Some(Refusal { reason: reason.into(), hint: hint.into(), overruled_by: Some(word) })
}

/// Signatures of software that shares disks between machines or pools them: erasing one member destroys more than
/// this disk. Besides these, everything that blkid calls a member.
const FOREIGN: [&str; 10] =
    ["vmfs", "gfs", "gfs2", "ocfs2", "ceph_bluestore", "zfs", "drbd", "drbdproxy_datalog", "bcache", "dm_snapshot_cow"];

/// Whether a signature belongs to something larger than this disk.
pub(crate) fn is_foreign(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    kind.ends_with("_member") || FOREIGN.contains(&kind.as_str())
}

/// Why `disk` must not be erased; `None` if it may be. `named` is whether a person or a command line named it.
pub(crate) fn refusal(disk: &InventoryDisk, named: bool, allowed: &[AllowedForeign]) -> Option<Refusal> {
    let identity = &disk.identity;
    let ids = identity.stable_ids();
    if disk.boot_medium {
        return refuse("this machine was started from it", "name another disk");
    }
    if disk.read_only {
        return refuse("it refuses writes", "release its write protection, then scan again");
    }
    if identity.transport == Transport::San {
        return refuse("it is reached over a network that other machines may share", "name a local disk");
    }
    if let Some(held) = disk.held_by.first() {
        let device = &held.device;
        return refuse(
            format!("it is in use: {device} is {}", held.reason),
            format!("release {device}, then scan again"),
        );
    }
    if ids.is_empty() {
        let path = disk.bus_path.as_deref().unwrap_or("unknown");
        return refuse(
            format!("it has neither WWN nor serial number (bus path {path}), so it cannot be told from another disk"),
            "give the virtual disk a serial number, or use another disk",
        );
    }
    let named = named || disk.named_explicitly;
    if matches!(identity.transport, Transport::Loop | Transport::File) && !named {
        return refuse_unless(Override::NameTarget, "it is a file or loop device", "use a disk");
    }
    if (disk.removable || identity.transport == Transport::Usb) && !named {
        return refuse_unless(Override::NameTarget, "it is removable", "use a disk that is built in");
    }
    if identity.size_bytes.get() == 0 {
        return refuse("it has no medium", "put in a medium, then scan again");
    }
    let is_allowed = |kind: &str| allowed.iter().any(|leave| leave.kind == kind && ids.contains(&leave.disk));
    let foreign = disk.signatures.iter().find(|s| is_foreign(&s.kind) && !is_allowed(&s.kind))?;
    refuse_unless(
        Override::EraseForeign(AllowedForeign { disk: ids[0].clone(), kind: foreign.kind.clone() }),
        format!("{} bears the signature {}, which is part of something larger", foreign.device, foreign.kind),
        "use another disk, or wipe this one first if what it was part of is no longer needed",
    )
}

#[cfg(test)]
mod tests {
    use super::is_foreign;

    #[test]
    fn fault_48_pools_and_shared_filesystems_are_foreign() {
        for kind in ["VMFS_volume_member", "VMFS", "gfs2", "ceph_bluestore", "zfs_member", "linux_raid_member"] {
            assert!(is_foreign(kind), "{kind}");
        }
        for kind in ["LVM2_member", "isw_raid_member", "ocfs2"] {
            assert!(is_foreign(kind), "{kind}");
        }
        for kind in ["ext4", "xfs", "vfat", "swap", "gpt", "dos", "crypto_LUKS", "ntfs"] {
            assert!(!is_foreign(kind), "{kind}");
        }
    }
}
