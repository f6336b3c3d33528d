//! The log of this boot, `/run/rerack/log`: PID 1's lines and whatever the engine and the screens print.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Where PID 1 keeps what it tells and is told.
pub const RUN_DIR: &str = "/run/rerack";
/// The log.
pub const LOG: &str = "/run/rerack/log";

/// Milliseconds since the kernel's start.
pub fn uptime_ms() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from);
    now.map_or(0, |now| now.as_millis() as u64)
}

/// Opens the log to append to it.
///
/// # Errors
/// Before `/run` is mounted, or when its memory is full.
pub fn open() -> std::io::Result<File> {
    File::options().append(true).create(true).open(Path::new(LOG))
}

/// Writes a line with its time. There is nobody to tell if that fails.
pub fn line(text: &str) {
    let at_ms = uptime_ms();
    if let Ok(mut log) = open() {
        let _ = writeln!(log, "[{:>5}.{:03}] init: {text}", at_ms / 1000, at_ms % 1000);
    }
}
