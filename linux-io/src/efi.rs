//! The firmware's boot entries: `Boot####` and `BootOrder`.
//!
//! Variables are files of efivarfs: four bytes of attributes, then the value. They are immutable until the flag is
//! taken off, and each is written with one call, because the firmware takes it whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use node_model::{EfiBootEntry, Guid, HexBytes};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::Roots;
use crate::roots::read_bounded;

/// The namespace of the variables that the UEFI specification defines.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Kept over power-off, and visible to firmware and system.
const ATTRIBUTES: u32 = 0x7;
/// `LOAD_OPTION_ACTIVE`.
const ACTIVE: u32 = 1;
/// The largest variable read; firmware allows 32 KiB as a rule.
const VARIABLE_BYTES_MAX: u64 = 64 << 10;
/// Boot entries looked at, in the boot order.
const ENTRIES_MAX: usize = 256;

const HARD_DRIVE: (u8, u8) = (0x04, 0x01);
const FILE_PATH: (u8, u8) = (0x04, 0x04);
const END: (u8, u8) = (0x7f, 0xff);
const HARD_DRIVE_BYTES: usize = 42;
const GPT_FORMAT: u8 = 2;
const GUID_SIGNATURE: u8 = 2;

/// An entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// What the firmware's menu shows.
    pub description: String,
    /// The ESP's partition number.
    pub partition_number: u32,
    /// Its first block.
    pub first_lba: u64,
    /// Its length in blocks.
    pub sector_count: u64,
    /// Its GUID.
    pub partition_guid: Guid,
    /// The loader's path, with backslashes.
    pub loader_path: String,
    /// Bytes handed to the loader.
    pub optional_data: Vec<u8>,
}

/// Why the firmware's variables could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EfiError {
    /// This machine was not started by UEFI, or efivarfs is not mounted.
    #[error("the firmware's variables are not at {}", path.display())]
    Absent {
        /// Where they should be.
        path: PathBuf,
    },
    /// A variable could not be read or written.
    #[error("firmware variable {name} cannot be {what}")]
    Variable {
        /// Its name.
        name: String,
        /// `read` or `written`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// All numbers are taken.
    #[error("the firmware has no free boot entry")]
    Full,
}

/// The boot entries that name a file on a GPT partition, in boot order. Others (network, firmware volumes) are left
/// out.
///
/// # Errors
/// If there are no variables, or the boot order cannot be read. An entry that cannot be read is left out: firmware
/// leaves broken ones behind.
pub fn boot_entries(roots: &Roots) -> Result<Vec<EfiBootEntry>, EfiError> {
    let directory = directory(roots)?;
    let entries = boot_order(&directory)?.into_iter().take(ENTRIES_MAX).filter_map(|number| {
        let value = read(&directory, &entry_name(number)).ok()??;
        parse(number, &value)
    });
    Ok(entries.collect())
}

/// Writes `entries` and puts them first into the boot order, the first one first. An entry that is there already with
/// the same bytes is used again.
///
/// # Errors
/// The first variable that cannot be read or written. `BootOrder` is written last, so a failure leaves the old order.
pub fn register_first(roots: &Roots, entries: &[NewEntry]) -> Result<(), EfiError> {
    let directory = directory(roots)?;
    let mut order = boot_order(&directory)?;
    let mut first = Vec::with_capacity(entries.len());
    for entry in entries {
        let value = encode(entry);
        let number = match find_same(&directory, &value)? {
            Some(number) => number,
            None => {
                let free = (0..=u16::MAX).find(|number| !variable(&directory, &entry_name(*number)).exists());
                let number = free.ok_or(EfiError::Full)?;
                write(&directory, &entry_name(number), &value)?;
                number
            }
        };
        first.push(number);
    }
    order.retain(|number| !first.contains(number));
    first.extend(order);
    let bytes: Vec<u8> = first.iter().flat_map(|number| number.to_le_bytes()).collect();
    write(&directory, "BootOrder", &bytes)
}

