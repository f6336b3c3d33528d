//! Reads back what was written, from the medium and not from the cache.

use std::os::fd::AsFd;

use bundle::Hash;
use linux_io::blockdev::ClaimedDisk;
use linux_io::fs::{Difference, DifferenceKind, Excludes, Expected, compare, hash_packed, open_root};
use linux_io::gpt::{GptCopies, GptError};
use node_model::{DeviceKey, Gpt, VolumeName};
use restore_plan::{ByteRange, Plan};

use super::written::Written;
use super::{LiveMachine, StepError};

/// Differences that an error names; more are counted.
const NAMED_MAX: usize = 5;

impl LiveMachine {
    /// Compares every path of a volume with the catalog, and everything that the plan's steps wrote besides with what
    /// they wrote. Only where they wrote, and the plan says so, may the two differ.
    pub(super) fn verify_files(
        &self,
        volume: &VolumeName,
        device: &DeviceKey,
        (except, added): (&[String], &[String]),
    ) -> Result<(), StepError> {
        let root = self.mounted(device)?;
        let proven = self.volume(volume)?;
        let expected = proven.entries(&*self.work.source, &self.work.runtime).map(|entry| {
            entry.map(|held| Expected {
                content_hash: held.placed.content_hash.map(|hash| *hash.as_bytes()),
                entry: held.entry,
                allocated: None,
            })
        });
        let compared = compare::<VerifyError>(
            expected.map(|entry| Ok(entry?)),
            open_root(root)?,
            Excludes::default(),
            &|entry, file| {
                let hash = hash_packed(entry, file);
                self.work.meter.verified(entry.stored_bytes());
                hash
            },
        );
        let found = compared.map_err(VerifyError::into_step)?;
        let written = self.written.get(device).map_or(&[][..], Vec::as_slice);
        let unplanned = |difference: &&Difference| !is_planned(difference, (except, added), written);
        let mut wrong: Vec<String> = found.differences.iter().filter(unplanned).map(ToString::to_string).collect();
        let root = open_root(root)?;
        for written in written {
            for difference in written.differences(root.as_fd())? {
                if !wrong.contains(&difference) {
                    wrong.push(difference);
                }
            }
        }
        let count = wrong.len() as u64 + found.unlisted_count;
        read_back(volume, count, wrong)
    }

    /// Compares a raw region with its chunks' hashes.
    pub(super) fn verify_raw(
        &self,
        plan: &Plan,
        volume: &VolumeName,
        device: &DeviceKey,
        range: ByteRange,
    ) -> Result<(), StepError> {
        let rows = self.volume(volume)?.rows.clone();
        let (disk, place) = self.place(plan, device)?;
        disk.flush()?;
        disk.drop_cache()?;
        let start = place.offset_bytes.get() + range.offset_bytes.get();
        let mut wrong = Vec::new();
        for row in rows.iter() {
            let mut content = vec![0; row.content_len as usize];
            disk.read_at(&mut content, start + row.packed_offset)?;
            if Hash::of(&content) != row.hash {
                wrong.push(format!("{} bytes at byte {}", row.content_len, start + row.packed_offset));
            }
        }
        read_back(volume, wrong.len() as u64, wrong)
    }
}

/// What a file's content brings with it; all else about an adapted file is as it was captured.
const CONTENT: [&str; 5] = ["content", "size", "mtime", "holes", "allocation"];

/// Whether a difference from the catalog is what the plan's steps brought about. What they wrote is compared itself.
fn is_planned(difference: &Difference, (except, added): (&[String], &[String]), written: &[Written]) -> bool {
    let path = &difference.path[..];
    let listed = |paths: &[String]| paths.iter().any(|listed| listed.as_bytes() == path);
    let is_written = written.iter().any(|written| written.entry.path == path);
    let is_on_the_way = written.iter().any(|written| written.is_reached_through(path));
    match &difference.kind {
        DifferenceKind::Extra => is_on_the_way && (listed(except) || listed(added)),
        DifferenceKind::Value { what, .. } if is_written => listed(except) && CONTENT.contains(&what.as_str()),
        // A file that is added changes the times of the directory it is added to.
        DifferenceKind::Value { what, .. } => is_on_the_way && listed(except) && what == "mtime",
        _ => false,
    }
}

fn read_back(volume: &VolumeName, count: u64, mut wrong: Vec<String>) -> Result<(), StepError> {
    if count == 0 {
        return Ok(());
    }
    wrong.truncate(NAMED_MAX);
    Err(StepError::ReadBack { volume: volume.clone(), count, examples: wrong })
}

/// Reads a disk's partition table back from the medium: both copies, and both what was planned.
pub(super) fn verify_table(disk: &ClaimedDisk, key: &DeviceKey, planned: &Gpt) -> Result<(), StepError> {
    disk.flush()?;
    disk.drop_cache()?;
    let other = |why: String| StepError::TableReadBack { disk: key.clone(), why };
    let found = match linux_io::gpt::read(disk, disk.size(), disk.sector_size()) {
        Err(GptError::Read { source }) => return Err(GptError::Read { source }.into()),
        Err(error) => return Err(other(error.to_string())),
        Ok(found) => found.ok_or_else(|| other("there is none".to_owned()))?,
    };
    match found.copies {
        GptCopies::PrimaryOnly(why) => Err(other(format!("its copy: {why}"))),
        GptCopies::BackupOnly(why) => Err(other(why)),
        GptCopies::Both if found.table != *planned => Err(other("it is another table".to_owned())),
        GptCopies::Both => Ok(()),
    }
}

