//! QEMU takes every device that the framework can describe, and its monitor moves them.

use std::fs;

use serde_json::json;

use super::Outcome;
use crate::{Bus, Disk, Error, Firmware, Lab, Net};

pub(super) fn devices(lab: &Lab) -> Result<Outcome, Error> {
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        play(lab, firmware)?;
    }
    Ok(Outcome::Passed)
}

fn play(lab: &Lab, firmware: Firmware) -> Result<(), Error> {
    let file = |name: &str| lab.run_dir().join(format!("devices-{name}"));
    let disc = file("disc.iso");
    fs::write(&disc, vec![0_u8; 1 << 20]).map_err(Error::file("write", &disc))?;
    let mut builder = lab.vm("devices").memory_mib(256).firmware(firmware).cdrom(&disc);
    for (index, bus) in [Bus::Virtio, Bus::Scsi, Bus::Sata, Bus::Nvme].into_iter().enumerate() {
        let disk = Disk::create(file(&format!("{index}.img")), 64 << 20)?.bus(bus).serial(format!("SERIAL-{index}"));
        // SATA disks have 512-byte sectors only.
        let sector_bytes = if bus == Bus::Sata { 512 } else { 4096 };
        builder = builder.disk(disk.wwn(0x5000_c500_0000_0001).sector_bytes(sector_bytes));
    }
    let mut vm = builder
        .net(Net::user("52:54:00:00:00:01"))
        .net(Net::user("52:54:00:00:00:02").model("e1000"))
        .qemu_arguments(["-device", "i6300esb"])
        .start()?;
    let qmp = vm.qmp();
    qmp.set_link(1, false)?;
    qmp.set_link(1, true)?;
    qmp.eject_cdrom()?;
    let blocks = qmp.execute("query-block", json!({}))?;
    let inserted = |id: &str| {
        let all = blocks.as_array().into_iter().flatten();
        let mut matching = all.filter(|block| block["qdev"].as_str().is_some_and(|path| path.contains(id)));
        matching.any(|block| block.get("inserted").is_some())
    };
    if inserted("cd0") || !(0..4).all(|index| inserted(&format!("disk{index}"))) {
        return Err(Error::Unexpected(format!("four disks and no disc expected: {blocks}")));
    }
    let picture = file("screen.png");
    qmp.screendump(&picture)?;
    let bytes = fs::read(&picture).map_err(Error::file("read", &picture))?;
    if !bytes.starts_with(b"\x89PNG") {
        return Err(Error::Unexpected(format!("{} is no picture", picture.display())));
    }
    qmp.system_reset()?;
    vm.kill()
}
