//! Where the kernel shows itself.

use std::path::{Path, PathBuf};

/// The trees a scan reads. [`Roots::live`] for this machine; fixtures and mounted systems have others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Where sysfs is mounted.
    pub sysfs: PathBuf,
    /// Where procfs is mounted.
    pub proc: PathBuf,
    /// Where device nodes lie.
    pub dev: PathBuf,
    /// The root of the node's files: `/` on a running node.
    pub root: PathBuf,
}

impl Roots {
    /// This machine.
    pub fn live() -> Self {
        Self { sysfs: "/sys".into(), proc: "/proc".into(), dev: "/dev".into(), root: "/".into() }
    }

    /// This machine's hardware with a system whose files lie below `root`.
    pub fn live_below(root: &Path) -> Self {
        Self { root: root.to_owned(), ..Self::live() }
    }

    /// `absolute` (a path within the node) below the node's root.
    pub fn in_root(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}

impl Default for Roots {
    fn default() -> Self {
        Self::live()
    }
}

/// The trimmed text of a small file of sysfs or procfs, `None` where it is absent, unreadable, empty or longer than
/// [`ATTRIBUTE_BYTES_MAX`].
pub(crate) fn attribute(path: &Path) -> Option<String> {
    let bytes = read_bounded(path, ATTRIBUTE_BYTES_MAX).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// No attribute read here is longer: sysfs shows at most one page.
pub(crate) const ATTRIBUTE_BYTES_MAX: u64 = 4096;

/// The whole of a file, or an error if it has more than `bytes_max` bytes. Sizes that the kernel states for files of
/// procfs and sysfs mean nothing, so the bound is on what is read.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(std::io::Error::other(format!("longer than {bytes_max} bytes")));
    }
    Ok(bytes)
}