fn directory(roots: &Roots) -> Result<PathBuf, EfiError> {
    let path = roots.sysfs.join("firmware/efi/efivars");
    if path.is_dir() { Ok(path) } else { Err(EfiError::Absent { path }) }
}

fn entry_name(number: u16) -> String {
    format!("Boot{number:04X}")
}

fn variable(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}-{GLOBAL}"))
}

fn failed(name: &str, what: &'static str) -> impl FnOnce(io::Error) -> EfiError {
    let name = name.to_owned();
    move |source| EfiError::Variable { name, what, source }
}

/// A variable's value without its attributes; `None` if there is no such variable.
fn read(directory: &Path, name: &str) -> Result<Option<Vec<u8>>, EfiError> {
    match read_bounded(&variable(directory, name), VARIABLE_BYTES_MAX) {
        Ok(bytes) => Ok(bytes.get(4..).map(<[u8]>::to_vec)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(name, "read")(source)),
    }
}

fn write(directory: &Path, name: &str, value: &[u8]) -> Result<(), EfiError> {
    let path = variable(directory, name);
    let write = || -> io::Result<()> {
        match File::open(&path) {
            Ok(old) => allow_writing(&old)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut whole = ATTRIBUTES.to_le_bytes().to_vec();
        whole.extend_from_slice(value);
        OpenOptions::new().write(true).create(true).truncate(false).open(&path)?.write_all(&whole)
    };
    write().map_err(failed(name, "written"))
}

/// efivarfs guards what firmware may not survive losing.
fn allow_writing(variable: &File) -> io::Result<()> {
    let flags = match ioctl_getflags(variable.as_fd()) {
        Ok(flags) => flags,
        // A plain directory stands for efivarfs in tests, on filesystems without flags.
        Err(rustix::io::Errno::NOTTY | rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if flags.contains(IFlags::IMMUTABLE) {
        ioctl_setflags(variable.as_fd(), flags - IFlags::IMMUTABLE)?;
    }
    Ok(())
}

fn boot_order(directory: &Path) -> Result<Vec<u16>, EfiError> {
    let value = read(directory, "BootOrder")?.unwrap_or_default();
    Ok(value.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
}

/// The entry in the boot order that has exactly this value.
fn find_same(directory: &Path, value: &[u8]) -> Result<Option<u16>, EfiError> {
    for number in boot_order(directory)?.into_iter().take(ENTRIES_MAX) {
        if read(directory, &entry_name(number))?.as_deref() == Some(value) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn utf16_nul(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// An `EFI_LOAD_OPTION`.
fn encode(entry: &NewEntry) -> Vec<u8> {
    let mut path = Vec::new();
    path.extend_from_slice(&[HARD_DRIVE.0, HARD_DRIVE.1]);
    path.extend_from_slice(&(HARD_DRIVE_BYTES as u16).to_le_bytes());
    path.extend_from_slice(&entry.partition_number.to_le_bytes());
    path.extend_from_slice(&entry.first_lba.to_le_bytes());
    path.extend_from_slice(&entry.sector_count.to_le_bytes());
    path.extend_from_slice(&entry.partition_guid.0);
    path.extend_from_slice(&[GPT_FORMAT, GUID_SIGNATURE]);
    let loader = utf16_nul(&entry.loader_path);
    path.extend_from_slice(&[FILE_PATH.0, FILE_PATH.1]);
    path.extend_from_slice(&(loader.len() as u16 + 4).to_le_bytes());
    path.extend_from_slice(&loader);
    path.extend_from_slice(&[END.0, END.1, 4, 0]);
    let mut option = ACTIVE.to_le_bytes().to_vec();
    option.extend_from_slice(&(path.len() as u16).to_le_bytes());
    option.extend_from_slice(&utf16_nul(&entry.description));
    option.extend_from_slice(&path);
    option.extend_from_slice(&entry.optional_data);
    option
}

/// Takes UTF-16 up to its NUL from the front of `bytes`.
fn take_utf16(bytes: &mut &[u8]) -> Option<String> {
    let end = bytes.chunks_exact(2).position(|unit| unit == [0, 0])?;
    let units: Vec<u16> = bytes[..2 * end].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    *bytes = &bytes[2 * end + 2..];
    String::from_utf16(&units).ok()
}

/// Reads an `EFI_LOAD_OPTION` that names a file on a GPT partition; `None` for any other.
fn parse(number: u16, option: &[u8]) -> Option<EfiBootEntry> {
    let path_length = usize::from(u16::from_le_bytes([*option.get(4)?, *option.get(5)?]));
    let mut rest = option.get(6..)?;
    let description = take_utf16(&mut rest)?;
    let (mut path, optional_data) = rest.split_at_checked(path_length)?;
    let mut partition_guid = None;
    let mut loader_path = None;
    while let [kind, subkind, low, high, ..] = *path {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let (node, next) = path.split_at_checked(length).filter(|_| length >= 4)?;
        match (kind, subkind) {
            HARD_DRIVE if length == HARD_DRIVE_BYTES && node[40..] == [GPT_FORMAT, GUID_SIGNATURE] => {
                partition_guid = Some(Guid(node[24..40].try_into().ok()?));
            }
            FILE_PATH => loader_path = take_utf16(&mut &node[4..]),
            END => break,
            _ => {}
        }
        path = next;
    }
    Some(EfiBootEntry {
        number,
        description,
        partition_guid: partition_guid?,
        loader_path: loader_path?,
        optional_data: HexBytes(optional_data.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn firmware() -> (tempfile::TempDir, Roots) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("firmware/efi/efivars")).unwrap();
        let roots = Roots { sysfs: directory.path().to_owned(), ..Roots::live() };
        (directory, roots)
    }

    fn debian() -> NewEntry {
        NewEntry {
            description: "debian".to_owned(),
            partition_number: 1,
            first_lba: 2048,
            sector_count: 131_072,
            partition_guid: "11223344-5566-7788-99aa-bbccddeeff00".parse().unwrap(),
            loader_path: r"\EFI\debian\shimx64.efi".to_owned(),
            optional_data: vec![1, 2],
        }
    }

    #[test]
    fn what_is_registered_comes_first_and_reads_back() {
        let (_directory, roots) = firmware();
        let variables = directory(&roots).unwrap();
        write(&variables, "Boot0000", b"something of the firmware's own").unwrap();
        write(&variables, "BootOrder", &[0, 0]).unwrap();
        register_first(&roots, &[debian()]).unwrap();
        assert_eq!(boot_order(&variables).unwrap(), [1, 0]);
        let entries = boot_entries(&roots).unwrap();
        assert_eq!(entries.len(), 1, "the firmware's own entry names no file");
        assert_eq!(entries[0].description, "debian");
        assert_eq!(entries[0].loader_path, r"\EFI\debian\shimx64.efi");
        assert_eq!(entries[0].partition_guid, debian().partition_guid);
        assert_eq!(entries[0].optional_data, HexBytes(vec![1, 2]));
    }

    #[test]
    fn registering_again_makes_no_second_entry() {
        let (_directory, roots) = firmware();
        register_first(&roots, &[debian()]).unwrap();
        register_first(&roots, &[debian()]).unwrap();
        assert_eq!(boot_order(&directory(&roots).unwrap()).unwrap(), [0]);
    }

    #[test]
    fn a_machine_without_variables_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots { sysfs: directory.path().to_owned(), ..Roots::live() };
        assert!(matches!(register_first(&roots, &[debian()]), Err(EfiError::Absent { .. })));
    }

    #[test]
    fn a_broken_load_option_is_none() {
        let option = encode(&debian());
        for length in 0..option.len() - 2 {
            assert_eq!(parse(1, &option[..length]), None, "{length} bytes");
        }
        assert!(parse(1, &option).is_some());
    }
}
