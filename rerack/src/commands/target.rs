//! Targets that a person named: disks, loop devices, and image files, which get a loop device while a command runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use linux_io::Roots;
use linux_io::blockdev::{BlockDevError, Disk};
use linux_io::loopdev::{LoopDevice, LoopOptions};
use linux_io::scan::{InventoryOptions, ScanError, inventory};
use node_model::{DeviceKey, DiskId, Inventory, InventoryDisk, SectorSize};
use restore_engine::planning::PlanningError;
use restore_plan::{AllowedForeign, Override, PlanError, Policy};

use crate::problem::{OrProblem, Problem};

/// What to do about an image that gets no loop device.
pub(crate) const NO_LOOP: &str = "run as root, on a kernel with loop devices";

/// The mounts and loop devices of a command that was killed go a moment after it.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(3);

/// The options by which targets are named.
#[derive(clap::Args)]
pub(crate) struct TargetOptions {
    /// A disk, loop device or image file that may be erased; may be given several times.
    #[arg(long = "target", value_name = "PATH", required = true)]
    pub(crate) targets: Vec<PathBuf>,
    /// The target that takes the place of a captured disk, as `disk0=/dev/sdx`; may be given several times.
    #[arg(long = "map", value_name = "DISK=PATH", value_parser = mapping)]
    pub(crate) mappings: Vec<(DeviceKey, PathBuf)>,
    /// The sector size that image files get: 512 or 4096.
    #[arg(long, default_value = "512", value_parser = sector_size)]
    pub(crate) sector_size: SectorSize,
}

/// What a person allows besides.
#[derive(clap::Args)]
pub(crate) struct PolicyOptions {
    /// Leave network files as they are: the disks will be used in another machine than this one.
    #[arg(long)]
    keep_network: bool,
    /// A captured device that may come back empty, as the plan's refusal names it; may be given several times.
    #[arg(long, value_name = "DEVICE")]
    accept_loss: Vec<DeviceKey>,
    /// A signature of something larger than a disk that may be erased, as the plan's refusal names it; may be given
    /// several times.
    #[arg(long, value_name = "DISK=SIGNATURE", value_parser = foreign)]
    erase_foreign: Vec<AllowedForeign>,
}

impl PolicyOptions {
    /// Writes what the options say into the policy.
    pub(crate) fn apply(&self, policy: &mut Policy) {
        policy.keep_network = self.keep_network;
        policy.accept_loss.extend(self.accept_loss.iter().cloned());
        policy.foreign_allowed.extend(self.erase_foreign.iter().cloned());
        // Somebody typed the node's name and the machine's or its disks'.
        policy.other_machine_allowed = true;
    }
}

/// What to do about a plan that cannot be made, in this command's options where one of them overrules the refusal.
pub(crate) fn planning_hint(error: &PlanningError) -> String {
    let PlanningError::Plan(refused) = error else { return error.hint() };
    match refused.overruled_by() {
        None if matches!(refused, PlanError::UnknownCapturedDisk { .. }) => {
            "name a captured disk, as in `--map disk0=PATH`".to_owned()
        }
        None => refused.hint(),
        Some(Override::AcceptLoss(device)) => {
            format!("if it may come back empty, say so with `--accept-loss {device}`")
        }
        Some(Override::Map(key)) if matches!(refused, PlanError::Ambiguous { .. }) => {
            format!("say which one with `--map {key}=PATH`")
        }
        Some(Override::Map(key)) => format!("{}, or name the one meant with `--map {key}=PATH`", refused.hint()),
        Some(Override::NameTarget) => format!("{}, or name it by `--target`", refused.hint()),
        Some(Override::EraseForeign(AllowedForeign { disk, kind })) => {
            let disk = disk.to_string().replace(' ', ":");
            format!("if that is no longer needed: `--erase-foreign {disk}={kind}`")
        }
    }
}

/// The targets of one command, image files attached.
pub(crate) struct Targets {
    paths: Vec<(PathBuf, PathBuf)>,
    _attached: Vec<LoopDevice>,
}

