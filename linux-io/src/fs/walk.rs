//! A filesystem's entries in stream order.

use std::os::fd::{AsFd, OwnedFd};

use node_model::EntryKind;
use rustix::fs::{FileType, OFlags};

use super::links::LinkGroups;
use super::names::SortedNames;
use super::path::open_beneath;
use super::read::{EntryInfo, Found, Node};
use super::{Excludes, FsError, Status};

/// Directories held open at once. Deeper trees are walked too: the outer ones are closed and opened again.
const OPEN_DIRECTORIES_MAX: usize = 64;

/// One step of a walk.
#[derive(Debug)]
pub enum Visit {
    /// An entry. A regular file has its content open. Another name of a file met before is a
    /// [`EntryKind::Hardlink`] with owner, mode and times, and without attributes and flags, which its first name has.
    Entry(Box<EntryInfo>),
    /// A socket, which is left out.
    Socket {
        /// Where.
        path: Vec<u8>,
    },
    /// Something that is mounted over; what is below cannot be seen, what is above is not of this filesystem. A walk
    /// below [`open_bare_root`](super::open_bare_root) meets none.
    Covered {
        /// Where.
        path: Vec<u8>,
    },
    /// A name that was listed and is gone.
    Vanished {
        /// Where.
        path: Vec<u8>,
    },
}

/// Walks one filesystem depth first, siblings bytewise by name, the root itself first. An error concerns one path;
/// the walk goes on after it.
#[derive(Debug)]
pub struct Walker {
    root: OwnedFd,
    mount_id: u64,
    excludes: Excludes,
    links: LinkGroups,
    started: bool,
    path: Vec<u8>,
    levels: Vec<Level>,
}

/// One directory on the way to the current one.
#[derive(Debug)]
struct Level {
    handle: Option<OwnedFd>,
    status: Status,
    path_length: usize,
    names: SortedNames,
}

impl Walker {
    /// A walk of the filesystem whose root directory `root` holds.
    pub fn new(root: OwnedFd, excludes: Excludes) -> Result<Self, FsError> {
        let status = Status::of(&root).map_err(|errno| FsError::io("read the status of", b"", errno))?;
        Ok(Self {
            root,
            mount_id: status.mount_id,
            excludes,
            links: LinkGroups::default(),
            started: false,
            path: Vec::new(),
            levels: Vec::new(),
        })
    }

    /// Says that the content of this entry could not be stored, so that the file's next name, if it has one, comes as
    /// a file again instead of as a link to nothing.
    pub fn forget(&mut self, info: &EntryInfo) {
        self.links.forget(&info.status);
    }

    /// Looks at the current path, whose parent is the innermost level.
    fn visit(&mut self, node: Node) -> Result<Visit, FsError> {
        let path = &self.path;
        let status = node.status;
        if status.mount_id != self.mount_id {
            return Ok(Visit::Covered { path: path.clone() });
        }
        if status.file_type() == FileType::Directory {
            return self.enter(node);
        }
        if let Some(target) = self.links.first_name(&status) {
            let info = EntryInfo::new(path, EntryKind::Hardlink { target }, status);
            return Ok(Visit::Entry(Box::new(info)));
        }
        match node.read(path)? {
            Found::Socket => Ok(Visit::Socket { path: path.clone() }),
            Found::Entry(info) => {
                self.links.remember(&status, path);
                Ok(Visit::Entry(info))
            }
        }
    }

    /// Describes a directory and makes it the innermost level.
    fn enter(&mut self, node: Node) -> Result<Visit, FsError> {
        let handle = node.open_for_reading(&self.path)?;
        let status = node.status;
        let Found::Entry(info) = node.read(&self.path)? else {
            return Err(FsError::Changed { path: super::path::display(&self.path), expected: "directory" });
        };
        if !self.excludes.leaves_out_below(&self.path) {
            let names = SortedNames::read(handle.as_fd(), &self.path)?;
            if let Some(outer) = self.levels.len().checked_sub(OPEN_DIRECTORIES_MAX) {
                self.levels[outer].handle = None;
            }
            self.levels.push(Level { handle: Some(handle), status, path_length: self.path.len(), names });
        }
        Ok(Visit::Entry(info))
    }

    /// Makes sure that the innermost directory is open.
    fn reopen(&mut self) -> Result<(), FsError> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        if level.handle.is_some() {
            return Ok(());
        }
        let path = &self.path[..level.path_length];
        let handle = open_beneath(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|errno| FsError::io("open again", path, errno))?;
        let status = Status::of(&handle).map_err(|errno| FsError::io("read the status of", path, errno))?;
        if (status.inode, status.btime) != (level.status.inode, level.status.btime) {
            return Err(FsError::Changed { path: super::path::display(path), expected: "directory" });
        }
        level.handle = Some(handle);
        Ok(())
    }

    /// The next step, or `None` at the end.
    fn step(&mut self) -> Option<Result<Visit, FsError>> {
        if !self.started {
            self.started = true;
            let root = open_beneath(self.root.as_fd(), b"", OFlags::PATH | OFlags::DIRECTORY)
                .map_err(|errno| FsError::io("open", b"", errno));
            return Some(root.and_then(|handle| Node::of(handle, b"")).and_then(|node| self.visit(node)));
        }
        loop {
            let length = self.levels.last()?.path_length;
            self.path.truncate(length);
            if let Err(error) = self.reopen() {
                self.levels.pop();
                return Some(Err(error));
            }
            let level = self.levels.last_mut()?;
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            if self.excludes.leaves_out(&self.path) {
                continue;
            }
            let handle = level.handle.as_ref()?;
            let node = Node::open(handle.as_fd(), &name, &self.path);
            return Some(match node.and_then(|node| self.visit(node)) {
                Err(error) if error.is_vanished() => Ok(Visit::Vanished { path: self.path.clone() }),
                other => other,
            });
        }
    }
}

impl Iterator for Walker {
    type Item = Result<Visit, FsError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step()
    }
}
