//! Kernel modules: which one drives a device, what it needs, and handing it to the kernel.
//!
//! The files below `/lib/modules/RELEASE` that `depmod` wrote are read as they are; no `modprobe` is needed.
//! Compressed modules are handed to the kernel compressed: it unpacks them itself where it was built to.

mod index;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

pub use index::ModuleIndex;

/// `MODULE_INIT_COMPRESSED_FILE` of the kernel's `uapi/linux/module.h`, which nix does not name yet.
const COMPRESSED_FILE: nix::libc::c_uint = 4;

/// The deepest directory below `/sys/devices` that is looked into: a bound against loops, far above what buses nest.
const SYSFS_DEPTH_MAX: usize = 64;

/// Why a module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A file of the index could not be read.
    #[error("cannot read {path}")]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the index is larger than any real one.
    #[error("{path} is larger than {limit} bytes")]
    IndexTooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// The module's file could not be opened.
    #[error("cannot open the module {module} at {path}")]
    Open {
        /// The module.
        module: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused the module.
    #[error("the kernel refuses the module {module}")]
    Refused {
        /// The module.
        module: String,
        /// Why.
        source: Errno,
    },
}

impl ModuleError {
    /// The module, if it is one that this image was built without. Most machines have devices that a restore does
    /// not need.
    pub fn left_out(&self) -> Option<&str> {
        match self {
            Self::Open { module, source, .. } if source.kind() == io::ErrorKind::NotFound => Some(module),
            _ => None,
        }
    }

    /// What to do about it, for operators.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Index { .. } | Self::IndexTooLarge { .. } => {
                Some("the modules do not belong to the running kernel: build the image again")
            }
            Self::Open { .. } => Some("the image lacks this module: build it with a larger profile"),
            Self::Refused { source: Errno::ENOEXEC | Errno::EKEYREJECTED, .. } => Some(
                "the module was built for another kernel, is unsigned under Secure Boot, or is compressed in a way this kernel cannot unpack",
            ),
            Self::Refused { .. } => None,
        }
    }
}

/// Loads modules, each once.
#[derive(Debug)]
pub struct ModuleLoader {
    index: ModuleIndex,
    tried: BTreeSet<String>,
}

impl ModuleLoader {
    /// A loader for the modules of `index`.
    pub fn new(index: ModuleIndex) -> Self {
        Self { index, tried: BTreeSet::new() }
    }

    /// Loads every module that claims `wanted`: a module's name, an alias of one, or a device's modalias; what they
    /// need goes first. A module that was tried before is not tried again. Returns the names loaded now and what
    /// went wrong; one module's failure does not keep others from being loaded.
    pub fn load(&mut self, wanted: &str) -> (Vec<String>, Vec<ModuleError>) {
        let (mut loaded, mut failed) = (Vec::new(), Vec::new());
        let modules: Vec<String> = self.index.resolve(wanted).into_iter().map(str::to_owned).collect();
        for module in modules {
            for name in self.index.load_order(&module) {
                if !self.tried.insert(name.clone()) {
                    continue;
                }
                let Some(path) = self.index.path(&name) else { continue };
                match insert(&name, &path) {
                    Ok(true) => loaded.push(name),
                    Ok(false) => {}
                    Err(error) => failed.push(error),
                }
            }
        }
        (loaded, failed)
    }

    /// Forgets what failed or was loaded, so that it is tried again.
    pub fn forget(&mut self) {
        self.tried.clear();
    }
}

/// Hands one module to the kernel; `false` if it was there already or has nothing to do on this machine.
fn insert(module: &str, path: &Path) -> Result<bool, ModuleError> {
    let file = File::open(path).map_err(|source| ModuleError::Open {
        module: module.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let compressed = path.extension().is_some_and(|extension| extension != "ko");
    let flags = if compressed { ModuleInitFlags::from_bits_retain(COMPRESSED_FILE) } else { ModuleInitFlags::empty() };
    match finit_module(&file, &CString::default(), flags) {
        Ok(()) => Ok(true),
        // ENODEV: a driver that looked for its device and found none, such as a CPU's frequency driver.
        Err(Errno::EEXIST | Errno::ENODEV) => Ok(false),
        Err(source) => Err(ModuleError::Refused { module: module.to_owned(), source }),
    }
}

/// The modalias of every device that `sysfs` (`/sys`) shows, each once.
pub fn device_modaliases(sysfs: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![(sysfs.join("devices"), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        // Devices come and go while sysfs is walked: what cannot be read is gone.
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < SYSFS_DEPTH_MAX {
                waiting.push((entry.path(), depth + 1));
            } else if kind.is_file()
                && entry.file_name() == "modalias"
                && let Ok(alias) = fs::read_to_string(entry.path())
                && !alias.trim().is_empty()
            {
                found.insert(alias.trim().to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_below_sysfs_is_found_once() {
        let sys = tempfile::tempdir().unwrap();
        for (path, alias) in [
            ("devices/pci0000:00/0000:00:03.0", "pci:v00001AF4d00001000\n"),
            ("devices/pci0000:00/0000:00:04.0", "pci:v00001AF4d00001000\n"),
            ("devices/pci0000:00/0000:00:04.0/virtio1", "virtio:d00000002v00001AF4\n"),
            ("devices/platform/empty", "\n"),
        ] {
            let directory = sys.path().join(path);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("modalias"), alias).unwrap();
        }
        std::os::unix::fs::symlink("..", sys.path().join("devices/platform/subsystem")).unwrap();
        let found = device_modaliases(sys.path());
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["pci:v00001AF4d00001000", "virtio:d00000002v00001AF4"]);
    }

    #[test]
    fn a_module_that_is_missing_from_the_image_is_named_once() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("modules.dep"), "kernel/a.ko.xz:\n").unwrap();
        let mut loader = ModuleLoader::new(ModuleIndex::read(root.path()).unwrap());
        let (loaded, failed) = loader.load("a");
        assert!(loaded.is_empty());
        assert_eq!(failed.len(), 1);
        assert!(failed[0].to_string().starts_with("cannot open the module a at "), "{}", failed[0]);
        assert!(failed[0].hint().is_some());
        assert_eq!(failed[0].left_out(), Some("a"));
        assert!(loader.load("a").1.is_empty(), "tried once");
        loader.forget();
        assert_eq!(loader.load("a").1.len(), 1, "and again when asked");
    }
}
