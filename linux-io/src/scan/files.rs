//! The configuration files that a planner may have to adapt.

use std::fs;
use std::io;
use std::path::Path;

use node_model::{ConfigFile, HexBytes, NetworkBackend};

use super::ScanError;
use crate::Roots;
use crate::roots::read_bounded;

/// No file of configuration is longer.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where each backend keeps its files: a file, or a directory with the suffixes that it reads from it.
const PLACES: [(NetworkBackend, &str, &[&str]); 6] = [
    (NetworkBackend::Ifupdown, "/etc/network/interfaces", &[]),
    (NetworkBackend::Ifupdown, "/etc/network/interfaces.d", &[""]),
    (NetworkBackend::SystemdNetworkd, "/etc/systemd/network", &[".network", ".netdev", ".link"]),
    (NetworkBackend::Netplan, "/etc/netplan", &[".yaml", ".yml"]),
    (NetworkBackend::NetworkManager, "/etc/NetworkManager/system-connections", &[""]),
    (NetworkBackend::Udev, "/etc/udev/rules.d", &["-net.rules"]),
];

/// The files that configure the node's network, by path.
pub(super) fn network_files(roots: &Roots) -> Result<Vec<ConfigFile>, ScanError> {
    let mut files: Vec<ConfigFile> = Vec::new();
    for (backend, place, suffixes) in PLACES {
        if suffixes.is_empty() {
            files.extend(file(roots, place, backend)?);
            continue;
        }
        // A directory that is not there holds no files.
        let Ok(entries) = fs::read_dir(roots.in_root(place)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && suffixes.iter().any(|suffix| name.ends_with(suffix)) {
                files.extend(file(roots, &format!("{place}/{name}"), backend)?);
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files.dedup_by(|one, other| one.path == other.path);
    Ok(files)
}

/// `/etc/fstab`, if there is one.
pub(super) fn fstab(roots: &Roots) -> Result<Option<ConfigFile>, ScanError> {
    file(roots, "/etc/fstab", NetworkBackend::Fstab)
}

/// The regular file at `path` in the node. A link is no file that could be rewritten in its place: what it leads to
/// is configuration of somebody else, or `/dev/null`.
fn file(roots: &Roots, path: &str, backend: NetworkBackend) -> Result<Option<ConfigFile>, ScanError> {
    let real = roots.in_root(path);
    if !is_regular(&real) {
        return Ok(None);
    }
    match read_bounded(&real, FILE_BYTES_MAX) {
        Ok(content) => Ok(Some(ConfigFile { path: path.to_owned(), backend, content: HexBytes(content) })),
        Err(error) if error.kind() == io::ErrorKind::Other => {
            Err(ScanError::FileTooLong { path: path.to_owned(), bytes_max: FILE_BYTES_MAX })
        }
        Err(source) => Err(ScanError::Kernel { path: real, source }),
    }
}

fn is_regular(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_every_backend_are_found_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        let expected = [
            "/etc/NetworkManager/system-connections/Wired.nmconnection",
            "/etc/netplan/01-net.yaml",
            "/etc/network/interfaces",
            "/etc/network/interfaces.d/eth1",
            "/etc/systemd/network/10-lan.network",
            "/etc/udev/rules.d/70-persistent-net.rules",
        ];
        expected.iter().for_each(|path| write(&path[1..]));
        for other in ["etc/netplan/README", "etc/network/interfaces.d/.swp", "etc/udev/rules.d/99-disk.rules"] {
            write(other);
        }
        std::os::unix::fs::symlink("/dev/null", root.path().join("etc/systemd/network/20-off.network")).unwrap();
        let files = network_files(&Roots::live_below(root.path())).unwrap();
        assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), expected);
        assert!(fstab(&Roots::live_below(root.path())).unwrap().is_none());
    }

    #[test]
    fn a_file_that_is_too_long_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/fstab"), vec![b'#'; 65537]).unwrap();
        let error = fstab(&Roots::live_below(root.path())).unwrap_err();
        insta::assert_snapshot!(error, @"/etc/fstab has more than 65536 bytes");
    }
}
