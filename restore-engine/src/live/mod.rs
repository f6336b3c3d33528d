//! The real machine: a plan's steps on real disks.

mod adapt;
mod error;
mod keep;
mod verify;
mod written;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use linux_io::blockdev::{BlockDevError, ClaimedDisk, Disk};
use linux_io::fs::{RootWriter, open_root};
use linux_io::mount::{MountOptions, Mounted};
use linux_io::partitions::{self, DeviceNode, KnownPartition, PartitionPlace};
use linux_io::runner::Tool;
use linux_io::superblock::{self, Described, SuperblockKind};
use node_model::{DeviceKey, DeviceNumber, Filesystem, Gpt, Lba, Swap, VolumeName};
use restore_plan::{
    AnnouncedPartition, BootSector, ByteRange, FieldDifference, FillMode, Plan, Step, TargetDisk, ToolCall,
    compare_filesystems, compare_swap,
};
use tokio::runtime::Handle;

pub use error::StepError;

use crate::data::{FilesRestore, Meter, Notice, Patient, PipelineOptions, ProvenVolume, Reuse, SnapshotSource};
use crate::machine::Machine;
use crate::prove::ProvenSnapshot;
use crate::raw::read_raw;
use written::Written;

/// Bytes of block 0 that hold boot code and the disk signature; the partition entries of the MBR follow.
const BOOT_CODE_BYTES: usize = 446;

/// What a live machine works with.
pub struct Work {
    /// The snapshot.
    pub snapshot: ProvenSnapshot,
    /// Where its data comes from.
    pub source: Arc<dyn SnapshotSource>,
    /// Runs what waits for sockets.
    pub runtime: Handle,
    /// How the pipeline runs.
    pub options: PipelineOptions,
    /// Counts bytes and files.
    pub meter: Arc<Meter>,
    /// Told of what goes on in the pipeline.
    pub notify: Arc<dyn Fn(Notice) + Send + Sync>,
    /// Gives the log of the restore as far as it has come, for the restored node to keep. It holds no secret.
    pub log: Arc<dyn Fn(&Plan) -> String + Send + Sync>,
    /// A private directory for device nodes and mount points, in memory where there is a choice.
    pub directory: PathBuf,
}

/// The machine this program runs on.
pub struct LiveMachine {
    work: Work,
    disks: BTreeMap<DeviceKey, ClaimedDisk>,
    partitions: BTreeMap<DeviceKey, KnownPartition>,
    mounts: BTreeMap<DeviceKey, Mounted>,
    /// What this run wrote besides the volumes.
    written: BTreeMap<DeviceKey, Vec<Written>>,
}

impl LiveMachine {
    /// A machine of which nothing is claimed yet.
    pub fn new(mut work: Work) -> Self {
        work.source = Arc::new(Patient::new(work.source, work.options.patience, work.notify.clone()));
        let (disks, partitions) = (BTreeMap::new(), BTreeMap::new());
        Self { work, disks, partitions, mounts: BTreeMap::new(), written: BTreeMap::new() }
    }

    /// The claimed disk `key`. Its identity is read again each time.
    fn disk(&self, plan: &Plan, key: &DeviceKey) -> Result<&ClaimedDisk, StepError> {
        plan.target(key).ok_or_else(|| StepError::Unknown(key.to_string()))?;
        let disk = self.disks.get(key);
        let disk = disk.ok_or_else(|| StepError::OutOfOrder { device: key.clone(), needed: "claimed" })?;
        disk.check_identity()?;
        Ok(disk)
    }

    /// The claimed disk that holds `device`, and where on it the device lies.
    fn place(&self, plan: &Plan, device: &DeviceKey) -> Result<(&ClaimedDisk, ByteRange), StepError> {
        let (target, range) = plan.place(device).ok_or_else(|| StepError::Unknown(device.to_string()))?;
        Ok((self.disk(plan, &target.key)?, range))
    }

    /// A private node for `device`, after its disk's identity was read again and the kernel was asked whether the
    /// number still is that of this partition.
    fn node(&self, plan: &Plan, device: &DeviceKey) -> Result<DeviceNode, StepError> {
        let disk = self.place(plan, device)?.0;
        let number: Option<DeviceNumber> = match self.partitions.get(device) {
            Some(partition) => {
                partitions::check(disk, partition)?;
                Some(partition.device)
            }
            None if plan.target(device).is_some() => disk.number(),
            None => None,
        };
        let number = number.ok_or_else(|| StepError::OutOfOrder { device: device.clone(), needed: "announced" })?;
        let directory = self.work.directory.join("dev");
        DeviceNode::create(&directory, device.as_str(), number)
            .map_err(|source| StepError::Workspace { path: directory.display().to_string(), source })
    }

