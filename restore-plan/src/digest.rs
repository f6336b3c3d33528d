//! The digest that consent covers.

use node_model::{Bytes, DeviceKey, DiskId, Filesystem, Gpt, HexBytes, Lba, Swap, VolumeName};
use serde::Serialize;

use crate::plan::{Plan, VolumeFate};
use crate::step::{Adaptation, BootSector, ByteRange, LoaderCopy, PlannedEfiEntry, Step, ToolCall};

/// What consent covers: what is restored, onto which disks, and what will be on them in the end. Not: what lies on
/// them now, their kernel names, or how much of the work an earlier run has done. Fields are written in this order.
#[derive(Serialize)]
struct Consented<'a> {
    manifest_blake3: &'a HexBytes,
    targets: Vec<ConsentedDisk<'a>>,
    erased: Vec<&'a DiskId>,
    volumes: Vec<(&'a VolumeName, &'a DeviceKey, VolumeFate)>,
    final_state: Vec<Made<'a>>,
}

#[derive(Serialize)]
struct ConsentedDisk<'a> {
    key: &'a DeviceKey,
    id: &'a DiskId,
    size_bytes: Bytes,
    table: &'a Gpt,
    backup_header_lba: Lba,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "made")]
enum Made<'a> {
    Filesystem { device: &'a DeviceKey, commands: &'a [ToolCall], expect: &'a Filesystem },
    Swap { device: &'a DeviceKey, commands: &'a [ToolCall], expect: &'a Swap },
    Adapted(&'a Adaptation),
    Log { device: &'a DeviceKey, path: &'a str },
    Loaders { device: &'a DeviceKey, copies: &'a [LoaderCopy] },
    Raw { device: &'a DeviceKey, volume: &'a VolumeName, range: &'a ByteRange },
    BootSector { disk: &'a DeviceKey, boot_sector: &'a BootSector },
    EfiEntries { entries: &'a [PlannedEfiEntry] },
}

fn made(step: &Step) -> Option<Made<'_>> {
    match step {
        Step::MakeFilesystem { device, commands, expect }
        | Step::CheckFilesystem { device, otherwise: commands, expect, .. } => {
            Some(Made::Filesystem { device, commands, expect })
        }
        Step::MakeSwap { device, commands, expect } => Some(Made::Swap { device, commands, expect }),
        Step::Adapt(adaptation) => Some(Made::Adapted(adaptation)),
        Step::KeepLog { device, path, .. } => Some(Made::Log { device, path }),
        Step::EnsureFallbackLoader { device, copies } => Some(Made::Loaders { device, copies }),
        Step::WriteRaw { volume, device, range } => Some(Made::Raw { device, volume, range }),
        Step::MakeBootable { disk, boot_sector } => Some(Made::BootSector { disk, boot_sector }),
        Step::RegisterEfiEntries { entries } => Some(Made::EfiEntries { entries }),
        Step::MakeUnbootable { .. }
        | Step::WipeSignatures { .. }
        | Step::WriteGpt { .. }
        | Step::AnnouncePartitions { .. }
        | Step::Mount { .. }
        | Step::RestoreFiles { .. }
        | Step::Unmount { .. }
        | Step::VerifyFiles { .. }
        | Step::VerifyRaw { .. } => None,
    }
}

impl Plan {
    /// The digest that consent names: 64 hexadecimal digits. A run that goes on with the work of an interrupted one
    /// has the digest of that one.
    pub fn digest(&self) -> String {
        let targets = self.targets.iter().map(|target| ConsentedDisk {
            key: &target.key,
            id: &target.id,
            size_bytes: target.identity.size_bytes,
            table: &target.table,
            backup_header_lba: target.backup_header_lba,
        });
        let consented = Consented {
            manifest_blake3: &self.source.manifest_blake3,
            targets: targets.collect(),
            erased: self.targets.iter().map(|target| &target.id).collect(),
            volumes: self.volumes.iter().map(|v| (&v.volume, &v.device, v.fate)).collect(),
            final_state: self.steps.iter().filter_map(made).collect(),
        };
        // Structs of plain data: no map with other keys than text, nothing that could fail to become JSON.
        let json = serde_json::to_vec(&consented).expect("plain data becomes JSON");
        blake3::hash(&json).to_hex().to_string()
    }
}
