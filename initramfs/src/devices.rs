//! Drivers: for the devices that are there, for those that come, and for what the kernel itself asks for.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use linux_io::modules::{ModuleError, ModuleIndex, ModuleLoader, device_modaliases};
use linux_io::uevent::{Uevent, UeventListener};

use crate::log::{self, uptime_ms};

/// A CPU's alias lists all it can do; so much of one tells which device it is.
const ALIAS_CHARS_SHOWN: usize = 60;

/// Loads drivers. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Drivers {
    loader: Arc<Mutex<ModuleLoader>>,
    changed_ms: Arc<AtomicU64>,
}

impl Drivers {
    /// For the running kernel. Without modules in the image nothing is ever loaded: a kernel may have all it needs
    /// built in.
    pub fn of_this_kernel() -> Self {
        let index = read_index().unwrap_or_else(|error| {
            log::line(&error);
            ModuleIndex::default()
        });
        Self { loader: Arc::new(Mutex::new(ModuleLoader::new(index))), changed_ms: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, ModuleLoader> {
        // A loader that panicked in mid-list has only left out modules.
        self.loader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a driver was loaded or a device came last, in milliseconds since the kernel's start. What a device has
    /// behind it may still be on its way for a while after that.
    pub fn changed_ms(&self) -> u64 {
        self.changed_ms.load(Ordering::Relaxed)
    }

    fn note_change(&self) {
        self.changed_ms.fetch_max(uptime_ms(), Ordering::Relaxed);
    }

    /// Loads what claims `wanted`, and logs it.
    pub fn load(&self, wanted: &str) {
        let (loaded, failed) = self.lock().load(wanted);
        if !loaded.is_empty() {
            self.note_change();
        }
        let alias: String = wanted.chars().take(ALIAS_CHARS_SHOWN).collect();
        if !loaded.is_empty() {
            log::line(&format!("loaded {} for {alias}", loaded.join(", ")));
        }
        let left_out: Vec<&str> = failed.iter().filter_map(ModuleError::left_out).collect();
        if !left_out.is_empty() {
            log::line(&format!("not in this image: {} for {alias}", left_out.join(", ")));
        }
        for error in failed.iter().filter(|error| error.left_out().is_none()) {
            let source = std::error::Error::source(error).map(|source| format!(": {source}"));
            let hint = error.hint().map(|hint| format!(" ({hint})"));
            log::line(&format!("{error}{}{}", source.unwrap_or_default(), hint.unwrap_or_default()));
        }
    }

    /// Loads drivers for every device there is. What a driver finds behind its device is told by the kernel later.
    pub fn load_for_all_devices(&self) {
        for alias in device_modaliases(Path::new("/sys")) {
            self.load(&alias);
        }
        self.note_change();
    }

    /// Loads drivers for devices that come, for ever.
    ///
    /// # Errors
    /// Where the kernel cannot be listened to.
    pub fn follow_devices(&self) -> std::io::Result<()> {
        let listener = UeventListener::open()?;
        let drivers = self.clone();
        thread::spawn(move || {
            loop {
                match listener.next_event() {
                    Ok(Some(event)) if event.action() == "add" || event.action() == "change" => {
                        if brings_device(&event) {
                            drivers.note_change();
                        }
                        if let Some(alias) = event.modalias() {
                            drivers.load(alias);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => drivers.load_for_all_devices(),
                    Err(error) => {
                        log::line(&format!("devices that come are no longer heard of: {error}"));
                        return;
                    }
                }
            }
        });
        Ok(())
    }
}

/// Whether something came that is a disk, or behind which one may be found.
fn brings_device(event: &Uevent) -> bool {
    event.action() == "add" && (event.modalias().is_some() || event.get("SUBSYSTEM") == Some("block"))
}

/// What the kernel runs when it wants a module itself, for a filesystem or a checksum: this program, as
/// `init -q -- NAME`. Returns whether all of it could be loaded.
pub fn load_as_modprobe(wanted: &str) -> bool {
    let Ok(index) = read_index() else { return false };
    let (_, failed) = ModuleLoader::new(index).load(wanted);
    for error in &failed {
        let source = std::error::Error::source(error).map(|source| format!(": {source}"));
        log::line(&format!("the kernel asked for {wanted}: {error}{}", source.unwrap_or_default()));
    }
    failed.is_empty()
}

fn read_index() -> Result<ModuleIndex, String> {
    let uname = nix::sys::utsname::uname().map_err(|error| format!("cannot ask for the kernel's release: {error}"))?;
    let root = PathBuf::from("/lib/modules").join(uname.release());
    ModuleIndex::read(&root).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_and_what_may_have_one_behind_it_put_off_the_moment_when_all_are_there() {
        let brings = |text: &str| brings_device(&Uevent::parse(text.replace(' ', "\0").as_bytes()));
        assert!(brings("ACTION=add SUBSYSTEM=block DEVTYPE=disk DEVNAME=sda"));
        assert!(brings("ACTION=add SUBSYSTEM=usb MODALIAS=usb:v0781p5583d0100dc00dsc00dp00ic08isc06ip50in00"));
        assert!(brings("ACTION=add SUBSYSTEM=scsi MODALIAS=scsi:t-0x00"));
        assert!(!brings("ACTION=change SUBSYSTEM=block DEVTYPE=disk DEVNAME=sr0"), "it was there before");
        assert!(!brings("ACTION=add SUBSYSTEM=module"), "no device");
        assert!(!brings("ACTION=remove SUBSYSTEM=block DEVNAME=sda"));
    }
}
