//! What `depmod` wrote about the modules of one kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::ModuleError;

/// The largest index file read; a distribution's whole `modules.alias` is below 2 MiB.
const INDEX_BYTES_MAX: u64 = 32 << 20;

/// The modules of one kernel.
#[derive(Debug, Default)]
pub struct ModuleIndex {
    root: PathBuf,
    files: BTreeMap<String, ModuleFile>,
    builtin: BTreeSet<String>,
    aliases: Vec<(String, String)>,
    soft: BTreeMap<String, Soft>,
}

#[derive(Debug)]
struct ModuleFile {
    path: String,
    /// Names of what must be loaded before, in that order.
    needs: Vec<String>,
}

/// Wishes of a module that no symbol shows.
#[derive(Debug, Default)]
struct Soft {
    pre: Vec<String>,
    post: Vec<String>,
}

impl ModuleIndex {
    /// Reads `modules.dep`, `.alias`, `.softdep` and `.builtin` in `root` (`/lib/modules/RELEASE`). Only the first
    /// must be there.
    ///
    /// # Errors
    /// [`ModuleError::Index`] and [`ModuleError::IndexTooLarge`].
    pub fn read(root: &Path) -> Result<Self, ModuleError> {
        let file = |name: &str, required: bool| match read_bounded(&root.join(name)) {
            Err(ModuleError::Index { source, .. }) if !required && source.kind() == io::ErrorKind::NotFound => {
                Ok(String::new())
            }
            other => other,
        };
        let mut index = Self::parse(
            &file("modules.dep", true)?,
            &file("modules.alias", false)?,
            &file("modules.softdep", false)?,
            &file("modules.builtin", false)?,
        );
        index.root = root.to_owned();
        Ok(index)
    }

    /// The same from the four files' text.
    pub fn parse(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for line in dep.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            // depmod lists what is needed nearest first; it is loaded farthest first.
            let needs = needs.split_ascii_whitespace().rev().map(module_name).collect();
            index.files.insert(module_name(path), ModuleFile { path: path.to_owned(), needs });
        }
        for line in alias.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                index.aliases.push((pattern.to_owned(), module_name(module)));
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            let soft = index.soft.entry(module_name(module)).or_default();
            let mut before = true;
            for word in words {
                match word {
                    "pre:" => before = true,
                    "post:" => before = false,
                    name if before => soft.pre.push(name.to_owned()),
                    name => soft.post.push(name.to_owned()),
                }
            }
        }
        index.builtin = builtin.lines().map(module_name).collect();
        index
    }

    /// The modules that go by `wanted`: the one of that name, or those with an alias that matches. Nothing for what
    /// is built into the kernel.
    pub fn resolve(&self, wanted: &str) -> Vec<&str> {
        let name = wanted.replace('-', "_");
        if let Some((name, _)) = self.files.get_key_value(&name) {
            return vec![name];
        }
        if self.builtin.contains(&name) {
            return Vec::new();
        }
        let mut found: Vec<&str> = Vec::new();
        for (pattern, module) in &self.aliases {
            if self.files.contains_key(module) && !found.contains(&module.as_str()) && glob_matches(pattern, wanted) {
                found.push(module);
            }
        }
        found
    }

    /// The module and all it needs, in the order of loading.
    pub fn load_order(&self, module: &str) -> Vec<String> {
        let mut order = Vec::new();
        self.add(module, &mut BTreeSet::new(), &mut order);
        order
    }

    fn add(&self, module: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
        // Soft dependencies may go in circles; a module met again is being dealt with further up.
        if !seen.insert(module.to_owned()) {
            return;
        }
        let Some(file) = self.files.get(module) else { return };
        let none = Soft::default();
        let soft = self.soft.get(module).unwrap_or(&none);
        for wish in &soft.pre {
            self.resolve(wish).into_iter().for_each(|name| self.add(name, seen, order));
        }
        file.needs.iter().for_each(|name| self.add(name, seen, order));
        order.push(module.to_owned());
        for wish in &soft.post {
            self.resolve(wish).into_iter().for_each(|name| self.add(name, seen, order));
        }
    }

    /// Where a module's file is.
    pub fn path(&self, module: &str) -> Option<PathBuf> {
        self.files.get(module).map(|file| self.root.join(&file.path))
    }
}

