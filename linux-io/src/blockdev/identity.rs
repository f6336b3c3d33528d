//! Reading from sysfs what makes a disk this disk.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use node_model::{BackingFile, Bytes, DeviceNumber, DiskIdentity, Transport};

use crate::Roots;
use crate::roots::{ATTRIBUTE_BYTES_MAX, attribute, read_bounded};

/// A regular file's identity: its path and inode.
pub(super) fn of_file(path: &Path, metadata: &Metadata) -> io::Result<DiskIdentity> {
    let path = path.canonicalize()?;
    Ok(DiskIdentity {
        wwn: None,
        nguid: None,
        eui64: None,
        serial: None,
        backing: Some(BackingFile { path: path.to_string_lossy().into_owned(), inode: metadata.ino() }),
        model: None,
        transport: Transport::File,
        size_bytes: Bytes(metadata.len()),
    })
}

/// The identity of an open block device; `None` for one that is no whole disk.
pub(super) fn of_block_device(number: DeviceNumber, size: Bytes, roots: &Roots) -> io::Result<Option<DiskIdentity>> {
    let link = roots.sysfs.join(format!("dev/block/{}:{}", number.major, number.minor));
    let directory = link.canonicalize()?;
    if directory.join("partition").exists() {
        return Ok(None);
    }
    Ok(Some(sysfs_identity(&directory, size)))
}

/// The identity of the disk whose sysfs directory (such as `/sys/devices/…/block/sda`) this is.
pub fn sysfs_identity(directory: &Path, size: Bytes) -> DiskIdentity {
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let transport = transport(directory, &name);
    let device = directory.join("device");
    let mut identity = DiskIdentity {
        wwn: None,
        nguid: None,
        eui64: None,
        serial: None,
        backing: None,
        model: attribute(&device.join("model")).map(|model| squeeze(&model)),
        transport,
        size_bytes: size,
    };
    match transport {
        Transport::Loop => identity.backing = backing(directory),
        Transport::Virtio if name.starts_with("vd") => identity.serial = attribute(&directory.join("serial")),
        _ if name.starts_with("nvme") => nvme(directory, &device, &mut identity),
        _ if name.starts_with("mmcblk") => {
            identity.model = attribute(&device.join("name"));
            identity.serial = attribute(&device.join("serial"));
        }
        _ => scsi(&device, &mut identity),
    }
    identity
}

fn nvme(directory: &Path, device: &Path, identity: &mut DiskIdentity) {
    let nonzero = |hex: String| (hex.bytes().any(|digit| digit != b'0')).then_some(hex);
    let read = |name: &str, digits: usize| {
        attribute(&directory.join(name)).and_then(|text| hex_digits(&text, digits)).and_then(nonzero)
    };
    identity.nguid = read("nguid", 32);
    identity.eui64 = read("eui", 16);
    identity.serial = attribute(&device.join("serial"));
    identity.wwn = attribute(&directory.join("wwid")).and_then(|wwid| world_wide_name(&wwid));
}

fn scsi(device: &Path, identity: &mut DiskIdentity) {
    identity.serial = read_bounded(&device.join("vpd_pg80"), ATTRIBUTE_BYTES_MAX)
        .ok()
        .and_then(|page| vpd_serial(&page))
        .or_else(|| attribute(&device.join("serial")));
    identity.wwn = read_bounded(&device.join("vpd_pg83"), ATTRIBUTE_BYTES_MAX)
        .ok()
        .and_then(|page| vpd_world_wide_name(&page))
        .or_else(|| attribute(&device.join("wwid")).and_then(|wwid| world_wide_name(&wwid)));
}

fn backing(directory: &Path) -> Option<BackingFile> {
    let path = attribute(&directory.join("loop/backing_file"))?;
    let inode = std::fs::metadata(&path).ok()?.ino();
    Some(BackingFile { path, inode })
}