    fn run_tools(&self, plan: &Plan, device: &DeviceKey, commands: &[ToolCall]) -> Result<(), StepError> {
        for command in commands {
            let node = self.node(plan, device)?;
            let args = command.args_for(&node.path().to_string_lossy());
            let tool = Tool::new(&command.program).args(args).time_limit(TOOL_TIME_MAX);
            // A checker that corrected something says so by its exit code.
            command.exit_codes_ok.iter().fold(tool, |tool, code| tool.accept_exit(*code)).run()?;
        }
        Ok(())
    }

    fn superblock(&self, plan: &Plan, device: &DeviceKey, kind: SuperblockKind) -> Result<Described, StepError> {
        let node = self.node(plan, device)?;
        let file = File::open(node.path())
            .map_err(|source| StepError::Workspace { path: node.path().display().to_string(), source })?;
        superblock::read(&file, kind).map_err(|source| StepError::Superblock { device: device.clone(), source })
    }

    fn expect_filesystem(&self, plan: &Plan, device: &DeviceKey, expect: &Filesystem) -> Result<(), StepError> {
        let kind = SuperblockKind::from_blkid(expect.type_name());
        let kind = kind.ok_or_else(|| StepError::Unknown(expect.type_name().to_owned()))?;
        let differences = match self.superblock(plan, device, kind)? {
            Described::Filesystem(found) => in_words(&compare_filesystems(expect, &found)),
            Described::Swap(_) => vec!["it is swap".to_owned()],
        };
        like(device, differences)
    }

    fn expect_swap(&self, plan: &Plan, device: &DeviceKey, expect: &Swap) -> Result<(), StepError> {
        let differences = match self.superblock(plan, device, SuperblockKind::Swap)? {
            Described::Swap(found) => in_words(&compare_swap(expect, &found)),
            Described::Filesystem(_) => vec!["it is a filesystem".to_owned()],
        };
        like(device, differences)
    }

    /// A filesystem that was made under this claim before. What cannot be repaired, or turns out to be another, is
    /// made anew.
    fn check_or_make(
        &self,
        plan: &Plan,
        device: &DeviceKey,
        (checks, otherwise): (&[ToolCall], &[ToolCall]),
        expect: &Filesystem,
    ) -> Result<Vec<String>, StepError> {
        let kept = self.run_tools(plan, device, checks).and_then(|()| self.expect_filesystem(plan, device, expect));
        let Err(error) = kept else { return Ok(Vec::new()) };
        self.run_tools(plan, device, otherwise)?;
        self.expect_filesystem(plan, device, expect)?;
        Ok(vec![format!("{device} could not be kept and was made anew: {}", crate::data::chain(&error))])
    }

    fn announce(&mut self, plan: &Plan, disk: &DeviceKey, wanted: &[AnnouncedPartition]) -> Result<(), StepError> {
        let places: Vec<PartitionPlace> = wanted
            .iter()
            .map(|partition| PartitionPlace {
                number: partition.number,
                start: partition.range.offset_bytes,
                length: partition.range.length_bytes,
            })
            .collect();
        let known = partitions::announce(self.disk(plan, disk)?, &places)?;
        for (partition, known) in wanted.iter().zip(known) {
            self.partitions.insert(partition.device.clone(), known);
        }
        Ok(())
    }

    fn mount(
        &mut self,
        plan: &Plan,
        device: &DeviceKey,
        (fstype, options): (&str, &str),
        read_only: bool,
    ) -> Result<(), StepError> {
        let node = self.node(plan, device)?;
        let target = self.work.directory.join("mnt").join(device.as_str());
        fs::create_dir_all(&target)
            .map_err(|source| StepError::Workspace { path: target.display().to_string(), source })?;
        let (options, data) = mount_options(options, read_only);
        let mounted = Mounted::new(node.path(), &target, fstype, MountOptions { data: &data, ..options })?;
        self.mounts.insert(device.clone(), mounted);
        Ok(())
    }

