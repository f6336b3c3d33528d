//! From a proven snapshot and a scanned machine to a plan that passed its check.

use std::path::Path;

use linux_io::blockdev::{BlockDevError, Disk, ReadAt};
use linux_io::gpt::{self, GptCopies};
use linux_io::superblock::{self, Described, SuperblockKind, Window};
use node_model::{Content, DeviceKey, FilesystemDetails, HexBytes, Inventory, SectorSize, Volume, VolumeKind};
use restore_plan::{Plan, PlanError, PlanSource, Policy, Resume, TargetDisk, check, plan};
use tokio::runtime::Handle;

use crate::data::{CatalogReadError, SnapshotSource};
use crate::prove::ProvenSnapshot;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanningError {
    /// The planner found no way.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The planner made a plan that its judge refuses: a defect of rerack.
    #[error("the plan does not pass its check: {}", findings.join("; "))]
    Unsound {
        /// What the judge says.
        findings: Vec<String>,
    },
    /// The catalog of an ESP could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogReadError),
    /// A target could not be looked at.
    #[error(transparent)]
    Disk(#[from] BlockDevError),
}

impl PlanningError {
    /// Whether it may be otherwise once the machine has another disk.
    pub fn another_disk_may_help(&self) -> bool {
        matches!(
            self,
            Self::Plan(
                PlanError::UnknownTarget { .. }
                    | PlanError::NotEligible { .. }
                    | PlanError::NoCandidate { .. }
                    | PlanError::Ambiguous { .. }
                    | PlanError::SectorSize { .. }
                    | PlanError::TooSmall { .. }
            )
        )
    }

    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Plan(error) => error.hint(),
            Self::Unsound { .. } => "please report this with the plan".to_owned(),
            Self::Catalog(_) => "try again".to_owned(),
            Self::Disk(error) => error.hint().unwrap_or_else(|| "look at this disk, and try again".to_owned()),
        }
    }
}

/// What the plan's consent names as its source.
pub fn plan_source(proven: &ProvenSnapshot) -> PlanSource {
    let manifest = proven.snapshot.manifest();
    PlanSource {
        node: manifest.node.clone(),
        snapshot: manifest.snapshot.clone(),
        manifest_blake3: HexBytes(proven.snapshot.manifest_hash().as_bytes().to_vec()),
    }
}

/// The strictest policy for a snapshot, with what only its catalogs know: the files of its ESPs.
///
/// # Errors
/// If a catalog cannot be read.
pub fn policy_for(
    proven: &ProvenSnapshot,
    source: &dyn SnapshotSource,
    runtime: &Handle,
) -> Result<Policy, CatalogReadError> {
    let manifest = proven.snapshot.manifest();
    let mut policy = Policy::strict(plan_source(proven));
    for volume in volumes(proven) {
        let device = manifest.spec.layout.get(&volume.device);
        let is_vfat = device.is_some_and(|device| match &device.content {
            Content::Filesystem { filesystem } => matches!(filesystem.details, FilesystemDetails::Vfat(_)),
            _ => false,
        });
        let Some(proven) = proven.volume(&volume.name) else { continue };
        if !is_vfat || !matches!(volume.volume, VolumeKind::Files { .. }) {
            continue;
        }
        let mut paths = Vec::new();
        for entry in proven.entries(source, runtime) {
            if let Ok(path) = String::from_utf8(entry?.entry.path) {
                paths.push(path);
            }
        }
        policy.esp_files.insert(volume.name, paths);
    }
    Ok(policy)
}

/// The snapshot's volumes in the vocabulary of planning.
pub fn volumes(proven: &ProvenSnapshot) -> Vec<Volume> {
    proven.snapshot.manifest().volumes.iter().map(|volume| volume.volume.clone()).collect()
}

