//! Where the restored node keeps the log of its restore.

use node_model::{Content, DeviceKey, FilesystemDetails, NodeSpec, SnapshotId, Volume};

use crate::adapt::locate;

/// The directory in the node.
const DIRECTORY: &str = "/var/log/rerack";
/// How much of the snapshot's id tells one restore's log from another's.
const ID_CHARS: usize = 12;

/// The file that a restore of a snapshot adds to the node.
///
/// It follows from the snapshot alone, so that a plan can name it without a clock and a comparison can tell it from
/// what should not be there. No snapshot holds its own log, so the name is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLog {
    /// The filesystem that holds it.
    pub device: DeviceKey,
    /// Its path in the node.
    pub node_path: String,
    /// Its path from that filesystem's root, without a leading slash.
    pub path: String,
}

impl KeptLog {
    /// The log that a restore of `snapshot` keeps, or `None` if no captured filesystem holds its directory, or one
    /// without owners and modes does.
    pub fn of(spec: &NodeSpec, volumes: &[Volume], snapshot: &SnapshotId) -> Option<Self> {
        let id: String = snapshot.as_str().chars().take(ID_CHARS).collect();
        let node_path = format!("{DIRECTORY}/restore-{id}.log");
        let (device, path) = locate(spec, volumes, &node_path)?;
        let is_private = match &spec.layout.get(&device)?.content {
            Content::Filesystem { filesystem } => !matches!(filesystem.details, FilesystemDetails::Vfat(_)),
            _ => false,
        };
        is_private.then_some(Self { device, node_path, path })
    }

    /// Everything that may be there although it was not captured: the log, and the directories it needs. Each is a
    /// path from the filesystem's root.
    pub fn added(&self) -> Vec<String> {
        with_parents(&self.path)
    }
}

/// A path and all directories on the way to it.
pub(crate) fn with_parents(path: &str) -> Vec<String> {
    let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
    parents.chain([path.to_owned()]).collect()
}
