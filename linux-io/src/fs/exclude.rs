//! Paths that are left out.

use std::collections::BTreeSet;

/// Paths that a walk leaves out. A rule is a path below the filesystem's root: `var/cache/apt` leaves out that path
/// and all below it, `tmp/*` all below `tmp` but not the directory itself. There are no other patterns: what is left
/// out of a backup should be readable at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excludes {
    whole: BTreeSet<Vec<u8>>,
    below: BTreeSet<Vec<u8>>,
}

impl Excludes {
    /// The rules, with or without a leading slash.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut excludes = Self::default();
        for rule in rules {
            let rule = rule.strip_prefix(b"/").unwrap_or(rule);
            if rule == b"*" {
                excludes.below.insert(Vec::new());
            } else if let Some(directory) = rule.strip_suffix(b"/*") {
                excludes.below.insert(directory.to_vec());
            } else {
                excludes.whole.insert(rule.strip_suffix(b"/").unwrap_or(rule).to_vec());
            }
        }
        excludes
    }

    /// Whether the path itself is left out. A walk asks for each directory before it descends.
    pub fn leaves_out(&self, path: &[u8]) -> bool {
        !path.is_empty() && self.whole.contains(path)
    }

    /// Whether everything below the directory is left out.
    pub fn leaves_out_below(&self, directory: &[u8]) -> bool {
        self.below.contains(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_keeps_the_directory_and_a_plain_path_does_not() {
        let excludes = Excludes::new([&b"/tmp/*"[..], b"var/cache/apt/", b"/swapfile"]);
        assert!(!excludes.leaves_out(b"tmp") && excludes.leaves_out_below(b"tmp"));
        assert!(excludes.leaves_out(b"var/cache/apt") && excludes.leaves_out(b"swapfile"));
        assert!(!excludes.leaves_out(b"var/cache") && !excludes.leaves_out(b"swapfile2"));
        assert!(!excludes.leaves_out(b""));
    }
}
