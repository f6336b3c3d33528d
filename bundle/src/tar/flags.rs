//! Inode flags by the names that libarchive gives them.

/// Bits of `FS_IOC_GETFLAGS` with libarchive's names, in its order. Flags without a name there travel as a number only.
const NAMES: [(u32, &str); 14] = [
    (0x0000_0020, "sappnd"),
    (0x0000_0010, "schg"),
    (0x0000_0040, "nodump"),
    (0x0000_0002, "undel"),
    (0x0000_0004, "compress"),
    (0x0000_0080, "noatime"),
    (0x0001_0000, "dirsync"),
    (0x0000_4000, "journal-data"),
    (0x0000_0001, "secdel"),
    (0x0000_0008, "sync"),
    (0x0000_8000, "notail"),
    (0x0002_0000, "topdir"),
    (0x0080_0000, "nocow"),
    (0x2000_0000, "projinherit"),
];

/// The value of `SCHILY.fflags`: empty where no flag has a name.
pub(super) fn names(flags: u32) -> String {
    let set: Vec<&str> = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|&(_, name)| name).collect();
    set.join(",")
}
