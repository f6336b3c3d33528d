//! The manifest's wire form, format 1.
//!
//! The vocabulary types of `node-model` are the wire types: a manifest is [`NodeSpec`] and [`Volume`] with what binds
//! them to a repository. Golden files pin the JSON. Fields may be added without a new format number; a field that a
//! reader must not overlook is named in `requires`.

use std::collections::HashSet;

use jiff::Timestamp;
use node_model::{
    ConfigFile, Content, DeviceKey, DeviceKind, NodeName, NodeSpec, PartitionTable, SnapshotId, Volume, VolumeKind,
    VolumeName,
};
use serde::{Deserialize, Serialize};

use crate::Hash;
use crate::document::{self, DocumentError, Requirement};
use crate::limits::SEGMENTS_MAX;
use crate::repository::RepositoryId;

/// The newest format of manifests that this version reads and the one it writes.
pub const MANIFEST_FORMAT: u32 = 1;
/// Upper bound for a manifest. Most have some tens of kilobytes; a node of many disks and a petabyte has a few
/// megabytes.
pub const MANIFEST_BYTES_MAX: usize = 8 << 20;
/// Most devices of one layout.
pub const DEVICES_MAX: usize = 4096;
/// Most volumes of one snapshot.
pub const VOLUMES_MAX: usize = 1024;
/// Most partitions of one table: what the largest GPT that firmware must read can hold, eight times over.
pub const PARTITIONS_MAX: usize = 1024;
/// Upper bound for a configuration file that is carried in the manifest.
pub const CONFIG_FILE_BYTES_MAX: usize = 64 << 10;

/// What a node was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of this document: [`MANIFEST_FORMAT`].
    pub format: u32,
    /// What a reader must know beyond the format.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// The version of rerack that wrote it.
    pub agent_version: String,
    /// The repository it was written for.
    pub repository: RepositoryId,
    /// The node.
    pub node: NodeName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When the capture began, by the node's clock, which may be wrong: for people. The order of snapshots is the
    /// receipts' sequence.
    pub captured_at: Timestamp,
    /// The snapshot before this one, where the agent knew of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<SnapshotId>,
    /// Everything about the node but its data.
    pub spec: NodeSpec,
    /// Its data.
    pub volumes: Vec<ManifestVolume>,
}

/// A volume with the objects that describe its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestVolume {
    /// The volume.
    #[serde(flatten)]
    pub volume: Volume,
    /// Segments of its chunk list, in order.
    pub lists: Vec<Hash>,
    /// Segments of its catalog, in order. Empty for a raw volume.
    pub catalogs: Vec<Hash>,
}

/// Why bytes are no usable manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Too large, no JSON, of a newer format, or with unknown requirements.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Its parts contradict each other or go beyond a bound.
    #[error("the manifest contradicts itself: {0}")]
    Invalid(String),
}

impl ManifestError {
    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Document(error) => error.hint(),
            Self::Invalid(_) => {
                "this is a defect of the agent that wrote it, or an attack: choose another snapshot and report it"
                    .into()
            }
        }
    }
}

