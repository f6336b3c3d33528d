//! Building a node: Debian straight into a loop-mounted image, then one boot of it that installs GRUB.
//!
//! The host needs neither device-mapper nor vfat nor partition devices: each partition is a loop device of its own,
//! and the ESP is filled inside the guest.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::layout::{self, Part, Use};
use crate::{BootFiles, Disk, Error, Guest, Lab, NodeRecipe, host};

/// What no test looks at is a third of all files; reading each of them takes its time in translation.
const LEFT_OUT: [&str; 4] = ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// Under TCG on busy cores; an idle machine is up in half a minute.
const BOOT_TIMEOUT: Duration = Duration::from_secs(900);
/// GRUB's installer reads every module in translation.
const GRUB_TIMEOUT: Duration = Duration::from_secs(900);

/// A loop device over a part of a file; detached when dropped.
struct Loop(String);

impl Loop {
    fn attach(image: &Path, part: &Part) -> Result<Self, Error> {
        let mut command = Command::new("losetup");
        command.args(["--find", "--show", "--offset", &part.start_bytes.to_string()]);
        command.args(["--sizelimit", &part.size_bytes.to_string()]).arg(image);
        Ok(Loop(host::finish("losetup", &mut command)?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Nothing to be done about a failure here; the next `losetup -a` shows it.
        let _ = host::run("losetup", ["--detach", &self.0]);
    }
}

/// A mounted filesystem; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn attach(device: &Loop, kind: &str, at: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&at).map_err(Error::file("make", &at))?;
        let mut command = Command::new("mount");
        command.args(["-t", kind, &device.0]).arg(&at);
        host::finish("mount", &mut command)?;
        Ok(Mount(at))
    }

    fn detach(self) -> Result<(), Error> {
        let path = self.0.clone();
        std::mem::forget(self);
        host::run("umount", [&path]).map(drop)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = host::run("umount", [&self.0]);
    }
}

/// Builds the node's disk at `image`. The UEFI variables that the installation left stand beside it.
pub(super) fn build(lab: &Lab, recipe: &NodeRecipe, image: &Path, variables: &Path) -> Result<(), Error> {
    let parts = layout::parts(recipe);
    let debian = debian(lab, recipe)?;
    partition(image, recipe.disk_bytes, &parts)?;
    let boot = fill(recipe, &debian, image, &parts)?;
    install_grub(lab, recipe, image, variables, &boot)
}

/// Debian with the recipe's packages, as a tar archive that nodes of equal packages share.
fn debian(lab: &Lab, recipe: &NodeRecipe) -> Result<PathBuf, Error> {
    const TREE: &str = "tree.tar";
    let made = lab.cached(&recipe.debian_key(), |dir| {
        let mut debian = Command::new("mmdebstrap");
        debian.args(["--quiet", "--variant=minbase"]);
        debian.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
        debian.arg(format!("--include={}", recipe.all_packages().join(","))).arg(&recipe.suite).arg(dir.join(TREE));
        host::finish("mmdebstrap", &mut debian).map(drop)
    })?;
    Ok(made.join(TREE))
}

fn partition(image: &Path, size_bytes: u64, parts: &[Part]) -> Result<(), Error> {
    let file = File::create(image).map_err(Error::file("create", image))?;
    file.set_len(size_bytes).map_err(Error::file("size", image))?;
    let spawn = |source| Error::Spawn { program: "sfdisk".into(), source };
    let mut child = Command::new("sfdisk")
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(image)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(spawn)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(layout::sfdisk_script(parts).as_bytes()).map_err(spawn)?;
    }
    let status = child.wait().map_err(spawn)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Program { program: "sfdisk".into(), status, output: String::new() })
}

/// A filesystem of the node: what is mounted where, and what `/etc/fstab` says of it.
struct Filled {
    fstab: String,
    root_uuid: String,
}

/// Makes the filesystems, installs Debian and configures it. Returns what is needed to boot it directly.
fn fill(recipe: &NodeRecipe, debian: &Path, image: &Path, parts: &[Part]) -> Result<DirectBoot, Error> {
    let workshop = image.with_extension("mnt");
    let mut root = None;
    let mut data = None;
    let mut filled = Filled { fstab: String::new(), root_uuid: String::new() };
    for part in parts {
        let device = Loop::attach(image, part)?;
        let uuid = make(part.purpose, &device)?;
        let line = match part.purpose {
            Use::BiosBoot => continue,
            Use::Esp => format!("UUID={uuid} /boot/efi vfat umask=0077 0 1\n"),
            Use::Swap => format!("UUID={uuid} none swap sw 0 0\n"),
            Use::Root => format!("UUID={uuid} / ext4 errors=remount-ro 0 1\n"),
            Use::Data(kind) => format!("UUID={uuid} /srv {} defaults 0 2\n", data_type(kind)),
        };
        filled.fstab.push_str(&line);
        match part.purpose {
            Use::Root => {
                filled.root_uuid = uuid;
                root = Some(device);
            }
            Use::Data(kind) => data = Some((kind, device)),
            _ => {}
        }
    }
    let Some(root) = root else { return Err(Error::Unexpected("the layout has no root".into())) };
    let mounted = Mount::attach(&root, "ext4", workshop)?;
    let mut extract = Command::new("tar");
    extract.args([
        "--extract",
        "--numeric-owner",
        "--preserve-permissions",
        "--xattrs",
        "--xattrs-include=*",
        "--file",
    ]);
    host::finish("tar", extract.arg(debian).arg("--directory").arg(&mounted.0))?;
    configure(recipe, &mounted.0, &filled)?;
    if recipe.awkward_files {
        crate::plant_awkward_files(&mounted.0.join("var/lib/awkward"))?;
    }
    if let Some((kind, device)) = &data {
        let mounted = Mount::attach(device, data_type(*kind), mounted.0.join("srv"))?;
        if recipe.awkward_files {
            crate::plant_awkward_files(&mounted.0.join("awkward"))?;
        }
        mounted.detach()?;
    }
    let boot = DirectBoot::copy_from(&mounted.0, image, filled.root_uuid)?;
    let workshop = mounted.0.clone();
    mounted.detach()?;
    fs::remove_dir(&workshop).map_err(Error::file("remove", &workshop))?;
    Ok(boot)
}

