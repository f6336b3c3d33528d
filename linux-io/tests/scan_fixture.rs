//! Inventories of machines that are fixtures. Their disks cannot be opened, which is a case of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use linux_io::Roots;
use linux_io::scan::{self, InventoryOptions};
use node_model::{Bytes, Firmware, InventoryDisk, SectorSize, Transport};

/// Makes the tree that a fixture describes: `PATH = CONTENT`, `PATH -> LINK`, `PATH * HEXADECIMAL`.
fn make_tree(text: &str, root: &Path) {
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.splitn(3, ' ');
        let (path, kind) = (root.join(words.next().unwrap()), words.next().unwrap());
        let content = words.next().unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match kind {
            "=" => fs::write(path, format!("{content}\n")).unwrap(),
            "->" => symlink(content, path).unwrap(),
            "*" => {
                let digit = |at: usize| u8::from_str_radix(&content[at..at + 2], 16).unwrap();
                fs::write(path, (0..content.len()).step_by(2).map(digit).collect::<Vec<_>>()).unwrap();
            }
            other => panic!("{other}"),
        }
    }
}

fn machine(fixture: &str, mountinfo: &str) -> (tempfile::TempDir, Roots) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    make_tree(fixture, &at("sys"));
    for link in fs::read_dir(at("sys/block")).unwrap() {
        let disk = link.unwrap().path().canonicalize().unwrap();
        let number = fs::read_to_string(disk.join("dev")).unwrap();
        fs::create_dir_all(at("sys/dev/block")).unwrap();
        symlink(&disk, at("sys/dev/block").join(number.trim())).unwrap();
    }
    fs::create_dir_all(at("proc/self")).unwrap();
    fs::write(at("proc/self/mountinfo"), mountinfo).unwrap();
    fs::write(at("proc/meminfo"), "MemTotal: 1048576 kB\n").unwrap();
    fs::create_dir_all(at("dev")).unwrap();
    let roots = Roots { sysfs: at("sys"), proc: at("proc"), dev: at("dev"), root: at("root") };
    (directory, roots)
}

const RACK_SERVER: &str = include_str!("fixtures/rack-server.tree");

#[test]
fn each_disk_is_known_by_what_it_says_of_itself() {
    let (_directory, roots) = machine(RACK_SERVER, "");
    let inventory = scan::inventory(&roots, &InventoryOptions::default()).unwrap();
    let names: Vec<_> = inventory.disks.iter().map(|disk| disk.kernel_name.as_str()).collect();
    assert_eq!(names, ["nvme0n1", "sda", "sdb", "sdc", "vda"], "and nothing that is no disk");
    let disk = |name: &str| -> &InventoryDisk { inventory.disks.iter().find(|d| d.kernel_name == name).unwrap() };

    let nvme = disk("nvme0n1");
    assert_eq!(nvme.identity.wwn.as_deref(), Some("eui.002538b611b2c3d4"));
    assert_eq!(nvme.identity.eui64.as_deref(), Some("002538b611b2c3d4"));
    assert_eq!(nvme.identity.nguid, None, "all zeros are no identifier");
    assert_eq!(nvme.identity.serial.as_deref(), Some("S64KNX0R"));
    assert_eq!(nvme.identity.model.as_deref(), Some("SAMSUNG MZVL2512"));
    assert_eq!(
        (nvme.identity.transport, nvme.sector_size_bytes, nvme.read_only),
        (Transport::Nvme, SectorSize::B4096, true)
    );
    assert_eq!(nvme.identity.size_bytes, Bytes(1_000_215_216 * 512), "sysfs counts in 512 bytes whatever the sector");
    assert_eq!(nvme.bus_path.as_deref(), Some("pci-0000:01:00.0-nvme-1"));

    let sas = disk("sda");
    assert_eq!(sas.identity.wwn.as_deref(), Some("naa.5000c500a1b2c3d4"));
    assert_eq!(sas.identity.serial.as_deref(), Some("S1 F1G23X23"));
    assert_eq!((sas.identity.transport, sas.removable), (Transport::Scsi, false));
    assert_eq!(sas.bus_path.as_deref(), Some("pci-0000:00:17.0-scsi-0:5:0"));

    assert_eq!((disk("sdb").identity.transport, disk("sdb").removable), (Transport::Usb, true));
    assert!(disk("sdb").identity.stable_ids().is_empty());
    assert_eq!(disk("sdc").identity.transport, Transport::San);
    assert_eq!(disk("vda").identity.serial.as_deref(), Some("node-disk-7"));
    assert_eq!(disk("vda").identity.transport, Transport::Virtio);
}