    fn mounted(&self, device: &DeviceKey) -> Result<&Path, StepError> {
        let mounted = self.mounts.get(device);
        mounted.map(Mounted::target).ok_or_else(|| StepError::OutOfOrder { device: device.clone(), needed: "mounted" })
    }

    fn unmount(&mut self, plan: &Plan, device: &DeviceKey) -> Result<(), StepError> {
        let mounted = self.mounts.remove(device);
        mounted.ok_or_else(|| StepError::OutOfOrder { device: device.clone(), needed: "mounted" })?.unmount()?;
        let (disk, _) = self.place(plan, device)?;
        disk.flush()?;
        disk.drop_cache()?;
        Ok(())
    }

    fn volume(&self, name: &VolumeName) -> Result<&ProvenVolume, StepError> {
        self.work.snapshot.volume(name).ok_or_else(|| StepError::Unknown(name.to_string()))
    }

    fn restore_files(&self, volume: &VolumeName, device: &DeviceKey, mode: FillMode) -> Result<(), StepError> {
        let root = self.mounted(device)?;
        let reuse = match mode {
            FillMode::Fresh => None,
            FillMode::Differential => Some(Reuse::below(open_root(root)?)),
        };
        let restore = FilesRestore {
            volume: self.volume(volume)?,
            source: &*self.work.source,
            runtime: &self.work.runtime,
            options: &self.work.options,
            meter: &self.work.meter,
            notify: &*self.work.notify,
        };
        restore.run(&RootWriter::open(root)?, reuse.as_ref())?;
        Ok(())
    }

    fn raw(&self, volume: &VolumeName) -> Result<Vec<u8>, StepError> {
        let Work { source, runtime, options, meter, notify, .. } = &self.work;
        Ok(read_raw(self.volume(volume)?, &**source, runtime, options, meter, &**notify)?)
    }

    fn write_raw(
        &self,
        plan: &Plan,
        volume: &VolumeName,
        device: &DeviceKey,
        range: ByteRange,
    ) -> Result<(), StepError> {
        let bytes = self.raw(volume)?;
        let (disk, place) = self.place(plan, device)?;
        fits(volume, &bytes, range)?;
        disk.write_at(&bytes, place.offset_bytes.get() + range.offset_bytes.get())?;
        disk.flush()?;
        Ok(())
    }

    fn make_bootable(&self, plan: &Plan, key: &DeviceKey, wanted: &BootSector) -> Result<(), StepError> {
        let captured = match wanted {
            BootSector::Verbatim { volume } | BootSector::Rebuilt { volume: Some(volume), .. } => self.raw(volume)?,
            BootSector::Rebuilt { volume: None, .. } => Vec::new(),
        };
        let target = plan.target(key).ok_or_else(|| StepError::Unknown(key.to_string()))?;
        let disk = self.disk(plan, key)?;
        let sector = disk.sector_size();
        let bytes = match wanted {
            BootSector::Verbatim { volume } => {
                let first = captured.get(..sector.get() as usize);
                first.ok_or_else(|| StepError::Unknown(format!("first block in volume {volume}")))?.to_vec()
            }
            BootSector::Rebuilt { protective_sectors, .. } => {
                let code = &captured[..captured.len().min(BOOT_CODE_BYTES)];
                linux_io::gpt::protective_mbr(code, u64::from(*protective_sectors) + 1, sector)
            }
        };
        verify::verify_table(disk, key, &target.table)?;
        verify::write_boot_sector(disk, key, &bytes)
    }

    fn write_table(&self, plan: &Plan, key: &DeviceKey, (table, backup): (&Gpt, Lba)) -> Result<(), StepError> {
        let disk = self.disk(plan, key)?;
        let last = disk.size().get() / disk.sector_size().get() - 1;
        if backup.0 != last {
            let (planned, found) = (format!("the table's copy at block {}", backup.0), format!("its last at {last}"));
            return Err(StepError::NotAsPlanned { device: key.clone(), planned, found });
        }
        let _hold = disk.hold()?;
        Ok(linux_io::gpt::write(disk, table)?)
    }

    fn zero(&self, plan: &Plan, key: &DeviceKey, ranges: &[ByteRange]) -> Result<(), StepError> {
        let disk = self.disk(plan, key)?;
        for range in ranges {
            disk.zero(range.offset_bytes.get()..range.end())?;
        }
        disk.flush()?;
        Ok(())
    }
}

/// How long one program may take: mkfs and fsck of a large disk without discard.
const TOOL_TIME_MAX: Duration = Duration::from_secs(3600);

