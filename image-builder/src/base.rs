//! What Debian ships, unpacked in a folder and cached by the list of packages.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, program,
    recipe::{BASE_VERSION, PACKAGES},
};

/// An unpacked set of packages. Nothing in it has been configured; its programs run through its own dynamic linker.
pub(crate) struct Base {
    pub(crate) suite: String,
    pub(crate) tree: PathBuf,
    pub(crate) kernel_release: String,
    pub(crate) packages: Packages,
}

/// Which packages there are, and which of them each file is from.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Packages {
    /// Name to version and hash.
    pub(crate) versions: BTreeMap<String, PackageFacts>,
    /// Path in the tree (without a leading slash) to package name.
    pub(crate) owners: BTreeMap<String, String>,
}

/// What is known of a package.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PackageFacts {
    pub(crate) version: String,
    /// BLAKE3 of the package file.
    pub(crate) blake3: String,
}

const TREE: &str = "tree";
const PACKAGES_FILE: &str = "packages.json";

/// Where the merged /usr stands in for these. No package ships the links: the installer makes them.
const USR_LINKS: [(&str, &str); 4] =
    [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")];

impl Base {
    /// The base of this suite, from the cache or from Debian.
    pub(crate) fn prepare(suite: &str, cache: &Path) -> Result<Self, Error> {
        let key = blake3::hash(format!("{BASE_VERSION} {suite} {}", PACKAGES.join(" ")).as_bytes()).to_hex();
        let dir = cache.join(format!("base-{suite}-{}", &key[..16]));
        if !dir.is_dir() {
            fs::create_dir_all(cache).map_err(Error::file("make", cache))?;
            let partial = tempfile::Builder::new()
                .prefix("base.partial.")
                .tempdir_in(cache)
                .map_err(Error::file("make a folder in", cache))?;
            unpack(suite, partial.path())?;
            // Under its name only when complete; somebody else may have been faster.
            match fs::rename(partial.path(), &dir) {
                Ok(()) => drop(partial.keep()),
                Err(_) if dir.is_dir() => {}
                Err(source) => return Err(Error::File { action: "complete", path: dir, source }),
            }
        }
        Base::open(suite, &dir)
    }

    fn open(suite: &str, dir: &Path) -> Result<Self, Error> {
        let path = dir.join(PACKAGES_FILE);
        let text = fs::read(&path).map_err(Error::file("read", &path))?;
        let packages = serde_json::from_slice(&text)
            .map_err(|error| Error::Cache { path: dir.to_path_buf(), reason: error.to_string() })?;
        let tree = dir.join(TREE).canonicalize().map_err(Error::file("resolve", dir))?;
        let kernel_release = kernel_release(suite, &tree)?;
        Ok(Base { suite: suite.into(), tree, kernel_release, packages })
    }

    /// Reads a file of the tree.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let full = self.tree.join(path);
        fs::read(&full).map_err(Error::file("read", full))
    }

    /// The folder of the kernel's modules, in the tree.
    pub(crate) fn modules_dir(&self) -> String {
        format!("usr/lib/modules/{}", self.kernel_release)
    }

    /// Something that the packages must hold but do not.
    pub(crate) fn missing(&self, what: impl Into<String>) -> Error {
        Error::Missing { suite: self.suite.clone(), what: what.into() }
    }

    /// A program of the tree, started by the tree's own dynamic linker: the host's libraries may be of another release.
    pub(crate) fn command(&self, path: &str, called: &str) -> Command {
        command_in(&self.tree, path, called)
    }
}

