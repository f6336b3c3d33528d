//! What the node that runs on this machine, or whose files lie below the given root, is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use node_model::{
    BootChain, Bytes, Content, DeviceKey, DeviceNumber, Filesystem, Firmware, Guid, Layout, MachineIdentity, Mount,
    NetworkSpec, NodeSpec, SectorSize,
};

use super::disks::SysDisk;
use super::layout::{DiskLayout, kernel_partitions};
use super::{
    ScanError, disks, files, firmware, hardware, kernel, layout, machine, machine_identity, network_interfaces,
};
use crate::blockdev::{Disk, holders_of};
use crate::proctab::{self, MountEntry};
use crate::roots::attribute;
use crate::{Roots, efi, gpt};

/// Which disks are the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeOptions {
    /// Disks, loop devices or image files. Where none is named: every disk with a mounted filesystem, swap, an EFI
    /// system partition or a BIOS boot partition.
    pub disks: Vec<PathBuf>,
    /// The sector size of image files.
    pub file_sector_size: SectorSize,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self { disks: Vec::new(), file_sector_size: SectorSize::B512 }
    }
}

/// A node and where its parts are on this machine now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeScan {
    /// The node.
    pub spec: NodeSpec,
    /// What of it cannot be captured yet: a capture must refuse, naming all of these.
    pub unsupported: Vec<Unsupported>,
    /// What a person should know, though nothing depends on it.
    pub warnings: Vec<String>,
    /// Where each device of the layout is now, in order of the layout.
    pub devices: Vec<LiveDevice>,
}

/// Something that a capture would lose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The kernel's name of the device, or a mount's source.
    pub device: String,
    /// What it holds, in words.
    pub what: String,
}

/// Where a device of the layout is on this machine now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveDevice {
    /// Which one.
    pub key: DeviceKey,
    /// The disk, or the image file, that it lies on: its bytes can always be read there.
    pub disk: PathBuf,
    /// Where on that disk it begins.
    pub start: Bytes,
    /// How long it is.
    pub length: Bytes,
    /// Its own node, where the kernel knows it: partitions of image files have none.
    pub node: Option<PathBuf>,
    /// Where the whole of its filesystem is mounted on this machine, outermost first.
    pub mounted_at: Vec<PathBuf>,
}

impl NodeScan {
    /// Where the device named `key` is now.
    pub fn device(&self, key: &DeviceKey) -> Option<&LiveDevice> {
        self.devices.iter().find(|device| device.key == *key)
    }
}

/// Filesystems that the kernel or the system's start makes by themselves.
const VIRTUAL: [&str; 27] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];
/// Filesystems whose device number is none of a block device.
const WITHOUT_A_DEVICE_NUMBER: [&str; 3] = ["btrfs", "zfs", "bcachefs"];

/// Scans the node.
pub fn node(roots: &Roots, options: &NodeOptions) -> Result<NodeScan, ScanError> {
    let mounts = proctab::mounts(&roots.proc).map_err(kernel(roots.proc.join("self/mountinfo")))?;
    let mut scan =
        Scan { roots, mounts: &mounts, parts: DiskLayout::default(), devices: Vec::new(), keys: BTreeMap::new() };
    let chosen = if options.disks.is_empty() { chosen_disks(roots)? } else { options.disks.clone() };
    if chosen.is_empty() {
        return Err(ScanError::NoDisk);
    }
    for (index, path) in chosen.iter().enumerate() {
        scan.add_disk(index, &Disk::open_with(path, options.file_sector_size, roots)?)?;
    }
    if options.disks.is_empty() {
        scan.refuse_other_mounts();
    }
    scan.finish()
}

/// The disks in use by the node, by name.
fn chosen_disks(roots: &Roots) -> Result<Vec<PathBuf>, ScanError> {
    let mut chosen = Vec::new();
    for disk in disks::all(roots)?.iter().filter(|disk| !disk.removable) {
        let held = holders_of(&disk.directory, roots).map_err(kernel(&disk.directory))?;
        if !held.is_empty() || starts_machines(disk, roots) {
            chosen.push(roots.dev.join(&disk.name));
        }
    }
    Ok(chosen)
}

