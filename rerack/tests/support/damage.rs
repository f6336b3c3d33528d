//! Ways to damage a repository, and the way back.

use std::fs::{self, File};
use std::path::PathBuf;

use super::{Bench, tool};

/// What holds a snapshot; the rest is the server's own.
const OBJECTS: [&str; 4] = ["packs", "lists", "catalogs", "snapshots"];

/// A kind of damage, with what it does to the repository.
pub type Damage = (&'static str, fn(&Bench));

/// Damage to a snapshot, each of which makes it unfit to be restored.
pub const CASES: [Damage; 9] = [
    ("a missing pack", |bench| fs::remove_file(&files(bench, "repo/packs")[0]).unwrap()),
    ("a truncated pack", |bench| {
        let pack = File::options().write(true).open(&files(bench, "repo/packs")[0]).unwrap();
        pack.set_len(pack.metadata().unwrap().len() / 2).unwrap();
    }),
    ("a missing list", |bench| fs::remove_file(&files(bench, "repo/lists")[0]).unwrap()),
    ("a flipped bit in a list", |bench| flip(&files(bench, "repo/lists")[0])),
    ("a flipped bit in a catalog", |bench| flip(&files(bench, "repo/catalogs")[0])),
    ("a damaged manifest", |bench| replace(&snapshot_file(bench, "manifest.json"), "rootfs", "rootfz")),
    ("a manifest signed by somebody else", sign_by_somebody_else),
    ("a missing receipt", |bench| fs::remove_file(snapshot_file(bench, "receipt.json")).unwrap()),
    ("an empty repository", |bench| fs::remove_dir_all(bench.path("repo/snapshots/web-03")).unwrap()),
];

/// Copies the repository's objects, for [`mend`].
pub fn keep(bench: &Bench) {
    fs::create_dir(bench.path("intact")).unwrap();
    OBJECTS.iter().for_each(|name| copy_tree(&bench.path("repo").join(name), &bench.path("intact")));
}

/// Brings the objects back as they were kept, under a server that goes on.
pub fn mend(bench: &Bench) {
    for name in OBJECTS {
        let _ = fs::remove_dir_all(bench.path("repo").join(name));
        copy_tree(&bench.path("intact").join(name), &bench.path("repo"));
    }
}

fn copy_tree(from: &std::path::Path, into: &std::path::Path) {
    tool("cp", &["-a", from.to_str().unwrap(), into.to_str().unwrap()]);
}

/// The files below a directory of the bench, the largest first.
pub fn files(bench: &Bench, below: &str) -> Vec<PathBuf> {
    let found = tool("find", &[&bench.text_path(below), "-type", "f"]);
    let mut files: Vec<PathBuf> = found.lines().map(PathBuf::from).collect();
    files.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    files
}

/// A file of the only snapshot.
pub fn snapshot_file(bench: &Bench, name: &str) -> PathBuf {
    files(bench, "repo/snapshots").into_iter().find(|path| path.ends_with(name)).unwrap()
}

pub fn replace(path: &PathBuf, old: &str, new: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(old), "{old} in {text}");
    fs::write(path, text.replacen(old, new, 1)).unwrap();
}

/// Flips one bit in the middle of a file.
pub fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Puts a signature that is good, of the repository's root key over the node's certificate, below the manifest.
fn sign_by_somebody_else(bench: &Bench) {
    let other = fs::read_to_string(bench.path("repo/nodes/web-03.json")).unwrap();
    let hex = |text: &str, key: &str| {
        let at = text.rfind(key).unwrap() + key.len();
        text[at..].split('"').nth(1).unwrap().to_owned()
    };
    let path = snapshot_file(bench, "manifest.sig");
    let own = fs::read_to_string(&path).unwrap();
    replace(&path, &hex(&own, "\"signature\":"), &hex(&other, "\"signature\":"));
}
