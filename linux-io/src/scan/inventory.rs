//! What a machine has.

use std::path::{Path, PathBuf};

use node_model::{Bytes, HeldBy, Inventory, InventoryDisk, SectorSize, Signature};

use super::{ScanError, disks, firmware, hardware, layout, machine_identity, network_interfaces, signatures};
use crate::blockdev::{Disk, holders_of};
use crate::{Roots, gpt};

/// The volume label with which every boot image of rerack begins.
const BOOT_MEDIUM_LABEL: &str = "RERACK";
/// blkid's word for a GUID partition table.
const GPT: &str = "gpt";
const BOOT_MEDIUM_TYPE: &str = "iso9660";

/// What to look at, besides all disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryOptions {
    /// Disks, loop devices and image files that a person or a command line named as targets.
    pub named: Vec<PathBuf>,
    /// The sector size that image files shall have.
    pub file_sector_size: SectorSize,
}

impl Default for InventoryOptions {
    fn default() -> Self {
        Self { named: Vec::new(), file_sector_size: SectorSize::B512 }
    }
}

/// Scans the machine. Disks that cannot be read are listed as held, with the reason: they are no targets, and a
/// disk that is dying must not keep the others from being used.
pub fn inventory(roots: &Roots, options: &InventoryOptions) -> Result<Inventory, ScanError> {
    let interfaces = network_interfaces(roots);
    let mut found: Vec<InventoryDisk> = Vec::new();
    for disk in disks::all(roots)? {
        found.push(of_sysfs(&disk, roots));
    }
    for path in &options.named {
        let disk = Disk::open_with(path, options.file_sector_size, roots)?;
        let same = |known: &&mut InventoryDisk| {
            disk.number().is_some() && known.kernel_name == kernel_name(path) && known.identity == *disk.identity()
        };
        match found.iter_mut().find(same) {
            Some(known) => known.named_explicitly = true,
            None => found.push(of_named(&disk, roots)?),
        }
    }
    Ok(Inventory {
        identity: machine_identity(roots, &interfaces),
        firmware: firmware(roots),
        hardware: hardware(roots),
        disks: found,
        interfaces,
    })
}

/// The name of a device node whatever links lead to it; a file is named by its path.
fn kernel_name(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match real.strip_prefix("/dev") {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => real.to_string_lossy().into_owned(),
    }
}

fn of_sysfs(disk: &disks::SysDisk, roots: &Roots) -> InventoryDisk {
    let mut found = InventoryDisk {
        identity: disk.identity.clone(),
        kernel_name: disk.name.clone(),
        bus_path: disk.bus_path.clone(),
        sector_size_bytes: disk.sector_size,
        removable: disk.removable,
        read_only: disk.read_only,
        boot_medium: false,
        held_by: Vec::new(),
        signatures: Vec::new(),
        named_explicitly: false,
    };
    let mut unreadable = |why: String| {
        found.held_by.push(HeldBy { device: disk.name.clone(), reason: format!("cannot be read: {why}") });
    };
    match open_and_probe(&roots.dev.join(&disk.name), roots) {
        Ok(signatures) => {
            found.boot_medium = is_boot_medium(&signatures);
            found.signatures = signatures;
        }
        Err(why) => unreadable(why),
    }
    match holders_of(&disk.directory, roots) {
        Ok(held_by) => found.held_by.extend(held_by),
        Err(error) => unreadable(error.to_string()),
    }
    found
}

fn open_and_probe(path: &Path, roots: &Roots) -> Result<Vec<Signature>, String> {
    let disk = Disk::open_with(path, SectorSize::B512, roots).map_err(chain)?;
    signatures_of(&disk).map_err(chain)
}

/// An error with its causes in one line.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn of_named(disk: &Disk, roots: &Roots) -> Result<InventoryDisk, ScanError> {
    let signatures = signatures_of(disk)?;
    let sysfs = disk.number().map(|number| roots.sysfs.join(format!("dev/block/{}:{}", number.major, number.minor)));
    let read_only = match &sysfs {
        Some(directory) => crate::roots::attribute(&directory.join("ro")).is_some_and(|flag| flag != "0"),
        None => std::fs::metadata(disk.path()).is_ok_and(|metadata| metadata.permissions().readonly()),
    };
    Ok(InventoryDisk {
        identity: disk.identity().clone(),
        kernel_name: kernel_name(disk.path()),
        bus_path: None,
        sector_size_bytes: disk.sector_size(),
        removable: false,
        read_only,
        boot_medium: is_boot_medium(&signatures),
        held_by: disk.held_by()?,
        signatures,
        named_explicitly: true,
    })
}

/// Everything recognisable on the disk and on its partitions.
fn signatures_of(disk: &Disk) -> Result<Vec<Signature>, ScanError> {
    let mut all: Vec<Signature> = Vec::new();
    let whole = layout::Region { start: Bytes(0), length: disk.size(), number: None };
    for region in std::iter::once(whole).chain(layout::partition_regions(disk)) {
        let device = layout::region_name(disk, region.number);
        let (path, start) = layout::source_of(disk, &region);
        let probed = signatures::probe(&path, start, region.length.get())
            .map_err(|source| ScanError::Signatures { device: device.clone(), source })?;
        all.extend(probed.into_iter().map(|found| Signature {
            device: device.clone(),
            kind: found.kind,
            uuid: found.uuid,
            label: found.label,
            offset_bytes: region.start,
        }));
    }
    // blkid wants a protective MBR. A disk whose restore was cut short has none, and is not blank for that.
    let bears_table = !matches!(gpt::read(disk, disk.size(), disk.sector_size()), Ok(None));
    if bears_table && !all.iter().any(|signature| signature.kind == GPT && signature.offset_bytes == Bytes(0)) {
        let device = layout::region_name(disk, None);
        let table = Signature { device, kind: GPT.to_owned(), uuid: None, label: None, offset_bytes: Bytes(0) };
        all.insert(0, table);
    }
    Ok(all)
}

fn is_boot_medium(signatures: &[Signature]) -> bool {
    signatures.iter().any(|signature| {
        signature.kind == BOOT_MEDIUM_TYPE
            && signature.label.as_ref().is_some_and(|label| label.to_ascii_uppercase().starts_with(BOOT_MEDIUM_LABEL))
    })
}
