//! The whole way: a node is captured, lost, and comes back on another machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Outcome;
use crate::{
    BootFirst, BundleServer, Disk, Error, Firmware, Guest, Lab, Net, Node, NodeRecipe, Programs, VmBuilder, host,
};

/// Under translation on busy cores.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
const CAPTURE_TIMEOUT: Duration = Duration::from_secs(600);
const RESTORE_TIMEOUT: Duration = Duration::from_secs(900);
const SCREEN_TIMEOUT: Duration = Duration::from_secs(120);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// The replacement's disk is another one and larger.
const NEW_DISK_BYTES: u64 = 4 << 30;
const NEW_SERIAL: &str = "NEW-77A1B2C3";
const NEW_MAC: &str = "52:54:00:bb:00:09";

/// What differs between two moments of a running node, and so between the node and its restored self.
const LIVE_PATHS: &str = "-path /var/log -o -path /var/tmp -o -path /tmp -o -path /var/lib/systemd -o -path /run \
                          -o -path /var/cache -o -path /root/rerack -o -path /etc/resolv.conf \
                          -o -path /etc/systemd/network -o -path /etc/network";

/// A captured node, its server, and what is needed to bring it back.
struct Lost {
    lab_run: PathBuf,
    node: Node,
    server: BundleServer,
    iso: PathBuf,
    /// What the node said of itself before it was lost.
    before: Portrait,
}

/// What a node says of itself: two of them are compared.
#[derive(Debug, PartialEq, Eq)]
struct Portrait {
    host_name: String,
    machine_id: String,
    state: String,
    failed_units: String,
    block_ids: String,
    files: String,
}

impl Lost {
    /// Boots a node, captures it while it runs, and destroys it.
    fn capture(lab: &Lab, programs: &Programs, recipe: NodeRecipe, name: &str) -> Result<Self, Error> {
        let iso = programs.iso(lab.run_dir(), lab.cache_dir())?;
        let directory = lab.run_dir().join(format!("{name}.repository"));
        if directory.exists() {
            std::fs::remove_dir_all(&directory).map_err(Error::file("remove", &directory))?;
        }
        let server = BundleServer::start(programs, &directory)?;
        let node = Node::prepare(lab, recipe)?;
        let host_name = node.recipe.hostname.clone();
        let node_file = server.directory().with_extension(format!("{host_name}.node"));
        if node_file.exists() {
            std::fs::remove_file(&node_file).map_err(Error::file("remove", &node_file))?;
        }
        let node_file = server.node_add(&host_name)?;
        let disk = node.copy_disk(lab, name)?;
        let mut vm = node.machine(lab, name, &disk).start()?;
        let mut guest = Guest::login(&mut vm, BOOT_TIMEOUT)?;
        guest.run("systemctl is-system-running --wait", BOOT_TIMEOUT)?;
        guest.put(&programs.rerack(), "/root/rerack", "755")?;
        guest.put(&node_file, "/etc/rerack-node", "600")?;
        let begun = Instant::now();
        let said = guest.expect("/root/rerack capture --node-file /etc/rerack-node 2>&1", CAPTURE_TIMEOUT)?;
        println!("        captured in {:.1} s", begun.elapsed().as_secs_f32());
        println!("        {}", said.lines().last().unwrap_or_default());
        let before = Portrait::take(&mut guest)?;
        guest.power_off(BOOT_TIMEOUT)?;
        std::fs::remove_file(&disk.path).map_err(Error::file("remove", &disk.path))?;
        Ok(Self { lab_run: lab.run_dir().to_owned(), node, server, iso, before })
    }

    /// The machine that takes the node's place: another disk, another network card.
    fn replacement(&self, lab: &Lab, name: &str) -> Result<(VmBuilder, PathBuf), Error> {
        let path = self.lab_run.join(format!("{name}.img"));
        let disk = Disk::create(&path, NEW_DISK_BYTES)?.serial(NEW_SERIAL);
        Ok((self.machine(lab, name, disk), path))
    }

    fn machine(&self, lab: &Lab, name: &str, disk: Disk) -> VmBuilder {
        lab.vm(name)
            .firmware(self.node.recipe.firmware())
            .memory_mib(768)
            .smbios("6f1d5a6e-0000-4000-8000-0000000000ff", "REPLACEMENT-1")
            .disk(disk)
            .net(Net::user(NEW_MAC))
    }

