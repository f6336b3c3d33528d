//! Which names are one file.

use std::collections::HashMap;

use node_model::Timestamp;

use super::Status;

/// An inode that cannot be mistaken for a later one that got its number.
type InodeKey = (u64, Option<Timestamp>);

/// The files with several names met so far, each with its first name. A file is forgotten once all its names were
/// met, so memory follows the number of files whose names lie apart, not the number of files.
#[derive(Debug, Default)]
pub(crate) struct LinkGroups {
    open: HashMap<InodeKey, (Vec<u8>, u32)>,
}

impl LinkGroups {
    /// The first name under which this inode was met, if it was.
    pub(crate) fn first_name(&mut self, status: &Status) -> Option<Vec<u8>> {
        let key = (status.inode, status.btime);
        let (name, left) = self.open.get_mut(&key)?;
        *left = left.saturating_sub(1);
        if *left == 0 { self.open.remove(&key).map(|(name, _)| name) } else { Some(name.clone()) }
    }

    /// Remembers the first name of an inode that has more of them.
    pub(crate) fn remember(&mut self, status: &Status, name: &[u8]) {
        if status.nlink > 1 {
            self.open.insert((status.inode, status.btime), (name.to_vec(), status.nlink - 1));
        }
    }

    /// Forgets an inode whose first name could not be stored after all, so that the next one stores it.
    pub(crate) fn forget(&mut self, status: &Status) {
        self.open.remove(&(status.inode, status.btime));
    }
}
