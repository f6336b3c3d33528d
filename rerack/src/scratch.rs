//! A private directory for mount points and device nodes.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::problem::Problem;

/// Directories of programs that were killed may stand in the way; this many are no coincidence.
const ATTEMPTS_MAX: u32 = 64;

/// A directory that goes when dropped, as far as it is empty.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one, in memory where there is a place for that.
    pub(crate) fn new() -> Result<Self, Problem> {
        let run = Path::new("/run");
        Self::below(if run.is_dir() { run } else { Path::new("/tmp") })
    }

    fn below(parent: &Path) -> Result<Self, Problem> {
        let make = |number: u32| {
            let path = parent.join(format!("rerack-{}.{number}", std::process::id()));
            DirBuilder::new().mode(0o700).create(&path).map(|()| Self(path))
        };
        let mut made = make(0);
        for number in 1..ATTEMPTS_MAX {
            match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => made = make(number),
                _ => break,
            }
        }
        Ok(made.with_context(|| format!("no working directory can be made in {}", parent.display()))?)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    /// Removes directories, never files: what could not be unmounted is a node's whole filesystem.
    fn drop(&mut self) {
        remove_empty(&self.0, 2);
    }
}

fn remove_empty(directory: &Path, depth: u32) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path(), depth - 1);
        }
    }
    // A directory that is not empty, or has something mounted on it, stays.
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_empty_stays() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::below(parent.path()).unwrap();
        let other = Scratch::below(parent.path()).unwrap();
        assert_ne!(scratch.path(), other.path());
        fs::create_dir_all(other.path().join("mnt/disk0-p1")).unwrap();
        fs::create_dir_all(scratch.path().join("mnt/disk0-p2")).unwrap();
        fs::create_dir_all(scratch.path().join("mnt/disk0-p1/etc")).unwrap();
        fs::write(scratch.path().join("mnt/disk0-p1/etc/fstab"), "of a node").unwrap();
        let kept = scratch.path().to_owned();
        drop((scratch, other));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "the empty one is gone");
        assert!(kept.join("mnt/disk0-p1/etc/fstab").exists());
        assert!(!kept.join("mnt/disk0-p2").exists());
    }
}
