//! Targets that a person named: disks, loop devices, and image files, which get a loop device while a command runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use linux_io::Roots;
use linux_io::blockdev::{BlockDevError, Disk};
use linux_io::loopdev::{LoopDevice, LoopOptions};
use linux_io::scan::{InventoryOptions, ScanError, inventory};
use node_model::{DeviceKey, Inventory, InventoryDisk, SectorSize};
use restore_plan::Policy;

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
    /// Leave network files as they are: the disks will be used in another machine than this one.
    #[arg(long)]
    pub(crate) keep_network: bool,
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

    /// Writes what the options say into the policy. Other disks than those named are never targets.
    pub(crate) fn apply(
        &self,
        options: &TargetOptions,
        inventory: &mut Inventory,
        policy: &mut Policy,
    ) -> Result<(), Problem> {
        policy.keep_network = options.keep_network;
        // Somebody typed the node's name and these targets.
        policy.other_machine_allowed = true;
        for (key, path) in &options.mappings {
            let disk = self.find(inventory, path)?;
            let id = disk.identity.stable_ids().into_iter().next();
            let id = id.ok_or_else(|| {
                Problem::words(format!("{} has no stable identifier", path.display()), "choose another disk")
            })?;
            policy.mapping.insert(key.clone(), id);
        }
        inventory.disks.retain(|disk| disk.named_explicitly);
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

fn sector_size(text: &str) -> Result<SectorSize, String> {
    let bytes: u64 = text.parse().map_err(|_| "512 or 4096".to_owned())?;
    SectorSize::try_from(bytes).map_err(|error| error.to_string())
}
