//! What goes wrong with disks.

use std::io;
use std::path::PathBuf;

use node_model::{HeldBy, UnknownSectorSize};

/// Why a disk could not be opened, claimed, read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlockDevError {
    /// It could not be opened.
    #[error("{} cannot be opened as a disk", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is neither a whole disk nor a regular file.
    #[error("{} is neither a whole disk nor a regular file", path.display())]
    NotADisk {
        /// Its path.
        path: PathBuf,
    },
    /// What the kernel tells of it could not be read.
    #[error("the identity of {} cannot be read", path.display())]
    Identify {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its sectors have a size that no partition table tool agrees on.
    #[error("{} cannot be used", path.display())]
    SectorSize {
        /// Its path.
        path: PathBuf,
        /// The size.
        source: UnknownSectorSize,
    },
    /// The tables of mounts, swap and holders could not be read, so nobody knows whether it is idle.
    #[error("what uses disk {disk} cannot be found out")]
    Usage {
        /// The disk.
        disk: String,
        /// Why.
        source: io::Error,
    },
    /// Something uses it.
    #[error("disk {disk} is in use: {}", reasons(held_by))]
    Busy {
        /// The disk.
        disk: String,
        /// By what.
        held_by: Vec<HeldBy>,
    },
    /// It is not, or no longer, the disk that the plan names.
    #[error("disk {found} is not the one that the plan names: {planned}")]
    IdentityChanged {
        /// What the plan names.
        planned: String,
        /// What is there.
        found: String,
    },
    /// A write or read would leave the disk.
    #[error("{length} bytes at byte {offset} do not lie on disk {disk}, which has {size} bytes")]
    OutOfRange {
        /// The disk.
        disk: String,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Size of the disk.
        size: u64,
    },
    /// The disk failed.
    #[error("disk {disk} failed to {what} at byte {offset}")]
    Io {
        /// The disk.
        disk: String,
        /// `read`, `write`, `flush`, ….
        what: &'static str,
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

impl BlockDevError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Busy { held_by, .. } => Some(match held_by.first() {
                Some(HeldBy { device, reason }) if reason.starts_with("swap") => format!("swapoff /dev/{device}"),
                Some(HeldBy { reason, .. }) => match reason.strip_prefix("mounted at ") {
                    Some(target) => format!("unmount {target}"),
                    None => "stop what uses it, or choose another disk".to_owned(),
                },
                None => "stop what uses it, or choose another disk".to_owned(),
            }),
            Self::IdentityChanged { .. } => {
                Some("nothing was written to it; scan the machine again and make a new plan".to_owned())
            }
            Self::Io { what: "flush", .. } => {
                Some("what was written before may be lost; replace the disk and restore again".to_owned())
            }
            Self::Open { source, .. } => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => "run as root".to_owned(),
                _ => "check the path, and that the disk is connected".to_owned(),
            }),
            Self::NotADisk { .. } => {
                Some("name a whole disk, a loop device or an image file; a partition is none".to_owned())
            }
            Self::Io { .. } => Some("check the disk, its cable and the kernel's log; then restore again".to_owned()),
            _ => None,
        }
    }
}

fn reasons(held_by: &[HeldBy]) -> String {
    let said: Vec<String> = held_by
        .iter()
        .map(|held| {
            let verb = if held.reason.starts_with("swap") { "is " } else { "" };
            format!("{} {verb}{}", held.device, held.reason)
        })
        .collect();
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: &BlockDevError) -> String {
        format!("{error}\nhint: {}", error.hint().unwrap_or_else(|| "none".to_owned()))
    }

    fn busy(uses: &[(&str, &str)]) -> BlockDevError {
        let held = |&(device, reason): &(&str, &str)| HeldBy { device: device.to_owned(), reason: reason.to_owned() };
        BlockDevError::Busy { disk: "serial S3Z9 (/dev/nvme0n1)".to_owned(), held_by: uses.iter().map(held).collect() }
    }

    #[test]
    fn a_disk_in_use_is_named_with_what_uses_it_and_the_way_out() {
        insta::assert_snapshot!(said(&busy(&[("nvme0n1p2", "swap")])), @r"
        disk serial S3Z9 (/dev/nvme0n1) is in use: nvme0n1p2 is swap
        hint: swapoff /dev/nvme0n1p2
        ");
        insta::assert_snapshot!(said(&busy(&[("nvme0n1p1", "mounted at /srv"), ("nvme0n1p2", "held by md127")])), @r"
        disk serial S3Z9 (/dev/nvme0n1) is in use: nvme0n1p1 mounted at /srv, nvme0n1p2 held by md127
        hint: unmount /srv
        ");
    }

    #[test]
    fn a_disk_that_fails_or_changes_says_what_that_means() {
        let failed = |what| BlockDevError::Io {
            disk: "serial S3Z9 (/dev/sda)".to_owned(),
            what,
            offset: 4096,
            source: io::Error::from_raw_os_error(libc::EIO),
        };
        insta::assert_snapshot!(said(&failed("write")), @r"
        disk serial S3Z9 (/dev/sda) failed to write at byte 4096
        hint: check the disk, its cable and the kernel's log; then restore again
        ");
        insta::assert_snapshot!(said(&failed("flush")), @r"
        disk serial S3Z9 (/dev/sda) failed to flush at byte 4096
        hint: what was written before may be lost; replace the disk and restore again
        ");
        let changed = BlockDevError::IdentityChanged { planned: "serial A".to_owned(), found: "serial B".to_owned() };
        insta::assert_snapshot!(said(&changed), @r"
        disk serial B is not the one that the plan names: serial A
        hint: nothing was written to it; scan the machine again and make a new plan
        ");
    }
}
