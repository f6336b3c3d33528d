//! Nodes and machines to plan with. Each test file uses some of them.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this one")]

use node_model::*;
use restore_plan::{PlanSource, Policy};

/// 512-byte blocks in a mebibyte.
pub(crate) const MIB: u64 = 2048;

pub(crate) fn guid(n: u8) -> Guid {
    Guid([n; 16])
}

pub(crate) fn uuid(n: u8) -> String {
    guid(n).to_string()
}

pub(crate) fn identity(serial: &str, size: u64) -> DiskIdentity {
    DiskIdentity {
        wwn: None,
        nguid: None,
        eui64: None,
        serial: Some(serial.into()),
        backing: None,
        model: Some("QEMU HARDDISK".into()),
        transport: Transport::Virtio,
        size_bytes: Bytes(size),
    }
}

/// A free disk of a machine.
pub(crate) fn disk(kernel_name: &str, serial: &str, size: u64) -> InventoryDisk {
    InventoryDisk {
        identity: identity(serial, size),
        kernel_name: kernel_name.into(),
        bus_path: Some(format!("pci-0000:00:{serial}")),
        sector_size_bytes: SectorSize::B512,
        removable: false,
        read_only: false,
        boot_medium: false,
        held_by: vec![],
        signatures: vec![],
        named_explicitly: false,
    }
}

pub(crate) fn signature(device: &str, kind: &str, offset: u64) -> Signature {
    Signature { device: device.into(), kind: kind.into(), uuid: None, label: None, offset_bytes: Bytes(offset) }
}

/// An ext4 filesystem as Debian's installer makes it, in whole block groups and a rest.
pub(crate) fn ext4(n: u8, size: u64, label: Option<&str>) -> Filesystem {
    let blocks = size / 4096;
    let groups = blocks.div_ceil(32768);
    let inodes_per_group = 8192;
    Filesystem {
        uuid: uuid(n),
        label: label.map(str::to_owned),
        size_bytes: Bytes(blocks * 4096),
        used_bytes: Bytes(size / 4),
        details: FilesystemDetails::Ext(ExtDetails {
            flavor: ExtFlavor::Ext4,
            block_size_bytes: 4096,
            block_count: blocks,
            inode_count: groups * inodes_per_group,
            inode_size_bytes: 256,
            reserved_block_count: blocks / 20,
            inodes_per_group,
            blocks_per_group: 32768,
            groups_per_flex: 16,
            feature_compat: 0x3c,
            feature_incompat: 0x2c2,
            feature_ro_compat: 0x46b,
            journal_blocks: Some(4096),
            hash_seed: HexBytes(vec![n; 16]),
            hash_version: 1,
            default_mount_opts: 0xc,
            errors_behavior: 1,
            raid_stride: 0,
            raid_stripe_width: 0,
        }),
    }
}

pub(crate) fn xfs(n: u8, size: u64) -> Filesystem {
    let blocks = size / 4096;
    Filesystem {
        uuid: uuid(n),
        label: Some("data".into()),
        size_bytes: Bytes(blocks * 4096),
        used_bytes: Bytes(size / 4),
        details: FilesystemDetails::Xfs(XfsDetails {
            block_size_bytes: 4096,
            sector_size_bytes: 512,
            block_count: blocks,
            inode_size_bytes: 512,
            directory_block_size_bytes: 4096,
            ag_count: 4,
            ag_blocks: blocks.div_ceil(4),
            log_blocks: 16384,
            stripe_unit_blocks: 0,
            stripe_width_blocks: 0,
            inode_max_percent: 25,
            version: 0xb4a5,
            features2: 0x18a,
            feature_compat: 0,
            feature_ro_compat: 0xd,
            feature_incompat: 0xb,
            meta_uuid: None,
        }),
    }
}

pub(crate) fn esp(size: u64) -> Filesystem {
    Filesystem {
        uuid: "1234-ABCD".into(),
        label: Some("EFI".into()),
        size_bytes: Bytes(size),
        used_bytes: Bytes(size / 8),
        details: FilesystemDetails::Vfat(VfatDetails {
            bits: FatBits::Fat32,
            volume_id: 0x1234_abcd,
            sector_size_bytes: 512,
            sectors_per_cluster: 1,
            reserved_sectors: 32,
            fat_count: 2,
            root_entries: 0,
            sector_count: size / 512,
            media: 0xf8,
        }),
    }
}

pub(crate) fn swap(n: u8, size: u64) -> Swap {
    Swap { uuid: Some(uuid(n)), label: None, page_size_bytes: 4096, size_bytes: Bytes(size) }
}