/// Writes a disk's first block, the last write to it, and reads it back from the medium. A block that reads back
/// otherwise is taken away again: the disk is not to start from it.
pub(super) fn write_boot_sector(disk: &ClaimedDisk, key: &DeviceKey, block: &[u8]) -> Result<(), StepError> {
    disk.write_at(block, 0)?;
    disk.flush()?;
    disk.drop_cache()?;
    let mut found = vec![0; block.len()];
    disk.read_at(&mut found, 0)?;
    if found == block {
        return Ok(());
    }
    disk.zero(0..block.len() as u64)?;
    disk.flush()?;
    Err(StepError::BootSectorReadBack { disk: key.clone() })
}

/// What ends a comparison: the catalog or the filesystem.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error(transparent)]
    Catalog(#[from] crate::data::CatalogReadError),
    #[error(transparent)]
    Fs(#[from] linux_io::fs::FsError),
}

impl VerifyError {
    fn into_step(self) -> StepError {
        match self {
            Self::Catalog(error) => StepError::Catalog(error),
            Self::Fs(error) => StepError::Fs(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use linux_io::blockdev::Disk;
    use node_model::{Entry, EntryKind, Guid, Lba, Timestamp};

    use super::*;

    const DISK_BYTES: u64 = 8 << 20;
    const LAST_BLOCK: u64 = DISK_BYTES / 512 - 1;

    fn disk(directory: &tempfile::TempDir) -> (ClaimedDisk, File) {
        let path = directory.path().join("disk");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(DISK_BYTES).unwrap();
        let disk = Disk::open(&path).unwrap();
        let identity = disk.identity().clone();
        (disk.into_idle().unwrap().claim(&identity).unwrap(), file)
    }

    fn table() -> Gpt {
        Gpt {
            disk_guid: Guid([1; 16]),
            first_usable_lba: Lba(34),
            last_usable_lba: Lba(LAST_BLOCK - 33),
            entry_count: 128,
            entry_size: 128,
            partitions: Vec::new(),
        }
    }

    #[test]
    fn fault_12_a_table_of_which_either_copy_is_spoiled_or_another_one_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, file) = disk(&directory);
        let key = DeviceKey::disk(0);
        let verify = || verify_table(&disk, &key, &table()).map_err(|error| error.to_string());
        assert!(verify().unwrap_err().ends_with("there is none"));
        for header in [1, LAST_BLOCK] {
            linux_io::gpt::write(&disk, &table()).unwrap();
            verify().unwrap();
            file.write_all_at(b"spoiled", header * 512 + 56).unwrap();
            verify().unwrap_err();
        }
        linux_io::gpt::write(&disk, &Gpt { disk_guid: Guid([2; 16]), ..table() }).unwrap();
        assert!(verify().unwrap_err().ends_with("it is another table"));
    }

    #[test]
    fn the_boot_sector_is_written_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, file) = disk(&directory);
        write_boot_sector(&disk, &DeviceKey::disk(0), &[7; 512]).unwrap();
        let mut found = [0; 512];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(found, [7; 512]);
    }

    fn written(path: &str) -> Written {
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            kind: EntryKind::File { size: 0, sparse: None },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Timestamp { secs: 0, nanos: 0 },
            xattrs: Vec::new(),
            flags: 0,
            project_id: 0,
        };
        Written { entry, hash: None }
    }

    #[test]
    fn fault_12_only_what_a_step_wrote_may_differ_and_only_as_it_wrote_it() {
        let except = ["EFI", "EFI/BOOT", "EFI/BOOT/BOOTX64.EFI", "etc/fstab", "etc/hosts"].map(str::to_owned);
        let added = ["var/log/rerack", "var/log/rerack/restore.log"].map(str::to_owned);
        let written = ["etc/fstab", "EFI/BOOT/BOOTX64.EFI", "var/log/rerack/restore.log", "etc/shadow"].map(written);
        let is_planned = |path: &str, kind| {
            is_planned(&Difference { path: path.as_bytes().to_vec(), kind }, (&except, &added), &written)
        };
        let value = |what: &str| {
            let (expected, found) = (String::new(), String::new());
            DifferenceKind::Value { what: what.to_owned(), expected, found }
        };
        for what in ["content", "size", "mtime"] {
            assert!(is_planned("etc/fstab", value(what)), "{what}");
            assert!(!is_planned("etc/hosts", value(what)), "planned, and then left alone: {what}");
            assert!(!is_planned("etc/shadow", value(what)), "nobody planned it: {what}");
        }
        for what in ["mode", "uid", "gid", "type", "flags", "xattr security.selinux"] {
            assert!(!is_planned("etc/fstab", value(what)), "{what}");
            assert!(!is_planned("EFI/BOOT", value(what)), "{what}");
        }
        assert!(!is_planned("etc/fstab", DifferenceKind::Missing));
        assert!(is_planned("EFI/BOOT", value("mtime")), "a file was added to it");
        for path in ["EFI/BOOT", "EFI/BOOT/BOOTX64.EFI", "var/log/rerack", "var/log/rerack/restore.log"] {
            assert!(is_planned(path, DifferenceKind::Extra), "{path}");
        }
        for path in ["etc/hosts", "EFI/BOOT/other.efi", "var/log"] {
            assert!(!is_planned(path, DifferenceKind::Extra), "{path}");
        }
    }
}
