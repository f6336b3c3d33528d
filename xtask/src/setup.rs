//! Installs what building and testing need.

use anyhow::{Context, Result, bail};

use crate::command;

/// Debian packages with the part that needs them.
const PACKAGES: &[(&str, &[&str])] = &[
    ("static C code (zstd, SQLite, ring) for the musl target", &["gcc", "musl-tools"]),
    ("the real tools that the format is tested against", &["zstd", "tar", "libarchive-tools", "busybox-static"]),
    (
        "making and reading filesystems and partition tables",
        &["e2fsprogs", "xfsprogs", "dosfstools", "mtools", "gdisk", "fdisk", "util-linux", "attr"],
    ),
    (
        "boot image",
        &[
            "mmdebstrap",
            "debian-archive-keyring",
            // mmdebstrap tells by it which keys a suite is signed with.
            "gpg",
            "xorriso",
        ],
    ),
    ("virtual machines", &["qemu-system-x86", "ovmf"]),
    ("looking at the server from outside", &["curl", "strace"]),
];

/// Cargo tools, with the command that shows that one is there.
const CARGO_TOOLS: &[(&str, &[&str])] =
    &[("cargo-nextest", &["cargo", "nextest", "--version"]), ("cargo-deny", &["cargo", "deny", "--version"])];

pub(crate) fn run() -> Result<()> {
    packages()?;
    command::run(&["rustup", "target", "add", "x86_64-unknown-linux-musl"])
        .context("cannot install the static target; is rustup there?")?;
    for (tool, probe) in CARGO_TOOLS {
        if !command::succeeds(probe) {
            command::run(&["cargo", "install", "--locked", tool])?;
        }
    }
    Ok(())
}

/// Whether dpkg has `package` installed.
fn is_installed(package: &str) -> bool {
    command::output(&["dpkg-query", "-W", "-f", "${db:Status-Status}", package])
        .is_ok_and(|status| status == "installed")
}

fn packages() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().flat_map(|(_, names)| names.iter().copied()).filter(|package| !is_installed(package)).collect();
    install(&missing)
}

/// Sees to it that `program` is there, from the Debian package `package` if need be.
pub(crate) fn ensure(program: &str, package: &str) -> Result<()> {
    let is_there = || command::succeeds(&["sh", "-c", "command -v \"$1\"", "sh", program]);
    if !is_there() {
        install(&[package])?;
    }
    if !is_there() {
        bail!("{program} is not there");
    }
    Ok(())
}

/// Installs Debian packages, if there are any.
pub(crate) fn install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    // What a task prints for programs goes to standard output.
    eprintln!("installing {}", missing.join(" "));
    let sudo: &[&str] = if command::is_root()? { &[] } else { &["sudo"] };
    let apt = [sudo, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]].concat();
    command::run(&[&apt[..], &["update", "--quiet=2"]].concat())?;
    let install = [&apt[..], &["install", "--yes", "--quiet=2", "--no-install-recommends"], missing].concat();
    // A qemu-utils from backports breaks the release's qemu-system; the release's own goes with it.
    let utils = qemu_utils_beside_system();
    let extra: Vec<&str> = utils.iter().flat_map(|package| ["--allow-downgrades", package.as_str()]).collect();
    command::run(&[&install[..], &extra[..]].concat())
}

/// `qemu-utils=VERSION` of the qemu-system that will be installed, where another qemu-utils is installed now.
fn qemu_utils_beside_system() -> Option<String> {
    let policy = command::output(&["apt-cache", "policy", "qemu-system-x86"]).ok()?;
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    let installed = command::output(&["dpkg-query", "-W", "-f", "${Version}", "qemu-utils"]).ok()?;
    (!installed.is_empty() && installed != candidate).then(|| format!("qemu-utils={candidate}"))
}