/// What a partition of a node holds, for [`Node::part`].
pub(crate) enum Holds {
    Files(Filesystem, &'static str),
    Swap(Swap),
    Raw,
    Unknown,
}

/// A node under construction.
pub(crate) struct Node {
    pub(crate) spec: NodeSpec,
    pub(crate) volumes: Vec<Volume>,
}

impl Node {
    pub(crate) fn new() -> Self {
        let spec = NodeSpec {
            identity: MachineIdentity {
                system_uuid: Some("11111111-2222-3333-4444-555555555555".into()),
                system_serial: Some("M1".into()),
                macs: vec![mac(1)],
                machine_id: Some("0123456789abcdef0123456789abcdef".into()),
                hostname: Some("web-03".into()),
            },
            os: OsRelease { id: "debian".into(), ..Default::default() },
            hardware: Hardware { architecture: "x86_64".into(), ..Default::default() },
            layout: Layout::default(),
            mounts: vec![],
            fstab: None,
            boot: BootChain { firmware: Firmware::Bios, efi_entries: vec![], kernel_cmdline: "quiet".into() },
            network: NetworkSpec { interfaces: vec![interface("eth0", 1, "pci0000:00/0000:00:03.0")], files: vec![] },
        };
        Self { spec, volumes: vec![] }
    }

    /// Adds a disk with an empty table.
    pub(crate) fn disk(&mut self, serial: &str, size: u64, sector: SectorSize) -> DeviceKey {
        let index = self.spec.layout.disks().count();
        let key = DeviceKey::disk(index);
        let entries = 128 * 128 / sector.get();
        let table = Gpt {
            disk_guid: guid(0xd0 + index as u8),
            first_usable_lba: Lba(2 + entries),
            last_usable_lba: Lba(size / sector.get() - entries - 2),
            entry_count: 128,
            entry_size: 128,
            partitions: vec![],
        };
        self.spec.layout.devices.push(Device {
            key: key.clone(),
            size_bytes: Bytes(size),
            device: DeviceKind::Disk {
                identity: identity(serial, size),
                sector_size_bytes: sector,
                kernel_name: format!("vd{}", (b'a' + index as u8) as char),
            },
            content: Content::Table { table: PartitionTable::Gpt(table) },
        });
        key
    }

    pub(crate) fn table(&mut self, disk: &DeviceKey) -> &mut Gpt {
        let device = self.spec.layout.devices.iter_mut().find(|device| device.key == *disk).unwrap();
        match &mut device.content {
            Content::Table { table: PartitionTable::Gpt(table) } => table,
            _ => unreachable!("every disk here has a GPT"),
        }
    }

    /// Adds partition `number`, from `first` to `last`, with what it holds and the volume of it.
    pub(crate) fn part(&mut self, disk: &DeviceKey, number: u32, first: u64, last: u64, holds: Holds) -> DeviceKey {
        let key = DeviceKey::partition(disk, number);
        let Some(DeviceKind::Disk { sector_size_bytes, .. }) = self.spec.layout.get(disk).map(|d| d.device.clone())
        else {
            unreachable!("{disk} is a disk")
        };
        let type_guid = match &holds {
            Holds::Raw => Guid::BIOS_BOOT,
            Holds::Files(fs, _) if fs.type_name() == "vfat" => Guid::ESP,
            _ => guid(0x83),
        };
        let disk_number = disk.as_str().bytes().last().unwrap_or(b'0') - b'0';
        let unique = guid(0x10 + number as u8 + 0x20 * disk_number);
        self.table(disk).partitions.push(GptPartition {
            number,
            type_guid,
            guid: unique,
            first_lba: Lba(first),
            last_lba: Lba(last),
            attributes: 0,
            name_utf16le: HexBytes(vec![]),
        });
        let size = Bytes((last + 1 - first) * sector_size_bytes.get());
        let content = match holds {
            Holds::Files(filesystem, target) => {
                let name = if target == "/" { "root".to_owned() } else { target.trim_matches('/').replace('/', "-") };
                self.spec.mounts.push(Mount {
                    device: Some(key.clone()),
                    source: format!("/dev/{key}"),
                    target: target.into(),
                    fstype: filesystem.type_name().into(),
                    options: "rw,relatime".into(),
                });
                let content_bytes = filesystem.used_bytes;
                let kind =
                    VolumeKind::Files { entry_count: 40, file_count: 30, content_bytes, skipped_socket_count: 0 };
                self.volume(&name, &key, kind);
                Content::Filesystem { filesystem }
            }
            Holds::Swap(swap) => Content::Swap { swap },
            Holds::Raw => {
                self.volume("bios-boot", &key, VolumeKind::Raw { offset_bytes: Bytes(0), length_bytes: size });
                Content::Raw
            }
            Holds::Unknown => Content::Unknown,
        };
        let device = DeviceKind::Partition { disk: disk.clone(), number };
        self.spec.layout.devices.push(Device { key: key.clone(), size_bytes: size, device, content });
        key
    }

