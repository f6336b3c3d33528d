//! The log of the restore, on the restored node.

use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use bundle::Hash;
use linux_io::fs::{Found, FsError, RootWriter, find_entry, open_root};
use node_model::{DeviceKey, Entry, EntryKind, Timestamp};
use restore_plan::Plan;

use super::written::{Written, Wrote};
use super::{LiveMachine, StepError};

/// The log tells of disks, addresses and programs: that is root's business.
const LOG_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o755;

impl LiveMachine {
    /// Writes the log as far as the restore has come. A node without room for it is restored nevertheless.
    pub(super) fn keep_log(
        &mut self,
        plan: &Plan,
        device: &DeviceKey,
        (node_path, path): (&str, &str),
    ) -> Result<Vec<String>, StepError> {
        let root = open_root(self.mounted(device)?)?;
        let text = (self.work.log)(plan);
        let writer = RootWriter::open(self.mounted(device)?)?;
        let kept = keep(root.as_fd(), &writer, path, text.as_bytes());
        writer.sync()?;
        let wrote = match kept {
            Ok(written) => Wrote { written, warnings: Vec::new() },
            Err(error) => Wrote::nothing(format!("{node_path} was not kept: {}", crate::data::chain(&error))),
        };
        Ok(self.remember(device, wrote))
    }
}

/// Writes a file and the directories it needs. The directory that was there before stays as it was, time included.
fn keep(root: impl AsFd, writer: &RootWriter, path: &str, content: &[u8]) -> Result<Vec<Written>, FsError> {
    let mut missing = Vec::new();
    let mut parents = path.rmatch_indices('/').map(|(at, _)| &path[..at]).chain([""]);
    let standing = loop {
        // The root, the last of them, is always there.
        let parent = parents.next().unwrap_or("");
        match find_entry(root.as_fd(), parent.as_bytes()) {
            Ok(Found::Entry(found)) => break found.entry,
            Ok(Found::Socket) => return Err(FsError::Changed { path: format!("/{parent}"), expected: "directory" }),
            Err(error) if error.is_vanished() => missing.push(parent),
            Err(error) => return Err(error),
        }
    };
    if standing.kind != EntryKind::Directory {
        let path = format!("/{}", String::from_utf8_lossy(&standing.path));
        return Err(FsError::Changed { path, expected: "directory" });
    }
    writer.unlock(&standing.path)?;
    let made = make(writer, &missing, path, content);
    if made.is_err() {
        // Half a log would be found as something that nobody planned. What cannot be removed either is found then.
        let _ = writer.remove(missing.last().unwrap_or(&path).as_bytes());
    }
    writer.finish(&standing)?;
    made
}

/// Makes the missing directories, the innermost of which comes first, and the file.
fn make(writer: &RootWriter, missing: &[&str], path: &str, content: &[u8]) -> Result<Vec<Written>, FsError> {
    let directory = |path: &&str| owned_by_root(path, EntryKind::Directory, DIRECTORY_MODE);
    let directories: Vec<Entry> = missing.iter().map(directory).collect();
    directories.iter().rev().try_for_each(|directory| writer.make(directory))?;
    let kind = EntryKind::File { size: content.len() as u64, sparse: None };
    let log = owned_by_root(path, kind, LOG_MODE);
    writer.write_file(&log, content)?;
    directories.iter().try_for_each(|directory| writer.finish(directory))?;
    let log = Written { entry: log, hash: Some(Hash::of(content)) };
    Ok(directories.into_iter().map(|entry| Written { entry, hash: None }).chain([log]).collect())
}

fn owned_by_root(path: &str, kind: EntryKind, mode: u32) -> Entry {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mtime = Timestamp { secs: now.as_secs() as i64, nanos: now.subsec_nanos() };
    let path = path.as_bytes().to_vec();
    Entry { path, kind, mode, uid: 0, gid: 0, mtime, xattrs: Vec::new(), flags: 0, project_id: 0 }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    const PATH: &str = "var/log/rerack/restore-5f3c.log";

    fn kept(root: &Path) -> Result<Vec<Written>, FsError> {
        keep(open_root(root).unwrap(), &RootWriter::open(root).unwrap(), PATH, b"what went on\n")
    }

    /// A time that is long past.
    fn aged(path: &Path) -> std::time::SystemTime {
        let then = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        fs::File::open(path).unwrap().set_modified(then).unwrap();
        then
    }

    #[test]
    fn the_log_is_roots_alone_and_the_directory_it_is_added_to_keeps_its_time() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/log")).unwrap();
        let then = aged(&root.path().join("var/log"));
        kept(root.path()).unwrap();
        let log = fs::metadata(root.path().join(PATH)).unwrap();
        assert_eq!((log.mode() & 0o7777, log.uid(), log.gid()), (0o600, 0, 0));
        assert_eq!(fs::read(root.path().join(PATH)).unwrap(), b"what went on\n");
        assert_eq!(fs::metadata(root.path().join("var/log")).unwrap().modified().unwrap(), then);
        let directory = fs::metadata(root.path().join("var/log/rerack")).unwrap();
        assert_eq!(directory.mode() & 0o7777, 0o755);

        fs::remove_file(root.path().join(PATH)).unwrap();
        let then = aged(&root.path().join("var/log/rerack"));
        kept(root.path()).unwrap();
        assert_eq!(fs::metadata(root.path().join("var/log/rerack")).unwrap().modified().unwrap(), then);
    }

    #[test]
    fn a_node_without_var_gets_one() {
        let root = tempfile::tempdir().unwrap();
        let then = aged(root.path());
        kept(root.path()).unwrap();
        assert!(root.path().join(PATH).exists());
        assert_eq!(fs::metadata(root.path()).unwrap().modified().unwrap(), then);
    }

    #[test]
    fn fault_12_a_log_or_directory_that_reads_back_otherwise_is_found() {
        let root = tempfile::tempdir().unwrap();
        let written = kept(root.path()).unwrap();
        let found = || -> Vec<String> {
            let root = open_root(root.path()).unwrap();
            written.iter().flat_map(|written| written.differences(root.as_fd()).unwrap()).collect()
        };
        assert_eq!(found(), [""; 0]);
        let log = root.path().join(PATH);
        fs::write(&log, "what goes on\n").unwrap();
        assert!(found()[0].contains("content is"), "{:?}", found());
        fs::write(&log, "what went on\n").unwrap();
        fs::set_permissions(log.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(found(), ["/var/log/rerack: mode is 0777, should be 0755"]);
    }

    #[test]
    fn fault_36_a_log_directory_that_leads_elsewhere_gets_nothing() {
        let outside = tempfile::tempdir().unwrap();
        for link in ["var", "var/log", "var/log/rerack"] {
            let root = tempfile::tempdir().unwrap();
            let link = root.path().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(outside.path(), &link).unwrap();
            kept(root.path()).unwrap_err();
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{}", link.display());
            assert!(link.symlink_metadata().unwrap().is_symlink(), "the node's own link stays");
        }
    }

    #[test]
    fn something_in_the_logs_place_leaves_no_half_made_directories() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var")).unwrap();
        fs::write(root.path().join("var/log"), "a file").unwrap();
        let then = aged(&root.path().join("var"));
        kept(root.path()).unwrap_err();
        assert_eq!(fs::read(root.path().join("var/log")).unwrap(), b"a file");
        assert_eq!(fs::metadata(root.path().join("var")).unwrap().modified().unwrap(), then);
    }
}
