//! What lies in the initramfs: our programs, the real tools with their libraries, the kernel's modules.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    Error, IsoOptions,
    base::Base,
    cpio_archive::Archive,
    elf,
    modules::Selection,
    recipe::{BUSYBOX_TOOLS, OPENED_LIBRARIES, PROGRAM_LINKS, PROGRAMS},
};

/// Folders that init mounts on or that programs expect.
const EMPTY_DIRS: [(&str, u32); 10] = [
    ("dev", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Puts the initramfs together, all but its inventory.
pub(crate) fn assemble(base: &Base, selection: &Selection, options: &IsoOptions) -> Result<Archive, Error> {
    let mut archive = Archive::default();
    for (path, mode) in EMPTY_DIRS {
        archive.dir(path, mode);
    }
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        archive.link(link, target);
    }
    archive.dir("usr/sbin", 0o755);
    archive.dir("usr/lib64", 0o755);
    // The kernel opens the console before init has mounted anything.
    archive.char_device("dev/console", 0o600, 5, 1);
    archive.char_device("dev/null", 0o666, 1, 3);
    archive.link("var/run", "/run");
    archive.link("etc/mtab", "/proc/self/mounts");
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n".to_vec());
    archive.file("etc/group", 0o644, b"root:x:0:\n".to_vec());
    archive.file("etc/mke2fs.conf", 0o644, base.read("etc/mke2fs.conf")?);
    let release = format!(
        "NAME=rerack\nSUITE={}\nKERNEL={}\nPROFILE={}\n",
        base.suite,
        base.kernel_release,
        options.profile.name()
    );
    archive.file("etc/rerack-release", 0o644, release.into_bytes());

    ours(&mut archive, "init", &options.init)?;
    ours(&mut archive, "usr/bin/restore", &options.restore)?;
    ours(&mut archive, "usr/bin/restore-tui", &options.restore_tui)?;
    tools(&mut archive, base)?;

    for path in &selection.files {
        archive.file(path, 0o644, base.read(path)?);
    }
    for (name, content) in &selection.indexes {
        archive.file(&format!("{}/{name}", base.modules_dir()), 0o644, content.clone());
    }
    Ok(archive)
}

/// Adds one of our programs, which must run without any library.
fn ours(archive: &mut Archive, name: &str, path: &Path) -> Result<(), Error> {
    let content = fs::read(path).map_err(Error::file("read", path))?;
    let needs = elf::needs(path, &content)?;
    if needs.interpreter.is_some() || !needs.libraries.is_empty() {
        return Err(Error::NotStatic { path: path.to_path_buf() });
    }
    archive.file(name, 0o755, content);
    Ok(())
}

fn tools(archive: &mut Archive, base: &Base) -> Result<(), Error> {
    let programs = PROGRAMS.map(|(path, _)| path);
    if let Some(missing) = programs.iter().find(|path| !base.tree.join(path).is_file()) {
        return Err(base.missing(*missing));
    }
    let libraries = OPENED_LIBRARIES.map(|(name, _)| name);
    for path in elf::closure(&base.tree, &programs, &libraries)? {
        let full = base.tree.join(&path);
        let mode = fs::metadata(&full).map_err(Error::file("read", &full))?.permissions().mode();
        // Only whether it may be run: nothing here is setuid.
        archive.file(&path, if mode & 0o111 == 0 { 0o644 } else { 0o755 }, base.read(&path)?);
    }
    for (link, target) in PROGRAM_LINKS {
        archive.link(link, target);
    }
    for tool in BUSYBOX_TOOLS {
        let path = format!("usr/bin/{tool}");
        if !archive.contains(&path) {
            archive.link(&path, "busybox");
        }
    }
    Ok(())
}