/// What a killed engine left behind, a mount or a program, lets go of the disk a moment after it.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Opens the target's disk, shows that nothing uses it, and compares it with the plan.
fn claim(target: &TargetDisk) -> Result<ClaimedDisk, StepError> {
    let path = Path::new("/dev").join(&target.kernel_name);
    let deadline = Instant::now() + BUSY_WAIT_MAX;
    loop {
        match Disk::open(&path)?.into_idle() {
            Err(BlockDevError::Busy { .. }) if Instant::now() < deadline => thread::sleep(BUSY_PAUSE),
            idle => return Ok(idle?.claim(&target.identity)?),
        }
    }
}

fn in_words(differences: &[FieldDifference]) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

fn like(device: &DeviceKey, differences: Vec<String>) -> Result<(), StepError> {
    if differences.is_empty() { Ok(()) } else { Err(StepError::Unlike { device: device.clone(), differences }) }
}

fn fits(volume: &VolumeName, bytes: &[u8], range: ByteRange) -> Result<(), StepError> {
    if bytes.len() as u64 == range.length_bytes.get() {
        return Ok(());
    }
    Err(StepError::Unknown(format!("length of volume {volume}: {} bytes", bytes.len())))
}

/// Splits mount options into those that every filesystem knows and those that only this one does.
fn mount_options(options: &str, read_only: bool) -> (MountOptions<'static>, String) {
    let mut known = MountOptions { read_only, ..MountOptions::default() };
    let mut data = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => known.read_only = true,
            "nosuid" => known.no_suid = true,
            "nodev" => known.no_dev = true,
            "noexec" => known.no_exec = true,
            "noatime" => known.no_atime = true,
            other => data.push(other),
        }
    }
    (known, data.join(","))
}

impl Machine for LiveMachine {
    type Error = StepError;

    fn claim(&mut self, plan: &Plan) -> Result<(), StepError> {
        for target in &plan.targets {
            self.disks.insert(target.key.clone(), claim(target)?);
        }
        Ok(())
    }

    fn carry_out(&mut self, plan: &Plan, step: &Step) -> Result<Vec<String>, StepError> {
        match step {
            Step::MakeUnbootable { disk, zero: ranges } | Step::WipeSignatures { disk, ranges } => {
                self.zero(plan, disk, ranges)?;
            }
            Step::WriteGpt { disk, table, backup_header_lba } => {
                self.write_table(plan, disk, (table, *backup_header_lba))?;
            }
            Step::AnnouncePartitions { disk, partitions } => self.announce(plan, disk, partitions)?,
            Step::MakeFilesystem { device, commands, expect } => {
                self.run_tools(plan, device, commands)?;
                self.expect_filesystem(plan, device, expect)?;
            }
            Step::CheckFilesystem { device, commands, otherwise, expect } => {
                return self.check_or_make(plan, device, (commands, otherwise), expect);
            }
            Step::MakeSwap { device, commands, expect } => {
                self.run_tools(plan, device, commands)?;
                self.expect_swap(plan, device, expect)?;
            }
            Step::Mount { device, fstype, options, read_only, .. } => {
                self.mount(plan, device, (fstype, options), *read_only)?;
            }
            Step::RestoreFiles { volume, device, mode } => self.restore_files(volume, device, *mode)?,
            Step::Adapt(adaptation) => return self.adapt(adaptation),
            Step::KeepLog { device, node_path, path } => return self.keep_log(plan, device, (node_path, path)),
            Step::EnsureFallbackLoader { device, copies } => return self.copy_loaders(device, copies),
            Step::Unmount { device } => self.unmount(plan, device)?,
            Step::VerifyFiles { volume, device, except, added } => {
                self.verify_files(volume, device, (except, added))?;
            }
            Step::WriteRaw { volume, device, range } => self.write_raw(plan, volume, device, *range)?,
            Step::VerifyRaw { volume, device, range } => self.verify_raw(plan, volume, device, *range)?,
            Step::MakeBootable { disk, boot_sector } => self.make_bootable(plan, disk, boot_sector)?,
            Step::RegisterEfiEntries { entries } => return Ok(self.register(entries)),
        }
        Ok(Vec::new())
    }

    fn let_go(&mut self) {
        // Dropping a mount unmounts it; the disks are closed after them.
        self.mounts.clear();
        self.partitions.clear();
        self.disks.clear();
        self.written.clear();
    }
}
