//! Writes entries below a root.

mod content;
mod metadata;
mod place;

pub use content::FileWriter;

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use node_model::{Entry, EntryKind};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, makedev, mknodat, symlinkat, syncfs};
use rustix::io::Errno;

use super::path::{check, display, open_beneath, refused, split};
use super::read::Node;
use super::{FsError, open_root, xattr};

/// Writes entries below a root directory, never outside it, whatever their names say and whatever another program
/// does to the tree meanwhile.
///
/// Entries may come in any order: parents are made as they are met. Whatever stands in an entry's place, a directory
/// aside, is replaced, never written through. The order that brings everything back is:
///
/// 1. directories, files, symbolic links and nodes ([`write_file`](Self::write_file),
///    [`begin_file`](Self::begin_file), [`make`](Self::make)), by many threads at once;
/// 2. hardlinks ([`link`](Self::link));
/// 3. for every entry, children before their parents or after, [`finish`](Self::finish): the metadata of directories,
///    and flags and project ids of all, because neither an immutable directory nor an immutable file could take the
///    earlier steps;
/// 4. [`sync`](Self::sync).
///
/// Each thread has a clone of its own; a clone remembers the directory it was in last.
#[derive(Debug, Clone)]
pub struct RootWriter {
    root: Arc<OwnedFd>,
    last_parent: RefCell<Option<(Vec<u8>, Arc<OwnedFd>)>>,
}