    /// Boots the restored disk and compares the node with what it was.
    fn comes_back(&self, lab: &Lab, name: &str, disk: &Path) -> Result<(), Error> {
        let mut vm = self.machine(lab, name, Disk::new(disk).serial(NEW_SERIAL)).start()?;
        let mut guest = Guest::login(&mut vm, BOOT_TIMEOUT)?;
        println!("        restored node: login {:.1} s after power-on", guest.vm().uptime().as_secs_f32());
        guest.run("systemctl is-system-running --wait", BOOT_TIMEOUT)?;
        let after = Portrait::take(&mut guest)?;
        guest.expect("ip -4 -o address show | grep -q 10.0.2.15", COMMAND_TIMEOUT)?;
        guest.power_off(BOOT_TIMEOUT)?;
        self.before.compare(&after)
    }

    /// Compares the restored filesystems, never booted yet, with the snapshot: every path and all its metadata.
    fn equals_snapshot(&self, disk: &Path) -> Result<(), Error> {
        let name = &self.node.recipe.hostname;
        let image = disk.to_string_lossy();
        self.server.rerack(&["compare", name, "--image", &image]).map(drop)
    }
}

impl Portrait {
    fn take(guest: &mut Guest<'_>) -> Result<Self, Error> {
        let mut ask = |command: &str| guest.run(command, COMMAND_TIMEOUT).map(|output| output.text);
        Ok(Self {
            host_name: ask("hostname")?,
            machine_id: ask("cat /etc/machine-id")?,
            state: ask("systemctl is-system-running")?,
            failed_units: ask("systemctl --failed --no-legend --plain")?,
            block_ids: ask("blkid -o export | grep -E '^(UUID|LABEL|PARTUUID|TYPE)=' | sort")?,
            // One line for all: names, modes, owners, times and contents of what a running node leaves alone.
            files: ask(&format!(
                "find / -xdev \\( {LIVE_PATHS} \\) -prune -o -type f -print0 | sort -z | xargs -0 stat -c '%n %a %u %g %Y %s' \
                 | sha256sum; find / -xdev \\( {LIVE_PATHS} \\) -prune -o -type f -print0 | sort -z | xargs -0 sha256sum \
                 | sha256sum"
            ))?,
        })
    }

    fn compare(&self, after: &Self) -> Result<(), Error> {
        if self == after {
            return Ok(());
        }
        Err(Error::Unexpected(format!("the node is not what it was:\nbefore: {self:#?}\nafter: {after:#?}")))
    }
}

/// What every scenario here needs.
fn programs() -> Result<Programs, Outcome> {
    Programs::from_environment()
        .ok_or_else(|| Outcome::Skipped("RERACK_PROGRAMS does not name a folder with the static programs".into()))
}

/// An operator at the console of a BIOS machine brings a node back.
pub(super) fn interactive_bios(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::capture(lab, &programs, NodeRecipe::small(), "lost-bios")?;
    let code = lost.server.arm(&lost.node.recipe.hostname)?;
    let (machine, disk) = lost.replacement(lab, "new-bios")?;
    let mut vm = machine.cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    vm.wait_for_screen("Server address", BOOT_TIMEOUT)?;
    println!("        first screen {:.1} s after power-on", vm.uptime().as_secs_f32());
    vm.type_line(&lost.server.url())?;
    vm.wait_for_screen("Restore code", SCREEN_TIMEOUT)?;
    vm.type_line(&code)?;
    vm.wait_for_screen("Which node is this machine to become?", SCREEN_TIMEOUT)?;
    vm.type_line("")?;
    vm.wait_for_screen("Which snapshot of the node?", SCREEN_TIMEOUT)?;
    vm.type_line("")?;
    vm.wait_for_screen("go on to consent", SCREEN_TIMEOUT)?;
    vm.type_text("c")?;
    vm.wait_for_screen("THESE DISKS WILL BE ERASED", SCREEN_TIMEOUT)?;
    vm.type_line("B2C3")?;
    vm.wait_for_screen("is restored", RESTORE_TIMEOUT)?;
    println!("{}", indent(&vm.screen()));
    vm.wait_off(BOOT_TIMEOUT)?;
    lost.equals_snapshot(&disk)?;
    lost.comes_back(lab, "back-bios", &disk)?;
    Ok(Outcome::Passed)
}

/// Nobody sits at the console: an armed server and kernel arguments bring a UEFI node back.
pub(super) fn unattended_uefi(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::capture(lab, &programs, NodeRecipe::small_uefi(), "lost-uefi")?;
    let code = lost.server.arm(&lost.node.recipe.hostname)?;
    let arguments = format!(
        "rerack.server={} rerack.code={code} rerack.unattended rerack.erase=blank rerack.after=reboot",
        lost.server.url()
    );
    let (programs_dir, out) = (programs.rerack(), lab.run_dir().join("unattended.iso"));
    let folder = programs_dir.parent().unwrap_or(Path::new(".")).to_string_lossy().into_owned();
    programs.run(&[
        "image",
        "iso",
        "--programs",
        &folder,
        "--cache",
        &lab.cache_dir().to_string_lossy(),
        "--append",
        &arguments,
        "-o",
        &out.to_string_lossy(),
    ])?;
    let (machine, disk) = lost.replacement(lab, "new-uefi")?;
    let variables = lab.run_dir().join("new-uefi.own.fd");
    if variables.exists() {
        std::fs::remove_file(&variables).map_err(Error::file("remove", &variables))?;
    }
    let mut vm = machine.ovmf_vars(&variables).cdrom(&out).boot_first(BootFirst::Disk).start()?;
    vm.wait_for_screen("is restored", BOOT_TIMEOUT + RESTORE_TIMEOUT)?;
    println!("{}", indent(&vm.screen()));
    vm.wait_off(BOOT_TIMEOUT)?;
    lost.comes_back(lab, "back-uefi", &disk)?;
    Ok(Outcome::Passed)
}

