//! What a plan is.

use node_model::{
    Bytes, DeviceKey, DiskId, DiskIdentity, Gpt, HexBytes, Lba, NodeName, SectorSize, Signature, SnapshotId, VolumeName,
};
use serde::{Deserialize, Serialize};

use crate::step::{ByteRange, Step};
use crate::{Finding, Severity};

/// The version of the plan's own form.
pub const PLAN_VERSION: u16 = 1;

/// Everything a restore will do, and on what. Made by [`crate::plan`], judged by [`crate::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u16,
    /// What is restored.
    pub source: PlanSource,
    /// The disks that will be erased, in the captured layout's order.
    pub targets: Vec<TargetDisk>,
    /// Where everything on them is, in the captured layout's order.
    pub partitions: Vec<PlannedPartition>,
    /// What becomes of each volume, in the snapshot's order.
    pub volumes: Vec<PlannedVolume>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What will differ from the captured node.
    pub changes: Vec<Change>,
    /// What an operator should know. A plan with a [`Severity::Blocker`] must not be carried out.
    pub findings: Vec<Finding>,
    /// Disks that are left alone.
    pub untouched: Vec<Untouched>,
}

impl Plan {
    /// The findings that forbid carrying this plan out.
    pub fn blockers(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Blocker)
    }

    /// The target disk with this key.
    pub fn target(&self, key: &DeviceKey) -> Option<&TargetDisk> {
        self.targets.iter().find(|target| target.key == *key)
    }

    /// The partition with this key.
    pub fn partition(&self, key: &DeviceKey) -> Option<&PlannedPartition> {
        self.partitions.iter().find(|partition| partition.key == *key)
    }

    /// The target disk that holds a device of the plan, and the device's place on it.
    pub fn place(&self, key: &DeviceKey) -> Option<(&TargetDisk, ByteRange)> {
        if let Some(target) = self.target(key) {
            return Some((target, ByteRange::new(0, target.identity.size_bytes.get())));
        }
        let partition = self.partition(key)?;
        Some((self.target(&partition.disk)?, partition.range))
    }
}

/// What is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSource {
    /// The node.
    pub node: NodeName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Hash of its manifest's bytes.
    pub manifest_blake3: HexBytes,
}

/// A disk that takes the place of a captured one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetDisk {
    /// The captured disk's key.
    pub key: DeviceKey,
    /// The captured disk.
    pub old: DiskIdentity,
    /// The disk to be written. It is compared again, on the opened device, right before the first write.
    pub identity: DiskIdentity,
    /// The identifier it is named by.
    pub id: DiskId,
    /// Its name in the kernel at planning, for screens only.
    pub kernel_name: String,
    /// Its logical sector size.
    pub sector_size_bytes: SectorSize,
    /// Why this disk.
    pub matched_by: MatchedBy,
    /// What lies on it and will be gone.
    pub erased: Vec<Signature>,
    /// The table it gets.
    pub table: Gpt,
    /// The last block of it, where the backup header goes.
    pub backup_header_lba: Lba,
    /// Whether an interrupted run under the same claim has written the table already, so that it is kept.
    pub keeps_table: bool,
}

impl TargetDisk {
    /// What is typed to consent to erasing it: its serial number, or the strongest identifier it has instead.
    pub fn serial(&self) -> String {
        match (&self.identity.serial, &self.id) {
            (Some(serial), _) => serial.clone(),
            (None, DiskId::Wwn(id) | DiskId::Nguid(id) | DiskId::Eui64(id) | DiskId::Serial(id)) => id.clone(),
            (None, DiskId::Backing(id)) => id.clone(),
        }
    }
}

/// Why a disk takes the place of a captured one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchedBy {
    /// A person or a command line said so.
    Named,
    /// It is the captured disk itself.
    Identity,
    /// Of the free disks it is the only one of the captured disk's size.
    Size,
    /// It is the only free disk that is large enough.
    OnlyOne,
    /// As many blank disks of one size are free as are needed; they are taken in the order of their places on the
    /// bus.
    Order,
}

impl MatchedBy {
    /// In words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Named => "named explicitly",
            Self::Identity => "the captured disk itself",
            Self::Size => "the only free disk of the same size",
            Self::OnlyOne => "the only free disk that is large enough",
            Self::Order => "blank disks of one size, in the order of their places on the bus",
        }
    }
}

/// A partition of a target, at its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPartition {
    /// Its key.
    pub key: DeviceKey,
    /// The target.
    pub disk: DeviceKey,
    /// Its number.
    pub number: u32,
    /// First block.
    pub first_lba: Lba,
    /// Last block, inclusive.
    pub last_lba: Lba,
    /// The same in bytes, from the disk's start.
    pub range: ByteRange,
    /// What it will hold, in words.
    pub holds: String,
}

/// What becomes of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedVolume {
    /// The volume.
    pub volume: VolumeName,
    /// Its device.
    pub device: DeviceKey,
    /// What is consented to. It does not say whether this run finds work of an earlier one: see
    /// [`PlannedVolume::resumed`].
    pub fate: VolumeFate,
    /// Whether this run goes on with what an interrupted run under the same claim has made.
    pub resumed: bool,
    /// Bytes of its stream: what is written, holes left out.
    pub stream_bytes: Bytes,
    /// Files of content.
    pub file_count: u64,
}

/// What is consented to for a volume. Nothing but one fate is planned so far; a plan that names another was made by a
/// later version, and is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeFate {
    /// Whatever is there is erased and it is made anew.
    Create,
}

/// One thing that will differ from the captured node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// A disk that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untouched {
    /// The disk.
    pub identity: DiskIdentity,
    /// Its name in the kernel at planning, for screens only.
    pub kernel_name: String,
    /// Why.
    pub reason: String,
}
