//! Telling the kernel which partitions a disk has, without its reading the table: some kernels read none, and a disk
//! that must not boot yet has no valid one.

use std::ffi::{c_char, c_int, c_void};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use node_model::{Bytes, DeviceNumber};

use crate::blockdev::{BlockDevError, ClaimedDisk};
use crate::loopdev::check as checked;
use crate::roots::attribute;

/// `_IO(0x12, 105)`.
const BLKPG: libc::Ioctl = 0x1269;
const BLKPG_ADD_PARTITION: c_int = 1;
const BLKPG_DEL_PARTITION: c_int = 2;
/// How long a partition that somebody looks at is waited for.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(3);

/// Where a partition lies on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionPlace {
    /// Its number, from 1.
    pub number: u32,
    /// First byte.
    pub start: Bytes,
    /// Number of bytes.
    pub length: Bytes,
}

/// A partition that the kernel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPartition {
    /// Where it lies.
    pub place: PartitionPlace,
    /// Its name in the kernel now, such as `sda2`.
    pub kernel_name: String,
    /// Its device number.
    pub device: DeviceNumber,
}

/// Why the kernel could not be told.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// A regular file cannot have partitions.
    #[error("{} is a regular file: its partitions cannot be used", path.display())]
    NotADevice {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("the kernel does not {what} partition {number} of disk {disk}")]
    Refused {
        /// `add` or `drop`.
        what: &'static str,
        /// The partition's number.
        number: u32,
        /// The disk.
        disk: String,
        /// Why.
        source: io::Error,
    },
    /// What the kernel knows could not be read.
    #[error("the partitions of disk {disk} cannot be listed")]
    List {
        /// The disk.
        disk: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel knows other partitions than it was told.
    #[error("the kernel does not show partition {number} of disk {disk} where it was told to")]
    NotShown {
        /// The partition's number.
        number: u32,
        /// The disk.
        disk: String,
    },
    /// The disk is not usable.
    #[error(transparent)]
    Disk(#[from] BlockDevError),
}

impl PartitionError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotADevice { path } => {
                Some(format!("attach it to a loop device first: losetup -f {}", path.display()))
            }
            Self::Refused { source, .. } if source.raw_os_error() == Some(libc::EBUSY) => {
                Some("a partition of the disk is still in use".to_owned())
            }
            Self::Disk(error) => error.hint(),
            _ => None,
        }
    }
}

/// Makes the kernel forget the partitions of `disk` and know exactly `places` instead. Returns them in order of
/// `places`.
pub fn announce(disk: &ClaimedDisk, places: &[PartitionPlace]) -> Result<Vec<KnownPartition>, PartitionError> {
    withdraw(disk)?;
    for place in places {
        blkpg(disk.file(), BLKPG_ADD_PARTITION, place).map_err(|source| refused("add", place.number, disk, source))?;
    }
    let known = list(disk)?;
    places
        .iter()
        .map(|place| {
            let found = known.iter().find(|partition| partition.place == *place).cloned();
            found.ok_or_else(|| PartitionError::NotShown { number: place.number, disk: disk.describe() })
        })
        .collect()
}

/// Shows that the kernel still knows `partition` on `disk`, with the same place and device number: to be called right
/// before something is let loose on that number.
pub fn check(disk: &ClaimedDisk, partition: &KnownPartition) -> Result<(), PartitionError> {
    if list(disk)?.contains(partition) {
        return Ok(());
    }
    Err(PartitionError::NotShown { number: partition.place.number, disk: disk.describe() })
}

/// Makes the kernel forget all partitions of `disk`.
pub fn withdraw(disk: &ClaimedDisk) -> Result<(), PartitionError> {
    for partition in list(disk)? {
        let place = partition.place;
        drop_partition(disk.file(), &place).map_err(|source| refused("drop", place.number, disk, source))?;
    }
    Ok(())
}

/// Makes the kernel forget all partitions of the open disk whose sysfs directory this is.
pub(crate) fn forget_all(disk: &File, directory: &Path) -> io::Result<()> {
    list_in_sysfs(directory)?.iter().try_for_each(|known| drop_partition(disk, &known.place))
}

