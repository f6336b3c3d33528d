//! The machine itself: its firmware, its identity, its memory and PCI functions.

use std::fs;
use std::path::Path;

use node_model::{Bytes, Firmware, Hardware, MachineIdentity, NetworkInterface, OsRelease, PciDevice};

use crate::Roots;
use crate::roots::{attribute, read_bounded};

/// What vendors write where they have written nothing.
const PLACEHOLDERS: [&str; 11] = [
    "0",
    "none",
    "not specified",
    "not applicable",
    "default string",
    "system serial number",
    "system manufacturer",
    "system product name",
    "o.e.m.",
    "to be filled by o.e.m.",
    "unknown",
];
/// A UUID that a whole family of boards shares.
const SHARED_UUID: &str = "03000200-0400-0500-0006-000700080009";
/// `SecureBoot`, in the namespace of the UEFI specification.
const SECURE_BOOT: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const MEMINFO_BYTES_MAX: u64 = 64 * 1024;
const OS_RELEASE_BYTES_MAX: u64 = 64 * 1024;

/// How the machine was started.
pub fn firmware(roots: &Roots) -> Firmware {
    let efi = roots.sysfs.join("firmware/efi");
    if !efi.exists() {
        return Firmware::Bios;
    }
    // Four bytes of attributes, then the value.
    let secure_boot =
        read_bounded(&efi.join("efivars").join(SECURE_BOOT), 16).is_ok_and(|value| value.get(4) == Some(&1));
    Firmware::Uefi { secure_boot }
}

/// By what the machine can be recognised; nothing of it comes from a disk.
pub fn machine_identity(roots: &Roots, interfaces: &[NetworkInterface]) -> MachineIdentity {
    let dmi = |name: &str| attribute(&roots.sysfs.join("class/dmi/id").join(name));
    let uuid = dmi("product_uuid").map(|uuid| uuid.to_ascii_lowercase()).filter(|uuid| {
        let digits = || uuid.bytes().filter(|byte| *byte != b'-');
        uuid != SHARED_UUID && !digits().all(|digit| digit == b'0') && !digits().all(|digit| digit == b'f')
    });
    let serial = dmi("product_serial").filter(|serial| !is_placeholder(serial));
    let mut macs: Vec<_> = interfaces.iter().map(|interface| interface.permanent_mac).collect();
    macs.sort_unstable();
    MachineIdentity { system_uuid: uuid, system_serial: serial, macs, machine_id: None, hostname: None }
}

/// The machine in a few words, as a person in front of the rack knows it: maker, product, serial number.
pub fn machine_name(roots: &Roots) -> String {
    let dmi = |name: &str| attribute(&roots.sysfs.join("class/dmi/id").join(name)).filter(|text| !is_placeholder(text));
    let (maker, product) = (dmi("sys_vendor"), dmi("product_name"));
    // Some makers begin their products' names with their own.
    let maker = maker.filter(|maker| {
        let first = maker.split([' ', ',']).next().unwrap_or_default().to_ascii_lowercase();
        !product.as_ref().is_some_and(|product| product.to_ascii_lowercase().starts_with(&first))
    });
    let model = [maker, product].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let identity = machine_identity(roots, &[]);
    let serial = identity.system_serial.map(|serial| format!("serial {serial}"));
    let number = serial.or_else(|| identity.system_uuid.map(|uuid| format!("UUID {uuid}")));
    let known: Vec<String> = [Some(model).filter(|model| !model.is_empty()), number].into_iter().flatten().collect();
    if known.is_empty() { "an unnamed machine".to_owned() } else { known.join(", ") }
}

fn is_placeholder(text: &str) -> bool {
    PLACEHOLDERS.contains(&text.trim().to_ascii_lowercase().as_str())
}

/// Hardware that matters at boot.
pub fn hardware(roots: &Roots) -> Hardware {
    let architecture = rustix::system::uname().machine().to_string_lossy().into_owned();
    let meminfo = read_bounded(&roots.proc.join("meminfo"), MEMINFO_BYTES_MAX).unwrap_or_default();
    Hardware { architecture, memory_bytes: memory(&String::from_utf8_lossy(&meminfo)), pci: pci(&roots.sysfs) }
}

fn memory(meminfo: &str) -> Bytes {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    Bytes::kib(kib)
}

fn pci(sysfs: &Path) -> Vec<PciDevice> {
    let Ok(functions) = fs::read_dir(sysfs.join("bus/pci/devices")) else { return Vec::new() };
    let mut devices: Vec<PciDevice> = functions
        .flatten()
        .filter_map(|function| {
            Some(PciDevice {
                address: function.file_name().to_string_lossy().into_owned(),
                modalias: attribute(&function.path().join("modalias"))?,
                driver: driver(&function.path()),
            })
        })
        .collect();
    devices.sort_by(|one, other| one.address.cmp(&other.address));
    devices
}

/// The driver bound to the device with this directory.
pub(super) fn driver(device: &Path) -> Option<String> {
    let link = fs::read_link(device.join("driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Which system lies below the node's root, and which kernel runs.
pub(super) fn os_release(roots: &Roots) -> OsRelease {
    let read = |path: &str| read_bounded(&roots.in_root(path), OS_RELEASE_BYTES_MAX).ok();
    let bytes = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
    };
    OsRelease {
        id: value("ID").unwrap_or_else(|| "linux".to_owned()),
        version_id: value("VERSION_ID"),
        pretty_name: value("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        kernel_release: attribute(&roots.proc.join("sys/kernel/osrelease")).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_as_its_label_names_it() {
        let named = |attributes: &[(&str, &str)]| {
            let sysfs = tempfile::tempdir().unwrap();
            let directory = sysfs.path().join("class/dmi/id");
            fs::create_dir_all(&directory).unwrap();
            for (name, value) in attributes {
                fs::write(directory.join(name), format!("{value}\n")).unwrap();
            }
            machine_name(&Roots { sysfs: sysfs.path().to_owned(), ..Roots::live() })
        };
        let qemu = [("sys_vendor", "QEMU"), ("product_name", "Standard PC (Q35 + ICH9, 2009)")];
        assert_eq!(
            named(&[&qemu[..], &[("product_serial", "VM-4711")]].concat()),
            "QEMU Standard PC (Q35 + ICH9, 2009), serial VM-4711"
        );
        let repeated = [("sys_vendor", "HP"), ("product_name", "HP ProLiant DL360"), ("product_serial", "CZ1")];
        assert_eq!(named(&repeated), "HP ProLiant DL360, serial CZ1");
        let uuid = ("product_uuid", "6F1D5A6E-0000-4000-8000-0000000000FF");
        let empty = [("sys_vendor", "To Be Filled By O.E.M."), ("product_serial", "Default string")];
        assert_eq!(named(&[&empty[..], &[uuid]].concat()), "UUID 6f1d5a6e-0000-4000-8000-0000000000ff");
        assert_eq!(named(&empty), "an unnamed machine");
    }

    #[test]
    fn memory_is_counted_in_kibibytes() {
        assert_eq!(memory("MemTotal:       24684084 kB\nMemFree: 1 kB\n"), Bytes(24_684_084 * 1024));
        assert_eq!(memory("nonsense"), Bytes(0));
    }
}
