//! A machine in memory that is stricter than a real one: it refuses every step that comes too early, and fails at
//! the step it is told to, before or after the step's effect.

use std::collections::{BTreeMap, BTreeSet};

use node_model::{DeviceKey, Gpt, VolumeName};
use restore_engine::machine::Machine;
use restore_plan::{FillMode, Plan, Resume, Step};

/// What the first block of a disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FirstBlock {
    /// What was there before.
    #[default]
    Old,
    /// Zeros.
    Zero,
    /// What makes the disk bootable.
    Boot,
}

/// What is known of one disk. All of it outlives a failure.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct FakeDisk {
    pub(crate) first_block: FirstBlock,
    pub(crate) table: Option<Gpt>,
}

/// What is known of one partition. Mounts and verification end with the run, the rest outlives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FakeDevice {
    pub(crate) made: Option<String>,
    pub(crate) filled: bool,
    pub(crate) log: Option<String>,
    mounted: Option<bool>,
}

/// At which step the machine fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailAt {
    /// When the disks are taken hold of.
    Claim,
    /// Before the step did anything.
    Before(usize),
    /// After the step did everything, so that only its report is lost.
    After(usize),
}

#[derive(Debug, thiserror::Error)]
#[error("the test wanted it to fail")]
pub(crate) struct Injected;

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct FakeMachine {
    pub(crate) disks: BTreeMap<DeviceKey, FakeDisk>,
    pub(crate) devices: BTreeMap<DeviceKey, FakeDevice>,
    pub(crate) raw: BTreeSet<VolumeName>,
    pub(crate) entries_registered: bool,
    fail_at: Option<FailAt>,
    claimed: BTreeSet<DeviceKey>,
    announced: BTreeSet<DeviceKey>,
    verified: BTreeSet<VolumeName>,
    carried: usize,
}

impl FakeMachine {
    /// A new machine that fails there.
    pub(crate) fn failing(fail_at: FailAt) -> Self {
        Self { fail_at: Some(fail_at), ..Self::default() }
    }

    /// The same disks after a restart: what was announced, mounted or verified is forgotten.
    pub(crate) fn restart(self) -> Self {
        let devices = self.devices.into_iter().map(|(key, device)| (key, FakeDevice { mounted: None, ..device }));
        Self { disks: self.disks, devices: devices.collect(), raw: self.raw, ..Self::default() }
    }

    /// What an engine that starts now finds on the disks.
    pub(crate) fn resume(&self, plan: &Plan) -> Resume {
        let bears = |key: &DeviceKey| {
            let target = plan.target(key).unwrap();
            self.disks.get(key).and_then(|disk| disk.table.as_ref()) == Some(&target.table)
        };
        let tables: BTreeSet<_> = plan.targets.iter().map(|t| t.key.clone()).filter(bears).collect();
        let filesystems = plan
            .partitions
            .iter()
            .filter(|partition| tables.contains(&partition.disk))
            .filter(|partition| self.devices.get(&partition.key).is_some_and(|device| device.made.is_some()))
            .map(|partition| partition.key.clone())
            .collect();
        Resume { tables, filesystems }
    }

    /// Whether firmware would start anything from any disk that was touched.
    pub(crate) fn boots(&self) -> bool {
        self.disks.values().any(|disk| disk.first_block == FirstBlock::Boot)
    }

    /// Whether all is as a finished restore leaves it.
    pub(crate) fn is_complete(&self, plan: &Plan) -> bool {
        let unmounted = self.devices.values().all(|device| device.mounted.is_none());
        let disks = plan.targets.iter().all(|target| {
            let disk = &self.disks[&target.key];
            disk.first_block == FirstBlock::Boot && disk.table.as_ref() == Some(&target.table)
        });
        let volumes = plan
            .volumes
            .iter()
            .all(|volume| self.verified.contains(&volume.volume) || is_boot_code(plan, &volume.volume));
        let logged = plan.steps.iter().all(|step| match step {
            Step::KeepLog { device, path, .. } => self.devices[device].log.as_ref() == Some(path),
            _ => true,
        });
        unmounted && disks && volumes && logged
    }

    fn device(&mut self, key: &DeviceKey) -> &mut FakeDevice {
        assert!(self.announced.contains(key), "{key} is used before it is announced");
        self.devices.entry(key.clone()).or_default()
    }

    fn writable(&mut self, plan: &Plan, key: &DeviceKey) {
        let (target, _) = plan.place(key).unwrap_or_else(|| panic!("{key} is on no target"));
        let disk = self.disks.entry(target.key.clone()).or_default();
        assert_eq!(disk.first_block, FirstBlock::Zero, "{key} is written while {} may boot", target.key);
    }

    fn mounted(&mut self, key: &DeviceKey, read_only: bool) {
        assert_eq!(self.device(key).mounted, Some(read_only), "{key} is not mounted as it should be");
    }

