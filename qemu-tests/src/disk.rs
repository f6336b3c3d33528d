//! Disks of a virtual machine.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
};

use crate::Error;

/// What a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// `/dev/vda`: a virtio block device.
    Virtio,
    /// `/dev/sda`: a SCSI disk behind a virtio-scsi adapter.
    Scsi,
    /// `/dev/sda`: a SATA disk behind an AHCI adapter.
    Sata,
    /// `/dev/nvme0n1`: an NVMe namespace.
    Nvme,
}

/// A disk: a raw, sparse file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The file on the host.
    pub path: PathBuf,
    /// What it hangs on.
    pub bus: Bus,
    /// Its serial number, as the guest reads it.
    pub serial: Option<String>,
    /// Its World Wide Name, for SCSI disks.
    pub wwn: Option<u64>,
    /// Bytes of a logical sector: 512 or 4096.
    pub sector_bytes: u32,
}

impl Disk {
    /// A virtio disk with 512-byte sectors on this file, which must exist when the machine starts.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Disk { path: path.into(), bus: Bus::Virtio, serial: None, wwn: None, sector_bytes: 512 }
    }

    /// Makes an empty sparse file of this size and a disk on it.
    pub fn create(path: impl AsRef<Path>, size_bytes: u64) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(Error::file("create", path))?;
        file.set_len(size_bytes).map_err(Error::file("size", path))?;
        Ok(Disk::new(path))
    }

    /// Hangs it on another bus.
    #[must_use]
    pub fn bus(mut self, bus: Bus) -> Self {
        self.bus = bus;
        self
    }

    /// Gives it a serial number. Virtio keeps 20 bytes of it.
    #[must_use]
    pub fn serial(mut self, serial: impl Into<String>) -> Self {
        self.serial = Some(serial.into());
        self
    }

    /// Gives it a World Wide Name (SCSI and SATA disks).
    #[must_use]
    pub fn wwn(mut self, wwn: u64) -> Self {
        self.wwn = Some(wwn);
        self
    }

    /// Gives it another logical sector size.
    #[must_use]
    pub fn sector_bytes(mut self, bytes: u32) -> Self {
        self.sector_bytes = bytes;
        self
    }

    /// The arguments of QEMU for disk number `index`. The adapter named `scsi0` exists when a SCSI disk does.
    pub(crate) fn arguments(&self, index: usize) -> Vec<String> {
        let mut device = match self.bus {
            Bus::Virtio => format!("virtio-blk-pci,drive=drive{index}"),
            Bus::Scsi => format!("scsi-hd,bus=scsi0.0,drive=drive{index}"),
            Bus::Sata => format!("ide-hd,bus=ahci0.{index},drive=drive{index}"),
            Bus::Nvme => format!("nvme,drive=drive{index}"),
        };
        device.push_str(&format!(",id=disk{index},bootindex={}", index + 1));
        match (&self.serial, self.bus) {
            (Some(serial), _) => device.push_str(&format!(",serial={serial}")),
            (None, Bus::Nvme) => device.push_str(&format!(",serial=NVME{index:04}")),
            (None, _) => {}
        }
        if let (Some(wwn), Bus::Scsi | Bus::Sata) = (self.wwn, self.bus) {
            device.push_str(&format!(",wwn={wwn:#018x}"));
        }
        if self.sector_bytes != 512 {
            let bytes = self.sector_bytes;
            device.push_str(&format!(",logical_block_size={bytes},physical_block_size={bytes}"));
        }
        // A comma in a path would end the option; QEMU reads two as one.
        let path = self.path.display().to_string().replace(',', ",,");
        vec![
            "-drive".into(),
            format!("if=none,id=drive{index},format=raw,cache=writeback,discard=unmap,file={path}"),
            "-device".into(),
            device,
        ]
    }
}
