//! What tells two filesystems apart.

use std::fmt;

/// One way in which a path differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path below the filesystem's root, as entries hold it.
    pub path: Vec<u8>,
    /// How it differs.
    pub kind: DifferenceKind,
}

/// How a path differs. `expected` is the captured side, `found` the filesystem looked at; both are written for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DifferenceKind {
    /// It is not there.
    Missing,
    /// It is there and should not be.
    Extra,
    /// It cannot be seen, because something is mounted over it.
    Covered,
    /// It cannot be read.
    Unreadable {
        /// The error with its causes.
        error: String,
    },
    /// Something about it has another value.
    Value {
        /// What: `type`, `mode`, `uid`, `gid`, `size`, `mtime`, `flags`, `project id`, `device number`,
        /// `link target`, `first name`, `content`, `holes`, `allocation`, or `xattr NAME`.
        what: String,
        /// As it should be.
        expected: String,
        /// As it is.
        found: String,
    },
}

impl Difference {
    /// What differs, as in [`DifferenceKind::Value`], or `missing`, `extra`, `covered`, `unreadable`.
    pub fn what(&self) -> &str {
        match &self.kind {
            DifferenceKind::Missing => "missing",
            DifferenceKind::Extra => "extra",
            DifferenceKind::Covered => "covered",
            DifferenceKind::Unreadable { .. } => "unreadable",
            DifferenceKind::Value { what, .. } => what,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", super::path::display(&self.path))?;
        match &self.kind {
            DifferenceKind::Missing => f.write_str("missing"),
            DifferenceKind::Extra => f.write_str("should not be there"),
            DifferenceKind::Covered => f.write_str("cannot be seen: something is mounted over it"),
            DifferenceKind::Unreadable { error } => write!(f, "unreadable: {error}"),
            DifferenceKind::Value { what, expected, found } => write!(f, "{what} is {found}, should be {expected}"),
        }
    }
}