impl Manifest {
    /// Reads a manifest and checks everything that can be checked of it alone.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        let what = "the manifest";
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(DocumentError::TooLarge { what, bytes: bytes.len(), max: MANIFEST_BYTES_MAX }.into());
        }
        document::check_header(what, bytes, MANIFEST_FORMAT)?;
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|source| DocumentError::Malformed { what, source })?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The manifest's bytes, after the checks that a reader will make: these exact bytes are what gets signed.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        self.validate()?;
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data serialises");
        bytes.push(b'\n');
        if bytes.len() > MANIFEST_BYTES_MAX {
            let (what, bytes, max) = ("the manifest", bytes.len(), MANIFEST_BYTES_MAX);
            return Err(DocumentError::TooLarge { what, bytes, max }.into());
        }
        Ok(bytes)
    }

    /// The volume named `name`.
    pub fn volume(&self, name: &VolumeName) -> Option<&ManifestVolume> {
        self.volumes.iter().find(|volume| volume.volume.name == *name)
    }

    fn validate(&self) -> Result<(), ManifestError> {
        self.validate_layout()
            .and_then(|()| self.validate_volumes())
            .and_then(|()| self.validate_files())
            .map_err(ManifestError::Invalid)
    }

    fn validate_layout(&self) -> Result<(), String> {
        let devices = &self.spec.layout.devices;
        at_most("devices", devices.len(), DEVICES_MAX)?;
        let mut known: HashSet<&DeviceKey> = HashSet::new();
        for device in devices {
            if let DeviceKind::Partition { disk, number } = &device.device {
                if !known.contains(disk) {
                    return Err(format!("device {} stands on {disk}, which does not come before it", device.key));
                }
                let table = self.spec.layout.get(disk).and_then(|disk| match &disk.content {
                    Content::Table { table } => Some(table),
                    _ => None,
                });
                if !table.is_some_and(|table| has_partition(table, *number)) {
                    return Err(format!("device {} is partition {number} of {disk}, which has none", device.key));
                }
            }
            if let Content::Table { table } = &device.content {
                at_most("partitions", partition_count(table), PARTITIONS_MAX)?;
            }
            if !known.insert(&device.key) {
                return Err(format!("device {} occurs twice", device.key));
            }
        }
        match self.spec.mounts.iter().filter_map(|mount| mount.device.as_ref()).find(|key| !known.contains(key)) {
            Some(key) => Err(format!("a mount refers to device {key}, which is not in the layout")),
            None => Ok(()),
        }
    }

    fn validate_volumes(&self) -> Result<(), String> {
        at_most("volumes", self.volumes.len(), VOLUMES_MAX)?;
        let mut names = HashSet::new();
        for ManifestVolume { volume, lists, catalogs } in &self.volumes {
            let name = &volume.name;
            if !names.insert(name) {
                return Err(format!("volume {name} occurs twice"));
            }
            let Some(device) = self.spec.layout.get(&volume.device) else {
                return Err(format!("volume {name} was read from {}, which is not in the layout", volume.device));
            };
            at_most("list segments", lists.len(), SEGMENTS_MAX)?;
            at_most("catalog segments", catalogs.len(), SEGMENTS_MAX)?;
            if lists.is_empty() {
                return Err(format!("volume {name} has no chunk list"));
            }
            match &volume.volume {
                VolumeKind::Files { .. } => {
                    if !matches!(device.content, Content::Filesystem { .. }) {
                        return Err(format!("volume {name} holds files, but {} holds no filesystem", device.key));
                    }
                    if catalogs.is_empty() {
                        return Err(format!("volume {name} holds files but has no catalog"));
                    }
                }
                VolumeKind::Raw { offset_bytes, length_bytes } => {
                    if !catalogs.is_empty() {
                        return Err(format!("raw volume {name} has a catalog"));
                    }
                    let end = offset_bytes.checked_add(*length_bytes);
                    if end.is_none_or(|end| end > device.size_bytes) {
                        return Err(format!("raw volume {name} reaches beyond the end of {}", device.key));
                    }
                    if *length_bytes != volume.stream_bytes {
                        return Err(format!("raw volume {name} has a stream of another length than its region"));
                    }
                }
            }
        }
        Ok(())
    }

    fn validate_files(&self) -> Result<(), String> {
        let too_large = |file: &&ConfigFile| file.content.0.len() > CONFIG_FILE_BYTES_MAX;
        match self.spec.network.files.iter().chain(&self.spec.fstab).find(too_large) {
            Some(file) => {
                Err(format!("the configuration file {:?} has more than {CONFIG_FILE_BYTES_MAX} bytes", file.path))
            }
            None => Ok(()),
        }
    }
}

fn at_most(what: &str, count: usize, max: usize) -> Result<(), String> {
    if count > max { Err(format!("{count} {what} are more than {max}")) } else { Ok(()) }
}

fn partition_count(table: &PartitionTable) -> usize {
    match table {
        PartitionTable::Gpt(gpt) => gpt.partitions.len(),
        PartitionTable::Mbr(mbr) => mbr.partitions.len(),
    }
}

fn has_partition(table: &PartitionTable, number: u32) -> bool {
    match table {
        PartitionTable::Gpt(gpt) => gpt.partitions.iter().any(|partition| partition.number == number),
        PartitionTable::Mbr(mbr) => mbr.partitions.iter().any(|partition| partition.number == number),
    }
}
