//! A node that was captured and destroyed, the machine that takes its place, and what an operator does at it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::portrait::Portrait;
use crate::{BootFiles, BundleServer, Disk, Error, Guest, Lab, Net, Node, NodeRecipe, Programs, Vm, VmBuilder, host};

/// Under translation, on cores that others keep busy, things take many times as long; only what hangs is to be caught.
pub(super) const BOOT_TIMEOUT: Duration = Duration::from_secs(600);
const CAPTURE_TIMEOUT: Duration = Duration::from_secs(1200);
pub(super) const RESTORE_TIMEOUT: Duration = Duration::from_secs(1800);
pub(super) const SCREEN_TIMEOUT: Duration = Duration::from_secs(300);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(600);

/// The replacement's disk is another one and larger.
const NEW_DISK_BYTES: u64 = 4 << 30;
/// Its last four characters are what an operator types.
const NEW_SERIAL: &str = "NEW-77A1B2C3";
const NEW_MAC: &str = "52:54:00:bb:00:09";
/// Another disk of the new machine, which holds somebody's files and is no target of anything.
const BYSTANDER_BYTES: u64 = 64 << 20;
const BYSTANDER_SERIAL: &str = "BYSTANDER-1";
/// What a second capture may store beyond the files that changed, for each of them: the end of a chunk.
const CHUNK_BYTES_MAX: u64 = 4 << 20;

/// What the plan rewrites because the network card is another one.
pub(super) const ADAPTED: &str = "/etc/systemd/network/10-lan.network";

/// Nodes that were captured by this process, with what they said of themselves: capturing takes minutes.
static CAPTURED: Mutex<Vec<(String, Portrait)>> = Mutex::new(Vec::new());

