//! The whole way: a node is captured, lost, and comes back on another machine.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{NO_PROGRAMS, Outcome};
use crate::{
    BootFiles, BootFirst, BundleServer, Disk, Error, Guest, Lab, Net, Node, NodeRecipe, Programs, Vm, VmBuilder, host,
};

/// Under translation on busy cores.
pub(super) const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
const CAPTURE_TIMEOUT: Duration = Duration::from_secs(600);
pub(super) const RESTORE_TIMEOUT: Duration = Duration::from_secs(900);
const SCREEN_TIMEOUT: Duration = Duration::from_secs(120);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// The replacement's disk is another one and larger.
const NEW_DISK_BYTES: u64 = 4 << 30;
/// Its last four characters are what an operator types.
const NEW_SERIAL: &str = "NEW-77A1B2C3";
const NEW_MAC: &str = "52:54:00:bb:00:09";

/// What differs between two moments of a running node, and so between the node and its restored self.
const LIVE_PATHS: &str = "-path /var/log -o -path /var/tmp -o -path /tmp -o -path /var/lib/systemd -o -path /run \
                          -o -path /var/cache -o -path /root/rerack -o -path /etc/resolv.conf \
                          -o -path /etc/systemd/network -o -path /etc/network";

/// What the plan rewrites because the network card is another one.
const ADAPTED: &str = "/etc/systemd/network/10-lan.network";

/// Nodes that were captured by this process, with what they said of themselves: capturing takes minutes.
static CAPTURED: Mutex<Vec<(String, Portrait)>> = Mutex::new(Vec::new());

/// A captured node, its server, and what is needed to bring it back.
pub(super) struct Lost {
    node: Node,
    pub(super) server: BundleServer,
    pub(super) iso: PathBuf,
    /// What the node said of itself before it was lost.
    before: Portrait,
    /// Restore codes: none of them may be found on a restored node.
    codes: RefCell<Vec<String>>,
}

/// When a restored node's kernel spoke and when one could log in, since power-on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boot {
    pub(super) kernel: Duration,
    pub(super) login: Duration,
}

/// What a node says of itself: two of them are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Portrait {
    host_name: String,
    machine_id: String,
    state: String,
    failed_units: String,
    block_ids: String,
    mounts: String,
    files: String,
}

impl Lost {
    /// A node that was captured and destroyed, now or by an earlier scenario of this process.
    pub(super) fn of(lab: &Lab, programs: &Programs, recipe: NodeRecipe) -> Result<Self, Error> {
        let iso = programs.iso(lab)?;
        let name = format!("lost-{}", recipe.hostname);
        let directory = lab.run_dir().join(format!("{name}.repository"));
        let known = |captured: &[(String, Portrait)]| {
            captured.iter().find(|(known, _)| *known == name).map(|(_, portrait)| portrait.clone())
        };
        let mut captured = CAPTURED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let node = Node::prepare(lab, recipe)?;
        if let Some(before) = known(&captured) {
            let server = BundleServer::start(programs, &directory)?;
            return Ok(Self { node, server, iso, before, codes: RefCell::default() });
        }
        remove(&directory)?;
        let server = BundleServer::start(programs, &directory)?;
        let before = capture(lab, programs, &server, &node, &name)?;
        captured.push((name, before.clone()));
        Ok(Self { node, server, iso, before, codes: RefCell::default() })
    }

    /// The node's name.
    pub(super) fn name(&self) -> &str {
        &self.node.recipe.hostname
    }

    /// Arms the node's restore and returns the code.
    pub(super) fn arm(&self) -> Result<String, Error> {
        let code = self.server.arm(self.name())?;
        self.codes.borrow_mut().push(code.clone());
        Ok(code)
    }

    /// Kernel and initramfs of the boot image, as a network boot would get them.
    pub(super) fn network_boot(&self, lab: &Lab) -> Result<BootFiles, Error> {
        let (kernel, initrd) = (lab.run_dir().join("netboot.kernel"), lab.run_dir().join("netboot.initramfs"));
        remove(&kernel)?;
        remove(&initrd)?;
        let mut extract = std::process::Command::new("xorriso");
        extract.args(["-osirrox", "on", "-indev"]).arg(&self.iso);
        extract.args(["-extract", "/boot/vmlinuz"]).arg(&kernel).args(["-extract", "/boot/initramfs"]).arg(&initrd);
        host::finish("xorriso", &mut extract)?;
        Ok(BootFiles { kernel, initrd: Some(initrd) })
    }

