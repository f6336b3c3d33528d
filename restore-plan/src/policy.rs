//! What the operator and the server allow and ask for.

use std::collections::{BTreeMap, BTreeSet};

use node_model::{DeviceKey, DiskId, VolumeName};
use serde::{Deserialize, Serialize};

use crate::PlanSource;

/// What planning may do, besides what the snapshot and the machine say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What is restored.
    pub source: PlanSource,
    /// Which disk takes the place of which captured one, where a person or a command line said so. A run that goes
    /// on under a claim names the claim's disks here: they are no longer blank, and only the claim knows them.
    pub mapping: BTreeMap<DeviceKey, DiskId>,
    /// Foreign signatures that may be erased, each named together with the disk it lies on.
    pub foreign_allowed: Vec<AllowedForeign>,
    /// Whether this machine may take the node's identity although it is not the recorded machine: the node was
    /// named, on the screen, on the command line or by the arm. Without it such a plan has a blocker.
    pub other_machine_allowed: bool,
    /// Devices that may come back empty although they held something.
    pub accept_loss: BTreeSet<DeviceKey>,
    /// Whether network files stay as they are although this machine's interfaces differ: disks and images that
    /// will be used in another machine.
    pub keep_network: bool,
    /// Paths of all that lies in each files volume that may be an ESP, from its root and as they are spelled there, if
    /// the engine has read them from the catalog. Without them no fallback loader is planned.
    pub esp_files: BTreeMap<VolumeName, Vec<String>>,
    /// What an interrupted run under the same claim has made.
    pub resume: Resume,
}

impl Policy {
    /// The strictest policy: every disk is found by itself or not at all, and nothing is overridden.
    pub fn strict(source: PlanSource) -> Self {
        Self {
            source,
            mapping: BTreeMap::new(),
            foreign_allowed: Vec::new(),
            other_machine_allowed: false,
            accept_loss: BTreeSet::new(),
            keep_network: false,
            esp_files: BTreeMap::new(),
            resume: Resume::default(),
        }
    }
}

/// Leave to erase one foreign signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedForeign {
    /// The disk.
    pub disk: DiskId,
    /// The signature's kind as [`node_model::Signature::kind`] gives it.
    pub kind: String,
}

/// What an interrupted run under the same claim has made, as the engine found it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resume {
    /// Captured disks whose target already bears exactly the planned table.
    pub tables: BTreeSet<DeviceKey>,
    /// Filesystems that bear the planned UUID and were made under this claim.
    pub filesystems: BTreeSet<DeviceKey>,
}
