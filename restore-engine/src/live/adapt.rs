//! Files of the restored node that are rewritten because the machine differs, and what the firmware is told.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bundle::Hash;
use linux_io::fs::{EntryInfo, Found, FsError, RootWriter, find_entry, open_root};
use node_model::{DeviceKey, Entry, EntryKind, Timestamp};
use restore_plan::{Adaptation, LoaderCopy, PlannedEfiEntry};

use super::written::{Written, Wrote};
use super::{LiveMachine, StepError};

/// The largest file that is read whole: a loader, a configuration file.
const FILE_BYTES_MAX: u64 = 64 << 20;

impl LiveMachine {
    /// Rewrites one file, if it is what the plan was made from.
    pub(super) fn adapt(&mut self, adaptation: &Adaptation) -> Result<Vec<String>, StepError> {
        let wrote = adapt(self.mounted(&adaptation.device)?, adaptation)?;
        Ok(self.remember(&adaptation.device, wrote))
    }

    /// Copies loaders to where firmware looks without a boot entry, all of them or none.
    pub(super) fn copy_loaders(&mut self, device: &DeviceKey, copies: &[LoaderCopy]) -> Result<Vec<String>, StepError> {
        let wrote = copy_loaders(self.mounted(device)?, copies)?;
        Ok(self.remember(device, wrote))
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

fn adapt(root: &Path, adaptation: &Adaptation) -> Result<Wrote, FsError> {
    let left_alone = |why: &str| Ok(Wrote::nothing(format!("{} was not adapted: {why}", adaptation.node_path)));
    let (found, content) = match read_file(root, adaptation.path.as_bytes()) {
        Ok(Some(read)) => read,
        Ok(None) => return left_alone("it is not there, or not a regular file"),
        Err(FsError::TooLarge { .. }) => return left_alone("it is larger than any that the plan is made from"),
        Err(error) => return Err(error),
    };
    if content != adaptation.new_content.0 && Hash::of(&content).as_bytes()[..] != adaptation.old_blake3.0[..] {
        return left_alone("its content is not what the plan was made from");
    }
    if found.status.nlink > 1 {
        // To write through it would change its other names, to replace it would part it from them.
        return left_alone("the file has other names besides");
    }
    let directory = adaptation.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let above = find_entry(open_root(root)?.as_fd(), directory.as_bytes())?;
    let writer = RootWriter::open(root)?;
    writer.unlock(directory.as_bytes())?;
    let written = write_file(root, found.entry, &adaptation.new_content.0)?;
    // Nothing but this file differs from the snapshot: the directory it was replaced in keeps its times.
    if let Found::Entry(above) = above {
        writer.finish(&above.entry)?;
    }
    writer.sync()?;
    Ok(Wrote { written: vec![written], warnings: Vec::new() })
}

/// A loader that is too large, or for which there is no room, is not copied: the node starts by its boot entry then.
/// Half a loader, or one without those it starts, would be worse than none.
fn copy_loaders(root: &Path, copies: &[LoaderCopy]) -> Result<Wrote, StepError> {
    let mut wrote = Wrote::default();
    let mut made = Vec::new();
    for copy in copies {
        match copy_loader(root, copy, &mut made) {
            Ok(Some(written)) => wrote.written.push(written),
            Ok(None) => return Err(StepError::Unknown(format!("loader {}", copy.from))),
            Err(error) if error.is_no_space() || matches!(error, FsError::TooLarge { .. }) => {
                let writer = RootWriter::open(root)?;
                made.iter().rev().try_for_each(|path| writer.remove(path))?;
                writer.sync()?;
                let why = crate::data::chain(&error);
                return Ok(Wrote::nothing(format!("no fallback loader was placed at /{}: {why}", copy.to)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(wrote)
}

/// Copies one loader. What is made for it, directories included, is added to `made`, the outermost alone.
fn copy_loader(root: &Path, copy: &LoaderCopy, made: &mut Vec<Vec<u8>>) -> Result<Option<Written>, FsError> {
    let Some((found, content)) = read_file(root, copy.from.as_bytes())? else { return Ok(None) };
    let ways = copy.to.match_indices('/').map(|(at, _)| &copy.to[..at]).chain([copy.to.as_str()]);
    for way in ways {
        match find_entry(open_root(root)?.as_fd(), way.as_bytes()) {
            Ok(_) => {}
            Err(error) if error.is_vanished() => {
                made.push(way.as_bytes().to_vec());
                break;
            }
            Err(error) => return Err(error),
        }
    }
    write_file(root, Entry { path: copy.to.as_bytes().to_vec(), ..found.entry }, &content).map(Some)
}

/// A regular file with its content, or `None` if there is none at `path`. One that is too large is an error, never
/// cut short.
fn read_file(root: &Path, path: &[u8]) -> Result<Option<(EntryInfo, Vec<u8>)>, FsError> {
    let root = open_root(root)?;
    let mut found = match find_entry(root.as_fd(), path) {
        Ok(Found::Entry(found)) => *found,
        Ok(Found::Socket) => return Ok(None),
        Err(error) if error.is_vanished() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(file) = found.content.take() else { return Ok(None) };
    let shown = || String::from_utf8_lossy(path).into_owned();
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(|source| FsError::Io {
        action: "read",
        path: shown(),
        source,
    })?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(FsError::TooLarge { path: shown(), what: "bytes", limit: FILE_BYTES_MAX });
    }
    Ok(Some((found, content)))
}

/// Writes `content` with the metadata of `entry`, and now as its time of modification.
fn write_file(root: &Path, entry: Entry, content: &[u8]) -> Result<Written, FsError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mtime = Timestamp { secs: now.as_secs() as i64, nanos: now.subsec_nanos() };
    let entry = Entry { kind: EntryKind::File { size: content.len() as u64, sparse: None }, mtime, ..entry };
    let writer = RootWriter::open(root)?;
    writer.unlock(&entry.path)?;
    writer.write_file(&entry, content)?;
    writer.finish(&entry)?;
    writer.sync()?;
    Ok(Written { entry, hash: Some(Hash::of(content)) })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, FileTimes};
    use std::os::unix::fs::PermissionsExt;
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
        let wrote = adapt(root.path(), &adaptation()).unwrap();
        assert_eq!(wrote.warnings, [""; 0]);
        assert_eq!(fs::read(root.path().join("etc/fstab")).unwrap(), b"new");
        assert_eq!(fs::metadata(root.path().join("etc")).unwrap().modified().unwrap(), old);
        let again = adapt(root.path(), &adaptation()).unwrap();
        assert_eq!((again.warnings, again.written.len()), (vec![], 1), "a resumed restore does it again");
    }

    #[test]
    fn a_file_that_the_plan_does_not_know_is_left_alone_with_a_warning() {
        let (root, _) = node_with("somebody else's");
        let told = adapt(root.path(), &adaptation()).unwrap();
        assert_eq!(told.warnings, ["/etc/fstab was not adapted: its content is not what the plan was made from"]);
        assert_eq!(fs::read(root.path().join("etc/fstab")).unwrap(), b"somebody else's");
        fs::remove_file(root.path().join("etc/fstab")).unwrap();
        assert!(adapt(root.path(), &adaptation()).unwrap().warnings[0].contains("not there"));
    }

    #[test]
    fn a_file_with_other_names_is_left_alone_with_a_warning() {
        let (root, _) = node_with("old");
        fs::hard_link(root.path().join("etc/fstab"), root.path().join("etc/fstab.kept")).unwrap();
        let told = adapt(root.path(), &adaptation()).unwrap();
        assert_eq!(told.warnings, ["/etc/fstab was not adapted: the file has other names besides"]);
        assert!(told.written.is_empty());
        assert_eq!(fs::read(root.path().join("etc/fstab.kept")).unwrap(), b"old");
    }

    fn differences(written: &Written, root: &Path) -> Vec<String> {
        written.differences(open_root(root).unwrap().as_fd()).unwrap()
    }

    #[test]
    fn fault_12_what_became_of_an_adapted_file_afterwards_is_found() {
        let (root, _) = node_with("old");
        let written = adapt(root.path(), &adaptation()).unwrap().written.remove(0);
        assert_eq!(differences(&written, root.path()), [""; 0]);
        let fstab = root.path().join("etc/fstab");
        let spoil: [(&str, &dyn Fn()); 4] = [
            ("content", &|| fs::write(&fstab, "nEw").unwrap()),
            ("size", &|| fs::write(&fstab, "ne").unwrap()),
            ("mode", &|| fs::set_permissions(&fstab, fs::Permissions::from_mode(0o606)).unwrap()),
            ("missing", &|| fs::remove_file(&fstab).unwrap()),
        ];
        for (what, spoil) in spoil {
            spoil();
            let found = differences(&written, root.path());
            assert!(found.iter().any(|found| found.contains(what)), "{what}: {found:?}");
        }
    }

    fn esp_with_loaders(root: &Path) -> Vec<LoaderCopy> {
        fs::create_dir_all(root.join("EFI/debian")).unwrap();
        fs::write(root.join("EFI/debian/shimx64.efi"), "the shim").unwrap();
        fs::write(root.join("EFI/debian/grubx64.efi"), "the loader").unwrap();
        let copy =
            |from: &str, to: &str| LoaderCopy { from: format!("EFI/debian/{from}"), to: format!("EFI/BOOT/{to}") };
        vec![copy("shimx64.efi", "BOOTX64.EFI"), copy("grubx64.efi", "grubx64.efi")]
    }

    #[test]
    fn loaders_are_copied_whole_and_a_spoiled_copy_is_found() {
        let root = tempfile::tempdir().unwrap();
        let copies = esp_with_loaders(root.path());
        let wrote = copy_loaders(root.path(), &copies).unwrap();
        assert_eq!((wrote.written.len(), wrote.warnings.len()), (2, 0));
        assert_eq!(fs::read(root.path().join("EFI/BOOT/BOOTX64.EFI")).unwrap(), b"the shim");
        fs::write(root.path().join("EFI/BOOT/grubx64.efi"), "the loadeR").unwrap();
        assert_eq!(differences(&wrote.written[0], root.path()), [""; 0]);
        assert!(differences(&wrote.written[1], root.path())[0].contains("content is"));
    }

    #[test]
    fn a_loader_that_is_too_large_is_not_cut_short_but_left_out_with_its_companions() {
        let root = tempfile::tempdir().unwrap();
        let copies = esp_with_loaders(root.path());
        let large = fs::File::options().write(true).open(root.path().join("EFI/debian/grubx64.efi")).unwrap();
        large.set_len(FILE_BYTES_MAX + 1).unwrap();
        let wrote = copy_loaders(root.path(), &copies).unwrap();
        assert!(wrote.written.is_empty());
        assert!(wrote.warnings[0].contains("has more bytes than"), "{:?}", wrote.warnings);
        assert!(!root.path().join("EFI/BOOT").exists(), "nothing is left behind");
        assert!(root.path().join("EFI/debian/shimx64.efi").exists());
    }

    #[test]
    fn root_a_filesystem_without_room_for_the_copies_keeps_its_loaders_and_nothing_of_the_copies() {
        let Some(esp) = linux_io::fs::scratch::ScratchFilesystem::new("ext4", 8, &["-q", "-O", "^has_journal"]) else {
            return;
        };
        let copies = esp_with_loaders(&esp.root());
        fs::write(esp.root().join("EFI/debian/grubx64.efi"), vec![7; 5 << 20]).unwrap();
        let wrote = copy_loaders(&esp.root(), &copies).unwrap();
        assert!(wrote.written.is_empty());
        assert!(wrote.warnings[0].starts_with("no fallback loader was placed"), "{:?}", wrote.warnings);
        assert!(!esp.root().join("EFI/BOOT").exists(), "not even half a file");
        assert_eq!(fs::metadata(esp.root().join("EFI/debian/grubx64.efi")).unwrap().len(), 5 << 20);
    }
}
