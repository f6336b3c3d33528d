//! The end of this system's run.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use nix::sys::reboot::{RebootMode, reboot};

/// How the machine is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// Start again from the firmware.
    Reboot,
    /// Switch off.
    PowerOff,
}

/// Writes out everything and stops the machine. Returns only if it cannot.
///
/// # Errors
/// Without the right to do it.
pub fn stop_machine(action: PowerAction) -> io::Error {
    nix::unistd::sync();
    let mode = match action {
        PowerAction::Reboot => RebootMode::RB_AUTOBOOT,
        PowerAction::PowerOff => RebootMode::RB_POWER_OFF,
    };
    match reboot(mode) {
        Err(error) => error.into(),
    }
}

/// A hardware watchdog: it resets the machine when it is not fed for a while (30 to 60 s with most drivers).
#[derive(Debug)]
pub struct Watchdog {
    device: fs::File,
}

impl Watchdog {
    /// Opens and thereby starts the watchdog. It goes on running when this value is dropped.
    ///
    /// # Errors
    /// Where there is none, or somebody else feeds it.
    pub fn open(device: &Path) -> io::Result<Self> {
        Ok(Self { device: fs::File::options().write(true).open(device)? })
    }

    /// Feeds it.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn feed(&mut self) -> io::Result<()> {
        self.device.write_all(b"\0")
    }
}
