//! The whole disks that sysfs shows.

use std::fs;
use std::path::{Path, PathBuf};

use node_model::{Bytes, DeviceNumber, DiskIdentity, SectorSize};

use super::{ScanError, bus, kernel};
use crate::Roots;
use crate::blockdev::{parse_number, sysfs_identity};
use crate::roots::attribute;

/// Block devices that are no disks, or only while a disk stands behind them: optical drives, memory, floppy disks,
/// and what is assembled from other devices.
const NOT_DISKS: [&str; 8] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "mtdblock"];

/// One whole disk as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SysDisk {
    /// Kernel name.
    pub(super) name: String,
    /// Its directory, all links followed.
    pub(super) directory: PathBuf,
    pub(super) number: DeviceNumber,
    pub(super) identity: DiskIdentity,
    pub(super) bus_path: Option<String>,
    pub(super) sector_size: SectorSize,
    pub(super) removable: bool,
    pub(super) read_only: bool,
}

/// All disks, by name. Loop devices are none: they are looked at only when named.
pub(super) fn all(roots: &Roots) -> Result<Vec<SysDisk>, ScanError> {
    let directory = roots.sysfs.join("block");
    let mut disks = Vec::new();
    for entry in fs::read_dir(&directory).map_err(kernel(&directory))? {
        let entry = entry.map_err(kernel(&directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let made_up = |prefix: &&str| {
            name.strip_prefix(*prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        if !NOT_DISKS.iter().any(made_up) {
            disks.extend(one(&entry.path()));
        }
    }
    disks.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(disks)
}

/// The disk with this directory in sysfs; `None` if it has no medium, is one of several paths that the kernel hides,
/// or has sectors of a size that nobody can use.
pub(super) fn one(link: &Path) -> Option<SysDisk> {
    let directory = link.canonicalize().ok()?;
    let read = |name: &str| attribute(&directory.join(name));
    let flag = |name: &str| read(name).is_some_and(|text| text != "0");
    let size = read("size")?.parse::<u64>().ok()?.checked_mul(512).filter(|&size| size > 0)?;
    if flag("hidden") {
        return None;
    }
    let name = directory.file_name()?.to_string_lossy().into_owned();
    let sector_bytes = read("queue/logical_block_size")?.parse::<u64>().ok()?;
    let Ok(sector_size) = SectorSize::try_from(sector_bytes) else {
        tracing::warn!(disk = %name, sector_bytes, "a disk with sectors of this size is left out");
        return None;
    };
    Some(SysDisk {
        number: parse_number(&read("dev")?)?,
        identity: sysfs_identity(&directory, Bytes(size)),
        bus_path: bus::disk_path(&directory),
        sector_size,
        removable: flag("removable"),
        read_only: flag("ro"),
        name,
        directory,
    })
}
