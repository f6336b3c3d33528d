//! The programs that ship, built as they ship: static, optimised.

use std::path::PathBuf;

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

/// Has the QEMU framework do something with the built programs.
pub(crate) fn scenarios(arguments: &[&str]) -> Result<()> {
    let programs = build()?;
    let run = ["cargo", "run", "--quiet", "--package", "qemu-tests", "--"];
    command::check(command::command(&[&run[..], arguments].concat()).env("RERACK_PROGRAMS", programs))
}
