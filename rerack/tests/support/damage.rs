//! Ways to damage a repository, and the way back.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bundle::Hash;
use bundle::list::ROW_BYTES;
use bundle::receipt::Receipt;
use bundle::repository::{ROOT_KEY_PATH, VerifiedPack};
use bundle::sign::{RootKey, SignContext};
use bundle::trust::NodeFile;
use serde_json::{Value, json};

use super::{Bench, tool};

/// What holds a snapshot; the rest is the server's own.
const OBJECTS: [&str; 5] = ["packs", "placement", "lists", "catalogs", "snapshots"];

/// A kind of damage, with what it does to the repository.
pub type Damage = (&'static str, fn(&Bench));

/// Damage to a snapshot, each of which makes it unfit to be restored.
pub const CASES: [Damage; 13] = [
    ("a missing pack", |bench| fs::remove_file(&files(bench, "repo/packs")[0]).unwrap()),
    ("a truncated pack", |bench| {
        let pack = File::options().write(true).open(&files(bench, "repo/packs")[0]).unwrap();
        pack.set_len(pack.metadata().unwrap().len() / 2).unwrap();
    }),
    ("a pack without one of its chunks", lose_a_chunk),
    ("a list that names a chunk of no pack", name_an_unknown_chunk),
    ("a missing list", |bench| fs::remove_file(&files(bench, "repo/lists")[0]).unwrap()),
    ("a flipped bit in a list", |bench| flip(&files(bench, "repo/lists")[0])),
    ("a flipped bit in a catalog", |bench| flip(&files(bench, "repo/catalogs")[0])),
    ("a damaged manifest", |bench| replace(&snapshot_file(bench, "manifest.json"), "rootfs", "rootfz")),
    ("a manifest signed by somebody else", sign_by_somebody_else),
    ("a manifest of a newer format", |bench| {
        sign_again(bench, |manifest| {
            manifest["format"] = json!(2);
            manifest["agent_version"] = json!("7.1.0");
        });
    }),
    ("a manifest with an unknown requirement", |bench| {
        sign_again(bench, |manifest| {
            manifest["requires"] = json!([{ "feature": "mirrored-halves", "since": "7.2.0" }])
        });
    }),
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

fn copy_tree(from: &Path, into: &Path) {
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

/// Changes the manifest as somebody could who has the keys of node and repository: everything signed is in order.
fn sign_again(bench: &Bench, change: impl FnOnce(&mut Value)) {
    let root = RootKey::read_file(&bench.path("repo").join(ROOT_KEY_PATH)).unwrap();
    let node = NodeFile::read(&bench.path("node.json")).unwrap();
    let path = snapshot_file(bench, "manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    let bytes = manifest.to_string().into_bytes();
    let signature = node.secret.signing_key().sign(SignContext::Manifest, &bytes);
    let receipt_path = snapshot_file(bench, "receipt.json");
    let mut receipt = Receipt::unseal(&fs::read(&receipt_path).unwrap(), &root.public()).unwrap();
    receipt.manifest = Hash::of(&bytes);
    fs::write(path, bytes).unwrap();
    fs::write(snapshot_file(bench, "manifest.sig"), signature.to_json()).unwrap();
    fs::write(receipt_path, receipt.seal(&root)).unwrap();
}

/// Packs the largest pack anew without its first chunk: the pack is whole, and so is its placement.
fn lose_a_chunk(bench: &Bench) {
    let path = files(bench, "repo/packs").remove(0);
    let name: Hash = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let pack = VerifiedPack::verify(name, fs::read(&path).unwrap().into()).unwrap();
    let lost = HashSet::from([pack.index().rows()[0].hash]);
    let rest = pack.without(&lost).expect("a pack of several chunks");
    let directory = bench.path("repo/packs").join(&rest.name().to_string()[..2]);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(rest.name().to_string()), rest.bytes()).unwrap();
    fs::write(bench.path("repo/placement").join(rest.name().to_string()), rest.index().encode()).unwrap();
    fs::remove_file(path).unwrap();
    fs::remove_file(bench.path("repo/placement").join(name.to_string())).unwrap();
}

/// Puts a list in the place of another that names one chunk which lies nowhere: every pack is as it was.
fn name_an_unknown_chunk(bench: &Bench) {
    let path = files(bench, "repo/lists").remove(0);
    let old = path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut list = fs::read(&path).unwrap();
    // A row's hash follows its kind, flags and length.
    list[ROW_BYTES + 8..][..32].copy_from_slice(Hash::of(b"no chunk has this content").as_bytes());
    let new = Hash::of(&list).to_string();
    fs::write(path.with_file_name(&new), list).unwrap();
    sign_again(bench, |manifest| {
        let text = manifest.to_string();
        assert!(text.contains(&old), "the snapshot has this list");
        *manifest = serde_json::from_str(&text.replace(&old, &new)).unwrap();
    });
}
