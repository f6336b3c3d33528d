//! The initramfs as an archive: the same entries make the same bytes.

use std::{collections::BTreeMap, io::Write};

use cpio::newc;

use crate::Error;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Dir { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
    CharDevice { mode: u32, major: u32, minor: u32 },
}

/// A sorted set of entries. Parents are made as they are needed.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    entries: BTreeMap<String, Entry>,
}

/// Modules and firmware are compressed already: level 19 takes ten times as long for 4 % less.
const ZSTD_LEVEL: i32 = 12;
/// The kernel unpacks windows of at most 128 MiB; 8 MiB is enough and spares a small machine.
const ZSTD_WINDOW_LOG: u32 = 23;

const TYPE_DIR: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_LINK: u32 = 0o120_000;
const TYPE_CHAR: u32 = 0o020_000;

impl Archive {
    /// Adds a folder and its parents.
    pub(crate) fn dir(&mut self, path: &str, mode: u32) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Dir { mode });
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::File { mode, content });
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Link { target: target.to_owned() });
    }

    /// Adds a character device.
    pub(crate) fn char_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::CharDevice { mode, major, minor });
    }

    /// Whether something has this path.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Every entry, in the order of the archive.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].to_owned()).or_insert(Entry::Dir { mode: 0o755 });
        }
    }

    /// The archive as the kernel reads it, uncompressed.
    pub(crate) fn to_newc(&self, mtime: u64) -> Result<Vec<u8>, Error> {
        // The format has 32 bits of time; 2106 is somebody else's problem.
        let mtime = u32::try_from(mtime).unwrap_or(u32::MAX);
        let wrong = Error::file("write", "the initramfs");
        let write = || {
            let mut out = Vec::new();
            // A folder sorts before what is in it, which is the order that the kernel needs.
            for (inode, (path, entry)) in (1_u32..).zip(&self.entries) {
                let (mode, content): (u32, &[u8]) = match entry {
                    Entry::Dir { mode } => (TYPE_DIR | mode, &[]),
                    Entry::File { mode, content } => (TYPE_FILE | mode, content),
                    Entry::Link { target } => (TYPE_LINK | 0o777, target.as_bytes()),
                    Entry::CharDevice { mode, .. } => (TYPE_CHAR | mode, &[]),
                };
                let links = if matches!(entry, Entry::Dir { .. }) { 2 } else { 1 };
                let mut builder = newc::Builder::new(path).ino(inode).mode(mode).nlink(links).mtime(mtime);
                if let Entry::CharDevice { major, minor, .. } = entry {
                    builder = builder.rdev_major(*major).rdev_minor(*minor);
                }
                let size =
                    u32::try_from(content.len()).map_err(|_| std::io::Error::other("a file has 4 GiB or more"))?;
                let mut writer = builder.write(&mut out, size);
                writer.write_all(content)?;
                writer.finish()?;
            }
            newc::trailer(&mut out)?;
            Ok(out)
        };
        write().map_err(wrong)
    }

    /// The archive, compressed as the kernel can unpack it.
    pub(crate) fn compressed(&self, mtime: u64) -> Result<Vec<u8>, Error> {
        let plain = self.to_newc(mtime)?;
        let compress = || {
            let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
            encoder.window_log(ZSTD_WINDOW_LOG)?;
            encoder.include_checksum(true)?;
            encoder
                .multithread(std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)))?;
            encoder.write_all(&plain)?;
            encoder.finish()
        };
        compress().map_err(Error::file("compress", "the initramfs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.file("usr/bin/tool", 0o755, b"tool".to_vec());
        archive.link("bin", "usr/bin");
        archive.char_device("dev/console", 0o600, 5, 1);
        archive
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let archive = sample();
        let paths: Vec<&str> = archive.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["bin", "dev", "dev/console", "usr", "usr/bin", "usr/bin/tool"]);
    }

    #[test]
    fn the_same_entries_make_the_same_bytes_in_any_order_of_adding() {
        let mut other = Archive::default();
        other.char_device("dev/console", 0o600, 5, 1);
        other.link("bin", "usr/bin");
        other.file("usr/bin/tool", 0o755, b"tool".to_vec());
        assert_eq!(sample().compressed(1_700_000_000).unwrap(), other.compressed(1_700_000_000).unwrap());
    }

    #[test]
    fn defect_of_cpio_the_archive_reads_back_as_it_was_put_together() {
        let bytes = sample().to_newc(1_700_000_000).unwrap();
        let mut rest = bytes.as_slice();
        let mut seen = Vec::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
            let entry = reader.entry();
            let device = (entry.rdev_major(), entry.rdev_minor());
            seen.push((entry.name().to_owned(), entry.mode(), entry.mtime(), device, content));
            rest = reader.finish().unwrap();
        }
        assert_eq!(seen[0], ("bin".into(), 0o120_777, 1_700_000_000, (0, 0), b"usr/bin".to_vec()));
        assert_eq!((seen[2].1, seen[2].3), (0o020_600, (5, 1)), "a device keeps its number");
        assert_eq!(seen[5], ("usr/bin/tool".into(), 0o100_755, 1_700_000_000, (0, 0), b"tool".to_vec()));
    }
}
