//! Argument vectors that make a captured filesystem again.
//!
//! The defaults of mkfs belong to the system that runs it, so nothing is left to them: features start from none and
//! exactly the captured ones are enabled. What a tool cannot make again is refused here, before anything is erased.

mod ext;
mod swap;
mod vfat;
mod xfs;

use node_model::{Bytes, Filesystem, FilesystemDetails};

use crate::step::ToolCall;

pub(crate) use swap::swap_commands;
pub(crate) use xfs::VERSION_BITS_OF_THE_KERNEL;

/// Why a filesystem cannot be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CannotMake(pub(crate) String);

impl CannotMake {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// What is known of the place where a filesystem is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Size of the partition.
    pub(crate) size: Bytes,
    /// Blocks before the partition, as FAT records them.
    pub(crate) first_lba: u64,
}

/// The tools that make `filesystem`.
pub(crate) fn filesystem_commands(filesystem: &Filesystem, place: Place) -> Result<Vec<ToolCall>, CannotMake> {
    if filesystem.size_bytes > place.size {
        let (has, needs) = (place.size.get(), filesystem.size_bytes.get());
        return Err(CannotMake(format!("it has {needs} bytes, its partition {has}")));
    }
    match &filesystem.details {
        FilesystemDetails::Ext(details) => ext::commands(filesystem, details),
        FilesystemDetails::Xfs(details) => xfs::commands(filesystem, details),
        FilesystemDetails::Vfat(details) => vfat::commands(filesystem, details, place),
    }
}

/// The tools that check a filesystem whose making or filling was interrupted. XFS replays its journal when mounted.
pub(crate) fn check_commands(filesystem: &Filesystem) -> Vec<ToolCall> {
    let check = |program, args: &[&str]| ToolCall { exit_codes_ok: vec![0, 1], ..call(program, args.iter().copied()) };
    match &filesystem.details {
        FilesystemDetails::Ext(_) => vec![check("e2fsck", &["-f", "-y"])],
        FilesystemDetails::Xfs(_) => Vec::new(),
        FilesystemDetails::Vfat(_) => vec![check("fsck.fat", &["-a", "-w"])],
    }
}

/// `program args… {device}`.
fn call<S: Into<String>>(program: &str, args: impl IntoIterator<Item = S>) -> ToolCall {
    let args = args.into_iter().map(Into::into).chain([crate::DEVICE_WORD.to_owned()]).collect();
    ToolCall { program: program.to_owned(), args, exit_codes_ok: vec![0] }
}

/// A UUID in the canonical form, or nothing that a tool could take for something else.
fn checked_uuid(uuid: &str) -> Result<&str, CannotMake> {
    let right = uuid.len() == 36
        && uuid.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        });
    if right { Ok(uuid) } else { Err(CannotMake(format!("its UUID `{}` is not of the form 8-4-4-4-12", cut(uuid)))) }
}

/// A label that fits and that an argument vector can carry. It stands behind its option, so that a label such as
/// `--force` is a label.
fn checked_label(label: &str, bytes_max: usize) -> Result<&str, CannotMake> {
    if label.is_empty() || label.len() > bytes_max || label.chars().any(char::is_control) || label == crate::DEVICE_WORD
    {
        let label = cut(label).escape_default().to_string();
        return Err(CannotMake(format!("its label `{label}` is not 1 to {bytes_max} bytes of text")));
    }
    Ok(label)
}

/// The beginning of a text from outside, for messages.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}