    pub(crate) fn volume(&mut self, name: &str, device: &DeviceKey, volume: VolumeKind) {
        self.volumes.push(Volume {
            name: name.parse().unwrap(),
            device: device.clone(),
            volume,
            consistency: Consistency::Live,
            stream_bytes: Bytes(4096),
        });
    }

    /// Adds the first block of a disk as a raw volume.
    pub(crate) fn boot_code(&mut self, disk: &DeviceKey) {
        let kind = VolumeKind::Raw { offset_bytes: Bytes(0), length_bytes: Bytes(512) };
        self.volume(&format!("{disk}-boot-code"), disk, kind);
    }

    pub(crate) fn fstab(&mut self, content: &str) {
        let content = HexBytes(content.as_bytes().to_vec());
        self.spec.fstab = Some(ConfigFile { path: "/etc/fstab".into(), backend: NetworkBackend::Fstab, content });
    }

    pub(crate) fn network_file(&mut self, path: &str, backend: NetworkBackend, content: &str) {
        let content = HexBytes(content.as_bytes().to_vec());
        self.spec.network.files.push(ConfigFile { path: path.into(), backend, content });
    }
}

pub(crate) fn mac(n: u8) -> MacAddress {
    MacAddress([0x52, 0x54, 0, 0, 0, n])
}

pub(crate) fn interface(name: &str, n: u8, bus_path: &str) -> NetworkInterface {
    NetworkInterface {
        name: name.into(),
        permanent_mac: mac(n),
        bus_path: bus_path.into(),
        driver: Some("virtio_net".into()),
        link_up: true,
    }
}

pub(crate) const GIB: u64 = 1 << 30;

/// A node as a Debian installer with BIOS leaves it: BIOS boot, swap, ext4 root.
pub(crate) fn bios_node() -> Node {
    let mut node = Node::new();
    let disk = node.disk("OLD1", 4 * GIB, SectorSize::B512);
    node.boot_code(&disk);
    node.part(&disk, 14, MIB, 2 * MIB - 1, Holds::Raw);
    node.part(&disk, 15, 2 * MIB, 258 * MIB - 1, Holds::Swap(swap(2, 256 << 20)));
    node.part(&disk, 1, 258 * MIB, 4095 * MIB - 1, Holds::Files(ext4(3, (4095 - 258) << 20, Some("root")), "/"));
    node.table(&disk).partitions.sort_by_key(|entry| entry.number);
    node.fstab(
        "# by hand\n/dev/vda1 / ext4 defaults 0 1\nUUID=keep /keep ext4 defaults 0 2\n/dev/vda15 none swap sw 0 0\n",
    );
    node.network_file(
        "/etc/systemd/network/10-lan.network",
        NetworkBackend::SystemdNetworkd,
        "[Match]\nMACAddress=52:54:00:00:00:01\n\n[Network]\nDHCP=yes\n",
    );
    node
}

/// A node with UEFI and two disks: ESP and root on one, XFS data on the other.
pub(crate) fn uefi_node() -> Node {
    let mut node = Node::new();
    let disk = node.disk("OLD1", 4 * GIB, SectorSize::B512);
    node.boot_code(&disk);
    node.part(&disk, 1, MIB, 101 * MIB - 1, Holds::Files(esp(100 << 20), "/boot/efi"));
    node.part(&disk, 2, 101 * MIB, 4095 * MIB - 1, Holds::Files(ext4(3, (4095 - 101) << 20, None), "/"));
    let data = node.disk("OLD2", 8 * GIB, SectorSize::B512);
    node.part(&data, 1, MIB, 8191 * MIB - 1, Holds::Files(xfs(5, 8190 << 20), "/srv/data"));
    node.spec.boot.firmware = Firmware::Uefi { secure_boot: false };
    node.spec.boot.efi_entries = vec![EfiBootEntry {
        number: 4,
        description: "debian".into(),
        partition_guid: guid(0x11),
        loader_path: "\\EFI\\debian\\shimx64.efi".into(),
        optional_data: HexBytes::default(),
    }];
    node
}

/// The machine a node was captured on, with these disks.
pub(crate) fn machine(node: &Node, disks: Vec<InventoryDisk>) -> Inventory {
    Inventory {
        identity: MachineIdentity { machine_id: None, hostname: None, ..node.spec.identity.clone() },
        firmware: node.spec.boot.firmware,
        hardware: node.spec.hardware.clone(),
        disks,
        interfaces: node.spec.network.interfaces.clone(),
    }
}

pub(crate) fn policy() -> Policy {
    Policy::strict(PlanSource {
        node: "web-03".parse().unwrap(),
        snapshot: "5f3c00000000000000000000000000aa".parse().unwrap(),
        manifest_blake3: HexBytes(vec![0xab; 32]),
    })
}
