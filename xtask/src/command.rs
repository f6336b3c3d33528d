//! Starting programs, and where the workspace lies.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

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

/// As [`check`]; `each` line of standard output is shown to it, too.
pub(crate) fn check_reading(command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    let lines = BufReader::new(child.stdout.take().context("a pipe was asked for")?).lines();
    for line in lines {
        let line = line.with_context(|| format!("cannot read what {command:?} prints"))?;
        println!("{line}");
        each(&line);
    }
    let status = child.wait().with_context(|| format!("cannot wait for {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Whether this is root's.
pub(crate) fn is_root() -> Result<bool> {
    Ok(output(&["id", "-u"])?.trim() == "0")
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