impl Targets {
    /// Attaches what has to be attached.
    pub(crate) fn attach(options: &TargetOptions) -> Result<Self, Problem> {
        let (mut paths, mut attached) = (Vec::new(), Vec::new());
        for path in &options.targets {
            if path.is_file() {
                wait_until_idle(path, options.sector_size)?;
                let how = LoopOptions { sector_size: options.sector_size, ..LoopOptions::default() };
                let device = LoopDevice::attach(path, how).or_hint(|_| NO_LOOP.to_owned())?;
                paths.push((path.clone(), device.path().to_owned()));
                attached.push(device);
            } else {
                paths.push((path.clone(), path.clone()));
            }
        }
        Ok(Self { paths, _attached: attached })
    }

    /// This machine as planning sees it, with the targets named.
    pub(crate) fn inventory(&self) -> Result<Inventory, Problem> {
        let named = self.paths.iter().map(|(_, device)| device.clone()).collect();
        inventory(&Roots::live(), &InventoryOptions { named, ..InventoryOptions::default() }).or_hint(ScanError::hint)
    }

    /// Writes what the options say into the policy. Other disks than those named are never targets, nor are named ones
    /// that cannot be told from others.
    pub(crate) fn apply(
        &self,
        options: &TargetOptions,
        inventory: &mut Inventory,
        policy: &mut Policy,
    ) -> Result<(), Problem> {
        for (key, path) in &options.mappings {
            let disk = self.find(inventory, path)?;
            let id = disk.identity.stable_ids().into_iter().next();
            let id = id.ok_or_else(|| {
                Problem::words(format!("{} has no stable identifier", path.display()), "choose another disk")
            })?;
            policy.mapping.insert(key.clone(), id);
        }
        inventory.disks = only_named(std::mem::take(&mut inventory.disks))?;
        Ok(())
    }

    fn find<'a>(&self, inventory: &'a Inventory, path: &Path) -> Result<&'a InventoryDisk, Problem> {
        let device = self.paths.iter().find(|(named, _)| named == path).map(|(_, device)| device);
        let name = device.and_then(|device| device.strip_prefix("/dev").ok());
        inventory
            .disks
            .iter()
            .find(|disk| disk.named_explicitly && name.is_some_and(|name| Path::new(&disk.kernel_name) == name))
            .ok_or_else(|| Problem::words(format!("{} is no target", path.display()), "name it by --target as well"))
    }
}

/// The disks that a person named, if each can be told from all others.
fn only_named(disks: Vec<InventoryDisk>) -> Result<Vec<InventoryDisk>, Problem> {
    let (named, others): (Vec<_>, Vec<_>) = disks.into_iter().partition(|disk| disk.named_explicitly);
    for disk in &named {
        if let Some(twin) = others.iter().find(|other| other.identity.is_same_disk(&disk.identity)) {
            let (one, other) = (&disk.kernel_name, &twin.kernel_name);
            return Err(Problem::words(
                format!("{one} cannot be told from {other}: both are {}", disk.identity.describe()),
                "unplug the one that is not meant",
            ));
        }
    }
    Ok(named)
}