fn read_bounded(path: &Path) -> Result<String, ModuleError> {
    let failed = |source| ModuleError::Index { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(INDEX_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > INDEX_BYTES_MAX {
        return Err(ModuleError::IndexTooLarge { path: path.to_owned(), limit: INDEX_BYTES_MAX });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `kernel/drivers/net/virtio-net.ko.xz` is `virtio_net`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// Whether a shell pattern of `*`, `?` and `[a-b]` matches all of `text`. Runs in the product of their lengths at
/// worst, whatever the pattern.
fn glob_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => set_matches(&pattern[p..], text[t]),
            Some(&byte) if byte == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(width), _) => (p, t) = (p + width, t + 1),
            // Let the last star take one byte more.
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// The width of the set `[...]` that `pattern` begins with, if it holds `byte`.
fn set_matches(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().skip(1).position(|&b| b == b']')? + 1;
    let set = &pattern[1..end];
    let mut at = 0;
    while at < set.len() {
        let (low, high, width) = if set.get(at + 1) == Some(&b'-') && at + 2 < set.len() {
            (set[at], set[at + 2], 3)
        } else {
            (set[at], set[at], 1)
        };
        if (low..=high).contains(&byte) {
            return Some(end + 1);
        }
        at += width;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEP: &str = "\
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
kernel/drivers/ata/pata-legacy.ko:
";
    const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000001v* virtio_net
alias crc32c crc32c_generic
alias pci:v00008086d0000[12]000sv*sd*bc*sc*i* pata_legacy
alias fs-ext4 ext4
alias gone:* not_in_this_image
";

    fn index() -> ModuleIndex {
        ModuleIndex::parse(DEP, ALIAS, "softdep ext4 pre: crc32c post: virtio_net\n", "kernel/lib/loop.ko\n")
    }

    #[test]
    fn a_device_finds_its_driver_and_what_that_needs() {
        assert_eq!(index().resolve("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(index().load_order("virtio_net"), ["failover", "net_failover", "virtio_net"]);
        assert_eq!(index().resolve("pci:v00008086d00002000sv0sd0bc01sc01i80"), ["pata_legacy"]);
        assert!(index().resolve("pci:v00008086d00003000sv0sd0bc01sc01i80").is_empty());
    }

    #[test]
    fn soft_wishes_surround_a_module() {
        let order = index().load_order("ext4");
        assert_eq!(order, ["crc32c_generic", "jbd2", "ext4", "failover", "net_failover", "virtio_net"]);
    }

    #[test]
    fn names_may_be_written_with_either_dash() {
        assert_eq!(index().resolve("pata-legacy"), ["pata_legacy"]);
        assert_eq!(index().path("pata_legacy").unwrap(), Path::new("kernel/drivers/ata/pata-legacy.ko"));
        assert_eq!(index().resolve("fs-ext4"), ["ext4"]);
    }

    #[test]
    fn what_is_built_in_or_left_out_of_the_image_loads_nothing() {
        assert!(index().resolve("loop").is_empty());
        assert!(index().resolve("gone:x").is_empty());
    }

    #[test]
    fn wishes_in_a_circle_end() {
        let index = ModuleIndex::parse("a.ko:\nb.ko:\n", "", "softdep a pre: b\nsoftdep b pre: a\n", "");
        assert_eq!(index.load_order("a"), ["b", "a"]);
    }

    proptest! {
        #[test]
        fn any_index_and_any_wish_are_borne(dep in ".{0,80}", alias in "alias .{0,40}", wish in ".{0,40}") {
            let index = ModuleIndex::parse(&dep, &alias, &dep, &dep);
            for module in index.resolve(&wish) {
                index.load_order(module);
            }
        }

        #[test]
        fn a_text_matches_itself_with_stars_anywhere(text in "[a-z0-9:]{0,20}", at in 0usize..20) {
            let at = at.min(text.len());
            let pattern = format!("{}*{}", &text[..at], &text[at..]);
            prop_assert!(glob_matches(&pattern, &text));
            let longer = format!("{text}~");
            prop_assert_eq!(glob_matches(&pattern, &longer), at == text.len());
        }
    }
}