/// The unit serial number page: a header of four bytes, the last two the length, then text.
fn vpd_serial(page: &[u8]) -> Option<String> {
    let text = vpd_body(page, 0x80)?;
    let text = String::from_utf8_lossy(text);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// The device identification page: of its designators that belong to the logical unit, NAA before EUI-64.
fn vpd_world_wide_name(page: &[u8]) -> Option<String> {
    const ASSOCIATION_UNIT: u8 = 0;
    const TYPE_EUI64: u8 = 2;
    const TYPE_NAA: u8 = 3;
    let mut rest = vpd_body(page, 0x83)?;
    let mut eui = None;
    while let [_, kind, _, length, more @ ..] = rest {
        let designator = more.get(..usize::from(*length))?;
        let hex = || designator.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match ((kind >> 4) & 3, kind & 0xf) {
            (ASSOCIATION_UNIT, TYPE_NAA) => return Some(format!("naa.{}", hex())),
            (ASSOCIATION_UNIT, TYPE_EUI64) => eui = Some(format!("eui.{}", hex())),
            _ => {}
        }
        rest = &more[usize::from(*length)..];
    }
    eui
}

fn vpd_body(page: &[u8], code: u8) -> Option<&[u8]> {
    let [_, page_code, high, low, body @ ..] = page else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    (*page_code == code).then(|| &body[..length.min(body.len())])
}

/// The kernel's `wwid` where it is a world wide name; it may also be built from model and serial, which is none.
fn world_wide_name(wwid: &str) -> Option<String> {
    let wwid = wwid.trim().to_ascii_lowercase();
    (wwid.starts_with("naa.") || wwid.starts_with("eui.")).then_some(wwid)
}

/// Exactly `digits` hexadecimal digits, whatever stands between them.
fn hex_digits(text: &str, digits: usize) -> Option<String> {
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect();
    (hex.len() == digits).then_some(hex)
}

/// Runs of blanks as one: models are padded to a fixed width.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn transport(directory: &Path, name: &str) -> Transport {
    // The way from the bus to the disk shows in the path; which part decides is the nearest to the disk.
    let path: PathBuf = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let parts: Vec<String> = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let through = |prefix: &str| parts.iter().any(|part| part.starts_with(prefix));
    if name.starts_with("loop") {
        Transport::Loop
    } else if name.starts_with("nvme") {
        match attribute(&directory.join("device/transport")).as_deref() {
            None | Some("pcie") => Transport::Nvme,
            Some(_) => Transport::San,
        }
    } else if name.starts_with("mmcblk") {
        Transport::Mmc
    } else if name.starts_with("nbd") || name.starts_with("rbd") || name.starts_with("drbd") {
        Transport::San
    } else if through("usb") {
        Transport::Usb
    } else if through("session") || through("rport-") {
        // iSCSI sessions and Fibre Channel remote ports.
        Transport::San
    } else if through("ata") {
        Transport::Ata
    } else if name.starts_with("vd") {
        Transport::Virtio
    } else if name.starts_with("sd") {
        Transport::Scsi
    } else {
        Transport::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_page_is_trimmed_and_bounded_by_its_own_length() {
        assert_eq!(vpd_serial(b"\x00\x80\x00\x0a  S3Z9NB0 extra").as_deref(), Some("S3Z9NB0"));
        assert_eq!(vpd_serial(b"\x00\x80\xff\xffS1").as_deref(), Some("S1"), "a length beyond the page");
        assert_eq!(vpd_serial(b"\x00\x83\x00\x02S1"), None, "another page");
        assert_eq!(vpd_serial(b"\x00\x80\x00\x02  "), None, "blank");
        assert_eq!(vpd_serial(b"\x00"), None);
    }

    #[test]
    fn the_name_of_the_unit_is_taken_and_not_that_of_its_port() {
        let mut page = vec![0, 0x83, 0, 0];
        let port = [0x61, 0x93, 0, 8, 0x50, 0, 0, 0, 0, 0, 0, 1];
        let eui = [0x01, 0x02, 0, 8, 0, 0x25, 0x38, 1, 2, 3, 4, 5];
        let unit = [0x01, 0x03, 0, 8, 0x50, 0, 0xc5, 0, 0xa1, 0xb2, 0xc3, 0xd4];
        page.extend(port.into_iter().chain(eui).chain(unit));
        page[3] = (page.len() - 4) as u8;
        assert_eq!(vpd_world_wide_name(&page).as_deref(), Some("naa.5000c500a1b2c3d4"));
        page.truncate(4 + 24);
        page[3] = 24;
        assert_eq!(vpd_world_wide_name(&page).as_deref(), Some("eui.0025380102030405"));
        page[7] = 200;
        assert_eq!(vpd_world_wide_name(&page), None, "a designator that leaves the page");
    }

    #[test]
    fn a_wwid_made_of_model_and_serial_is_no_world_wide_name() {
        assert_eq!(world_wide_name("t10.ATA     QEMU HARDDISK   QM00001"), None);
        assert_eq!(world_wide_name("nvme.1b36-64656d6f-51454d55-00000001"), None);
        assert_eq!(world_wide_name("EUI.0025385B").as_deref(), Some("eui.0025385b"));
    }
}