    /// The machine that takes the node's place: another disk, another network card.
    pub(super) fn replacement(&self, lab: &Lab, name: &str) -> Result<(VmBuilder, PathBuf), Error> {
        let path = lab.run_dir().join(format!("{name}.img"));
        remove(&path)?;
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
    pub(super) fn comes_back(&self, machine: VmBuilder) -> Result<Boot, Error> {
        let mut vm = machine.start()?;
        vm.wait_for("Linux version", BOOT_TIMEOUT)?;
        let kernel = vm.uptime();
        let mut guest = Guest::login(&mut vm, BOOT_TIMEOUT)?;
        let login = guest.vm().uptime();
        println!("        restored node: login {:.1} s after power-on", login.as_secs_f32());
        guest.run("systemctl is-system-running --wait", BOOT_TIMEOUT)?;
        let after = Portrait::take(&mut guest)?;
        guest.expect("ip -4 -o address show | grep -q 10.0.2.15", COMMAND_TIMEOUT)?;
        self.kept_its_log(&mut guest)?;
        guest.power_off(BOOT_TIMEOUT)?;
        self.before.compare(&after)?;
        Ok(Boot { kernel, login })
    }

    /// The log of the restore is on the node, for root alone, and holds no secret.
    fn kept_its_log(&self, guest: &mut Guest<'_>) -> Result<(), Error> {
        let owned = guest.expect("stat -c '%a %U:%G' /var/log/rerack/restore-*.log", COMMAND_TIMEOUT)?;
        if owned != "600 root:root" {
            return Err(Error::Unexpected(format!("the log of the restore is {owned}")));
        }
        guest.expect("grep -q '^Restore of ' /var/log/rerack/restore-*.log", COMMAND_TIMEOUT)?;
        for code in &*self.codes.borrow() {
            guest.expect(&format!("! grep -rqi {code} /var/log/rerack"), COMMAND_TIMEOUT)?;
        }
        Ok(())
    }

    /// The replacement with its disk as the restore left it.
    pub(super) fn restored(&self, lab: &Lab, name: &str, disk: &Path) -> VmBuilder {
        self.machine(lab, name, Disk::new(disk).serial(NEW_SERIAL))
    }

    /// Removes what is large: the repository and a restored disk.
    pub(super) fn remove(self, disk: &Path) -> Result<(), Error> {
        let directory = self.server.directory().to_owned();
        drop(self.server);
        remove(disk)?;
        remove(&directory)
    }

    /// Compares the restored filesystems, never booted yet, with the snapshot: every path and all its metadata.
    pub(super) fn equals_snapshot(&self, disk: &Path) -> Result<(), Error> {
        let image = disk.to_string_lossy();
        let mut arguments = vec!["compare", self.name(), "--image", &image, "--except", ADAPTED];
        if self.node.recipe.uefi && !host::mounts("vfat") {
            // The restore itself has read it back, in a guest that mounts it.
            println!("        the ESP is not compared here: this host mounts no vfat");
            arguments.extend(["--skip", "boot-efi"]);
        }
        let said = self.server.rerack(&arguments)?;
        println!("{}", indent(&said));
        Ok(())
    }
}

/// Boots a node, captures it while it runs, and destroys it.
fn capture(lab: &Lab, programs: &Programs, server: &BundleServer, node: &Node, name: &str) -> Result<Portrait, Error> {
    remove(&server.directory().with_extension(format!("{}.node", node.recipe.hostname)))?;
    let node_file = server.node_add(&node.recipe.hostname)?;
    let disk = node.copy_disk(lab, name)?;
    let mut vm = node.machine(lab, name, &disk).start()?;
    let mut guest = Guest::login(&mut vm, BOOT_TIMEOUT)?;
    guest.run("systemctl is-system-running --wait", BOOT_TIMEOUT)?;
    guest.put(&programs.rerack(), "/root/rerack", "755")?;
    guest.put(&node_file, "/root/rerack-node", "600")?;
    let begun = Instant::now();
    let said = guest.expect("/root/rerack capture --node-file /root/rerack-node 2>&1", CAPTURE_TIMEOUT)?;
    println!("        captured in {:.1} s", begun.elapsed().as_secs_f32());
    println!("{}", indent(&said));
    let before = Portrait::take(&mut guest)?;
    guest.power_off(BOOT_TIMEOUT)?;
    std::fs::remove_file(&disk.path).map_err(Error::file("remove", &disk.path))?;
    Ok(before)
}

/// Removes what an earlier run left.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Answers what a machine asks until the server lets it in.
fn let_in(vm: &mut Vm, url: &str, code: &str) -> Result<(), Error> {
    vm.wait_for_screen("Server address", BOOT_TIMEOUT)?;
    println!("        first screen {:.1} s after power-on", vm.uptime().as_secs_f32());
    vm.type_line(url)?;
    vm.wait_for_screen("Restore code", SCREEN_TIMEOUT)?;
    vm.type_line(code)
}

/// Answers what a machine asks until the plan is shown.
pub(super) fn introduce(vm: &mut Vm, url: &str, code: &str) -> Result<(), Error> {
    let_in(vm, url, code)?;
    vm.wait_for_screen("Which node is this machine to become?", SCREEN_TIMEOUT)?;
    vm.type_line("")
}

/// Takes the newest snapshot and goes through the plan to the question for consent.
pub(super) fn go_to_consent(vm: &mut Vm) -> Result<(), Error> {
    vm.wait_for_screen("Which snapshot of the node?", SCREEN_TIMEOUT)?;
    vm.type_line("")?;
    vm.wait_for_screen("go on to consent", SCREEN_TIMEOUT)?;
    vm.type_text("c")?;
    vm.wait_for_screen("THESE DISKS WILL BE ERASED", SCREEN_TIMEOUT)
}

/// Waits for the end of the restore; trouble ends the wait at once.
pub(super) fn wait_restored(vm: &mut Vm, limit: Duration) -> Result<(), Error> {
    let is_over = |screen: &str| screen.contains("In all") || screen.contains("| Trouble");
    vm.console().wait_until("the end of the restore", limit, is_over)?;
    match vm.screen() {
        screen if screen.contains("is restored") => Ok(()),
        screen => Err(Error::Unexpected(format!("the node was not restored:\n{}", indent(&screen)))),
    }
}

/// Types part of the new disk's serial number.
pub(super) fn consent(vm: &mut Vm) -> Result<(), Error> {
    vm.type_line(&NEW_SERIAL[NEW_SERIAL.len() - 4..])
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
            mounts: ask(
                "findmnt -rno TARGET,FSTYPE,OPTIONS -t ext4,xfs,vfat | sort; swapon --noheadings --show=TYPE,SIZE",
            )?,
            // One line for all: names, modes, owners, times and contents of what a running node leaves alone.
            files: ask(&format!(
                "files() {{ find $(findmnt -rno TARGET -t ext4,xfs,vfat) -xdev \\( {LIVE_PATHS} \\) -prune -o -type f -print0 \
                 | sort -z; }}; files | xargs -0 stat -c '%n %a %u %g %Y %s' | sha256sum; \
                 files | xargs -0 sha256sum | sha256sum"
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
    Programs::from_environment().ok_or_else(|| Outcome::Skipped(NO_PROGRAMS.into()))
}

/// An operator at the console of a BIOS machine brings a node back.
pub(super) fn interactive_bios(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::of(lab, &programs, NodeRecipe::small())?;
    let code = lost.arm()?;
    let (machine, disk) = lost.replacement(lab, "new-bios")?;
    let mut vm = machine.cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    introduce(&mut vm, &lost.server.url(), &code)?;
    go_to_consent(&mut vm)?;
    consent(&mut vm)?;
    wait_restored(&mut vm, RESTORE_TIMEOUT)?;
    println!("{}", indent(&vm.screen()));
    vm.wait_off(BOOT_TIMEOUT)?;
    lost.equals_snapshot(&disk)?;
    lost.comes_back(lost.restored(lab, "back-bios", &disk))?;
    Ok(Outcome::Passed)
}

/// Nobody sits at the console: an armed server and kernel arguments bring a UEFI node back. Kernel and initramfs come
/// as from a network boot.
pub(super) fn unattended_uefi(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::of(lab, &programs, NodeRecipe::small_uefi())?;
    let code = lost.arm()?;
    let files = lost.network_boot(lab)?;
    let arguments = format!(
        "console=ttyS0,115200 rerack.server={} rerack.code={code} rerack.unattended rerack.erase=blank",
        lost.server.url()
    );
    let variables = lab.run_dir().join("new-uefi.own.fd");
    remove(&variables)?;
    let (machine, disk) = lost.replacement(lab, "new-uefi")?;
    let mut vm = machine.ovmf_vars(&variables).kernel(&files, &arguments).start()?;
    wait_restored(&mut vm, BOOT_TIMEOUT + RESTORE_TIMEOUT)?;
    println!("{}", indent(&vm.screen()));
    vm.wait_off(BOOT_TIMEOUT)?;
    lost.equals_snapshot(&disk)?;
    // The firmware's own entry first; then a board that knows of none.
    lost.comes_back(lost.restored(lab, "back-uefi", &disk).ovmf_vars(&variables))?;
    lost.comes_back(lost.restored(lab, "back-uefi-fallback", &disk))?;
    Ok(Outcome::Passed)
}

/// The machine loses power early in the data phase, and again late; each next start goes on with what was begun, under
/// the same consent.
pub(super) fn killed_in_data(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::of(lab, &programs, NodeRecipe::small())?;
    let code = lost.arm()?;
    let (machine, disk) = lost.replacement(lab, "new-killed")?;
    let mut vm = machine.cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    introduce(&mut vm, &lost.server.url(), &code)?;
    go_to_consent(&mut vm)?;
    consent(&mut vm)?;
    for percent in [1, 60] {
        let is_far_enough = |screen: &str| data_percent(screen).is_some_and(|at| at >= percent);
        vm.console().wait_until(&format!("{percent} % of the data"), RESTORE_TIMEOUT, is_far_enough)?;
        println!("        power lost at {} % of the data", data_percent(&vm.screen()).unwrap_or_default());
        vm.kill()?;
        // Half restored: firmware finds nothing to start on the disk and goes on to the disc. The code is asked for
        // again, because a machine that lost power remembers nothing; node, snapshot and consent are the claim's.
        let again = lost.restored(lab, &format!("new-killed-at-{percent}"), &disk);
        vm = again.cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
        let_in(&mut vm, &lost.server.url(), &code)?;
    }
    wait_restored(&mut vm, RESTORE_TIMEOUT)?;
    println!("{}", indent(&vm.screen()));
    vm.wait_off(BOOT_TIMEOUT)?;
    lost.equals_snapshot(&disk)?;
    lost.comes_back(lost.restored(lab, "back-killed", &disk))?;
    Ok(Outcome::Passed)
}

/// How far the data stage is, as the screen shows it.
fn data_percent(screen: &str) -> Option<u32> {
    let is_running = screen.contains("[>>] Data");
    let percent = || screen.split_whitespace().find_map(|word| word.strip_suffix('%')?.parse().ok());
    is_running.then(percent).flatten()
}

/// A wrong code, an empty Enter, a wrong serial number: nothing is written.
pub(super) fn no_consent(lab: &Lab) -> Result<Outcome, Error> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(skipped) => return Ok(skipped),
    };
    let lost = Lost::of(lab, &programs, NodeRecipe::small())?;
    let code = lost.arm()?;
    let (machine, disk) = lost.replacement(lab, "new-no-consent")?;
    let blank = host::run("b2sum", [disk.as_os_str()])?;
    let mut vm = machine.cdrom(&lost.iso).boot_first(BootFirst::Disk).start()?;
    // The right server's part with another secret.
    let wrong = format!("{}-0000-0000", &code[..14]);
    vm.wait_for_screen("Server address", BOOT_TIMEOUT)?;
    vm.type_line(&lost.server.url())?;
    vm.wait_for_screen("Restore code", SCREEN_TIMEOUT)?;
    vm.type_line(&wrong)?;
    vm.wait_for_screen("no node is armed with this restore", SCREEN_TIMEOUT)?;
    // The mistyped code stays to be corrected; Ctrl-U clears it.
    vm.type_text("\u{15}")?;
    vm.type_line(&code)?;
    vm.wait_for_screen("Which node is this machine to become?", SCREEN_TIMEOUT)?;
    vm.type_line("")?;
    go_to_consent(&mut vm)?;
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

pub(super) fn indent(screen: &str) -> String {
    screen.lines().map(|line| format!("        {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_the_data_is_is_read_from_its_stage_alone() {
        let screen = "| [>>] Data         28.5 s |\n| [######...]  99%  |";
        assert_eq!(data_percent(screen), Some(99));
        assert_eq!(data_percent(&screen.replace("Data", "Verify")), None);
        assert_eq!(data_percent("| [>>] Data 1 s |"), None);
    }
}