fn data_type(kind: crate::Filesystem) -> &'static str {
    match kind {
        crate::Filesystem::Ext4 => "ext4",
        crate::Filesystem::Xfs => "xfs",
    }
}

/// Makes a filesystem and returns its UUID as `/etc/fstab` wants it; empty for what has none.
fn make(purpose: Use, device: &Loop) -> Result<String, Error> {
    let device = device.0.as_str();
    match purpose {
        Use::BiosBoot => return Ok(String::new()),
        Use::Esp => host::run("mkfs.vfat", ["-F", "32", "-n", "ESP", device])?,
        Use::Swap => host::run("mkswap", [device])?,
        Use::Root => host::run("mkfs.ext4", ["-q", "-F", "-L", "root", device])?,
        Use::Data(crate::Filesystem::Ext4) => host::run("mkfs.ext4", ["-q", "-F", "-L", "data", device])?,
        Use::Data(crate::Filesystem::Xfs) => host::run("mkfs.xfs", ["-q", "-f", "-L", "data", device])?,
    };
    Ok(host::run("blkid", ["-p", "-s", "UUID", "-o", "value", device])?.trim().to_owned())
}

fn configure(recipe: &NodeRecipe, root: &Path, filled: &Filled) -> Result<(), Error> {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(Error::file("make", dir))?;
        }
        fs::write(&path, text).map_err(Error::file("write", &path))
    };
    write("etc/hostname", &format!("{}\n", recipe.hostname))?;
    write("etc/hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {}\n", recipe.hostname))?;
    write("etc/fstab", &filled.fstab)?;
    write("etc/resolv.conf", "nameserver 10.0.2.3\n")?;
    write(
        "etc/systemd/network/10-lan.network",
        &format!("[Match]\nMACAddress={}\n\n[Network]\nDHCP=ipv4\n", recipe.mac),
    )?;
    write(
        "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf",
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --keep-baud 115200 - $TERM\n",
    )?;
    write(
        "etc/default/grub",
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=Debian\nGRUB_DISABLE_OS_PROBER=true\n\
         GRUB_CMDLINE_LINUX_DEFAULT=\"\"\n\
         GRUB_CMDLINE_LINUX=\"net.ifnames=0 console=tty0 console=ttyS0,115200\"\n\
         GRUB_TERMINAL=\"console serial\"\nGRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\n",
    )?;
    let enable = root.join("etc/systemd/system/multi-user.target.wants/systemd-networkd.service");
    if fs::symlink_metadata(&enable).is_err() {
        let mut chroot = Command::new("chroot");
        chroot.arg(root).args(["systemctl", "enable", "systemd-networkd.service"]);
        host::finish("chroot systemctl", &mut chroot)?;
    }
    Ok(())
}

/// The node's own kernel, to boot it before it can boot by itself.
struct DirectBoot {
    files: BootFiles,
    root_uuid: String,
}

impl DirectBoot {
    fn copy_from(root: &Path, image: &Path, root_uuid: String) -> Result<Self, Error> {
        let copy = |link: &str| {
            let from = root.join(link);
            let to = image.with_file_name(link);
            fs::copy(&from, &to).map(|_| to).map_err(Error::file("copy", from))
        };
        Ok(DirectBoot { files: BootFiles { kernel: copy("vmlinuz")?, initrd: Some(copy("initrd.img")?) }, root_uuid })
    }
}

fn install_grub(
    lab: &Lab,
    recipe: &NodeRecipe,
    image: &Path,
    variables: &Path,
    boot: &DirectBoot,
) -> Result<(), Error> {
    let mut vm = lab
        .vm(&format!("{}-install", recipe.hostname))
        .firmware(recipe.firmware())
        .ovmf_vars(variables)
        .disk(Disk::new(image).serial(&recipe.disk_serial))
        .kernel(&boot.files, &format!("root=UUID={} rw net.ifnames=0 console=ttyS0,115200 quiet", boot.root_uuid))
        .start()?;
    let mut guest = Guest::login(&mut vm, BOOT_TIMEOUT)?;
    let install = if recipe.uefi {
        "grub-install --target=x86_64-efi --efi-directory=/boot/efi --bootloader-id=debian"
    } else {
        "grub-install --target=i386-pc /dev/vda"
    };
    guest.expect(&format!("{install} 2>&1"), GRUB_TIMEOUT)?;
    guest.expect("update-grub 2>&1", GRUB_TIMEOUT)?;
    // The first login and the first boot leave marks that a settled node would have, too.
    guest.power_off(BOOT_TIMEOUT)
}
