//! The programs that ship, built as they ship: static, optimised.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::command;

/// What the boot image and the nodes run on.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds `rerack`, `init`, `restore` and `restore-tui`, and says where they are.
pub(crate) fn build() -> Result<PathBuf> {
    command::run(&[
        "cargo",
        "build",
        "--quiet",
        "--release",
        "--target",
        TARGET,
        "--package",
        "rerack",
        "--package",
        "restore-engine",
        "--package",
        "restore-tui",
        "--package",
        "initramfs",
        "--bins",
    ])?;
    Ok(command::target_folder().join(TARGET).join("release"))
}

/// Builds the programs, and gives the command that has the QEMU framework do something with them.
pub(crate) fn scenarios(arguments: &[&str]) -> Result<Command> {
    let programs = build()?;
    let run = ["cargo", "run", "--quiet", "--package", "qemu-tests", "--"];
    let mut run = command::command(&[&run[..], arguments].concat());
    run.env("RERACK_PROGRAMS", programs);
    Ok(run)
}
