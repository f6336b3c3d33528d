//! The QEMU command line, as a pure function of what a machine should be.

use std::path::PathBuf;

use crate::{Acceleration, Disk, Net, disk::Bus};

/// Which firmware starts the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS on a PC of the i440FX kind.
    Bios,
    /// OVMF on a Q35 machine, with variables of its own.
    Uefi,
    /// As `Uefi`, with Secure Boot enforced by Microsoft's keys.
    UefiSecureBoot,
}

/// What the firmware tries first; what does not boot falls through to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFirst {
    /// The disc, then the disks: a machine whose operator chose the disc.
    Disc,
    /// The disks, then the disc: as soon as a disk is bootable, it boots.
    Disk,
}

/// What the firmware tells of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Smbios {
    /// System UUID.
    pub uuid: Option<String>,
    /// System serial number.
    pub serial: Option<String>,
}

/// Everything that the command line depends on.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) accel: Acceleration,
    pub(crate) firmware: Firmware,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) disks: Vec<Disk>,
    pub(crate) cdrom: Option<PathBuf>,
    pub(crate) boot_first: BootFirst,
    pub(crate) nets: Vec<Net>,
    pub(crate) kernel: Option<PathBuf>,
    pub(crate) initrd: Option<PathBuf>,
    pub(crate) append: String,
    pub(crate) smbios: Smbios,
    pub(crate) reboot: bool,
    pub(crate) extra: Vec<String>,
}

/// The files of one running machine.
#[derive(Debug, Clone)]
pub(crate) struct Sockets {
    pub(crate) serial: PathBuf,
    pub(crate) qmp: PathBuf,
    pub(crate) ovmf_vars: PathBuf,
}

/// Where Debian's `ovmf` package keeps its firmware.
pub(crate) const OVMF_DIR: &str = "/usr/share/OVMF";

impl Firmware {
    /// The code that never changes.
    pub(crate) fn code(self) -> Option<&'static str> {
        match self {
            Firmware::Bios => None,
            Firmware::Uefi => Some("OVMF_CODE_4M.fd"),
            Firmware::UefiSecureBoot => Some("OVMF_CODE_4M.ms.fd"),
        }
    }

    /// The variables that a new machine starts with.
    pub(crate) fn vars(self) -> Option<&'static str> {
        match self {
            Firmware::Bios => None,
            Firmware::Uefi => Some("OVMF_VARS_4M.fd"),
            Firmware::UefiSecureBoot => Some("OVMF_VARS_4M.ms.fd"),
        }
    }
}

