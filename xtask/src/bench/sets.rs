//! What is restored: nodes with one filesystem, made once and kept.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::content::Content;
use super::disk::{Attached, Filesystem, Mounted, blank_image, text};
use crate::command;

/// The partition that holds the filesystem.
pub(super) const ROOT_PARTITION: u32 = 2;
/// Grows when a recipe changes, so that what older ones made is not taken for it.
const RECIPE: u32 = 1;
const MIB: u64 = 1 << 20;
/// What mkfs.ext4 gives one inode for, with a tenth to spare.
const BYTES_PER_INODE: u64 = 18 << 10;
/// Files of a directory.
const FILES_PER_DIRECTORY: u64 = 100;
/// Content is made in pieces of this length.
const PIECE_BYTES: usize = 1 << 20;

/// The sets that a bench can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SetName {
    /// A Debian node: 1.8 GB in 42,000 files. Made by mmdebstrap, which takes minutes.
    Reference,
    /// 200,000 files of 4 KiB.
    SmallFiles,
    /// 8 files of 256 MiB.
    LargeFiles,
    /// What a database keeps: two tables of 512 MiB, a log of 16 files of 16 MiB, 300 small relations.
    Database,
}

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Set {
    Reference,
    /// Files of one size.
    Uniform {
        name: String,
        files: u64,
        bytes: u64,
    },
    Database {
        divisor: u64,
    },
}

impl Set {
    /// Files of one size, on an axis of a plot.
    pub(super) fn uniform(files: u64, bytes: u64) -> Self {
        Self::Uniform { name: format!("{files}-of-{bytes}"), files, bytes }
    }

    /// The set of this name, with only the `divisor`th part of its files (of a database: of its bytes).
    pub(super) fn named(name: SetName, divisor: u64) -> Result<Self> {
        let uniform = |name: &str, files: u64, bytes| {
            let files = (files / divisor).max(1);
            Self::Uniform { name: format!("{name}-{files}"), files, bytes }
        };
        Ok(match name {
            SetName::Reference if divisor != 1 => bail!("the reference node is whole or not at all"),
            SetName::Reference => Self::Reference,
            SetName::SmallFiles => uniform("small-files", 200_000, 4 << 10),
            SetName::LargeFiles => uniform("large-files", 8, 256 << 20),
            SetName::Database => Self::Database { divisor },
        })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Reference => "reference".to_owned(),
            Self::Uniform { name, .. } => name.clone(),
            Self::Database { divisor: 1 } => "database".to_owned(),
            Self::Database { divisor } => format!("database-{divisor}th"),
        }
    }

    /// How large a disk has to be for it.
    fn image_bytes(&self) -> u64 {
        let (files, bytes) = match self {
            Self::Reference => (60_000, 2500 << 20),
            Self::Uniform { files, bytes, .. } => (*files, files * bytes.next_multiple_of(4096)),
            Self::Database { divisor } => (1000, (1300 << 20) / divisor),
        };
        (bytes + bytes / 4 + 512 * MIB).max(files * BYTES_PER_INODE).next_multiple_of(MIB)
    }

    fn fill(&self, root: &Path) -> Result<()> {
        match self {
            Self::Reference => mmdebstrap(root),
            Self::Uniform { files, bytes, .. } => {
                let mut content = Content::new(*bytes);
                for number in 0..*files {
                    let directory = root.join(format!("srv/{:04}", number / FILES_PER_DIRECTORY));
                    if number % FILES_PER_DIRECTORY == 0 {
                        fs::create_dir_all(&directory)?;
                    }
                    write(&directory.join(format!("file-{number:06}")), *bytes, |piece| content.fill(piece))?;
                }
                Ok(())
            }
            Self::Database { divisor } => {
                let (tables, log) = (root.join("var/lib/db/base"), root.join("var/lib/db/wal"));
                fs::create_dir_all(&tables)?;
                fs::create_dir_all(&log)?;
                let mut content = Content::new(8192);
                let mut pages = |piece: &mut [u8]| content.fill_pages(piece);
                for number in 0..2 {
                    write(&tables.join(format!("{}", 16_384 + number)), 512 * MIB / divisor, &mut pages)?;
                }
                for number in 0..300 {
                    write(&tables.join(format!("{}", 1200 + number)), 8192 * (1 + number % 9), &mut pages)?;
                }
                for number in 0..16 {
                    write(&log.join(format!("{number:024X}")), 16 * MIB / divisor, &mut pages)?;
                }
                Ok(())
            }
        }
    }
}

fn write(path: &Path, bytes: u64, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut piece = vec![0; PIECE_BYTES.min(bytes as usize)];
    let mut left = bytes as usize;
    while left > 0 {
        let length = left.min(PIECE_BYTES);
        fill(&mut piece[..length]);
        file.write_all(&piece[..length]).with_context(|| format!("cannot write {}", path.display()))?;
        left -= length;
    }
    Ok(())
}

