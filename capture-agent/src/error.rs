//! Why a capture fails. Nothing is committed then.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bundle::catalog::CatalogError;
use bundle::cut::{CutError, Unhashed};
use bundle::frame::FrameError;
use bundle::manifest::ManifestError;
use bundle::pack::PackError;
use linux_io::fs::FsError;
use node_model::{DeviceKey, InvalidId, VolumeName};

use crate::sink::SinkError;

/// Why a capture failed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The node has something that cannot be restored yet.
    #[error("this node cannot be captured: {}", list(.0, |(device, what)| format!("{device} is {what}")))]
    Unsupported(Vec<(String, String)>),
    /// There is nothing to capture.
    #[error("this node has no filesystem that can be captured")]
    NothingToCapture,
    /// A filesystem is not mounted as a whole, and cannot be mounted for reading.
    #[error("the filesystem on {device} ({}) is not mounted and cannot be opened", path.display())]
    NotMounted {
        /// The layout's device.
        device: DeviceKey,
        /// Its node.
        path: PathBuf,
        /// Why not.
        source: FsError,
    },
    /// A filesystem is not mounted, and the kernel knows no device for it.
    #[error("the filesystem on {device} is not mounted, and the kernel does not know its partition")]
    NoNode {
        /// The layout's device.
        device: DeviceKey,
    },
    /// A volume's root cannot be read.
    #[error("volume {volume} cannot be read")]
    Volume {
        /// The volume.
        volume: VolumeName,
        /// Why not.
        source: FsError,
    },
    /// Raw bytes cannot be read.
    #[error("volume {volume}: {length} bytes at byte {offset} of {} cannot be read", device.display())]
    Raw {
        /// The volume.
        volume: VolumeName,
        /// The disk.
        device: PathBuf,
        /// Where on it.
        offset: u64,
        /// How many.
        length: u64,
        /// Why not.
        source: io::Error,
    },
    /// Files could not be read.
    #[error("{count} {} could not be read: {}", if *.count == 1 { "file" } else { "files" }, list(.files, ToString::to_string))]
    Unreadable {
        /// The first of them.
        files: Vec<Unreadable>,
        /// How many there are.
        count: u64,
    },
    /// The stream cannot hold an entry.
    #[error("volume {volume} cannot be written as a stream")]
    Cut {
        /// The volume.
        volume: VolumeName,
        /// Why not.
        source: CutError,
    },
    /// The catalog cannot hold an entry.
    #[error("the catalog of volume {volume} cannot be written")]
    Catalog {
        /// The volume.
        volume: VolumeName,
        /// Why not.
        source: CatalogError,
    },
    /// A chunk could not be compressed.
    #[error("a chunk cannot be compressed")]
    Compress(#[from] FrameError),
    /// A chunk could not be packed.
    #[error("a chunk cannot be packed")]
    Pack(#[from] PackError),
    /// A chunk was lost between cutting and hashing.
    #[error(transparent)]
    Unhashed(#[from] Unhashed),
    /// The manifest would not be accepted.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A name made here is not one.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// No randomness for the snapshot's id.
    #[error("the kernel gives no random bytes")]
    Randomness(#[source] getrandom::Error),
    /// The repository refused something or cannot be reached.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A part of the capture ended without saying why.
    #[error("the capture broke off inside")]
    BrokenOff,
}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Absolute path in the node.
    pub path: String,
    /// Why, with its causes.
    pub error: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

/// At most this many of a list are written out in an error.
const LISTED_MAX: usize = 10;

fn list<T>(items: &[T], describe: impl Fn(&T) -> String) -> String {
    let mut text: Vec<String> = items.iter().take(LISTED_MAX).map(describe).collect();
    if items.len() > LISTED_MAX {
        text.push(format!("and {} more", items.len() - LISTED_MAX));
    }
    text.join("; ")
}

impl CaptureError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported(_) => Some(
                "this version restores GPT disks with ext2, ext3, ext4, xfs, vfat and swap; move the data, or wait for \
                 a version that knows this layout"
                    .into(),
            ),
            Self::Unreadable { files, .. } => files.first().map(|file| {
                format!("repair or exclude it, or accept its loss with --accept-unreadable '{}'", file.path)
            }),
            Self::Cut { source: CutError::Entry(_), .. } => Some("leave it out with --exclude PATH".into()),
            Self::NoNode { .. } => Some("mount it, or announce the disk's partitions with `partx -a`".into()),
            Self::NotMounted { source, .. } | Self::Volume { source, .. } => source.hint().map(str::to_owned),
            Self::Raw { .. } => Some("run as root; if the disk reports a defect, see the kernel log".into()),
            Self::Sink(error) => error.hint(),
            Self::Manifest(error) => Some(error.hint()),
            _ => None,
        }
    }
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
