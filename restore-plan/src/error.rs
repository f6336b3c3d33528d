//! Why there is no plan.

use node_model::{Bytes, DeviceKey, DiskId};

use crate::policy::AllowedForeign;

/// What somebody may say to overrule a refusal, where there is somebody who can be asked for it. Each program has its
/// own words for it; [`PlanError::hint`] names ways that are open everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Override {
    /// The device may come back empty: [`crate::Policy::accept_loss`].
    AcceptLoss(DeviceKey),
    /// This disk takes the captured one's place: [`crate::Policy::mapping`].
    Map(DeviceKey),
    /// The disk was named as a target: [`node_model::InventoryDisk::named_explicitly`].
    NameTarget,
    /// The foreign signature may be erased: [`crate::Policy::foreign_allowed`].
    EraseForeign(AllowedForeign),
}

/// Why no plan was made. Nothing was written, and nothing will be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The snapshot contradicts itself.
    #[error("the snapshot's description of {device} is wrong: {why}")]
    BadLayout {
        /// The device, volume or file.
        device: String,
        /// What is wrong with it.
        why: String,
    },
    /// The snapshot holds something that this version cannot restore.
    #[error("{device} cannot be restored by this version: {what}")]
    Unsupported {
        /// The device.
        device: DeviceKey,
        /// What it is.
        what: String,
    },
    /// No tool makes this filesystem or swap area again as it was.
    #[error("the {kind} on {device} cannot be made again: {why}")]
    CannotMake {
        /// The device.
        device: DeviceKey,
        /// The type.
        kind: &'static str,
        /// Why.
        why: String,
    },
    /// The snapshot has nothing of what a device held.
    #[error("{device} held {held}, and the snapshot has none of it")]
    NothingCaptured {
        /// The device.
        device: DeviceKey,
        /// What it held.
        held: String,
    },
    /// The snapshot has no disk.
    #[error("the snapshot describes no disk")]
    NoDisk,
    /// A mapping names a captured disk that is none.
    #[error("there is no captured disk `{key}`; the snapshot has {known}")]
    UnknownCapturedDisk {
        /// The name.
        key: DeviceKey,
        /// Those there are.
        known: String,
    },
    /// A mapping names a disk that this machine does not have.
    #[error("this machine has no disk with {id}; it has:{candidates}")]
    UnknownTarget {
        /// The identifier.
        id: String,
        /// The disks there are, one a line.
        candidates: String,
    },
    /// Several disks have the identifier that should tell them apart.
    #[error("{id} is not one disk but several:{candidates}")]
    DuplicateIdentity {
        /// The identifier.
        id: String,
        /// The disks, one a line.
        candidates: String,
    },
    /// One disk would take the place of two.
    #[error("{disk} would take the place of both {first} and {second}")]
    TargetUsedTwice {
        /// The disk.
        disk: String,
        /// One captured disk.
        first: DeviceKey,
        /// The other.
        second: DeviceKey,
    },
    /// The disk that would be the target must not be written to.
    #[error("{disk} must not be erased: {reason}")]
    NotEligible {
        /// The disk.
        disk: String,
        /// Why.
        reason: String,
        /// What would make it eligible.
        hint: String,
        /// What overrules it, if anything does.
        overruled_by: Option<Box<Override>>,
    },
    /// No disk of this machine can take a captured disk's place.
    #[error("no disk of this machine can take the place of {old}; it has:{candidates}")]
    NoCandidate {
        /// The captured disk's key.
        key: DeviceKey,
        /// The captured disk.
        old: String,
        /// The disks there are, each with the reason why not, one a line.
        candidates: String,
    },
    /// Several disks could take a captured disk's place.
    #[error("more than one disk could take the place of {old}:{candidates}")]
    Ambiguous {
        /// The captured disk's key.
        key: DeviceKey,
        /// The captured disk.
        old: String,
        /// The disks, one a line.
        candidates: String,
        /// The disks by their strongest identifiers: naming one ends the doubt.
        disks: Vec<DiskId>,
    },
    /// The target's blocks have another size.
    #[error("{disk} has blocks of {found} bytes, and {key} had {needed}: a partition table cannot be carried over")]
    SectorSize {
        /// The target.
        disk: String,
        /// The captured disk's key.
        key: DeviceKey,
        /// Its block size.
        needed: u64,
        /// The target's.
        found: u64,
    },
    /// The target is too small.
    #[error(
        "{disk} is too small for {key}: its last partition ends at byte {}, the backup table needs {} more, \
         which makes {}; the disk has {}, {} too few",
        end.get(), backup.get(), end.get() + backup.get(), has.get(), end.get() + backup.get() - has.get()
    )]
    TooSmall {
        /// The target.
        disk: String,
        /// The captured disk's key.
        key: DeviceKey,
        /// Where the last partition ends.
        end: Bytes,
        /// What the table's copy needs behind it.
        backup: Bytes,
        /// What the disk has.
        has: Bytes,
    },
}

impl PlanError {
    /// What the operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::BadLayout { .. } => "restore another snapshot of this node; please report this one".to_owned(),
            Self::Unsupported { .. } | Self::CannotMake { .. } => {
                "restore with a newer rerack, or take the files out with `rerack export`".to_owned()
            }
            Self::NothingCaptured { .. } => {
                "restore a snapshot that has it; `rerack restore` can be told that it may come back empty".to_owned()
            }
            Self::NoDisk => "restore another snapshot of this node".to_owned(),
            Self::UnknownCapturedDisk { .. } | Self::UnknownTarget { .. } => {
                "name a captured disk and the serial number of one of this machine's disks".to_owned()
            }
            Self::DuplicateIdentity { .. } => {
                "unplug all but one of them, or name the one meant by another identifier".to_owned()
            }
            Self::TargetUsedTwice { .. } => "name another disk for one of the two".to_owned(),
            Self::NotEligible { hint, .. } => hint.clone(),
            Self::NoCandidate { .. } => "put in a disk that is large enough, then scan again".to_owned(),
            Self::Ambiguous { .. } => "unplug the disks that are not meant, then scan again".to_owned(),
            Self::SectorSize { needed, .. } => format!("use a disk with blocks of {needed} bytes"),
            Self::TooSmall { .. } => "use a larger disk".to_owned(),
        }
    }

    /// What somebody may say to have it planned nevertheless.
    pub fn overruled_by(&self) -> Option<Override> {
        match self {
            Self::NothingCaptured { device, .. } => Some(Override::AcceptLoss(device.clone())),
            Self::NoCandidate { key, .. } | Self::Ambiguous { key, .. } => Some(Override::Map(key.clone())),
            Self::NotEligible { overruled_by, .. } => overruled_by.as_deref().cloned(),
            _ => None,
        }
    }
}
