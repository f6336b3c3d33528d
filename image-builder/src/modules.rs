//! Which kernel modules go into the image: the profile's, and all that they need.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use crate::{Error, Profile, base::Base, program};

/// The modules of an image and the indexes over exactly these.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Module files, as paths in the tree.
    pub(crate) files: BTreeSet<String>,
    /// Index files of the modules folder: name and content.
    pub(crate) indexes: BTreeMap<String, Vec<u8>>,
    /// Firmware that these modules may ask for at run time; none of it is in the image.
    pub(crate) firmware_wanted: BTreeSet<String>,
}

/// Selects the profile's modules with everything they need.
pub(crate) fn select(base: &Base, profile: Profile) -> Result<Selection, Error> {
    let dir = base.modules_dir();
    let text = |name: &str| Ok(String::from_utf8_lossy(&base.read(&format!("{dir}/{name}"))?).into_owned());
    let catalog = Catalog::parse(
        &text("modules.dep")?,
        &text("modules.softdep")?,
        &text("modules.alias")?,
        &text("modules.builtin")?,
    );
    let mut relative = BTreeSet::new();
    for (module, why) in profile.modules()? {
        if !catalog.add(&module, &mut relative) {
            return Err(Error::ModuleMissing { release: base.kernel_release.clone(), module, why });
        }
    }
    let firmware_wanted = firmware_wanted(base, &relative)?;
    let indexes = index(base, &relative)?;
    let files = relative.into_iter().map(|path| format!("{dir}/{path}")).collect();
    Ok(Selection { files, indexes, firmware_wanted })
}

/// What the kernel's own lists say about its modules.
#[derive(Debug, Default)]
struct Catalog {
    /// Module name to its file and the files it depends on.
    files: BTreeMap<String, (String, Vec<String>)>,
    /// Module name to the names that should be there before or after it.
    companions: BTreeMap<String, Vec<String>>,
    /// Alias (without wildcards) to modules.
    aliases: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
}

/// `kernel/fs/xfs/xfs.ko.xz` to `xfs`; a hyphen is an underscore to the kernel.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

impl Catalog {
    fn parse(dep: &str, softdep: &str, alias: &str, builtin: &str) -> Self {
        let mut catalog = Catalog::default();
        for (file, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            catalog.files.insert(module_name(file), (file.to_owned(), needs));
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            let names = words.filter(|word| !word.ends_with(':')).map(str::to_owned);
            catalog.companions.entry(module.replace('-', "_")).or_default().extend(names);
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            let (Some("alias"), Some(name), Some(module)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            if !name.contains(['*', '?', '[']) {
                catalog.aliases.entry(name.replace('-', "_")).or_default().push(module.to_owned());
            }
        }
        catalog.builtin = builtin.lines().map(module_name).collect();
        catalog
    }

    /// Adds a module and what it needs. False when neither a file nor the kernel itself has it.
    fn add(&self, name: &str, into: &mut BTreeSet<String>) -> bool {
        let name = name.replace('-', "_");
        let Some((file, needs)) = self.files.get(&name) else { return self.builtin.contains(&name) };
        for path in std::iter::once(file).chain(needs) {
            if !into.insert(path.clone()) {
                continue;
            }
            for companion in self.companions.get(&module_name(path)).into_iter().flatten() {
                // A companion is a wish: what this kernel does not have is left out.
                self.add_companion(companion, into);
            }
        }
        true
    }

    fn add_companion(&self, name: &str, into: &mut BTreeSet<String>) {
        if self.add(name, into) {
            return;
        }
        for module in self.aliases.get(&name.replace('-', "_")).into_iter().flatten() {
            self.add(module, into);
        }
    }
}

/// The indexes that init and busybox read. The binary ones are for kmod, which is not in the image.
const INDEXES: [&str; 4] = ["modules.alias", "modules.builtin", "modules.dep", "modules.softdep"];

/// Has the kernel's own tool write the indexes over the selected modules alone.
fn index(base: &Base, modules: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let stage = tempfile::tempdir().map_err(Error::file("make a folder in", std::env::temp_dir()))?;
    let dir = stage.path().join(base.modules_dir());
    let source = base.tree.join(base.modules_dir());
    let given = ["modules.order", "modules.builtin", "modules.builtin.modinfo"].map(str::to_owned);
    for path in modules.iter().chain(&given) {
        let to = dir.join(path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
        }
        fs::copy(source.join(path), &to).map_err(Error::file("copy", source.join(path)))?;
    }
    let lib = stage.path().join("lib");
    std::os::unix::fs::symlink("usr/lib", &lib).map_err(Error::file("link", &lib))?;
    let mut depmod = base.command("usr/bin/kmod", "depmod");
    program::run("depmod", depmod.arg("-b").arg(stage.path()).arg(&base.kernel_release))?;

    let mut indexes = BTreeMap::new();
    for name in INDEXES {
        let path = dir.join(name);
        indexes.insert(name.to_owned(), fs::read(&path).map_err(Error::file("read", path))?);
    }
    Ok(indexes)
}

fn firmware_wanted(base: &Base, modules: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
    let dir = base.tree.join(base.modules_dir());
    let mut modinfo: Command = base.command("usr/bin/kmod", "modinfo");
    modinfo.args(["-F", "firmware"]).args(modules.iter().map(|path| dir.join(path)));
    Ok(program::run("modinfo", &mut modinfo)?.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        Catalog::parse(
            "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz\n\
             kernel/fs/jbd2/jbd2.ko.xz:\n\
             kernel/fs/mbcache.ko.xz:\n\
             kernel/crypto/crc32c_generic.ko.xz:\n\
             kernel/arch/x86/crypto/crc32c-intel.ko.xz:\n\
             kernel/block/xen-blkfront.ko.xz:\n",
            "# Soft dependencies\nsoftdep jbd2 pre: crypto-crc32c\nsoftdep ext4 pre: not-in-this-kernel\n",
            "alias crypto-crc32c crc32c_intel\nalias crypto-crc32c crc32c_generic\nalias pci:v00001AF4d* virtio_pci\n",
            "kernel/drivers/virtio/virtio_pci.ko\n",
        )
    }

    #[test]
    fn a_module_brings_what_it_depends_on_and_what_its_dependencies_wish_for() {
        let mut files = BTreeSet::new();
        assert!(catalog().add("ext4", &mut files));
        let names: Vec<String> = files.iter().map(|path| module_name(path)).collect();
        assert_eq!(names, ["crc32c_intel", "crc32c_generic", "ext4", "jbd2", "mbcache"]);
    }

    #[test]
    fn hyphens_and_underscores_are_the_same() {
        for name in ["xen-blkfront", "xen_blkfront"] {
            let mut files = BTreeSet::new();
            assert!(catalog().add(name, &mut files));
            assert!(files.contains("kernel/block/xen-blkfront.ko.xz"));
        }
    }

    #[test]
    fn what_the_kernel_has_built_in_needs_no_file_and_what_it_lacks_is_told() {
        let mut files = BTreeSet::new();
        assert!(catalog().add("virtio_pci", &mut files) && files.is_empty());
        assert!(!catalog().add("zfs", &mut files));
    }
}