/// An image that is attached already may be mounted from there, which its new loop device would not show.
fn wait_until_idle(image: &Path, sector_size: SectorSize) -> Result<(), Problem> {
    let deadline = Instant::now() + BUSY_WAIT_MAX;
    loop {
        let disk = Disk::open_with(image, sector_size, &Roots::live()).or_hint(BlockDevError::hint)?;
        match disk.into_idle() {
            Ok(_) => return Ok(()),
            Err(BlockDevError::Busy { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error).or_hint(BlockDevError::hint),
        }
    }
}

fn mapping(text: &str) -> Result<(DeviceKey, PathBuf), String> {
    let (key, path) = text.split_once('=').ok_or_else(|| "DISK=PATH, such as disk0=/dev/sdx".to_owned())?;
    Ok((key.parse().map_err(|error: node_model::InvalidId| error.to_string())?, path.into()))
}

/// As hints write it: `serial:S3Z9=zfs_member`.
fn foreign(text: &str) -> Result<AllowedForeign, String> {
    const EXAMPLE: &str = "DISK=SIGNATURE, such as serial:S3Z9=zfs_member";
    let (disk, kind) = text.rsplit_once('=').ok_or(EXAMPLE)?;
    let (word, value) = disk.split_once(':').ok_or(EXAMPLE)?;
    let id = match word {
        "wwn" => DiskId::Wwn,
        "nguid" => DiskId::Nguid,
        "eui64" => DiskId::Eui64,
        "serial" => DiskId::Serial,
        "file" => DiskId::Backing,
        _ => return Err(EXAMPLE.to_owned()),
    };
    Ok(AllowedForeign { disk: id(value.to_owned()), kind: kind.to_owned() })
}

fn sector_size(text: &str) -> Result<SectorSize, String> {
    let bytes: u64 = text.parse().map_err(|_| "512 or 4096".to_owned())?;
    SectorSize::try_from(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use node_model::{Bytes, DiskIdentity, Transport};

    use super::*;

    fn disk(kernel_name: &str, serial: &str, named_explicitly: bool) -> InventoryDisk {
        InventoryDisk {
            identity: DiskIdentity {
                wwn: None,
                nguid: None,
                eui64: None,
                serial: Some(serial.to_owned()),
                backing: None,
                model: None,
                transport: Transport::Scsi,
                size_bytes: Bytes::gib(1),
            },
            kernel_name: kernel_name.to_owned(),
            bus_path: None,
            sector_size_bytes: SectorSize::B512,
            removable: false,
            read_only: false,
            boot_medium: false,
            held_by: Vec::new(),
            signatures: Vec::new(),
            named_explicitly,
        }
    }

    #[test]
    fn only_what_is_named_is_a_target_and_never_one_of_two_alike() {
        let disks = vec![disk("sda", "S1", false), disk("sdb", "S2", true), disk("sdc", "S3", false)];
        let named = only_named(disks).unwrap();
        assert_eq!(named.iter().map(|disk| disk.kernel_name.as_str()).collect::<Vec<_>>(), ["sdb"]);

        let twins = vec![disk("sda", "S1", false), disk("sdb", "S1", true)];
        let problem = only_named(twins).unwrap_err();
        assert_eq!(problem.to_string(), "sdb cannot be told from sda: both are serial S1, 1.00 GiB");
    }

    #[test]
    fn a_refusal_is_overruled_in_the_words_of_this_command() {
        let leave = AllowedForeign { disk: DiskId::Serial("S3Z9".to_owned()), kind: "zfs_member".to_owned() };
        let refused = PlanError::NotEligible {
            disk: "sdb".to_owned(),
            reason: "it bears a signature".to_owned(),
            hint: "use another disk".to_owned(),
            overruled_by: Some(Box::new(Override::EraseForeign(leave.clone()))),
        };
        let hint = planning_hint(&refused.into());
        let option = hint.split('`').nth(1).unwrap().strip_prefix("--erase-foreign ").unwrap();
        assert_eq!(foreign(option), Ok(leave), "what the hint says can be typed");
        let lost = PlanError::NothingCaptured { device: "disk1-p1".parse().unwrap(), held: "LVM".to_owned() };
        assert_eq!(planning_hint(&lost.into()), "if it may come back empty, say so with `--accept-loss disk1-p1`");
        let doubt = PlanError::Ambiguous {
            key: "disk0".parse().unwrap(),
            old: "disk0".to_owned(),
            candidates: "sda, sdb".to_owned(),
            disks: Vec::new(),
        };
        assert_eq!(planning_hint(&doubt.into()), "say which one with `--map disk0=PATH`");
        let unknown = PlanError::UnknownCapturedDisk { key: "disk7".parse().unwrap(), known: "disk0".to_owned() };
        assert_eq!(planning_hint(&unknown.into()), "name a captured disk, as in `--map disk0=PATH`");
    }

    #[test]
    fn what_a_refusal_names_is_understood() {
        let ids = [
            DiskId::Wwn("naa.5000c500a1b2c3d4".to_owned()),
            DiskId::Nguid("00112233445566778899aabbccddeeff".to_owned()),
            DiskId::Eui64("0025385b".to_owned()),
            DiskId::Serial("S3Z9=1".to_owned()),
            DiskId::Backing("/srv/new.img#12".to_owned()),
        ];
        for disk in ids {
            let named = format!("{}=zfs_member", disk.to_string().replace(' ', ":"));
            assert_eq!(foreign(&named).unwrap(), AllowedForeign { disk, kind: "zfs_member".to_owned() });
        }
        assert!(foreign("serial:S3Z9").is_err() && foreign("S3Z9=zfs_member").is_err() && foreign("sn:1=zfs").is_err());
    }
}
