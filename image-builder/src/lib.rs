//! Builds the boot image: one ISO that starts every machine, by BIOS and by UEFI, Secure Boot included.
//!
//! Everything in it comes from Debian's archive (a signed kernel, its modules, the real tools) and from the static
//! programs that the caller hands in. It holds no secret. What went in is listed in an inventory, beside the image and
//! in it.
//!
//! Programs of the host that this needs: `mmdebstrap` (with `dpkg`), `tar`, `xorriso`, `mformat` and `mcopy` (mtools).
//! Everything else, GRUB's tools included, is taken from Debian's archive and run from there.

mod base;
mod cpio_archive;
mod elf;
mod error;
mod initramfs;
mod inventory;
mod media;
mod modules;
mod profile;
mod program;
mod recipe;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use error::Error;
pub use inventory::{FileRecord, Inventory, PackageRecord};
pub use profile::Profile;

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct IsoOptions {
    /// The static PID 1.
    pub init: PathBuf,
    /// The static engine.
    pub restore: PathBuf,
    /// The static screens.
    pub restore_tui: PathBuf,
    /// Debian's release, such as `trixie`.
    pub suite: String,
    /// Which hardware it knows.
    pub profile: Profile,
    /// More kernel arguments, separated by blanks: the defaults of this image.
    pub kernel_args: String,
    /// Where what Debian ships is kept between builds.
    pub cache_dir: PathBuf,
    /// The ISO to write. The inventory is written beside it, as `<out>.json`.
    pub out: PathBuf,
    /// The time of everything in the image, in seconds since 1970: the same inputs make the same bytes.
    pub source_date_epoch: u64,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsoReport {
    /// The ISO.
    pub iso: PathBuf,
    /// Its size.
    pub iso_bytes: u64,
    /// The size of the compressed initramfs in it.
    pub initramfs_bytes: u64,
    /// The kernel's release.
    pub kernel_release: String,
    /// How many kernel modules it holds.
    pub modules: usize,
    /// The inventory.
    pub inventory: PathBuf,
}

/// Builds the ISO. The first build for a suite fetches some 100 MB from Debian; later ones take seconds.
///
/// # Errors
/// When a program of the host is missing or fails, when a given program is not static, or when a module of the
/// profile does not exist in this kernel.
pub fn build_iso(options: &IsoOptions) -> Result<IsoReport, Error> {
    media::check_kernel_args(&options.kernel_args)?;
    let base = base::Base::prepare(&options.suite, &options.cache_dir)?;
    let selection = modules::select(&base, options.profile)?;
    let mut archive = initramfs::assemble(&base, &selection, options)?;
    let inventory = inventory::take(&base, &selection, &archive, options)?;
    let text = inventory.to_json();
    archive.file("usr/share/rerack/inventory.json", 0o644, text.clone().into_bytes());
    let initramfs = archive.compressed(options.source_date_epoch)?;
    media::write(&base, &initramfs, options)?;

    let beside = inventory_path(&options.out);
    fs::write(&beside, text).map_err(Error::file("write", &beside))?;
    let iso_bytes = fs::metadata(&options.out).map_err(Error::file("read", &options.out))?.len();
    Ok(IsoReport {
        iso: options.out.clone(),
        iso_bytes,
        initramfs_bytes: initramfs.len() as u64,
        kernel_release: base.kernel_release,
        modules: selection.files.len(),
        inventory: beside,
    })
}

fn inventory_path(iso: &Path) -> PathBuf {
    let mut name = iso.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}
