//! How processors are run: by the host's (KVM) or by translation (TCG).

use std::{fs, path::Path, time::Duration};

use crate::{BootFiles, Error, Lab};

/// How the guest's processors are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// By the host's processor.
    Kvm,
    /// By translation: slow, but it works everywhere.
    Tcg,
}

/// A kernel under working KVM gets here in a second or two.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a kernel without any root filesystem says last. Everything before it must have worked.
const PROBE_TEXT: &str = "Kernel panic - not syncing: VFS";

impl Acceleration {
    /// What was found earlier, from the cache.
    pub(crate) fn remembered(cache: &Path) -> Option<Self> {
        match fs::read_to_string(cache.join(PROBE_FILE)).ok()?.trim() {
            "kvm" => Some(Acceleration::Kvm),
            "tcg" => Some(Acceleration::Tcg),
            _ => None,
        }
    }

    /// Boots a kernel under KVM: the device file's presence proves nothing, a guest may hang all the same.
    pub(crate) fn probe(lab: &Lab) -> Result<Self, Error> {
        let works = Path::new("/dev/kvm").exists() && boots_under_kvm(lab)?;
        let (found, word) = if works { (Acceleration::Kvm, "kvm") } else { (Acceleration::Tcg, "tcg") };
        let path = lab.cache_dir().join(PROBE_FILE);
        fs::write(&path, word).map_err(Error::file("write", path))?;
        Ok(found)
    }
}

/// Remembers the probe's result; remove it to probe again.
const PROBE_FILE: &str = "acceleration";

fn boots_under_kvm(lab: &Lab) -> Result<bool, Error> {
    let kernel = lab.debian_kernel()?;
    let mut builder = lab.vm("kvm-probe").cpus(1).memory_mib(256);
    builder.machine.accel = Acceleration::Kvm;
    let started = builder.kernel(&BootFiles { initrd: None, ..kernel }, "console=ttyS0 panic=-1").start();
    // QEMU refuses to start where KVM is not permitted: that is an answer, too.
    let Ok(mut vm) = started else { return Ok(false) };
    Ok(vm.wait_for(PROBE_TEXT, PROBE_TIMEOUT).is_ok())
}