/// A plan for this machine, judged by the checker.
///
/// # Errors
/// If there is none, or the checker refuses it.
pub fn make_plan(proven: &ProvenSnapshot, inventory: &Inventory, policy: &Policy) -> Result<Plan, PlanningError> {
    let spec = &proven.snapshot.manifest().spec;
    let volumes = volumes(proven);
    let made = plan(spec, &volumes, inventory, policy)?;
    let findings: Vec<String> = check(&made, spec, &volumes, inventory).into_iter().map(|found| found.what).collect();
    if findings.is_empty() { Ok(made) } else { Err(PlanningError::Unsound { findings }) }
}

/// What of `plan` an interrupted run under the same claim has made already: tables that are exactly the planned ones,
/// and on them filesystems that bear the planned UUID. Nothing is mounted, repaired or believed here: what is kept
/// is checked, read and hashed when the plan is carried out.
///
/// # Errors
/// If a target cannot be opened or is another disk than the plan names.
pub fn find_resume(plan: &Plan, proven: &ProvenSnapshot) -> Result<Resume, PlanningError> {
    let mut resume = Resume::default();
    for target in &plan.targets {
        let disk = Disk::open(&Path::new("/dev").join(&target.kernel_name))?;
        if !disk.identity().is_same_disk(&target.identity) || !bears_table(&disk, target) {
            continue;
        }
        resume.tables.insert(target.key.clone());
        for partition in plan.partitions.iter().filter(|partition| partition.disk == target.key) {
            let window = Window::new(&disk, partition.range.offset_bytes.get(), partition.range.length_bytes.get());
            if bears_filesystem(&window, &partition.key, proven) {
                resume.filesystems.insert(partition.key.clone());
            }
        }
    }
    Ok(resume)
}

/// Whether a target still shows the first write of a restore: its first block is zero, so that nothing starts from it.
/// The last write of all puts something there. Several disks become bootable one after the other.
///
/// # Errors
/// If a target cannot be opened.
pub fn shows_first_write(plan: &Plan) -> Result<bool, PlanningError> {
    for target in &plan.targets {
        let disk = Disk::open(&Path::new("/dev").join(&target.kernel_name))?;
        if disk.identity().is_same_disk(&target.identity) && has_empty_first_block(&disk, disk.sector_size()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_empty_first_block(disk: &impl ReadAt, sector_size: SectorSize) -> bool {
    let mut block = vec![0xff; sector_size.get() as usize];
    // One that cannot be read shows nothing.
    disk.read_exact_at(&mut block, 0).is_ok() && block.iter().all(|&byte| byte == 0)
}

fn bears_table(disk: &Disk, target: &TargetDisk) -> bool {
    let found = gpt::read(disk, disk.size(), disk.sector_size());
    matches!(found, Ok(Some(found)) if found.copies == GptCopies::Both && found.table == target.table)
}

fn bears_filesystem(window: &Window<'_, Disk>, key: &DeviceKey, proven: &ProvenSnapshot) -> bool {
    let device = proven.snapshot.manifest().spec.layout.get(key);
    let Some(Content::Filesystem { filesystem }) = device.map(|device| &device.content) else { return false };
    let Some(kind) = SuperblockKind::from_blkid(filesystem.type_name()) else { return false };
    match superblock::read(window, kind) {
        Ok(Described::Filesystem(found)) => found.uuid == filesystem.uuid,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn only_a_first_block_that_is_zero_to_its_end_shows_the_first_write() {
        let directory = tempfile::tempdir().unwrap();
        let shows = |content: &[u8]| {
            let path = directory.path().join("disk");
            std::fs::write(&path, content).unwrap();
            has_empty_first_block(&File::open(path).unwrap(), SectorSize::B4096)
        };
        let mut block = vec![0; 8192];
        block[4096] = 1;
        assert!(shows(&block), "what follows does not count");
        block[4095] = 1;
        assert!(!shows(&block), "a block of 4096 bytes is looked at whole");
        assert!(!shows(&[0; 512]), "what cannot be read shows nothing");
    }
}
