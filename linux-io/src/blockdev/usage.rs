//! What uses a disk.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use node_model::{DeviceNumber, HeldBy};

use super::device_number;
use crate::roots::attribute;
use crate::{Roots, proctab};

/// Everything that uses the open disk `file` or one of its partitions.
pub(super) fn held_by(
    number: Option<DeviceNumber>,
    file: &File,
    path: &Path,
    roots: &Roots,
) -> io::Result<Vec<HeldBy>> {
    match number {
        Some(number) => {
            let directory = roots.sysfs.join(format!("dev/block/{}:{}", number.major, number.minor)).canonicalize()?;
            holders_of(&directory, roots)
        }
        None => {
            let name = path.display().to_string();
            loop_devices(&file.metadata()?, roots)
                .map(|devices| devices.into_iter().map(|device| attached(&name, &device)).collect())
        }
    }
}

/// Everything that uses the disk whose sysfs directory this is, or one of its partitions.
pub fn holders_of(disk: &Path, roots: &Roots) -> io::Result<Vec<HeldBy>> {
    let mounts = proctab::mounts(&roots.proc)?;
    let swaps: Vec<DeviceNumber> = proctab::swaps(&roots.proc)?
        .iter()
        .filter_map(|path| fs::metadata(path).ok().filter(|m| m.file_type().is_block_device()))
        .map(|metadata| device_number(metadata.rdev()))
        .collect();
    let mut held = Vec::new();
    for device in disk_and_partitions(disk)? {
        let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut add = |reason: String| held.push(HeldBy { device: name.clone(), reason });
        let number = attribute(&device.join("dev")).and_then(|text| parse_number(&text));
        let Some(number) = number else { continue };
        // One mount is reason enough; a filesystem bound to a hundred places would fill the screen.
        // btrfs shows a number of its own, so the source is looked at, too.
        let source = format!("/dev/{name}");
        if let Some(mount) = mounts.iter().find(|mount| mount.device == number || mount.source == source) {
            add(format!("mounted at {}", mount.target));
        }
        if swaps.contains(&number) {
            add("swap".to_owned());
        }
        for holder in fs::read_dir(device.join("holders")).into_iter().flatten() {
            add(format!("held by {}", holder?.file_name().to_string_lossy()));
        }
    }
    // What is mounted from another loop device on the same file is destroyed as well.
    if let Some(file) = attribute(&disk.join("loop/backing_file")).and_then(|path| fs::metadata(path).ok()) {
        let own = disk.file_name().unwrap_or_default().to_string_lossy();
        let others = loop_devices(&file, roots)?.into_iter().filter(|device| *device != own);
        held.extend(others.map(|device| attached(&own, &device)));
    }
    Ok(held)
}

/// The sysfs directories of a disk and of its partitions as the kernel knows them.
fn disk_and_partitions(disk: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut devices = vec![disk.to_owned()];
    for child in fs::read_dir(disk)? {
        let child = child?.path();
        if child.join("partition").exists() {
            devices.push(child);
        }
    }
    devices[1..].sort();
    Ok(devices)
}

/// The names of the loop devices that stand on a regular file.
fn loop_devices(file: &Metadata, roots: &Roots) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for device in fs::read_dir(roots.sysfs.join("block"))? {
        let device = device?;
        let Some(backing) = attribute(&device.path().join("loop/backing_file")) else { continue };
        let Ok(other) = fs::metadata(&backing) else { continue };
        if (other.dev(), other.ino()) == (file.dev(), file.ino()) {
            names.push(device.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn attached(what: &str, device: &str) -> HeldBy {
    HeldBy { device: what.to_owned(), reason: format!("attached as {device}") }
}

/// `major:minor` as sysfs writes it.
pub(crate) fn parse_number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}
