//! What the superblocks of filesystems and the headers of swap areas say: all that their mkfs must be told, and must
//! have done afterwards. They are parsed here, because no tool prints all of it exactly.
//!
//! Bits that the kernel sets by itself while a filesystem is in use are left out, so that what was captured from a
//! running node can be compared with what mkfs has just made.

mod ext;
mod swap;
mod vfat;
mod xfs;

use std::io;

use node_model::{Filesystem, Swap};

use crate::blockdev::ReadAt;

/// What a superblock describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Described {
    /// A filesystem.
    Filesystem(Filesystem),
    /// A swap area.
    Swap(Swap),
}

/// Which parser is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuperblockKind {
    /// ext2, ext3, ext4.
    Ext,
    /// XFS.
    Xfs,
    /// FAT12, FAT16, FAT32.
    Vfat,
    /// Linux swap.
    Swap,
}

impl SuperblockKind {
    /// The kind that blkid calls `name`, if there is a parser for it.
    pub fn from_blkid(name: &str) -> Option<Self> {
        match name {
            "ext2" | "ext3" | "ext4" => Some(Self::Ext),
            "xfs" => Some(Self::Xfs),
            "vfat" => Some(Self::Vfat),
            "swap" => Some(Self::Swap),
            _ => None,
        }
    }
}

/// Why a superblock is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SuperblockError {
    /// The device failed.
    #[error("the superblock cannot be read")]
    Read {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such superblock.
    #[error("there is no {kind} superblock")]
    Absent {
        /// What was looked for.
        kind: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("the {kind} superblock is damaged: {field} is {value}")]
    Damaged {
        /// What it should be.
        kind: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// It is right, but describes what cannot be made again.
    #[error("{what} cannot be captured yet")]
    Unsupported {
        /// What it has.
        what: &'static str,
    },
}

/// Reads the superblock of a device of `kind`, which begins at byte 0 of `device`.
pub fn read<R: ReadAt + ?Sized>(device: &R, kind: SuperblockKind) -> Result<Described, SuperblockError> {
    match kind {
        SuperblockKind::Ext => ext::read(device).map(Described::Filesystem),
        SuperblockKind::Xfs => xfs::read(device).map(Described::Filesystem),
        SuperblockKind::Vfat => vfat::read(device).map(Described::Filesystem),
        SuperblockKind::Swap => swap::read(device).map(Described::Swap),
    }
}

/// A part of a disk as a device of its own.
#[derive(Debug)]
pub struct Window<'a, R: ?Sized> {
    disk: &'a R,
    start: u64,
    length: u64,
}

impl<'a, R: ReadAt + ?Sized> Window<'a, R> {
    /// The `length` bytes of `disk` from byte `start`.
    pub fn new(disk: &'a R, start: u64, length: u64) -> Self {
        Self { disk, start, length }
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Window<'_, R> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|&end| end <= self.length);
        let from = end.and_then(|_| self.start.checked_add(offset)).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.disk.read_exact_at(buffer, from)
    }
}

fn read_bytes<const N: usize, R: ReadAt + ?Sized>(device: &R, offset: u64) -> Result<[u8; N], SuperblockError> {
    let mut bytes = [0; N];
    device.read_exact_at(&mut bytes, offset).map_err(|source| SuperblockError::Read { source })?;
    Ok(bytes)
}

/// Fields at fixed places of a superblock; the places are constants below its size.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|index| self.0[at + index])
    }

    fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    fn le16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn le32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.bytes(at))
    }

    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes(at))
    }

    fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.bytes(at))
    }

    /// A UUID in its usual writing.
    fn uuid(&self, at: usize) -> String {
        let hex: String = self.bytes::<16>(at).iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// Text before the first NUL; `None` if there is none.
    fn label<const N: usize>(&self, at: usize) -> Option<String> {
        let bytes = self.bytes::<N>(at);
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }
}
