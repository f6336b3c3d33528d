//! What went into an image: every file with its hash, every package with its version.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Error, IsoOptions,
    base::Base,
    cpio_archive::{Archive, Entry},
    modules::Selection,
};

/// What went into an image. Lies beside it as JSON, and in it at `/usr/share/rerack/inventory.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Version of this document.
    pub version: u32,
    /// Debian's release.
    pub suite: String,
    /// Which hardware the image knows.
    pub profile: String,
    /// The kernel's release.
    pub kernel_release: String,
    /// The defaults baked into the image.
    pub kernel_args: String,
    /// Packages of which at least one file is in the image.
    pub packages: Vec<PackageRecord>,
    /// Every file of the initramfs but this one.
    pub files: Vec<FileRecord>,
    /// Firmware that the drivers in the image may ask for at run time; the image holds none.
    pub firmware_not_included: BTreeSet<String>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRecord {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// BLAKE3 of the package file.
    pub blake3: String,
    /// Where its licence stands on every Debian system that has it, and in the package.
    pub licence: String,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path in the initramfs, or `/media/...` for a file that is on the disc beside it.
    pub path: String,
    /// Bytes.
    pub size_bytes: u64,
    /// BLAKE3 of its content.
    pub blake3: String,
    /// The package that it is from; none for our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

const VERSION: u32 = 1;

/// Files of the base that are on the disc beside the initramfs, besides the kernel.
pub(crate) const MEDIA_FILES: [&str; 4] = [
    "usr/lib/shim/shimx64.efi.signed",
    "usr/lib/shim/mmx64.efi.signed",
    "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
    "usr/lib/grub/i386-pc/boot_hybrid.img",
];

/// Takes the inventory of an image.
pub(crate) fn take(
    base: &Base,
    selection: &Selection,
    archive: &Archive,
    options: &IsoOptions,
) -> Result<Inventory, Error> {
    let mut files = Vec::new();
    let mut record = |path: String, content: &[u8], source: &str| {
        let package = base.packages.owners.get(source).cloned();
        let blake3 = blake3::hash(content).to_hex().to_string();
        files.push(FileRecord { path, size_bytes: content.len() as u64, blake3, package });
    };
    for (path, entry) in archive.entries() {
        if let Entry::File { content, .. } = entry {
            record(format!("/{path}"), content, path);
        }
    }
    let kernel = format!("boot/vmlinuz-{}", base.kernel_release);
    for path in MEDIA_FILES.into_iter().chain([kernel.as_str()]) {
        record(format!("/media/{path}"), &base.read(path)?, path);
    }
    let mut packages = BTreeMap::new();
    for name in files.iter().filter_map(|file| file.package.as_deref()) {
        if let Some(facts) = base.packages.versions.get(name) {
            packages.entry(name.to_owned()).or_insert_with(|| PackageRecord {
                name: name.into(),
                version: facts.version.clone(),
                blake3: facts.blake3.clone(),
                licence: format!("/usr/share/doc/{name}/copyright"),
            });
        }
    }
    Ok(Inventory {
        version: VERSION,
        suite: base.suite.clone(),
        profile: options.profile.name().into(),
        kernel_release: base.kernel_release.clone(),
        kernel_args: options.kernel_args.clone(),
        packages: packages.into_values().collect(),
        files,
        firmware_not_included: selection.firmware_wanted.clone(),
    })
}

impl Inventory {
    /// The document, one item a line.
    pub(crate) fn to_json(&self) -> String {
        // Strings and numbers only: this cannot fail.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }
}
