//! What can go wrong with a file.

use std::io;

/// Why a file or its metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The kernel refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was to be done, as it follows "cannot".
        action: &'static str,
        /// To what, shown from the filesystem's root.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// One extended attribute was refused.
    #[error("cannot {action} the extended attribute {name} of {path}")]
    Xattr {
        /// `read`, `set` or `remove`.
        action: &'static str,
        /// The attribute.
        name: String,
        /// Of which file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A name that no honest stream contains.
    #[error("the path {path:?} is refused: {why}")]
    HostileName {
        /// The path as the stream gave it.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// On the way to a path lies something other than a directory, such as a symbolic link, or a mount.
    #[error("{path} is refused: the way to it leads through a symbolic link, a mount or out of the volume")]
    LeadsOut {
        /// The path.
        path: String,
    },
    /// Something else than the entry expected stands at its path.
    #[error("{path} is not the {expected} that was expected there")]
    Changed {
        /// The path.
        path: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Content that does not fit the entry it belongs to.
    #[error("{path} is given {given} bytes at packed offset {offset}, but holds {stored} in all")]
    BeyondEnd {
        /// The path.
        path: String,
        /// Where the bytes were to go, in the stream without holes.
        offset: u64,
        /// How many they are.
        given: u64,
        /// How many the file stores.
        stored: u64,
    },
    /// More extended attribute bytes, or more names in a directory, than is sane.
    #[error("{path} has more {what} than {limit}")]
    TooLarge {
        /// The path.
        path: String,
        /// Of what there is too much.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

impl FsError {
    /// An [`FsError::Io`] for a path as entries hold it.
    pub(crate) fn io(action: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: super::path::display(path), source: source.into() }
    }

    /// The path that it concerns, from the filesystem's root, as people read it.
    pub fn path(&self) -> &str {
        match self {
            Self::Io { path, .. }
            | Self::Xattr { path, .. }
            | Self::HostileName { path, .. }
            | Self::LeadsOut { path }
            | Self::Changed { path, .. }
            | Self::BeyondEnd { path, .. }
            | Self::TooLarge { path, .. } => path,
        }
    }

    /// Whether the file was there a moment ago and is gone now: normal on a live system.
    pub fn is_vanished(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Xattr { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESTALE))
            }
            _ => false,
        }
    }

    /// Whether there is no room left for what was to be written.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Xattr { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
            }
            _ => false,
        }
    }

    /// What the operator can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } | Self::Xattr { source, .. } => match source.raw_os_error() {
                Some(libc::EIO) => Some("the disk reports a defect: see the kernel log"),
                Some(libc::EACCES | libc::EPERM) => Some("run as root, outside a restricted container"),
                Some(libc::ENOSPC) => Some("the target filesystem is full: its size or number of inodes is too small"),
                Some(libc::EOPNOTSUPP) => Some("the target filesystem lacks a feature that the captured one had"),
                _ => None,
            },
            Self::HostileName { .. } | Self::LeadsOut { .. } | Self::BeyondEnd { .. } => {
                Some("the bundle is damaged or forged: check it with `rerack verify`")
            }
            Self::Changed { .. } => Some("another program is changing the filesystem: stop it and try again"),
            Self::TooLarge { .. } => None,
        }
    }
}