/// The reference node of the comparisons.
fn mmdebstrap(root: &Path) -> Result<()> {
    eprintln!("building the reference node; this takes some minutes");
    let include = "linux-image-amd64,build-essential,git,postgresql,openjdk-17-jdk-headless,python3-numpy,\
                   linux-headers-amd64,nginx,systemd-sysv,openssh-server";
    let include = format!("--include={include}");
    let skip = "--skip=check/empty";
    command::output(&["mmdebstrap", "--quiet", skip, "--variant=important", &include, "bookworm", text(root)])?;
    Ok(())
}

/// A set as it lies on a disk image.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) filesystem: Filesystem,
    pub(super) image: PathBuf,
    pub(super) image_bytes: u64,
    pub(super) tree: Tree,
}

/// What a tree holds. Two restores of one tree agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tree {
    pub(super) files: u64,
    pub(super) content_bytes: u64,
    pub(super) other_entries: u64,
}

impl Tree {
    /// What lies below `root`, without the directory that mkfs puts there.
    pub(super) fn below(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_file() {
                    tree.files += 1;
                    tree.content_bytes += entry.metadata()?.len();
                } else if entry.file_name() != "lost+found" {
                    tree.other_entries += 1;
                }
                if kind.is_dir() {
                    directories.push(entry.path());
                }
            }
        }
        Ok(tree)
    }
}

impl Source {
    /// The set on a filesystem, from `cache` or made anew.
    pub(super) fn prepare(set: &Set, filesystem: Filesystem, cache: &Path) -> Result<Self> {
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let (name, image_bytes) = (set.name(), set.image_bytes());
        let stem = format!("{name}-{}-{RECIPE}", filesystem.name());
        let (image, facts) = (cache.join(format!("{stem}.img")), cache.join(format!("{stem}.json")));
        if let Some(tree) = read_facts(&facts) {
            return Ok(Self { name, filesystem, image, image_bytes, tree });
        }
        eprintln!("making the set {name} on {}", filesystem.name());
        blank_image(&image, image_bytes)?;
        partition(&image)?;
        let disk = Attached::with_partitions(&image)?;
        let device = disk.partition(ROOT_PARTITION);
        filesystem.make(&device)?;
        let uuid = command::output(&["blkid", "--probe", "--output", "value", "--match-tag", "UUID", &device])?;
        let mounted = Mounted::new(&device, "rw", &cache.join("mnt"))?;
        set.fill(&mounted.at)?;
        let etc = mounted.at.join("etc");
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("hostname"), "bench\n")?;
        fs::write(etc.join("fstab"), format!("UUID={} / {} defaults 0 1\n", uuid.trim(), filesystem.name()))?;
        let tree = Tree::below(&mounted.at)?;
        drop(mounted);
        drop(disk);
        let written = json!({
            "files": tree.files, "content_bytes": tree.content_bytes, "other_entries": tree.other_entries,
        });
        // Written last: an image without facts is made anew.
        fs::write(&facts, written.to_string()).with_context(|| format!("cannot write {}", facts.display()))?;
        Ok(Self { name, filesystem, image, image_bytes, tree })
    }
}

fn read_facts(path: &Path) -> Option<Tree> {
    let facts: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    Some(Tree {
        files: facts["files"].as_u64()?,
        content_bytes: facts["content_bytes"].as_u64()?,
        other_entries: facts["other_entries"].as_u64()?,
    })
}

/// A table with a BIOS boot partition, which every node that starts from GPT by BIOS has, and the root.
fn partition(image: &Path) -> Result<()> {
    let script = "label: gpt\nstart=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n\
                  start=4096, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n";
    let mut command = command::command(&["sfdisk", "-q", "--no-reread", "--no-tell-kernel", text(image)]);
    let mut child = command.stdin(Stdio::piped()).spawn().context("cannot start sfdisk")?;
    child.stdin.take().expect("it is piped").write_all(script.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("sfdisk: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_and_inodes_for_its_set() {
        let small = Set::named(SetName::SmallFiles, 1).unwrap();
        assert!(small.image_bytes() / (16 << 10) > 200_000, "ext4 has an inode for each 16 KiB");
        let large = Set::named(SetName::LargeFiles, 1).unwrap();
        assert!(large.image_bytes() > 8 * (256 << 20));
    }

    #[test]
    fn a_part_of_a_set_bears_another_name() {
        let names = [1, 40].map(|divisor| Set::named(SetName::SmallFiles, divisor).unwrap().name());
        assert_eq!(names, ["small-files-200000", "small-files-5000"]);
        assert!(Set::named(SetName::Reference, 2).is_err());
    }
}