/// Whether a disk has a partition that firmware starts from. A disk that cannot be opened or read has none that
/// could be captured.
fn starts_machines(disk: &SysDisk, roots: &Roots) -> bool {
    let opened = Disk::open_with(&roots.dev.join(&disk.name), disk.sector_size, roots).ok();
    let table = opened.and_then(|disk| gpt::read(&disk, disk.size(), disk.sector_size()).ok().flatten());
    table.is_some_and(|found| {
        found.table.partitions.iter().any(|p| p.type_guid == Guid::ESP || p.type_guid == Guid::BIOS_BOOT)
    })
}

struct Scan<'a> {
    roots: &'a Roots,
    mounts: &'a [MountEntry],
    parts: DiskLayout,
    devices: Vec<LiveDevice>,
    keys: BTreeMap<(u32, u32), DeviceKey>,
}

impl Scan<'_> {
    fn add_disk(&mut self, index: usize, disk: &Disk) -> Result<(), ScanError> {
        let disk_key = DeviceKey::disk(index);
        let found = layout::describe(disk, &disk_key, &layout::region_name(disk, None))?;
        let known = kernel_partitions(disk);
        for (device, region) in found.devices {
            let partition = known.iter().find(|known| Some(known.place.number) == region.number);
            let number = match region.number {
                None => disk.number(),
                Some(_) => partition.map(|partition| partition.device),
            };
            let node = match region.number {
                None => Some(disk.path().to_owned()),
                Some(_) => partition.map(|partition| self.roots.dev.join(&partition.kernel_name)),
            };
            if let Some(number) = number {
                self.keys.insert((number.major, number.minor), device.key.clone());
            }
            let mounted_at = self.whole_mounts(number);
            let mut device = device;
            if let (Content::Filesystem { filesystem }, Some(target)) = (&mut device.content, mounted_at.first()) {
                count_used(filesystem, target);
            }
            self.devices.push(LiveDevice {
                key: device.key.clone(),
                disk: disk.path().to_owned(),
                start: region.start,
                length: region.length,
                node,
                mounted_at,
            });
            self.parts.devices.push((device, region));
        }
        self.parts.unsupported.extend(found.unsupported);
        self.parts.warnings.extend(found.warnings);
        Ok(())
    }

    /// Where the whole filesystem of a device is mounted, within the node's root and not under another mount.
    fn whole_mounts(&self, number: Option<DeviceNumber>) -> Vec<PathBuf> {
        let Some(number) = number else { return Vec::new() };
        let whole =
            |mount: &&MountEntry| mount.device == number && mount.root == "/" && self.target_in_node(mount).is_some();
        let mut targets: Vec<PathBuf> = self.mounts.iter().filter(whole).map(|mount| (&mount.target).into()).collect();
        targets.sort_by_key(|target| target.components().count());
        targets.dedup();
        targets
    }

    /// The mount's place as the node sees it.
    fn target_in_node(&self, mount: &MountEntry) -> Option<String> {
        let inner = Path::new(&mount.target).strip_prefix(&self.roots.root).ok()?;
        Some(format!("/{}", inner.display()))
    }

    /// A filesystem of the node that lies on none of its disks would be missing from the capture.
    fn refuse_other_mounts(&mut self) {
        let mut others: Vec<Unsupported> = Vec::new();
        for mount in self.mounts.iter().filter(|mount| self.target_in_node(mount).is_some()) {
            let number = (mount.device.major, mount.device.minor);
            let what = if WITHOUT_A_DEVICE_NUMBER.contains(&mount.fstype.as_str()) {
                Some(format!("a {} filesystem, mounted at {}", mount.fstype, mount.target))
            } else if self.keys.contains_key(&number) {
                None
            } else {
                self.strange_device(number).map(|what| format!("{what}, mounted at {}", mount.target))
            };
            let source = mount.source.clone();
            if let Some(what) = what
                && !others.iter().any(|other| other.device == source)
            {
                others.push(Unsupported { device: source, what });
            }
        }
        self.parts.unsupported.extend(others);
    }

    /// What a block device outside of the layout is; `None` for what is no part of a node: media that can be taken
    /// out, and files of the node that are mounted through loop devices.
    fn strange_device(&self, number: (u32, u32)) -> Option<String> {
        let link = self.roots.sysfs.join(format!("dev/block/{}:{}", number.0, number.1));
        let directory = link.canonicalize().ok()?;
        let disk = if directory.join("partition").exists() { directory.parent()? } else { &directory };
        let name = disk.file_name()?.to_string_lossy().into_owned();
        let removable = attribute(&disk.join("removable")).is_some_and(|flag| flag != "0");
        if removable || ["loop", "sr", "ram", "zram", "fd"].iter().any(|prefix| name.starts_with(prefix)) {
            return None;
        }
        Some(match &name {
            name if name.starts_with("dm-") => match attribute(&disk.join("dm/uuid")) {
                Some(uuid) if uuid.starts_with("LVM-") => "an LVM logical volume".to_owned(),
                Some(uuid) if uuid.starts_with("CRYPT-") => "an encrypted volume".to_owned(),
                _ => "a device-mapper volume".to_owned(),
            },
            name if name.starts_with("md") => "a Linux RAID array".to_owned(),
            name => format!("a filesystem on {name}, which is none of the node's disks"),
        })
    }

    fn mounts(&self) -> Vec<Mount> {
        let mut kept: Vec<Mount> = Vec::new();
        for mount in self.mounts {
            let Some(target) = self.target_in_node(mount) else { continue };
            let device =
                self.keys.get(&(mount.device.major, mount.device.minor)).filter(|_| mount.root == "/").cloned();
            // Parts of filesystems mounted a second time, and what the system makes anew at each start.
            let is_part = mount.root != "/" && device.is_none();
            if device.is_none() && (is_part || VIRTUAL.contains(&mount.fstype.as_str())) {
                continue;
            }
            let (source, fstype, options) = (mount.source.clone(), mount.fstype.clone(), mount.options.clone());
            kept.push(Mount { device, source, target, fstype, options });
        }
        kept
    }

    fn finish(self) -> Result<NodeScan, ScanError> {
        let roots = self.roots;
        let interfaces = network_interfaces(roots);
        let firmware = firmware(roots);
        let identity = MachineIdentity {
            machine_id: attribute(&roots.in_root("/etc/machine-id")),
            hostname: attribute(&roots.in_root("/etc/hostname")),
            ..machine_identity(roots, &interfaces)
        };
        let mounts = self.mounts();
        let efi_entries = match firmware {
            Firmware::Bios => Vec::new(),
            Firmware::Uefi { .. } => self.own_efi_entries(),
        };
        let boot = BootChain {
            firmware,
            efi_entries,
            kernel_cmdline: attribute(&roots.proc.join("cmdline")).unwrap_or_default(),
        };
        let spec = NodeSpec {
            identity,
            os: machine::os_release(roots),
            hardware: hardware(roots),
            layout: Layout { devices: self.parts.devices.into_iter().map(|(device, _)| device).collect() },
            mounts,
            fstab: files::fstab(roots)?,
            boot,
            network: NetworkSpec { interfaces, files: files::network_files(roots)? },
        };
        let (unsupported, warnings) = (self.parts.unsupported, self.parts.warnings);
        Ok(NodeScan { spec, unsupported, warnings, devices: self.devices })
    }

    /// The firmware's entries that lead to a partition of the node.
    fn own_efi_entries(&self) -> Vec<node_model::EfiBootEntry> {
        let on_own_disk = |guid: &Guid| {
            self.parts.devices.iter().any(|(device, _)| match &device.content {
                Content::Table { table: node_model::PartitionTable::Gpt(gpt) } => {
                    gpt.partitions.iter().any(|partition| partition.guid == *guid)
                }
                _ => false,
            })
        };
        // A machine whose variables cannot be read is captured without them: the fallback loader remains.
        let entries = efi::boot_entries(self.roots).unwrap_or_else(|error| {
            tracing::warn!(%error, "the firmware's boot entries are left out");
            Vec::new()
        });
        entries.into_iter().filter(|entry| on_own_disk(&entry.partition_guid)).collect()
    }
}

/// Used space of a mounted filesystem: its superblock lags behind.
fn count_used(filesystem: &mut Filesystem, target: &Path) {
    if let Ok(numbers) = rustix::fs::statvfs(target) {
        filesystem.used_bytes = Bytes(numbers.f_blocks.saturating_sub(numbers.f_bfree) * numbers.f_frsize);
    }
}