    fn apply(&mut self, plan: &Plan, step: &Step) {
        assert!(plan.targets.iter().all(|target| self.claimed.contains(&target.key)), "not every target is claimed");
        match step {
            Step::MakeUnbootable { disk, zero } => {
                assert_eq!(zero[0].offset_bytes.get(), 0, "the first block comes first");
                let disk = self.disks.entry(disk.clone()).or_default();
                disk.first_block = FirstBlock::Zero;
            }
            Step::WipeSignatures { disk, .. } => {
                self.writable(plan, disk);
                self.disks.get_mut(disk).unwrap().table = None;
                let gone: Vec<_> = plan.partitions.iter().filter(|p| p.disk == *disk).map(|p| p.key.clone()).collect();
                self.devices.retain(|key, _| !gone.contains(key));
            }
            Step::WriteGpt { disk, table, .. } => {
                self.writable(plan, disk);
                self.disks.get_mut(disk).unwrap().table = Some(table.clone());
            }
            Step::AnnouncePartitions { disk, partitions } => {
                assert!(self.disks[disk].table.is_some(), "{disk} has no table to announce");
                self.announced.extend(partitions.iter().map(|partition| partition.device.clone()));
            }
            Step::MakeFilesystem { device, expect, .. } => {
                self.writable(plan, device);
                assert_eq!(self.device(device).mounted, None);
                *self.device(device) = FakeDevice { made: Some(expect.uuid.clone()), ..FakeDevice::default() };
            }
            Step::CheckFilesystem { device, expect, .. } => {
                self.writable(plan, device);
                assert_eq!(self.device(device).made.as_ref(), Some(&expect.uuid), "another filesystem is kept");
            }
            Step::MakeSwap { device, .. } => {
                self.writable(plan, device);
                self.device(device).made = Some("swap".to_owned());
            }
            Step::Mount { device, read_only, .. } => {
                let device = self.device(device);
                assert!(device.made.is_some(), "nothing is there to be mounted");
                assert_eq!(device.mounted.replace(*read_only), None, "mounted twice");
            }
            Step::RestoreFiles { device, mode, .. } => {
                self.writable(plan, device);
                self.mounted(device, false);
                let device = self.device(device);
                assert!(*mode == FillMode::Differential || !device.filled, "files would be written over others");
                device.filled = true;
                // It was not captured, so a differential restore removes that of an earlier run.
                device.log = None;
            }
            Step::Adapt(adaptation) => {
                self.mounted(&adaptation.device, false);
                assert!(self.device(&adaptation.device).filled, "nothing is there to be adapted");
            }
            Step::KeepLog { device, path, .. } => {
                self.writable(plan, device);
                self.mounted(device, false);
                let device = self.device(device);
                assert!(device.filled, "a log is kept before there is a node to keep it");
                assert_eq!(device.log.replace(path.clone()), None, "two logs");
            }
            Step::EnsureFallbackLoader { device, .. } => {
                self.mounted(device, false);
                assert!(self.device(device).filled, "there is no loader to copy");
            }
            Step::Unmount { device } => {
                assert!(self.device(device).mounted.take().is_some(), "{device} is not mounted");
            }
            Step::VerifyFiles { volume, device, added, .. } => {
                self.mounted(device, true);
                let log = &self.device(device).log;
                assert!(log.iter().all(|log| added.contains(log)), "the log would be found as a difference");
                assert!(self.device(device).filled, "nothing is there to be verified");
                self.verified.insert(volume.clone());
            }
            Step::WriteRaw { volume, device, .. } => {
                self.writable(plan, device);
                self.raw.insert(volume.clone());
            }
            Step::VerifyRaw { volume, .. } => {
                assert!(self.raw.contains(volume), "{volume} is verified before it is written");
                self.verified.insert(volume.clone());
            }
            Step::MakeBootable { disk, .. } => {
                for volume in plan.volumes.iter().filter(|volume| !is_boot_code(plan, &volume.volume)) {
                    assert!(self.verified.contains(&volume.volume), "{} is not verified yet", volume.volume);
                }
                assert!(self.devices.values().all(|device| device.mounted.is_none()), "something is still mounted");
                self.writable(plan, disk);
                self.disks.get_mut(disk).unwrap().first_block = FirstBlock::Boot;
            }
            Step::RegisterEfiEntries { .. } => {
                assert!(plan.targets.iter().all(|t| self.disks[&t.key].first_block == FirstBlock::Boot));
                self.entries_registered = true;
            }
        }
    }
}

/// Whether a volume is the first block, which is written by the last write and verified by booting.
fn is_boot_code(plan: &Plan, volume: &VolumeName) -> bool {
    plan.steps.iter().any(|step| match step {
        Step::MakeBootable { boot_sector, .. } => match boot_sector {
            restore_plan::BootSector::Verbatim { volume: of } => of == volume,
            restore_plan::BootSector::Rebuilt { volume: of, .. } => of.as_ref() == Some(volume),
        },
        _ => false,
    })
}

impl Machine for FakeMachine {
    type Error = Injected;

    fn claim(&mut self, plan: &Plan) -> Result<(), Injected> {
        if self.fail_at == Some(FailAt::Claim) {
            return Err(Injected);
        }
        self.claimed.extend(plan.targets.iter().map(|target| target.key.clone()));
        Ok(())
    }

    fn carry_out(&mut self, plan: &Plan, step: &Step) -> Result<Vec<String>, Injected> {
        let number = self.carried;
        self.carried += 1;
        if self.fail_at == Some(FailAt::Before(number)) {
            return Err(Injected);
        }
        self.apply(plan, step);
        if self.fail_at == Some(FailAt::After(number)) { Err(Injected) } else { Ok(Vec::new()) }
    }

    fn let_go(&mut self) {
        self.devices.values_mut().for_each(|device| device.mounted = None);
        self.announced.clear();
        self.claimed.clear();
    }
}
