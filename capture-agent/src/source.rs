//! Which volumes a node has, and where their bytes are read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use linux_io::scan::{LiveDevice, NodeScan, Unsupported};
use node_model::{Bytes, Content, Device, DeviceKey, DeviceKind, Guid, Layout, PartitionTable, VolumeName};

use crate::CaptureError;

/// The part of block 0 that firmware runs: the rest of the block is the table's.
const BOOT_CODE_BYTES: u64 = 440;

/// Longest name made from a mount point; what is cut off is replaced by a number if names collide.
const NAME_BYTES_MAX: usize = 40;

/// One volume before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSource {
    /// Its name.
    pub name: VolumeName,
    /// The layout's device it belongs to.
    pub device: DeviceKey,
    /// Where its bytes are.
    pub kind: SourceKind,
}

/// Where a volume's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// The files of a filesystem.
    Files(FilesRoot),
    /// A region of a disk.
    Raw {
        /// The device or image file that is read.
        path: PathBuf,
        /// Where the layout's device begins in it.
        base_bytes: Bytes,
        /// Where the region begins on the layout's device.
        offset_bytes: Bytes,
        /// Its length.
        length_bytes: Bytes,
    },
}

/// Where a filesystem's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesRoot {
    /// It is mounted as a whole.
    Mounted {
        /// Where, in this process's view.
        at: PathBuf,
        /// Where, in the node: what messages show.
        shown: String,
    },
    /// It is not mounted, and is read through a private read-only mount.
    Unmounted {
        /// Its device node.
        device: PathBuf,
        /// What `mount -t` takes.
        fstype: String,
    },
}

/// The volumes of a node: boot code and BIOS boot partitions, then filesystems, in order of their mount points.
///
/// # Errors
/// If the node has something that cannot be restored yet (all of it is named), no filesystem, or one that is neither
/// mounted nor can be.
pub fn sources(scan: &NodeScan) -> Result<Vec<VolumeSource>, CaptureError> {
    if !scan.unsupported.is_empty() {
        let named = |unsupported: &Unsupported| (unsupported.device.clone(), unsupported.what.clone());
        return Err(CaptureError::Unsupported(scan.unsupported.iter().map(named).collect()));
    }
    let layout = &scan.spec.layout;
    let mut names = Names::default();
    let mut sources = Vec::new();
    for device in layout.devices.iter().filter_map(|device| Some((device, scan.device(&device.key)?))) {
        sources.extend(raw_source(layout, device, &mut names)?);
    }
    let mut files = Vec::new();
    for (device, filesystem) in layout.filesystems() {
        let live = scan.device(&device.key);
        let shown = scan.spec.mounts.iter().find(|mount| mount.device.as_ref() == Some(&device.key));
        let at = live.and_then(|live| live.mounted_at.first());
        let (order, root) = match (at, shown, live.and_then(|live| live.node.as_ref())) {
            (Some(at), shown, _) => {
                let shown = shown.map_or_else(|| at.to_string_lossy().into_owned(), |mount| mount.target.clone());
                (Some(shown.clone()), FilesRoot::Mounted { at: at.clone(), shown })
            }
            (None, _, Some(node)) => {
                let fstype = filesystem.type_name().to_owned();
                (None, FilesRoot::Unmounted { device: node.clone(), fstype })
            }
            (None, _, None) => return Err(CaptureError::NoNode { device: device.key.clone() }),
        };
        files.push((order, device, root));
    }
    if files.is_empty() {
        return Err(CaptureError::NothingToCapture);
    }
    files.sort_by(|(a, ..), (b, ..)| (a.is_none(), a).cmp(&(b.is_none(), b)));
    for (target, device, root) in files {
        let wanted = target.map_or_else(|| device.key.to_string(), |target| name_of_mount(&target));
        let name = names.take(&wanted)?;
        sources.push(VolumeSource { name, device: device.key.clone(), kind: SourceKind::Files(root) });
    }
    Ok(sources)
}

/// The raw volume of a device, if it has one: a disk's boot code, a BIOS boot partition's content.
fn raw_source(
    layout: &Layout,
    (device, live): (&Device, &LiveDevice),
    names: &mut Names,
) -> Result<Option<VolumeSource>, CaptureError> {
    let (wanted, length_bytes) = match &device.device {
        DeviceKind::Disk { .. } if matches!(device.content, Content::Table { .. }) => {
            (format!("{}-boot-code", device.key), Bytes(BOOT_CODE_BYTES))
        }
        DeviceKind::Partition { disk, number } if is_bios_boot(layout, disk, *number) => {
            (format!("{}-bios-boot", device.key), live.length)
        }
        _ => return Ok(None),
    };
    let name = names.take(&wanted)?;
    let (path, base_bytes) = (live.disk.clone(), live.start);
    let kind = SourceKind::Raw { path, base_bytes, offset_bytes: Bytes(0), length_bytes };
    Ok(Some(VolumeSource { name, device: device.key.clone(), kind }))
}

/// Whether a partition is one that a BIOS boot loader lies in.
fn is_bios_boot(layout: &Layout, disk: &DeviceKey, number: u32) -> bool {
    match layout.get(disk).map(|disk| &disk.content) {
        Some(Content::Table { table: PartitionTable::Gpt(gpt) }) => {
            gpt.partitions.iter().any(|p| p.number == number && p.type_guid == Guid::BIOS_BOOT)
        }
        _ => false,
    }
}

/// `/` becomes `root`, `/srv/data` becomes `srv-data`.
fn name_of_mount(target: &str) -> String {
    if target == "/" {
        return "root".to_owned();
    }
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '_') => c,
        _ => '-',
    };
    let name: String = Path::new(target).to_string_lossy().chars().map(plain).take(NAME_BYTES_MAX).collect();
    let name = name.trim_matches(['-', '_']);
    if name.is_empty() { "volume".to_owned() } else { name.to_owned() }
}

/// Names given out, each only once.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    fn take(&mut self, wanted: &str) -> Result<VolumeName, CaptureError> {
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{wanted}-{number}");
            number += 1;
        }
        Ok(name.parse()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_named_by_where_they_are_mounted() {
        let mut names = Names::default();
        let mut take = |target: &str| names.take(&name_of_mount(target)).unwrap().to_string();
        assert_eq!(take("/"), "root");
        assert_eq!(take("/boot/efi"), "boot-efi");
        assert_eq!(take("/srv/Data Base"), "srv-data-base");
        assert_eq!(take("/srv/data.base"), "srv-data-base-2");
        assert_eq!(take("/root"), "root-2");
        assert_eq!(take("/___"), "volume");
        assert_eq!(take(&format!("/{}", "x".repeat(200))), "x".repeat(39));
    }
}