/// The machine loses power in the data phase; the next start finishes what was begun, under the same consent.
pub(super) fn killed_in_data(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::capture(lab, &programs, NodeRecipe::small(), "lost-killed")?;
    let code = lost.server.arm(&lost.node.recipe.hostname)?;
    let (machine, disk) = lost.replacement(lab, "new-killed")?;
    let mut vm = machine.cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    let answer = |vm: &mut crate::Vm| -> Result<(), Error> {
        vm.wait_for_screen("Server address", BOOT_TIMEOUT)?;
        vm.type_line(&lost.server.url())?;
        vm.wait_for_screen("Restore code", SCREEN_TIMEOUT)?;
        vm.type_line(&code)?;
        vm.wait_for_screen("Which node is this machine to become?", SCREEN_TIMEOUT)?;
        vm.type_line("")
    };
    answer(&mut vm)?;
    vm.wait_for_screen("Which snapshot of the node?", SCREEN_TIMEOUT)?;
    vm.type_line("")?;
    vm.wait_for_screen("go on to consent", SCREEN_TIMEOUT)?;
    vm.type_text("c")?;
    vm.wait_for_screen("THESE DISKS WILL BE ERASED", SCREEN_TIMEOUT)?;
    vm.type_line("B2C3")?;
    vm.wait_for_screen("files - ", RESTORE_TIMEOUT)?;
    vm.kill()?;
    // Half restored: firmware finds nothing on the disk and starts the disc.
    let half = Disk::new(&disk).serial(NEW_SERIAL);
    let mut vm = lost.machine(lab, "new-killed-again", half).cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    answer(&mut vm)?;
    vm.wait_for_screen("is restored", RESTORE_TIMEOUT)?;
    println!("{}", indent(&vm.screen()));
    vm.wait_off(BOOT_TIMEOUT)?;
    lost.equals_snapshot(&disk)?;
    lost.comes_back(lab, "back-killed", &disk)?;
    Ok(Outcome::Passed)
}

/// A wrong code, an empty Enter, a wrong serial number: nothing is written.
pub(super) fn no_consent(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::capture(lab, &programs, NodeRecipe::small(), "lost-no-consent")?;
    let code = lost.server.arm(&lost.node.recipe.hostname)?;
    let (machine, disk) = lost.replacement(lab, "new-no-consent")?;
    let blank = host::run("b2sum", [disk.as_os_str()])?;
    let mut vm = machine.firmware(Firmware::Bios).cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    vm.wait_for_screen("Server address", BOOT_TIMEOUT)?;
    vm.type_line(&lost.server.url())?;
    vm.wait_for_screen("Restore code", SCREEN_TIMEOUT)?;
    // The right server's part with another secret.
    vm.type_line(&format!("{}-0000-0000", &code[..14]))?;
    vm.wait_for_screen("! ", SCREEN_TIMEOUT)?;
    vm.type_line(&code)?;
    vm.wait_for_screen("Which node is this machine to become?", SCREEN_TIMEOUT)?;
    vm.type_line("")?;
    vm.wait_for_screen("Which snapshot of the node?", SCREEN_TIMEOUT)?;
    vm.type_line("")?;
    vm.wait_for_screen("go on to consent", SCREEN_TIMEOUT)?;
    vm.type_text("c")?;
    vm.wait_for_screen("THESE DISKS WILL BE ERASED", SCREEN_TIMEOUT)?;
    for nothing in ["", "", "0001", "B2C"] {
        vm.type_line(nothing)?;
    }
    std::thread::sleep(Duration::from_secs(5));
    vm.wait_for_screen("THESE DISKS WILL BE ERASED", SCREEN_TIMEOUT)?;
    vm.kill()?;
    if host::run("b2sum", [disk.as_os_str()])? != blank {
        return Err(Error::Unexpected("the disk was written without consent".into()));
    }
    Ok(Outcome::Passed)
}

fn indent(screen: &str) -> String {
    screen.lines().map(|line| format!("        {line}\n")).collect()
}
