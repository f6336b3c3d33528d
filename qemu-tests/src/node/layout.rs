//! How a node's disk is divided.

use crate::{Filesystem, NodeRecipe};

const MIB: u64 = 1 << 20;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// GRUB's second stage on a BIOS machine.
    BiosBoot,
    /// The EFI System Partition.
    Esp,
    /// Swap.
    Swap,
    /// The root filesystem, ext4.
    Root,
    /// Data.
    Data(Filesystem),
}

/// A partition: its number is its place in the list, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) purpose: Use,
    pub(super) start_bytes: u64,
    pub(super) size_bytes: u64,
}

/// Divides the disk; everything lies on MiB borders.
pub(super) fn parts(recipe: &NodeRecipe) -> Vec<Part> {
    let mut fixed = if recipe.uefi {
        vec![(Use::Esp, 64 * MIB), (Use::Root, 0), (Use::Swap, 128 * MIB)]
    } else {
        vec![(Use::BiosBoot, MIB), (Use::Swap, 128 * MIB), (Use::Root, 0)]
    };
    if let Some(kind) = recipe.data {
        // mkfs.xfs refuses less than 300 MiB.
        fixed.push((Use::Data(kind), 320 * MIB));
    }
    // The first MiB holds the table, the last one its backup.
    let taken: u64 = fixed.iter().map(|(_, size)| size).sum::<u64>() + 2 * MIB;
    let root = recipe.disk_bytes.saturating_sub(taken) / MIB * MIB;
    let mut start = MIB;
    fixed
        .into_iter()
        .map(|(purpose, size)| {
            let size_bytes = if purpose == Use::Root { root } else { size };
            let part = Part { purpose, start_bytes: start, size_bytes };
            start += size_bytes;
            part
        })
        .collect()
}

/// The script that `sfdisk` reads.
pub(super) fn sfdisk_script(parts: &[Part]) -> String {
    let mut script = String::from("label: gpt\nunit: sectors\n");
    for part in parts {
        let kind = match part.purpose {
            Use::BiosBoot => "21686148-6449-6E6F-744E-656564454649",
            Use::Esp => "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            Use::Swap => "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
            Use::Root | Use::Data(_) => "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
        };
        script.push_str(&format!("start={}, size={}, type={kind}\n", part.start_bytes / 512, part.size_bytes / 512));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other_and_leave_room_for_the_backup_table() {
        for recipe in [NodeRecipe::small(), NodeRecipe::small_uefi()] {
            let parts = parts(&recipe);
            for pair in parts.windows(2) {
                assert_eq!(pair[0].start_bytes + pair[0].size_bytes, pair[1].start_bytes);
            }
            let end = parts.last().map(|part| part.start_bytes + part.size_bytes).unwrap();
            assert!(end <= recipe.disk_bytes - MIB);
            assert!(parts.iter().any(|part| part.purpose == Use::Root && part.size_bytes > 2000 * MIB));
        }
    }

    #[test]
    fn the_script_is_what_sfdisk_reads() {
        insta::assert_snapshot!(sfdisk_script(&parts(&NodeRecipe::small())));
    }
}
