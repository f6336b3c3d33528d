//! Which volumes a node has, and where their bytes are read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use linux_io::Roots;
use linux_io::proctab;
use node_model::{
    Bytes, Content, Device, DeviceKey, DeviceKind, DiskIdentity, Gpt, GptPartition, Guid, Layout, Mbr, NodeSpec,
    PartitionTable, SectorSize, Transport, VolumeName,
};

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
/// If the table of mounts cannot be read, or there is no filesystem.
pub fn sources(spec: &NodeSpec, roots: &Roots) -> Result<Vec<VolumeSource>, CaptureError> {
    let mut names = Names::default();
    let mut sources = Vec::new();
    for device in &spec.layout.devices {
        sources.extend(raw_source(&spec.layout, device, roots, &mut names)?);
    }
    let mounted = proctab::mounts(&roots.proc).map_err(CaptureError::Mounts)?;
    let whole: HashSet<&str> = mounted.iter().filter(|m| m.root == "/").map(|m| m.target.as_str()).collect();
    let mut files = Vec::new();
    for (device, filesystem) in spec.layout.filesystems() {
        let targets = spec.mounts.iter().filter(|mount| mount.device.as_ref() == Some(&device.key));
        // A bind mount of a directory shows only a part.
        let target = targets.map(|mount| mount.target.as_str()).filter(|target| whole.contains(target)).min();
        let root = match target {
            Some(target) => FilesRoot::Mounted { at: roots.in_root(target), shown: target.to_owned() },
            None => FilesRoot::Unmounted {
                device: partition_path(&spec.layout, device, roots),
                fstype: filesystem.type_name().to_owned(),
            },
        };
        files.push((target.unwrap_or("").to_owned(), device, root));
    }
    if files.is_empty() {
        return Err(CaptureError::NothingToCapture);
    }
    files.sort_by(|a, b| (a.0.is_empty(), &a.0).cmp(&(b.0.is_empty(), &b.0)));
    for (target, device, root) in files {
        let wanted = if target.is_empty() { device.key.to_string() } else { name_of_mount(&target) };
        let name = names.take(&wanted)?;
        sources.push(VolumeSource { name, device: device.key.clone(), kind: SourceKind::Files(root) });
    }
    Ok(sources)
}

/// The raw volume of a device, if it has one: a disk's boot code, a BIOS boot partition's content.
fn raw_source(
    layout: &Layout,
    device: &Device,
    roots: &Roots,
    names: &mut Names,
) -> Result<Option<VolumeSource>, CaptureError> {
    let (wanted, path, base_bytes, length_bytes) = match &device.device {
        DeviceKind::Disk { .. } if matches!(device.content, Content::Table { .. }) => {
            (format!("{}-boot-code", device.key), disk_path(device, roots), Bytes(0), Bytes(BOOT_CODE_BYTES))
        }
        DeviceKind::Partition { disk, number } => {
            let Some((parent, start)) = layout.get(disk).and_then(|d| Some((d, bios_boot_start(d, *number)?))) else {
                return Ok(None);
            };
            (format!("{}-bios-boot", device.key), disk_path(parent, roots), start, device.size_bytes)
        }
        DeviceKind::Disk { .. } => return Ok(None),
    };
    let name = names.take(&wanted)?;
    let kind = SourceKind::Raw { path, base_bytes, offset_bytes: Bytes(0), length_bytes };
    Ok(Some(VolumeSource { name, device: device.key.clone(), kind }))
}

/// Where a partition begins, if it is a BIOS boot partition.
fn bios_boot_start(disk: &Device, number: u32) -> Option<Bytes> {
    let DeviceKind::Disk { sector_size_bytes, .. } = disk.device else { return None };
    match &disk.content {
        Content::Table { table: PartitionTable::Gpt(Gpt { partitions, .. }) } => {
            let found = partitions.iter().find(|p| p.number == number && p.type_guid == Guid::BIOS_BOOT)?;
            gpt_start(found, sector_size_bytes)
        }
        // An MBR disk has no such partitions: its core image lies in the gap.
        Content::Table { table: PartitionTable::Mbr(Mbr { .. }) } => None,
        _ => None,
    }
}

fn gpt_start(partition: &GptPartition, sector: SectorSize) -> Option<Bytes> {
    partition.first_lba.start_byte(sector)
}

/// The path by which a disk is read.
fn disk_path(disk: &Device, roots: &Roots) -> PathBuf {
    let DeviceKind::Disk { identity, kernel_name, .. } = &disk.device else { return PathBuf::new() };
    match identity {
        DiskIdentity { transport: Transport::File, backing: Some(backing), .. } => PathBuf::from(&backing.path),
        _ => roots.dev.join(kernel_name),
    }
}

/// The path by which the device of a filesystem is opened.
fn partition_path(layout: &Layout, device: &Device, roots: &Roots) -> PathBuf {
    match &device.device {
        DeviceKind::Disk { .. } => disk_path(device, roots),
        DeviceKind::Partition { disk, number } => {
            let disk = layout.get(disk).map_or_else(PathBuf::new, |disk| disk_path(disk, roots));
            // The kernel puts a `p` between a name that ends in a digit and a partition's number.
            let digit_last = disk.to_string_lossy().ends_with(|c: char| c.is_ascii_digit());
            let separator = if digit_last { "p" } else { "" };
            PathBuf::from(format!("{}{separator}{number}", disk.display()))
        }
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
