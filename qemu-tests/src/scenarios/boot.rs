//! Machines boot: the framework's own proof, the prepared nodes, the boot image.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{NO_PROGRAMS, Outcome};
use crate::{BootFiles, Disk, Error, Firmware, Guest, Lab, Node, NodeRecipe, Programs, VmBuilder, cpio_of, host};

/// Under translation on busy cores.
const BOOT_TIMEOUT: Duration = Duration::from_secs(900);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(600);

/// A PID 1 that greets, reads a line, says it back and powers off.
const ECHO_INIT: &str = r#"
use std::io::{Read, Write};
fn main() {
    let mut console = std::fs::OpenOptions::new().read(true).write(true).open("/dev/console").unwrap();
    writeln!(console, "init is up").unwrap();
    let mut line = Vec::new();
    let mut byte = [0u8];
    while console.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' { line.push(byte[0]); }
    writeln!(console, "heard {}", String::from_utf8_lossy(&line)).unwrap();
    // The end of PID 1 is a panic, and panic=-1 a reboot, which ends the machine.
}
"#;

pub(super) fn kernel_to_init(lab: &Lab) -> Result<Outcome, Error> {
    let Some(init) = compile_static(lab, "echo-init", ECHO_INIT)? else {
        return Ok(Outcome::Skipped("rustc cannot build for x86_64-unknown-linux-musl".into()));
    };
    let content = std::fs::read(&init).map_err(Error::file("read", &init))?;
    let initrd = lab.run_dir().join("echo-init.cpio");
    std::fs::write(&initrd, cpio_of(&[("init", &content)])).map_err(Error::file("write", &initrd))?;
    let files = BootFiles { initrd: Some(initrd), ..lab.debian_kernel()? };
    let mut vm = lab.vm("kernel-to-init").memory_mib(256).kernel(&files, "console=ttyS0 panic=-1 quiet").start()?;
    vm.wait_for("init is up", BOOT_TIMEOUT)?;
    vm.type_line("good morning")?;
    vm.wait_for("heard good morning", COMMAND_TIMEOUT)?;
    vm.wait_off(COMMAND_TIMEOUT)?;
    Ok(Outcome::Passed)
}

/// Builds a small static program with the toolchain that built this one.
fn compile_static(lab: &Lab, name: &str, source: &str) -> Result<Option<PathBuf>, Error> {
    let (code, program) = (lab.run_dir().join(format!("{name}.rs")), lab.run_dir().join(name));
    std::fs::write(&code, source).map_err(Error::file("write", &code))?;
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "--target=x86_64-unknown-linux-musl", "-Copt-level=s", "-Cstrip=symbols", "-o"]);
    match host::finish("rustc", rustc.arg(&program).arg(&code)) {
        Ok(_) => Ok(Some(program)),
        Err(Error::Spawn { .. } | Error::Program { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn node_bios(lab: &Lab) -> Result<Outcome, Error> {
    let node = Node::prepare(lab, NodeRecipe::small())?;
    let disk = node.copy_disk(lab, "node-bios")?;
    let mut vm = node.machine(lab, "node-bios", &disk).start()?;
    healthy(lab, Guest::login(&mut vm, BOOT_TIMEOUT)?)
}

pub(super) fn node_uefi(lab: &Lab) -> Result<Outcome, Error> {
    let node = Node::prepare(lab, NodeRecipe::small_uefi())?;
    let disk = node.copy_disk(lab, "node-uefi")?;
    let mut vm = node.machine(lab, "node-uefi", &disk).start()?;
    let mut guest = Guest::login(&mut vm, BOOT_TIMEOUT)?;
    let entries = guest.expect("efibootmgr", COMMAND_TIMEOUT)?;
    if !entries.to_lowercase().contains("debian") {
        return Err(Error::Unexpected(format!("no NVRAM entry of Debian:\n{entries}")));
    }
    healthy(lab, guest)
}

/// The network is up, nothing has failed, the awkward files are there.
fn healthy(lab: &Lab, mut guest: Guest<'_>) -> Result<Outcome, Error> {
    lab.say(&format!("login {:.1} s after power-on", guest.vm().uptime().as_secs_f32()));
    let state = guest.run("systemctl is-system-running --wait", BOOT_TIMEOUT)?.text;
    if state != "running" {
        let failed = guest.run("systemctl --failed --no-legend", COMMAND_TIMEOUT)?.text;
        return Err(Error::Unexpected(format!("the system is {state}:\n{failed}")));
    }
    guest.expect("ip -4 -o address show dev eth0 | grep -q 10.0.2.15", COMMAND_TIMEOUT)?;
    guest.expect("grep -q ' /srv xfs ' /proc/mounts && swapon --noheadings --show | grep -q .", COMMAND_TIMEOUT)?;
    guest.expect("getcap /var/lib/awkward/attributes/capable | grep -q cap_net_raw", COMMAND_TIMEOUT)?;
    let program = std::env::current_exe().map_err(Error::file("find", "this program"))?;
    guest.put(&program, "/usr/local/bin/copied", "755")?;
    let ours = host::run("sha256sum", [&program])?;
    let theirs = guest.expect("sha256sum /usr/local/bin/copied", COMMAND_TIMEOUT)?;
    if ours.split(' ').next() != theirs.split(' ').next() {
        return Err(Error::Unexpected(format!("a copied file differs: {ours} and {theirs}")));
    }
    guest.power_off(BOOT_TIMEOUT)?;
    Ok(Outcome::Passed)
}

/// As a USB stick: the image is the disk.
pub(super) fn iso_as_disk(lab: &Lab) -> Result<Outcome, Error> {
    iso(lab, |iso| {
        let stick = lab.copy_disk(iso, "iso-as-disk.img")?;
        Ok(lab.vm("iso-as-disk").disk(Disk::new(stick)))
    })
}

pub(super) fn iso_uefi_secure_boot(lab: &Lab) -> Result<Outcome, Error> {
    iso(lab, |iso| Ok(lab.vm("iso-uefi-secure-boot").firmware(Firmware::UefiSecureBoot).cdrom(iso)))
}

/// The boot image's own init puts a screen on the serial line; what it says then belongs to other scenarios.
fn iso(lab: &Lab, machine: impl FnOnce(&Path) -> Result<VmBuilder, Error>) -> Result<Outcome, Error> {
    let Some(programs) = Programs::from_environment() else {
        return Ok(Outcome::Skipped(NO_PROGRAMS.into()));
    };
    let iso = programs.iso(lab)?;
    let mut vm = machine(&iso)?.start()?;
    vm.wait_for_screen("rerack |", BOOT_TIMEOUT)?;
    lab.say(&format!("first screen {:.1} s after power-on", vm.uptime().as_secs_f32()));
    Ok(Outcome::Passed)
}
