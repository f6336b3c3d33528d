//! Files of the restored node that are rewritten because the machine differs, and what the firmware is told.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bundle::Hash;
use linux_io::fs::{EntryInfo, Found, FsError, RootWriter, find_entry, open_root};
use node_model::{DeviceKey, Entry, EntryKind, Timestamp};
use restore_plan::{Adaptation, LoaderCopy, PlannedEfiEntry};

use super::{LiveMachine, StepError};

/// The largest file that is read whole: a loader, a configuration file.
const FILE_BYTES_MAX: u64 = 64 << 20;

impl LiveMachine {
    /// Rewrites one file, if it is what the plan was made from.
    pub(super) fn adapt(&self, adaptation: &Adaptation) -> Result<Vec<String>, StepError> {
        Ok(adapt(self.mounted(&adaptation.device)?, adaptation)?)
    }

    /// Copies loaders to where firmware looks without a boot entry.
    pub(super) fn copy_loaders(&self, device: &DeviceKey, copies: &[LoaderCopy]) -> Result<(), StepError> {
        let root = self.mounted(device)?;
        for copy in copies {
            let Some((found, content)) = read_file(root, copy.from.as_bytes())? else {
                return Err(StepError::Unknown(format!("loader {}", copy.from)));
            };
            write_file(root, Entry { path: copy.to.as_bytes().to_vec(), ..found.entry }, &content)?;
        }
        Ok(())
    }

    /// Tells the firmware of the node's loaders. The fallback path starts them too, so a failure is a warning.
    pub(super) fn register(&self, entries: &[PlannedEfiEntry]) -> Vec<String> {
        let wanted = entries
            .iter()
            .map(|entry| linux_io::efi::NewEntry {
                description: entry.description.clone(),
                partition_number: entry.partition_number,
                first_lba: entry.first_lba.0,
                sector_count: entry.length_sectors,
                partition_guid: entry.partition_guid,
                loader_path: entry.loader_path.clone(),
                optional_data: entry.optional_data.0.clone(),
            })
            .collect::<Vec<_>>();
        match linux_io::efi::register_first(&linux_io::Roots::live(), &wanted) {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!("the firmware's boot entry was not written: {}", crate::data::chain(&error))],
        }
    }
}

fn adapt(root: &Path, adaptation: &Adaptation) -> Result<Vec<String>, FsError> {
    let left_alone = |why: &str| Ok(vec![format!("{} was not adapted: {why}", adaptation.node_path)]);
    let Some((found, content)) = read_file(root, adaptation.path.as_bytes())? else {
        return left_alone("it is not there, or not a regular file");
    };
    if content == adaptation.new_content.0 {
        return Ok(Vec::new());
    }
    if Hash::of(&content).as_bytes()[..] != adaptation.old_blake3.0[..] {
        return left_alone("its content is not what the plan was made from");
    }
    let directory = adaptation.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let above = find_entry(open_root(root)?.as_fd(), directory.as_bytes())?;
    let writer = RootWriter::open(root)?;
    writer.unlock(directory.as_bytes())?;
    write_file(root, found.entry, &adaptation.new_content.0)?;
    // Nothing but this file differs from the snapshot: the directory it was replaced in keeps its times.
    if let Found::Entry(above) = above {
        writer.finish(&above.entry)?;
    }
    writer.sync()?;
    Ok(Vec::new())
}

/// A regular file with its content, or `None` if there is none at `path`.
pub(super) fn read_file(root: &Path, path: &[u8]) -> Result<Option<(EntryInfo, Vec<u8>)>, FsError> {
    let root = open_root(root)?;
    let mut found = match find_entry(root.as_fd(), path) {
        Ok(Found::Entry(found)) => *found,
        Ok(Found::Socket) => return Ok(None),
        Err(error) if error.is_vanished() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(file) = found.content.take() else { return Ok(None) };
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).map_err(|source| FsError::Io {
        action: "read",
        path: String::from_utf8_lossy(path).into_owned(),
        source,
    })?;
    Ok(Some((found, content)))
}

/// Writes `content` with the metadata of `entry`, and now as its time of modification.
fn write_file(root: &Path, entry: Entry, content: &[u8]) -> Result<(), FsError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mtime = Timestamp { secs: now.as_secs() as i64, nanos: now.subsec_nanos() };
    let entry = Entry { kind: EntryKind::File { size: content.len() as u64, sparse: None }, mtime, ..entry };
    let writer = RootWriter::open(root)?;
    writer.unlock(&entry.path)?;
    writer.write_file(&entry, content)?;
    writer.finish(&entry)?;
    writer.sync()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, FileTimes};
    use std::time::Duration;

    use node_model::HexBytes;

    use super::*;

    fn node_with(content: &str) -> (tempfile::TempDir, SystemTime) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("fstab"), content).unwrap();
        let old = UNIX_EPOCH + Duration::from_nanos(1_000_000_000_000_000_007);
        fs::File::open(&directory).unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
        (root, old)
    }

    fn adaptation() -> Adaptation {
        Adaptation {
            device: DeviceKey::disk(0),
            node_path: "/etc/fstab".into(),
            path: "etc/fstab".into(),
            old_blake3: HexBytes(Hash::of(b"old").as_bytes().to_vec()),
            new_content: HexBytes(b"new".to_vec()),
            reason: "a test".into(),
        }
    }

    #[test]
    fn a_file_is_adapted_and_its_directory_keeps_its_times() {
        let (root, old) = node_with("old");
        assert_eq!(adapt(root.path(), &adaptation()).unwrap(), [""; 0]);
        assert_eq!(fs::read(root.path().join("etc/fstab")).unwrap(), b"new");
        assert_eq!(fs::metadata(root.path().join("etc")).unwrap().modified().unwrap(), old);
        assert_eq!(adapt(root.path(), &adaptation()).unwrap(), [""; 0], "a resumed restore does it again");
    }

    #[test]
    fn a_file_that_the_plan_does_not_know_is_left_alone_with_a_warning() {
        let (root, _) = node_with("somebody else's");
        let told = adapt(root.path(), &adaptation()).unwrap();
        assert_eq!(told, ["/etc/fstab was not adapted: its content is not what the plan was made from"]);
        assert_eq!(fs::read(root.path().join("etc/fstab")).unwrap(), b"somebody else's");
        fs::remove_file(root.path().join("etc/fstab")).unwrap();
        assert!(adapt(root.path(), &adaptation()).unwrap()[0].contains("not there"));
    }
}
