//! The disc: GRUB for BIOS, Debian's shim and GRUB for UEFI, the kernel and the initramfs; the same bytes on a USB stick.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, IsoOptions, base::Base, program, recipe::GRUB_BIOS_MODULES};

/// The volume's label.
const VOLUME_ID: &str = "RERACK";

/// The EFI System Partition: shim, GRUB and MokManager need 4.3 MB; FAT16 begins at about 4 MiB.
const ESP_BYTES: u64 = 8 << 20;

/// Long enough to press a key on a slow serial line, short enough not to be noticed.
const MENU_SECONDS: u32 = 3;

/// Arguments that every image starts with: both consoles, the serial line last because the last one is `/dev/console`.
const KERNEL_ARGS: &str = "console=tty0 console=ttyS0,115200 quiet";

/// Refuses kernel arguments that would not survive `grub.cfg` or that do not belong into an image.
pub(crate) fn check_kernel_args(arguments: &str) -> Result<(), Error> {
    for argument in arguments.split_ascii_whitespace() {
        let name = argument.split('=').next().unwrap_or(argument);
        let refuse = |reason| Err(Error::KernelArgument { argument: name.into(), reason });
        if name == "rerack.code" {
            return refuse("an image holds no secret; type the code, or give it to one machine's boot loader");
        }
        if !argument.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\$`;{}|&<>#".contains(&byte)) {
            return refuse("GRUB would read a character of it as its own");
        }
    }
    Ok(())
}

/// The menu.
fn grub_cfg(arguments: &str) -> String {
    let arguments: Vec<&str> = KERNEL_ARGS.split(' ').chain(arguments.split_ascii_whitespace()).collect();
    format!(
        "set timeout={MENU_SECONDS}\n\
         set default=0\n\
         if serial --unit=0 --speed=115200; then\n\
         \x20 terminal_input console serial\n\
         \x20 terminal_output console serial\n\
         fi\n\
         menuentry 'Restore this machine' {{\n\
         \x20 linux /boot/vmlinuz {arguments}\n\
         \x20 initrd /boot/initramfs\n\
         }}\n\
         menuentry 'Start from the next boot device' {{\n\
         \x20 exit\n\
         }}\n",
        arguments = arguments.join(" ")
    )
}

/// Writes the ISO.
pub(crate) fn write(base: &Base, initramfs: &[u8], options: &IsoOptions) -> Result<(), Error> {
    let stage = Stage::new(options.source_date_epoch)?;
    stage.put("iso/boot/vmlinuz", &base.read(&format!("boot/vmlinuz-{}", base.kernel_release))?)?;
    stage.put("iso/boot/initramfs", initramfs)?;
    stage.put("iso/boot/grub/grub.cfg", grub_cfg(&options.kernel_args).as_bytes())?;
    // Debian's signed GRUB finds the disc by this file and then reads the menu beside it.
    stage.put("iso/.disk/info", format!("rerack boot image, Linux {}\n", base.kernel_release).as_bytes())?;
    bios_image(base, &stage)?;
    efi_image(base, &stage)?;
    stage.put("boot_hybrid.img", &base.read("usr/lib/grub/i386-pc/boot_hybrid.img")?)?;
    // A folder's time is that of the last file made in it: set when nothing more is.
    for folder in ["iso", "iso/.disk", "iso/boot", "iso/boot/grub"] {
        stage.date(&stage.path(folder))?;
    }

    let mut xorriso = stage.command("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-iso-level", "3", "-full-iso9660-filenames", "-r", "-V", VOLUME_ID]);
    xorriso.arg("--grub2-mbr").arg(stage.path("boot_hybrid.img"));
    // An offset of 16 blocks makes the stick's first partition mountable beside the disc's own filesystem.
    xorriso.args(["-partition_offset", "16", "--mbr-force-bootable"]);
    xorriso.args(["-append_partition", "2", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"]).arg(stage.path("efi.img"));
    xorriso.args(["-appended_part_as_gpt", "-no-pad"]);
    xorriso.args(["-b", "boot/grub/eltorito.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]);
    xorriso.args(["--grub2-boot-info", "-c", "boot/grub/boot.cat"]);
    xorriso.args(["-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot"]);
    if let Some(parent) = options.out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
    }
    program::run("xorriso", xorriso.arg("-o").arg(&options.out).arg(stage.path("iso"))).map(drop)
}

/// GRUB for BIOS as one El Torito image, made by the tool of the same package.
fn bios_image(base: &Base, stage: &Stage) -> Result<(), Error> {
    let image = stage.path("iso/boot/grub/eltorito.img");
    let mut mkimage = base.command("usr/bin/grub-mkimage", "grub-mkimage");
    mkimage.arg("-d").arg(base.tree.join("usr/lib/grub/i386-pc"));
    mkimage.args(["-O", "i386-pc-eltorito", "-p", "/boot/grub", "-o"]).arg(&image).args(GRUB_BIOS_MODULES);
    program::run("grub-mkimage", &mut mkimage)?;
    stage.date(&image)
}

/// The EFI System Partition: the firmware starts shim, shim starts GRUB; each checks the next one's signature.
fn efi_image(base: &Base, stage: &Stage) -> Result<(), Error> {
    let programs = [
        ("BOOTX64.EFI", "usr/lib/shim/shimx64.efi.signed"),
        ("mmx64.efi", "usr/lib/shim/mmx64.efi.signed"),
        ("grubx64.efi", "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"),
    ];
    let image = stage.path("efi.img");
    let file = fs::File::create(&image).map_err(Error::file("create", &image))?;
    file.set_len(ESP_BYTES).map_err(Error::file("size", &image))?;
    // A fixed serial number: a new one each time would be another image.
    program::run(
        "mformat",
        stage.command("mformat").arg("-i").arg(&image).args(["-N", "52455241", "-v", VOLUME_ID, "::"]),
    )?;
    program::run("mmd", stage.command("mmd").arg("-i").arg(&image).args(["::EFI", "::EFI/BOOT"]))?;
    for (name, source) in programs {
        let copy = format!("esp/{name}");
        stage.put(&copy, &base.read(source)?)?;
        let mut mcopy = stage.command("mcopy");
        mcopy.arg("-m").arg("-i").arg(&image).arg(stage.path(&copy)).arg(format!("::EFI/BOOT/{name}"));
        program::run("mcopy", &mut mcopy)?;
    }
    Ok(())
}

/// A folder whose files all have the same time.
struct Stage {
    dir: tempfile::TempDir,
    epoch: u64,
}

impl Stage {
    fn new(epoch: u64) -> Result<Self, Error> {
        let dir = tempfile::tempdir().map_err(Error::file("make a folder in", std::env::temp_dir()))?;
        Ok(Stage { dir, epoch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
        }
        fs::write(&path, content).map_err(Error::file("write", &path))?;
        self.date(&path)
    }

    fn date(&self, path: &Path) -> Result<(), Error> {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.epoch);
        let set = || fs::File::open(path)?.set_modified(time);
        set().map_err(Error::file("set the time of", path))
    }

    /// A program that takes the image's time for its own, and UTC for the local time.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string()).env("TZ", "UTC").env("LC_ALL", "C");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_starts_the_kernel_with_both_consoles_and_the_images_defaults() {
        insta::assert_snapshot!(grub_cfg("rerack.server=https://10.0.2.2:8443  rerack.unattended"));
    }

    #[test]
    fn fault_54_a_code_is_never_baked_into_an_image() {
        let error = check_kernel_args("quiet rerack.code=ABCD-EFGH-JKMN-PQRS-TVWX").unwrap_err();
        assert!(!error.to_string().contains("ABCD"), "{error}");
    }

    #[test]
    fn what_grub_would_read_as_its_own_is_refused() {
        for argument in ["a;reboot", "x='y'", "$prefix", "a{b", "\u{e9}"] {
            assert!(check_kernel_args(argument).is_err(), "{argument}");
        }
        assert!(check_kernel_args("rerack.server=https://[fd00::1]:8443,https://b ip=dhcp rerack.nic=eth0").is_ok());
    }
}
