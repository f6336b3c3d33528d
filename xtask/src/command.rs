//! Starting programs, and where the workspace lies.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub(crate) fn workspace_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| workspace_root().join("target"))
}

/// `argv` as a command that runs in the workspace's root.
pub(crate) fn command(argv: &[&str]) -> Command {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).current_dir(workspace_root());
    command
}

/// Runs `argv`, its output going to this terminal; anything but success is an error.
pub(crate) fn run(argv: &[&str]) -> Result<()> {
    check(&mut command(argv))
}

/// Runs `command`, its output going to this terminal; anything but success is an error.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// What `argv` prints on standard output.
pub(crate) fn output(argv: &[&str]) -> Result<String> {
    let output = command(argv).output().with_context(|| format!("cannot start {}", argv[0]))?;
    if !output.status.success() {
        bail!("{}: {}: {}", argv.join(" "), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `argv` can be started and succeeds, whatever it prints.
pub(crate) fn succeeds(argv: &[&str]) -> bool {
    command(argv).output().is_ok_and(|output| output.status.success())
}
