//! Kernels to boot directly, and the smallest initramfs.

use std::{fs, path::PathBuf};

use crate::{Error, Lab, host};

/// A kernel and perhaps an initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: Option<PathBuf>,
}

impl Lab {
    /// Debian's cloud kernel alone, from the cache or from Debian.
    pub fn debian_kernel(&self) -> Result<BootFiles, Error> {
        let kernel = self.cached("kernel-bookworm-cloud-1", |dir| {
            let tree = dir.join("tree.tar");
            host::run(
                "mmdebstrap",
                ["--quiet", "--variant=extract", "--include=linux-image-cloud-amd64", "bookworm"]
                    .map(Into::into)
                    .into_iter()
                    .chain([tree.clone().into_os_string()]),
            )?;
            let mut extract = std::process::Command::new("tar");
            extract.arg("-C").arg(dir).arg("-xf").arg(&tree).args([
                "--wildcards",
                "--strip-components=2",
                "./boot/vmlinuz-*",
            ]);
            host::finish("tar", &mut extract)?;
            fs::remove_file(&tree).map_err(Error::file("remove", &tree))?;
            let entries = fs::read_dir(dir).map_err(Error::file("list", dir))?;
            let found = entries
                .flatten()
                .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
                .ok_or_else(|| Error::Unexpected("the kernel package holds no vmlinuz".into()))?;
            fs::rename(found.path(), dir.join("vmlinuz")).map_err(Error::file("rename", found.path()))
        })?;
        Ok(BootFiles { kernel: kernel.join("vmlinuz"), initrd: None })
    }
}

/// An uncompressed initramfs ("newc" cpio) of these files, each mode 0755, plus `/dev/console`.
pub fn cpio_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut entry = |inode: u32, name: &str, mode: u32, device: (u32, u32), content: &[u8]| {
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        archive.extend_from_slice(b"070701");
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0] {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    entry(1, "dev", 0o040_755, (0, 0), b"");
    entry(2, "dev/console", 0o020_600, (5, 1), b"");
    for (number, (name, content)) in (3..).zip(files) {
        entry(number, name, 0o100_755, (0, 0), content);
    }
    entry(0, "TRAILER!!!", 0, (0, 0), b"");
    archive
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn the_real_cpio_or_tar_lists_what_was_packed() {
        // bsdtar reads cpio; without it this checks the shape alone.
        let archive = cpio_of(&[("init", b"#!/bin/sh\n"), ("odd", b"abc")]);
        assert_eq!(archive.len() % 4, 0);
        let Ok(mut child) =
            Command::new("bsdtar").args(["-tf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        else {
            eprintln!("skipped: bsdtar is not installed");
            return;
        };
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "dev\ndev/console\ninit\nodd\n");
    }
}