/// Drops one partition. A rescue system's own udev opens new partitions for a moment, which is waited for.
fn drop_partition(disk: &File, place: &PartitionPlace) -> io::Result<()> {
    let deadline = Instant::now() + BUSY_WAIT_MAX;
    loop {
        match blkpg(disk, BLKPG_DEL_PARTITION, place) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

/// The partitions of `disk` as the kernel knows them, by number.
pub fn list(disk: &ClaimedDisk) -> Result<Vec<KnownPartition>, PartitionError> {
    let Some(number) = disk.number() else {
        return Err(PartitionError::NotADevice { path: disk.path().to_owned() });
    };
    let directory = disk.roots().sysfs.join(format!("dev/block/{}:{}", number.major, number.minor));
    list_in_sysfs(&directory).map_err(|source| PartitionError::List { disk: disk.describe(), source })
}

/// The partitions of the disk whose sysfs directory this is, by number.
pub fn list_in_sysfs(disk: &Path) -> io::Result<Vec<KnownPartition>> {
    let mut known = Vec::new();
    for child in fs::read_dir(disk)? {
        let child = child?;
        let read = |name: &str| attribute(&child.path().join(name));
        // sysfs counts in units of 512 bytes, whatever the disk's sector size.
        let bytes = |text: String| text.parse::<u64>().ok()?.checked_mul(512).map(Bytes);
        let (Some(number), Some(start), Some(length), Some(device)) = (
            read("partition").and_then(|text| text.parse().ok()),
            read("start").and_then(bytes),
            read("size").and_then(bytes),
            read("dev").and_then(|text| crate::blockdev::parse_number(&text)),
        ) else {
            continue;
        };
        known.push(KnownPartition {
            place: PartitionPlace { number, start, length },
            kernel_name: child.file_name().to_string_lossy().into_owned(),
            device,
        });
    }
    known.sort_by_key(|partition| partition.place.number);
    Ok(known)
}

fn refused(what: &'static str, number: u32, disk: &ClaimedDisk, source: io::Error) -> PartitionError {
    PartitionError::Refused { what, number, disk: disk.describe(), source }
}

/// `struct blkpg_partition`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: c_int,
    device_name: [c_char; 64],
    volume_name: [c_char; 64],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArgument {
    operation: c_int,
    flags: c_int,
    data_length: c_int,
    data: *mut c_void,
}

fn blkpg(disk: &File, operation: c_int, place: &PartitionPlace) -> io::Result<()> {
    let signed = |bytes: Bytes| i64::try_from(bytes.get()).map_err(io::Error::other);
    let mut partition = BlkpgPartition {
        start: signed(place.start)?,
        length: signed(place.length)?,
        number: c_int::try_from(place.number).map_err(io::Error::other)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let mut argument = BlkpgArgument {
        operation,
        flags: 0,
        data_length: size_of::<BlkpgPartition>() as c_int,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: both structures are laid out as the kernel's and live through the call, which only reads them.
    checked(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG, &raw mut argument) }).map(|_| ())
}

/// Where private nodes are made if their own directory is of no use: devtmpfs always lets devices be opened.
pub const FALLBACK_DIRECTORY: &str = "/dev/rerack";

/// A private device node for one device number: what external tools are given, so that a disk that comes or goes
/// meanwhile can never slide under the same name. It is removed when dropped.
#[derive(Debug)]
pub struct DeviceNode {
    path: PathBuf,
}

impl DeviceNode {
    /// Makes the node `directory/name`, replacing an old one; the directory is made if it is missing. Where the
    /// directory's filesystem lets no device be opened, as `/run` and `/tmp` do not, the node is made in
    /// [`FALLBACK_DIRECTORY`] instead.
    pub fn create(directory: &Path, name: &str, device: DeviceNumber) -> io::Result<Self> {
        use rustix::fs::{CWD, FileType, Mode, StatVfsMountFlags, makedev, mknodat, statvfs};
        fs::create_dir_all(directory)?;
        let mut directory = directory;
        if statvfs(directory)?.f_flag.contains(StatVfsMountFlags::NODEV) {
            directory = Path::new(FALLBACK_DIRECTORY);
            fs::create_dir_all(directory)?;
        }
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let number = makedev(device.major, device.minor);
        mknodat(CWD, &path, FileType::BlockDevice, Mode::from_raw_mode(0o600), number)?;
        Ok(Self { path })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DeviceNode {
    fn drop(&mut self) {
        // A node left behind is harmless: it names a number, and its directory goes with the boot image.
        let _ = fs::remove_file(&self.path);
    }
}