fn command_in(tree: &Path, path: &str, called: &str) -> Command {
    let mut command = Command::new(tree.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(tree.join("usr/lib/x86_64-linux-gnu"));
    command.args(["--argv0", called]).arg(tree.join(path));
    command
}

fn unpack(suite: &str, dir: &Path) -> Result<(), Error> {
    tracing::info!(suite, "fetching packages from Debian");
    let tar = dir.join("base.tar");
    let mut debian = Command::new("mmdebstrap");
    // The packages themselves stay in the tar: the inventory names and hashes them.
    debian.args(["--quiet", "--variant=extract", "--format=tar", "--skip=cleanup/apt/cache"]);
    debian.arg(format!("--include={}", PACKAGES.join(","))).arg(suite).arg(&tar);
    program::run("mmdebstrap", &mut debian)?;

    let tree = dir.join(TREE);
    fs::create_dir(&tree).map_err(Error::file("make", &tree))?;
    let mut extract = Command::new("tar");
    // Device nodes need root; nobody needs them.
    extract.arg("-C").arg(&tree).arg("-xf").arg(&tar).args(["--no-same-owner", "--exclude=./dev/*"]);
    program::run("tar", &mut extract)?;
    fs::remove_file(&tar).map_err(Error::file("remove", &tar))?;

    for (link, target) in USR_LINKS {
        let path = tree.join(link);
        if fs::symlink_metadata(&path).is_err() {
            symlink(target, &path).map_err(Error::file("link", &path))?;
        }
    }
    let archives = tree.join("var/cache/apt/archives");
    let packages = list_packages(&archives)?;
    fs::remove_dir_all(&archives).map_err(Error::file("remove", &archives))?;
    let text = serde_json::to_vec(&packages)
        .map_err(|error| Error::Cache { path: dir.to_path_buf(), reason: error.to_string() })?;
    fs::write(dir.join(PACKAGES_FILE), text).map_err(Error::file("write", dir.join(PACKAGES_FILE)))?;

    let release = kernel_release(suite, &tree)?;
    let mut depmod = command_in(&tree, "usr/bin/kmod", "depmod");
    program::run("depmod", depmod.arg("-b").arg(&tree).arg(release)).map(drop)
}

fn list_packages(archives: &Path) -> Result<Packages, Error> {
    let mut packages = Packages::default();
    for entry in fs::read_dir(archives).map_err(Error::file("list", archives))?.flatten() {
        let path = entry.path();
        if path.extension() != Some(OsStr::new("deb")) {
            continue;
        }
        let fields = program::run(
            "dpkg-deb",
            Command::new("dpkg-deb").args(["--show", "--showformat=${Package}\t${Version}"]).arg(&path),
        )?;
        let Some((name, version)) = fields.split_once('\t') else { continue };
        let content = fs::read(&path).map_err(Error::file("read", &path))?;
        let blake3 = blake3::hash(&content).to_hex().to_string();
        packages.versions.insert(name.into(), PackageFacts { version: version.into(), blake3 });
        let listing = program::run("dpkg-deb", Command::new("dpkg-deb").arg("--contents").arg(&path))?;
        for path in listing.lines().filter_map(listed_file) {
            packages.owners.insert(path, name.into());
        }
    }
    Ok(packages)
}

/// The path in a line of `dpkg-deb --contents`, if it is a file or a link: `-rw-r--r-- root/root 12 2025-01-01 00:00 ./usr/x`.
fn listed_file(line: &str) -> Option<String> {
    if !line.starts_with(['-', 'l', 'h']) {
        return None;
    }
    let path = line.split_once(" ./")?.1;
    let path = path.split(" -> ").next()?.split(" link to ").next()?;
    Some(path.to_owned())
}

fn kernel_release(suite: &str, tree: &Path) -> Result<String, Error> {
    let dir = tree.join("usr/lib/modules");
    let mut releases: Vec<String> = fs::read_dir(&dir)
        .map_err(Error::file("list", &dir))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    releases.sort();
    releases.pop().ok_or_else(|| Error::Missing { suite: suite.into(), what: "kernel modules".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_links_of_a_package_are_listed_and_folders_are_not() {
        let lines = [
            "drwxr-xr-x root/root         0 2025-01-01 00:00 ./usr/",
            "-rwxr-xr-x root/root     81016 2025-01-01 00:00 ./usr/sbin/mkfs.fat",
            "lrwxrwxrwx root/root         0 2025-01-01 00:00 ./usr/sbin/mkfs.vfat -> mkfs.fat",
            "hrwxr-xr-x root/root         0 2025-01-01 00:00 ./usr/sbin/mkfs.ext4 link to ./usr/sbin/mke2fs",
        ];
        let listed: Vec<String> = lines.into_iter().filter_map(listed_file).collect();
        assert_eq!(listed, ["usr/sbin/mkfs.fat", "usr/sbin/mkfs.vfat", "usr/sbin/mkfs.ext4"]);
    }
}
