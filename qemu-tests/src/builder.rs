//! Building a virtual machine.

use std::path::PathBuf;

use crate::{
    Disk, Error, Firmware, Lab, Net, Smbios, Vm,
    cmdline::{BootFirst, Machine},
    kernel::BootFiles,
};

/// What a machine will be. Made by [`Lab::vm`].
#[derive(Debug, Clone)]
pub struct VmBuilder {
    pub(crate) machine: Machine,
    pub(crate) dir: PathBuf,
    pub(crate) ovmf_vars: Option<PathBuf>,
}

impl VmBuilder {
    pub(crate) fn new(lab: &Lab, name: &str) -> Self {
        VmBuilder {
            machine: Machine {
                name: name.into(),
                accel: lab.acceleration(),
                firmware: Firmware::Bios,
                memory_mib: 1024,
                cpus: 2,
                disks: Vec::new(),
                cdrom: None,
                boot_first: BootFirst::Disc,
                nets: Vec::new(),
                kernel: None,
                initrd: None,
                append: String::new(),
                smbios: Smbios::default(),
                reboot: false,
                extra: Vec::new(),
            },
            dir: lab.run_dir().to_path_buf(),
            ovmf_vars: None,
        }
    }

    /// Memory in MiB; 1024 if not said.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.machine.memory_mib = mib;
        self
    }

    /// Processors; 2 if not said.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.machine.cpus = cpus;
        self
    }

    /// Firmware; BIOS if not said.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.machine.firmware = firmware;
        self
    }

    /// Keeps the UEFI variables in this file across starts. It is made if it does not exist.
    #[must_use]
    pub fn ovmf_vars(mut self, path: impl Into<PathBuf>) -> Self {
        self.ovmf_vars = Some(path.into());
        self
    }

    /// Adds a disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.machine.disks.push(disk);
        self
    }

    /// Puts a disc in the drive.
    #[must_use]
    pub fn cdrom(mut self, iso: impl Into<PathBuf>) -> Self {
        self.machine.cdrom = Some(iso.into());
        self
    }

    /// What the firmware tries first; the disc if not said.
    #[must_use]
    pub fn boot_first(mut self, first: BootFirst) -> Self {
        self.machine.boot_first = first;
        self
    }

    /// Adds a network card.
    #[must_use]
    pub fn net(mut self, net: Net) -> Self {
        self.machine.nets.push(net);
        self
    }

    /// Boots this kernel directly, without the firmware's choice.
    #[must_use]
    pub fn kernel(mut self, files: &BootFiles, append: &str) -> Self {
        self.machine.kernel = Some(files.kernel.clone());
        self.machine.initrd.clone_from(&files.initrd);
        self.machine.append = append.into();
        self
    }

    /// What the firmware tells of the machine.
    #[must_use]
    pub fn smbios(mut self, uuid: &str, serial: &str) -> Self {
        self.machine.smbios = Smbios { uuid: Some(uuid.into()), serial: Some(serial.into()) };
        self
    }

    /// Lets the guest reboot; if not said, a reboot ends the machine.
    #[must_use]
    pub fn reboots(mut self) -> Self {
        self.machine.reboot = true;
        self
    }

    /// More arguments for QEMU, such as a watchdog or `-rtc base=...`.
    #[must_use]
    pub fn qemu_arguments<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.machine.extra.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Switches it on.
    pub fn start(self) -> Result<Vm, Error> {
        Vm::start(self)
    }
}