#[test]
fn the_machine_is_known_by_its_board_and_the_addresses_burnt_into_it() {
    let (_directory, roots) = machine(RACK_SERVER, "");
    let inventory = scan::inventory(&roots, &InventoryOptions::default()).unwrap();
    let identity = &inventory.identity;
    assert_eq!(identity.system_uuid.as_deref(), Some("4c4c4544-0042-3510-8054-b9c04f4e5a32"));
    assert_eq!(identity.system_serial, None, "a vendor's filler is no serial number");
    assert_eq!(
        identity.macs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["0c:c4:7a:00:00:01", "0c:c4:7a:00:00:02"]
    );
    assert_eq!(inventory.firmware, Firmware::Bios);
    assert_eq!(inventory.hardware.memory_bytes, Bytes::gib(1));
    assert_eq!(inventory.hardware.pci[0].driver.as_deref(), Some("ixgbe"));

    let [eno1, eth0] = &inventory.interfaces[..] else { panic!("a bond is no hardware: {:?}", inventory.interfaces) };
    assert_eq!(
        (eno1.bus_path.as_str(), eno1.driver.as_deref(), eno1.link_up),
        ("pci0000:00/0000:03:00.0", Some("ixgbe"), true)
    );
    assert_eq!(
        (eth0.bus_path.as_str(), eth0.driver.as_deref(), eth0.link_up),
        ("pci0000:00/0000:00:06.0", Some("virtio_net"), false)
    );
}

#[test]
fn a_disk_that_cannot_be_read_is_listed_and_is_no_target() {
    let (_directory, roots) = machine(RACK_SERVER, "");
    let inventory = scan::inventory(&roots, &InventoryOptions::default()).unwrap();
    assert!(
        inventory.disks.iter().all(|disk| disk.held_by[0].reason.starts_with("cannot be read: ")),
        "{:?}",
        inventory.disks
    );
}

#[test]
fn fault_43_a_disk_keeps_its_identity_under_another_name() {
    let renamed = RACK_SERVER
        .replace("sda", "sdq")
        .replace("8:0\n", "65:0\n")
        .replace("host2", "host5")
        .replace("2:0:5:0", "5:0:5:0");
    let (_one, before) = machine(RACK_SERVER, "");
    let (_two, after) = machine(&renamed, "");
    let find = |roots: &Roots, name: &str| {
        let disks = scan::inventory(roots, &InventoryOptions::default()).unwrap().disks;
        disks.into_iter().find(|disk| disk.kernel_name == name).unwrap()
    };
    let (before, after) = (find(&before, "sda"), find(&after, "sdq"));
    assert!(before.identity.is_same_disk(&after.identity));
    assert_eq!(before.bus_path, after.bus_path, "host numbers change from boot to boot");
}

#[test]
fn mounts_holders_and_swap_show_who_uses_a_disk() {
    let mountinfo = "21 1 253:0 / / rw - ext4 /dev/vda rw\n";
    let (_directory, roots) = machine(RACK_SERVER, mountinfo);
    let held = |name: &str| {
        let directory = roots.sysfs.join("block").join(name).canonicalize().unwrap();
        linux_io::blockdev::holders_of(&directory, &roots).unwrap()
    };
    assert_eq!(held("vda")[0].reason, "mounted at /");
    assert_eq!((held("sda")[0].device.as_str(), held("sda")[0].reason.as_str()), ("sda1", "held by md127"));
    assert_eq!(held("nvme0n1"), []);
}
