//! Where on its buses a device hangs, read from its place in sysfs.

use std::path::Path;

use crate::roots::attribute;

/// The components of a path as text.
fn parts(path: &Path) -> Vec<String> {
    path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
}

/// Whether `text` is a PCI function's address, such as `0000:00:03.0`.
fn is_pci_address(text: &str) -> bool {
    let shape = |template: &[u8], text: &[u8]| {
        template.len() == text.len()
            && template.iter().zip(text).all(|(t, b)| if *t == b'x' { b.is_ascii_hexdigit() } else { t == b })
    };
    shape(b"xxxx:xx:xx.x", text.as_bytes())
}

/// The path of the bus device of a network interface below `/sys/devices`, down to its last PCI function, such as
/// `pci0000:00/0000:00:03.0`; the whole path for devices of other buses.
pub(super) fn interface_path(device: &Path) -> String {
    let parts = parts(device);
    let begin = parts.iter().position(|part| part == "devices").map_or(0, |at| at + 1);
    let last_pci = parts.iter().rposition(|part| is_pci_address(part));
    let end = last_pci.map_or(parts.len(), |at| at + 1);
    parts[begin.min(end)..end].join("/")
}

/// How a disk hangs on its bus, such as `pci-0000:00:04.0` or `pci-0000:00:1f.2-ata-1`. Host numbers, which change
/// from boot to boot, do not occur in it. `None` for disks without a bus.
pub(super) fn disk_path(disk: &Path) -> Option<String> {
    let parts = parts(disk);
    let pci = parts.iter().rposition(|part| is_pci_address(part))?;
    let mut path = format!("pci-{}", parts[pci]);
    let below = &parts[pci + 1..];
    let up_to = |index: usize| parts[..=pci + 1 + index].iter().collect::<std::path::PathBuf>();
    let ata = below.iter().position(|part| part.strip_prefix("ata").is_some_and(|rest| rest.parse::<u32>().is_ok()));
    if let Some(at) = ata {
        // The number in the name counts all controllers' ports; this one counts its own controller's.
        let port = attribute(&up_to(at).join("ata_port").join(&below[at]).join("port_no"));
        path += &format!("-ata-{}", port.as_deref().unwrap_or("unknown"));
    }
    let is_interface = |part: &&String| part.starts_with(|c: char| c.is_ascii_digit()) && part.contains('-');
    if let Some(usb) = below.iter().rfind(|part| is_interface(part) && part.contains(':')) {
        path += &format!("-usb-{usb}");
    }
    if let Some(address) = below.iter().rfind(|part| ata.is_none() && is_scsi_address(part)) {
        let without_host = address.split_once(':').map_or("", |(_, rest)| rest);
        path += &format!("-scsi-{without_host}");
    }
    if let Some(name) = below.last().filter(|name| name.starts_with("nvme")) {
        let namespace = name.rsplit_once('n').map_or("1", |(_, number)| number);
        path += &format!("-nvme-{namespace}");
    }
    Some(path)
}

/// `host:channel:target:lun`.
fn is_scsi_address(text: &str) -> bool {
    let numbers: Vec<&str> = text.split(':').collect();
    numbers.len() == 4 && numbers.iter().all(|number| number.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_paths_hold_nothing_that_changes_from_boot_to_boot() {
        for (path, expected) in [
            ("/sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "pci-0000:00:04.0"),
            (
                "/sys/devices/pci0000:00/0000:00:05.0/virtio2/host7/target7:0:1/7:0:1:3/block/sdb",
                "pci-0000:00:05.0-scsi-0:1:3",
            ),
            ("/sys/devices/pci0000:00/0000:00:1c.0/0000:02:00.0/nvme/nvme3/nvme3n2", "pci-0000:02:00.0-nvme-2"),
            (
                "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0/host9/target9:0:0/9:0:0:0/block/sdz",
                "pci-0000:00:14.0-usb-1-4:1.0-scsi-0:0:0",
            ),
        ] {
            assert_eq!(disk_path(Path::new(path)).as_deref(), Some(expected));
        }
        assert_eq!(disk_path(Path::new("/sys/devices/virtual/block/loop0")), None);
    }

    #[test]
    fn an_interface_is_placed_by_its_function_and_not_by_its_virtio_number() {
        let path = Path::new("/sys/devices/pci0000:00/0000:00:03.0/virtio2");
        assert_eq!(interface_path(path), "pci0000:00/0000:00:03.0");
        assert_eq!(interface_path(Path::new("/sys/devices/platform/eth@1/x")), "platform/eth@1/x");
    }
}