/// Builds the arguments of `qemu-system-x86_64`.
pub(crate) fn arguments(machine: &Machine, sockets: &Sockets) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut put = |items: &[&str]| args.extend(items.iter().map(|item| (*item).to_owned()));

    put(&["-name", &machine.name, "-nodefaults", "-no-user-config", "-display", "none"]);
    let board = match machine.firmware {
        Firmware::Bios => "pc",
        Firmware::Uefi => "q35",
        Firmware::UefiSecureBoot => "q35,smm=on",
    };
    put(&["-machine", board]);
    match machine.accel {
        Acceleration::Kvm => put(&["-accel", "kvm", "-cpu", "host"]),
        Acceleration::Tcg => put(&["-accel", "tcg,thread=multi", "-cpu", "max"]),
    }
    put(&["-m", &machine.memory_mib.to_string(), "-smp", &machine.cpus.to_string()]);
    if !machine.reboot {
        put(&["-no-reboot"]);
    }
    // Entropy, or sshd and TLS wait for it.
    put(&["-device", "virtio-rng-pci"]);
    put(&["-vga", "std"]);

    if let Some(code) = machine.firmware.code() {
        put(&["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_DIR}/{code}")]);
        put(&["-drive", &format!("if=pflash,unit=1,format=raw,file={}", sockets.ovmf_vars.display())]);
    }
    if machine.firmware == Firmware::UefiSecureBoot {
        put(&["-global", "driver=cfi.pflash01,property=secure,value=on"]);
    }

    put(&["-chardev", &format!("socket,id=serial0,path={},server=on,wait=off", sockets.serial.display())]);
    put(&["-serial", "chardev:serial0"]);
    put(&["-chardev", &format!("socket,id=qmp0,path={},server=on,wait=off", sockets.qmp.display())]);
    put(&["-mon", "chardev=qmp0,mode=control"]);

    let mut smbios = String::from("type=1,manufacturer=rerack,product=test-node");
    if let Some(uuid) = &machine.smbios.uuid {
        smbios.push_str(&format!(",uuid={uuid}"));
        put(&["-uuid", uuid]);
    }
    if let Some(serial) = &machine.smbios.serial {
        smbios.push_str(&format!(",serial={serial}"));
    }
    put(&["-smbios", &smbios]);

    if machine.disks.iter().any(|disk| disk.bus == Bus::Scsi) {
        put(&["-device", "virtio-scsi-pci,id=scsi0"]);
    }
    if machine.disks.iter().any(|disk| disk.bus == Bus::Sata) {
        put(&["-device", "ahci,id=ahci0"]);
    }
    for (index, disk) in machine.disks.iter().enumerate() {
        args.extend(disk.arguments(index));
    }
    if let Some(iso) = &machine.cdrom {
        let path = iso.display().to_string().replace(',', ",,");
        let order = match machine.boot_first {
            BootFirst::Disc => 0,
            BootFirst::Disk => 100,
        };
        // A SCSI disc is found by both firmwares.
        let bus = if machine.disks.iter().any(|disk| disk.bus == Bus::Scsi) { "scsi0.0" } else { "scsicd.0" };
        if bus == "scsicd.0" {
            args.extend(["-device".into(), "virtio-scsi-pci,id=scsicd".into()]);
        }
        args.extend([
            "-drive".into(),
            format!("if=none,id=cdrom,format=raw,media=cdrom,readonly=on,file={path}"),
            "-device".into(),
            format!("scsi-cd,bus={bus},drive=cdrom,id=cd0,bootindex={order}"),
        ]);
    }
    if machine.nets.is_empty() {
        args.extend(["-nic".into(), "none".into()]);
    }
    for (index, net) in machine.nets.iter().enumerate() {
        args.extend(net.arguments(index));
    }
    if let Some(kernel) = &machine.kernel {
        args.extend(["-kernel".into(), kernel.display().to_string()]);
        args.extend(["-append".into(), machine.append.clone()]);
    }
    if let Some(initrd) = &machine.initrd {
        args.extend(["-initrd".into(), initrd.display().to_string()]);
    }
    args.extend(machine.extra.iter().cloned());
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            name: "test".into(),
            accel: Acceleration::Tcg,
            firmware: Firmware::Bios,
            memory_mib: 512,
            cpus: 2,
            disks: vec![Disk::new("/d/a,b.img").serial("OLD-1")],
            cdrom: None,
            boot_first: BootFirst::Disc,
            nets: vec![Net::user("52:54:00:00:00:01").forward(2222, 22)],
            kernel: None,
            initrd: None,
            append: String::new(),
            smbios: Smbios { uuid: Some("00000000-0000-4000-8000-000000000001".into()), serial: Some("N1".into()) },
            reboot: false,
            extra: Vec::new(),
        }
    }

    fn sockets() -> Sockets {
        Sockets { serial: "/r/serial".into(), qmp: "/r/qmp".into(), ovmf_vars: "/r/vars.fd".into() }
    }

    fn lines(machine: &Machine) -> String {
        let args = arguments(machine, &sockets());
        args.iter().fold(String::new(), |mut text, arg| {
            text.push_str(if arg.starts_with('-') && !text.is_empty() { "\n" } else { " " });
            text.push_str(arg);
            text
        })
    }

    #[test]
    fn a_bios_machine_with_one_virtio_disk() {
        insta::assert_snapshot!(lines(&machine()));
    }

    #[test]
    fn a_uefi_machine_boots_its_disc_before_its_disks() {
        let mut machine = machine();
        machine.firmware = Firmware::UefiSecureBoot;
        machine.cdrom = Some("/d/rerack.iso".into());
        machine.disks = vec![
            Disk::new("/d/a.img").bus(Bus::Scsi).wwn(0x5000_c500_0000_0001).sector_bytes(4096),
            Disk::new("/d/b.img").bus(Bus::Nvme),
        ];
        insta::assert_snapshot!(lines(&machine));
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        assert!(lines(&machine()).contains("file=/d/a,,b.img"));
    }
}
