//! Files and their metadata: reading a filesystem, writing one again, and telling two apart.
//!
//! Reading ([`Walker`], [`read_entry`]) and writing ([`RootWriter`]) work on descriptors below one root descriptor.
//! No path is ever resolved from the process's own root or through a symbolic link of the tree, so neither a hostile
//! bundle nor a program that renames things meanwhile can lead them out of it.
//!
//! `/proc` must be mounted: a descriptor that only names an inode (`O_PATH`) is turned into one that reads it through
//! `/proc/self/fd`, which cannot be raced.

mod compare;
mod difference;
mod error;
mod exclude;
mod extents;
mod inode_flags;
mod links;
mod names;
mod path;
mod read;
mod root;
mod status;
mod walk;
mod writer;
mod xattr;

#[cfg(feature = "testing")]
pub mod awkward;
#[cfg(feature = "testing")]
pub mod scratch;

pub use compare::{Comparison, ContentHash, Expected, compare, compare_found, compare_roots, hash_packed};
pub use difference::{Difference, DifferenceKind};
pub use error::FsError;
pub use exclude::Excludes;
pub use extents::{EXTENTS_MAX, FileExtents, data_extents};
pub use inode_flags::{KEPT_FLAGS, UNKEPT_FLAGS, describe_flags};
pub use path::stream_order;
pub use read::{EntryInfo, Found, find_entry, read_entry, reread_file};
pub use root::{open_bare_root, open_root, open_unmounted};
pub use status::Status;
pub use walk::{Visit, Walker};
pub use writer::{FileWriter, RootWriter};