impl RootWriter {
    /// Writes below the directory at `path`.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        open_root(path).map(Self::below)
    }

    /// Writes below an open directory.
    pub fn below(root: OwnedFd) -> Self {
        Self { root: Arc::new(root), last_parent: RefCell::new(None) }
    }

    /// Writes a regular file whose stored content (without holes, without padding) is at hand, with its metadata.
    /// Flags and project id follow in [`finish`](Self::finish).
    pub fn write_file(&self, entry: &Entry, content: &[u8]) -> Result<(), FsError> {
        let file = self.begin_file(entry)?;
        file.write_packed_at(0, content)?;
        if (content.len() as u64) < entry.stored_bytes() {
            return Err(file.beyond(content.len() as u64, 0));
        }
        file.finish()
    }

    /// Makes a regular file of its full size, room for its data reserved. Its content is written by offset through
    /// the value returned, by any number of threads.
    pub fn begin_file(&self, entry: &Entry) -> Result<FileWriter, FsError> {
        self.replace(&entry.path, |parent, name| {
            super::path::create_in(parent, name).map_err(|errno| refused("create", &entry.path, errno))
        })
        .and_then(|fd| FileWriter::new(fd.into(), entry))
    }

    /// Opens a file made earlier, without changing its content, to go on writing it by offset. One that has another
    /// size than the entry, or data where the entry has holes, is refused: it is to be made anew.
    pub fn resume_file(&self, entry: &Entry) -> Result<FileWriter, FsError> {
        check(&entry.path)?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        let handle = self.hold(&entry.path)?;
        if handle.status.file_type() != FileType::RegularFile || handle.status.nlink > 1 {
            return Err(FsError::Changed { path: display(&entry.path), expected: "regular file with one name" });
        }
        let fd =
            open_beneath(self.root.as_fd(), &entry.path, flags).map_err(|errno| refused("open", &entry.path, errno))?;
        let file = FileWriter::resumed(fd.into(), entry)?;
        if file.has_its_size()? && !file.fills_holes()? {
            return Ok(file);
        }
        Err(FsError::Changed { path: display(&entry.path), expected: "file of this size with these holes" })
    }

    /// Makes a directory, symbolic link, device node or FIFO. All but directories get their metadata at once; a
    /// directory gets it in [`finish`](Self::finish), and one that exists is kept.
    pub fn make(&self, entry: &Entry) -> Result<(), FsError> {
        check(&entry.path)?;
        let refuse = |errno| refused("create", &entry.path, errno);
        let mode = Mode::RUSR | Mode::WUSR;
        match &entry.kind {
            EntryKind::Directory => return self.directory(&entry.path).map(drop),
            EntryKind::File { .. } | EntryKind::Hardlink { .. } => {
                return Err(FsError::Changed { path: display(&entry.path), expected: "directory, link or node" });
            }
            EntryKind::Symlink { target } => {
                self.replace(&entry.path, |parent, name| symlinkat(&target[..], parent, name).map_err(refuse))?
            }
            EntryKind::Fifo => self
                .replace(&entry.path, |parent, name| mknodat(parent, name, FileType::Fifo, mode, 0).map_err(refuse))?,
            EntryKind::CharDevice(number) => self.replace(&entry.path, |parent, name| {
                let device = makedev(number.major, number.minor);
                mknodat(parent, name, FileType::CharacterDevice, mode, device).map_err(refuse)
            })?,
            EntryKind::BlockDevice(number) => self.replace(&entry.path, |parent, name| {
                let device = makedev(number.major, number.minor);
                mknodat(parent, name, FileType::BlockDevice, mode, device).map_err(refuse)
            })?,
        }
        let node = self.hold(&entry.path)?;
        metadata::expect_kind(&node.status, entry)?;
        metadata::apply(node.handle.as_fd(), entry)
    }

    /// Makes another name for a file that is there already.
    pub fn link(&self, entry: &Entry) -> Result<(), FsError> {
        let EntryKind::Hardlink { target } = &entry.kind else {
            return Err(FsError::Changed { path: display(&entry.path), expected: "hard link" });
        };
        check(target)?;
        let (parent_path, name) = split(target);
        if name.is_empty() {
            return Err(FsError::HostileName { path: display(target), why: "a link to the root" });
        }
        let way = OFlags::PATH | OFlags::DIRECTORY;
        let from = open_beneath(self.root.as_fd(), parent_path, way)
            .map_err(|errno| refused("find the link target", target, errno))?;
        self.replace(&entry.path, |parent, new_name| {
            // Without AT_SYMLINK_FOLLOW the name itself is linked, even if it is a symbolic link by now.
            linkat(&from, name, parent, new_name, AtFlags::empty())
                .map_err(|errno| refused("make the hard link", &entry.path, errno))
        })
    }

    /// Gives an entry what must come last: a directory its metadata, everything its flags and project id.
    pub fn finish(&self, entry: &Entry) -> Result<(), FsError> {
        let is_directory = matches!(entry.kind, EntryKind::Directory);
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        if !is_directory && !is_file || is_file && entry.flags == 0 && entry.project_id == 0 {
            return Ok(());
        }
        check(&entry.path)?;
        let node = self.hold(&entry.path)?;
        metadata::expect_kind(&node.status, entry)?;
        let open = node.open_for_reading(&entry.path)?;
        if is_directory {
            metadata::apply(open.as_fd(), entry)?;
        }
        super::inode_flags::write_project(open.as_fd(), entry.project_id, &entry.path)?;
        super::inode_flags::write_flags(open.as_fd(), entry.flags, &entry.path)
    }

    /// Gives an existing object of the right kind the entry's metadata again, flags and project id aside.
    pub fn apply_metadata(&self, entry: &Entry) -> Result<(), FsError> {
        check(&entry.path)?;
        let node = self.hold(&entry.path)?;
        metadata::expect_kind(&node.status, entry)?;
        metadata::apply(node.handle.as_fd(), entry)
    }

    /// Takes the flags off a file or directory that an earlier run finished, so that it can be replaced or changed.
    /// Nothing at that path is fine.
    pub fn unlock(&self, path: &[u8]) -> Result<(), FsError> {
        check(path)?;
        let handle = match open_beneath(self.root.as_fd(), path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.map_err(|errno| refused("find", path, errno))?,
        };
        let node = Node::of(handle, path)?;
        if !matches!(node.status.file_type(), FileType::RegularFile | FileType::Directory) {
            return Ok(());
        }
        super::inode_flags::write_flags(node.open_for_reading(path)?.as_fd(), 0, path)
    }

    /// Brings everything written to the filesystem onto its device. An error means that data may be lost.
    pub fn sync(&self) -> Result<(), FsError> {
        syncfs(&*self.root).map_err(|errno| FsError::io("flush the filesystem of", b"", errno))
    }

    /// Takes hold of what stands at a path, without opening it.
    fn hold(&self, path: &[u8]) -> Result<Node, FsError> {
        let handle =
            open_beneath(self.root.as_fd(), path, OFlags::PATH).map_err(|errno| refused("find", path, errno))?;
        Node::of(handle, path)
    }

    /// Lets `make` create `path`'s last name in its parent directory, in place of whatever but a directory is there.
    fn replace<T>(
        &self,
        path: &[u8],
        make: impl Fn(std::os::fd::BorrowedFd<'_>, &[u8]) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        check(path)?;
        let (parent_path, name) = split(path);
        if name.is_empty() {
            return Err(FsError::HostileName { path: display(path), why: "the root can only be a directory" });
        }
        let parent = self.parent(parent_path)?;
        match make(parent.as_fd(), name) {
            Err(FsError::Io { source, .. }) if source.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {
                place::clear(parent.as_fd(), name, path)?;
                make(parent.as_fd(), name)
            }
            other => other,
        }
    }
}

/// `fchownat` and the like need `AT_EMPTY_PATH` to work on the descriptor itself.
pub(crate) const SELF: AtFlags = AtFlags::EMPTY_PATH;

/// The path by which calls without a descriptor form reach an inode.
pub(crate) fn by_path(fd: impl AsFd) -> String {
    xattr::proc_path(fd.as_fd())
}