/// A captured node, its server, and what is needed to bring it back.
pub(super) struct Lost {
    lab: Lab,
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

/// The machine that takes a node's place.
pub(super) struct Replacement {
    pub(super) machine: VmBuilder,
    /// Its empty disk.
    pub(super) disk: PathBuf,
    bystander: PathBuf,
    untouched: String,
}

impl Replacement {
    /// An error if the disk that is no target was written.
    pub(super) fn left_the_other_disk_alone(&self) -> Result<(), Error> {
        if sum(&self.bystander)? == self.untouched {
            return remove(&self.bystander);
        }
        Err(Error::Unexpected(format!("{} is no target, and was written", self.bystander.display())))
    }
}

impl Lost {
    /// A node that was captured and destroyed, now or by an earlier scenario of this process.
    pub(super) fn of(lab: &Lab, programs: &Programs, recipe: NodeRecipe) -> Result<Self, Error> {
        let iso = programs.iso(lab)?;
        let name = format!("lost-{}", recipe.hostname);
        let directory = lab.run_dir().join(format!("{name}.repository"));
        let node = Node::prepare(lab, recipe)?;
        let captured = || CAPTURED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = captured().iter().find(|(known, _)| *known == name).map(|(_, portrait)| portrait.clone());
        if known.is_none() {
            remove(&directory)?;
        }
        let server = BundleServer::start(programs, &directory)?;
        let before = match known {
            Some(portrait) => portrait,
            None => {
                let portrait = capture(lab, programs, &server, &node, &name)?;
                captured().push((name, portrait.clone()));
                portrait
            }
        };
        Ok(Self { lab: lab.clone(), node, server, iso, before, codes: RefCell::default() })
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
    pub(super) fn network_boot(&self) -> Result<BootFiles, Error> {
        let file = |what: &str| self.lab.run_dir().join(format!("{}.netboot.{what}", self.name()));
        let (kernel, initrd) = (file("kernel"), file("initramfs"));
        remove(&kernel)?;
        remove(&initrd)?;
        let mut extract = std::process::Command::new("xorriso");
        extract.args(["-osirrox", "on", "-indev"]).arg(&self.iso);
        extract.args(["-extract", "/boot/vmlinuz"]).arg(&kernel).args(["-extract", "/boot/initramfs"]).arg(&initrd);
        host::finish("xorriso", &mut extract)?;
        Ok(BootFiles { kernel, initrd: Some(initrd) })
    }

    /// The machine that takes the node's place: another disk, another network card, and a disk that is nobody's.
    pub(super) fn replacement(&self, name: &str) -> Result<Replacement, Error> {
        let disk = self.lab.run_dir().join(format!("{name}.img"));
        remove(&disk)?;
        let target = Disk::create(&disk, NEW_DISK_BYTES)?.serial(NEW_SERIAL);
        let bystander = self.lab.run_dir().join(format!("{name}.bystander.img"));
        let other = Disk::create(&bystander, BYSTANDER_BYTES)?.serial(BYSTANDER_SERIAL);
        host::run("mkfs.ext4", ["-q".as_ref(), "-L".as_ref(), "bystander".as_ref(), bystander.as_os_str()])?;
        let untouched = sum(&bystander)?;
        Ok(Replacement { machine: self.machine(name, target).disk(other), disk, bystander, untouched })
    }

    fn machine(&self, name: &str, disk: Disk) -> VmBuilder {
        self.lab
            .vm(name)
            .firmware(self.node.recipe.firmware())
            .memory_mib(768)
            .smbios("6f1d5a6e-0000-4000-8000-0000000000ff", "REPLACEMENT-1")
            .disk(disk)
            .net(Net::user(NEW_MAC))
    }

    /// Starts the restored disk, which was compared with the snapshot: the node is as healthy as it was.
    pub(super) fn starts(&self, machine: VmBuilder) -> Result<(), Error> {
        let mut vm = machine.start()?;
        let mut guest = Guest::login(&mut vm, BOOT_TIMEOUT)?;
        self.lab.say(&format!("restored node: login {:.1} s after power-on", guest.vm().uptime().as_secs_f32()));
        let state = guest.run("systemctl is-system-running --wait", BOOT_TIMEOUT)?.text;
        if state != self.before.state() {
            return Err(Error::Unexpected(format!("the restored node is {state}; it was {}", self.before.state())));
        }
        self.kept_its_log(&mut guest)?;
        guest.power_off(BOOT_TIMEOUT)
    }

    /// Starts the restored disk and compares the node with what it was, in all that it says of itself.
    pub(super) fn comes_back(&self, machine: VmBuilder) -> Result<Boot, Error> {
        self.comes_back_and(machine, |_| Ok(()))
    }

    /// As `comes_back`, with another look at the node before it is switched off.
    pub(super) fn comes_back_and(
        &self,
        machine: VmBuilder,
        look: impl FnOnce(&mut Guest<'_>) -> Result<(), Error>,
    ) -> Result<Boot, Error> {
        let mut vm = machine.start()?;
        vm.wait_for("Linux version", BOOT_TIMEOUT)?;
        let kernel = vm.uptime();
        let mut guest = Guest::login(&mut vm, BOOT_TIMEOUT)?;
        let login = guest.vm().uptime();
        self.lab.say(&format!("restored node: login {:.1} s after power-on", login.as_secs_f32()));
        guest.run("systemctl is-system-running --wait", BOOT_TIMEOUT)?;
        let after = Portrait::take(&mut guest, NEW_MAC, ADAPTED)?;
        guest.expect("ip -4 -o address show | grep -q 10.0.2.15", COMMAND_TIMEOUT)?;
        self.kept_its_log(&mut guest)?;
        look(&mut guest)?;
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
    pub(super) fn restored(&self, name: &str, disk: &Path) -> VmBuilder {
        self.machine(name, Disk::new(disk).serial(NEW_SERIAL))
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
            self.lab.say("the ESP is not compared here: this host mounts no vfat");
            arguments.extend(["--skip", "boot-efi"]);
        }
        let said = self.server.rerack(&arguments)?;
        self.lab.say(&said);
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
    lab.say(&format!("captured in {:.1} s", begun.elapsed().as_secs_f32()));
    lab.say(&said);
    captures_little_again(lab, &mut guest)?;
    let before = Portrait::take(&mut guest, &node.recipe.mac, ADAPTED)?;
    guest.power_off(BOOT_TIMEOUT)?;
    std::fs::remove_file(&disk.path).map_err(Error::file("remove", &disk.path))?;
    Ok(before)
}

/// A running node that is captured again stores what changed meanwhile, and little else.
fn captures_little_again(lab: &Lab, guest: &mut Guest<'_>) -> Result<(), Error> {
    // From before the first capture: it took minutes, in which the node went on.
    let changed = guest.expect(
        "find $(findmnt -rno TARGET -t ext4,xfs,vfat) -xdev -type f -newer /root/rerack-node -printf '%s\\n' \
         | awk '{ bytes += $1; files += 1 } END { print bytes + 0, files + 0 }'",
        COMMAND_TIMEOUT,
    )?;
    let command = "/root/rerack capture --node-file /root/rerack-node --json 2> /dev/null";
    let said = guest.expect(command, CAPTURE_TIMEOUT)?;
    let report: serde_json::Value = serde_json::from_str(&said)
        .map_err(|error| Error::Unexpected(format!("`rerack capture --json` printed no JSON ({error}):\n{said}")))?;
    let numbers: Vec<u64> = changed.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let (Some(uploaded), &[bytes, files]) = (report["uploaded_bytes"].as_u64(), &numbers[..]) else {
        return Err(Error::Unexpected(format!("no numbers: {changed} {said}")));
    };
    lab.say(&format!("captured again: {uploaded} bytes uploaded, {bytes} bytes changed in {files} files"));
    if uploaded > bytes + files * CHUNK_BYTES_MAX {
        return Err(Error::Unexpected("the second capture stored more than what changed".into()));
    }
    Ok(())
}

/// A checksum of a file.
pub(super) fn sum(path: &Path) -> Result<String, Error> {
    host::run("b2sum", [path.as_os_str()])
}

/// Removes what an earlier run left.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Answers what a machine asks until the server lets it in.
pub(super) fn let_in(lab: &Lab, vm: &mut Vm, url: &str, code: &str) -> Result<(), Error> {
    vm.wait_for_screen("Server address", BOOT_TIMEOUT)?;
    lab.say(&format!("first screen {:.1} s after power-on", vm.uptime().as_secs_f32()));
    vm.type_line(url)?;
    vm.wait_for_screen("Restore code", SCREEN_TIMEOUT)?;
    vm.type_line(code)
}

/// Answers what a machine asks until the plan is shown.
pub(super) fn introduce(lab: &Lab, vm: &mut Vm, url: &str, code: &str) -> Result<(), Error> {
    let_in(lab, vm, url, code)?;
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

/// A screen, set off from what the scenario itself says.
pub(super) fn indent(screen: &str) -> String {
    screen.lines().map(|line| format!("        {line}\n")).collect()
}
