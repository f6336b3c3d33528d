//! Device names in fstab become UUIDs where the disk they mean was replaced.

use node_model::{Content, DeviceKey};

use super::{Rewritten, rewrite_lines};
use crate::finding::Finding;
use crate::intake::{CapturedPartition, Snapshot};
use crate::matching::Match;
use crate::plan::MatchedBy;

/// Names that a replaced disk does not keep. (`by-uuid`, `by-label`, `by-partuuid` and `by-partlabel` it keeps.)
fn is_volatile(source: &str) -> bool {
    const KERNEL: [&str; 7] = ["sd", "vd", "xvd", "hd", "nvme", "mmcblk", "pmem"];
    let Some(name) = source.strip_prefix("/dev/") else {
        return false;
    };
    name.starts_with("disk/by-id/")
        || name.starts_with("disk/by-path/")
        || (!name.contains('/') && KERNEL.iter().any(|kernel| name.starts_with(kernel)))
}

/// Whether nothing about the disks changed, so that every name still means what it meant.
fn all_the_same(matches: &[Match<'_>]) -> bool {
    matches.iter().all(|m| m.by == MatchedBy::Identity || m.captured.identity.is_same_disk(&m.disk.identity))
}

/// Rewrites fstab, and tells of the lines that it cannot rewrite.
pub(super) fn rewrite(snapshot: &Snapshot<'_>, matches: &[Match<'_>], content: &[u8]) -> (Rewritten, Vec<Finding>) {
    let mut findings = Vec::new();
    if all_the_same(matches) {
        return (rewrite_lines(content, |_| None), findings);
    }
    let rewritten = rewrite_lines(content, |line| {
        let source = line.split_whitespace().next().filter(|source| !source.starts_with('#') && is_volatile(source))?;
        let mount_point = line.split_whitespace().nth(1).unwrap_or("none");
        let Some(uuid) = meant(snapshot, source, mount_point).and_then(|partition| uuid_of(&partition)) else {
            findings.push(Finding::warning(
                "fstab-name",
                format!("/etc/fstab names {source} for {mount_point}, and it is not known which device that was"),
                "after the restore, put the device's UUID in its place",
            ));
            return None;
        };
        let new = line.replacen(source, &format!("UUID={uuid}"), 1);
        Some((new, format!("{source} becomes UUID={uuid}")))
    });
    (rewritten, findings)
}

/// The captured partition that a line of fstab meant: the one its name says and the one mounted there, which must
/// not contradict each other.
fn meant<'a>(snapshot: &Snapshot<'a>, source: &str, mount_point: &str) -> Option<CapturedPartition<'a>> {
    let by_name = named(snapshot, source);
    let mounted = snapshot.spec.mounts.iter().filter(|mount| mount.target == mount_point);
    let by_mount: Option<&DeviceKey> = mounted.filter_map(|mount| mount.device.as_ref()).next();
    match (by_name, by_mount) {
        (Some(named), Some(mounted)) => (named.device.key == *mounted).then_some(named),
        (Some(named), None) => Some(named),
        (None, mounted) => snapshot.partition(mounted?).copied(),
    }
}

/// The captured partition that a kernel name or an identifier names.
fn named<'a>(snapshot: &Snapshot<'a>, source: &str) -> Option<CapturedPartition<'a>> {
    let matches_source = |partition: &&CapturedPartition<'a>| {
        let Some(disk) = snapshot.disk(partition.disk) else {
            return false;
        };
        let number = partition.entry.number;
        if let Some(id) = source.strip_prefix("/dev/disk/by-id/") {
            let name = id.strip_suffix(&format!("-part{number}"));
            return name.is_some_and(|name| disk.identity.stable_ids().iter().any(|id| ends_with_id(name, id)));
        }
        let kernel = disk.kernel_name;
        let infix = if kernel.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        !kernel.is_empty() && source == format!("/dev/{kernel}{infix}{number}")
    };
    let mut found = snapshot.partitions.iter().filter(matches_source);
    match (found.next(), found.next()) {
        (Some(only), None) => Some(*only),
        _ => None,
    }
}

/// Whether udev would end a link's name with this identifier: `ata-MODEL_SERIAL`, `virtio-SERIAL`, `wwn-0x5000…`.
fn ends_with_id(name: &str, id: &node_model::DiskId) -> bool {
    use node_model::DiskId::{Backing, Eui64, Nguid, Serial, Wwn};
    let text = match id {
        Wwn(text) => text.trim_start_matches("naa.").trim_start_matches("eui."),
        Nguid(text) | Eui64(text) | Serial(text) => text.as_str(),
        Backing(_) => return false,
    };
    let text = text.replace(' ', "_");
    let begins = name.strip_suffix(text.as_str());
    !text.is_empty() && begins.is_some_and(|begin| begin.ends_with(['-', '_', '.']) || begin.ends_with("0x"))
}

/// The UUID by which fstab names what a partition holds.
fn uuid_of(partition: &CapturedPartition<'_>) -> Option<String> {
    match &partition.device.content {
        Content::Filesystem { filesystem } => Some(filesystem.uuid.clone()),
        Content::Swap { swap } => swap.uuid.clone(),
        Content::Unknown | Content::Table { .. } | Content::Raw => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_model::DiskId;

    #[test]
    fn names_that_die_with_a_disk_are_known() {
        for volatile in
            ["/dev/sda1", "/dev/vdb", "/dev/nvme0n1p2", "/dev/disk/by-id/ata-X-part1", "/dev/disk/by-path/x"]
        {
            assert!(is_volatile(volatile), "{volatile}");
        }
        for kept in ["UUID=1", "LABEL=x", "/dev/disk/by-uuid/1", "/dev/mapper/vg-root", "/dev/md0", "tmpfs", "srv:/x"] {
            assert!(!is_volatile(kept), "{kept}");
        }
    }

    #[test]
    fn links_by_id_name_a_disk_by_what_it_says_of_itself() {
        assert!(ends_with_id("virtio-S1", &DiskId::Serial("S1".into())));
        assert!(ends_with_id("ata-Big_Disk_S 1".replace(' ', "_").as_str(), &DiskId::Serial("S 1".into())));
        assert!(ends_with_id("wwn-0x5000c500a1b2c3d4", &DiskId::Wwn("naa.5000c500a1b2c3d4".into())));
        assert!(ends_with_id("nvme-eui.0025385b71b00b3c", &DiskId::Eui64("0025385b71b00b3c".into())));
        assert!(!ends_with_id("ata-Big_Disk_XS1", &DiskId::Serial("S1".into())), "the end of a longer serial number");
    }
}
