//! One path of a filesystem with everything that a restore must bring back.

use serde::{Deserialize, Serialize};

/// Extended attributes: names with their values, ascending by name. Names include their namespace
/// (`user.`, `security.`, `system.posix_acl_access`).
pub type XattrList = Vec<(Vec<u8>, Vec<u8>)>;

/// One path of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below the filesystem's root, without a leading or trailing slash; empty for the root itself. Any bytes
    /// but NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes, ACLs and capabilities among them.
    pub xattrs: XattrList,
    /// Inode flags as `FS_IOC_GETFLAGS` gives them, only those that a user can set.
    pub flags: u32,
    /// Project id for quotas.
    pub project_id: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its size, holes included.
        size: u64,
        /// For a file with holes, the extents that hold data, ascending and apart from each other; a file that is
        /// one hole has none. `None` for a file stored densely.
        sparse: Option<Vec<Extent>>,
    },
    /// Another name of a file that came earlier in the stream.
    Hardlink {
        /// Path of that file, in the form of [`Entry::path`].
        target: Vec<u8>,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it says, verbatim.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
}

/// A stretch of data in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// The number of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// A time as the kernel keeps it. Seconds may be negative; nanoseconds always count forward from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

impl Entry {
    /// The bytes of content that the stream carries for this entry, before padding: the size of a dense file, the
    /// sum of the extents of a sparse one, nothing for all else.
    pub fn stored_bytes(&self) -> u64 {
        match &self.kind {
            EntryKind::File { size, sparse: None } => *size,
            EntryKind::File { sparse: Some(extents), .. } => extents.iter().map(|extent| extent.length).sum(),
            _ => 0,
        }
    }

    /// The path for people: bytes that are no text are shown as replacement characters.
    pub fn display_path(&self) -> String {
        format!("/{}", String::from_utf8_lossy(&self.path))
    }
}
