//! What a repository promises, tried on small real ones.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use node_model::{NodeName, SnapshotId};
use tempfile::TempDir;

use super::*;
use crate::Hash;
use crate::document::Requirement;
use crate::manifest::Manifest;
use crate::receipt::Receipt;
use crate::sign::NodeKey;
use crate::testing::{self, SnapshotBuilder, TestFile, node_name, root_key, some_time};

/// An error as an operator reads it: the chain, then the hint.
fn rendered(error: &RepositoryError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        write!(text, ": {cause}").unwrap();
        source = cause.source();
    }
    if let Some(hint) = error.hint() {
        write!(text, "\nhint: {hint}").unwrap();
    }
    text
}

struct Bench {
    dir: TempDir,
    repository: Repository,
    node: NodeName,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = node_name();
        let repository = testing::repository(dir.path(), std::slice::from_ref(&node)).await;
        Self { dir, repository, node }
    }

    fn small(&self, id: &str) -> SnapshotBuilder {
        SnapshotBuilder::new(&self.node, id).files(vec![TestFile::new("etc/motd", format!("hello from {id}"))])
    }

    fn path(&self, object: &ObjectName) -> PathBuf {
        self.dir.path().join(object.to_string())
    }

    fn pin(&self, error: &RepositoryError) -> String {
        rendered(error).replace(self.dir.path().to_str().unwrap(), "<dir>")
    }

    async fn load_error(&self, id: &str) -> RepositoryError {
        self.repository.load(&self.node, &id.parse().unwrap()).await.unwrap_err()
    }
}

#[tokio::test]
async fn a_committed_snapshot_is_read_back_as_it_was_written() {
    let bench = Bench::new().await;
    let built = SnapshotBuilder::new(&bench.node, "first").build(&bench.repository);
    let committed = built.commit(&bench.repository).await;
    let again = testing::reopen(bench.dir.path()).await;
    let loaded = again.load(&bench.node, &"first".parse().unwrap()).await.unwrap();
    assert_eq!(loaded.manifest(), &built.manifest);
    assert_eq!(loaded.to_parts(), committed.to_parts());
    assert_eq!(loaded.receipt().sequence, 1);
    assert_eq!(again.nodes().await.unwrap(), std::slice::from_ref(&bench.node));
    let placement = again.load_placement().await.unwrap();
    assert!(placement.problems.is_empty() && placement.from_packs.is_empty() && placement.stale.is_empty());
    for volume in &loaded.manifest().volumes {
        for row in again.chunk_list(volume).await.unwrap() {
            let place = placement.placement.locate(&row.hash).unwrap();
            assert_eq!(again.chunk(&row.hash, &place).await.unwrap().len(), row.content_len as usize);
        }
    }
}

#[tokio::test]
async fn what_nodes_store_is_for_the_eyes_of_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("new");
    testing::repository(&path, &[node_name()]).await;
    for name in ["", "packs", "snapshots", "lists", "catalogs", "placement", "nodes"] {
        let mode = fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "of `{name}`");
    }
}

#[tokio::test]
async fn the_newest_snapshot_is_the_one_with_the_highest_sequence_whatever_the_clock_said() {
    let bench = Bench::new().await;
    for (id, year) in [("one", 2040), ("two", 1970), ("three", 2001)] {
        let built = bench.small(id).build(&bench.repository);
        built.upload(&bench.repository).await;
        let at = format!("{year}-01-01T00:00:00Z").parse().unwrap();
        bench.repository.commit(&built.signed(&bench.repository), |_| true, &root_key(), at).await.unwrap();
    }
    assert_eq!(bench.repository.latest(&bench.node).await.unwrap().snapshot.as_str(), "three");
    let listing = bench.repository.snapshots(&bench.node).await.unwrap();
    assert_eq!(listing.snapshots.iter().map(|s| s.sequence).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn defect_of_object_store_concurrent_commits_need_no_conditional_update() {
    let bench = Bench::new().await;
    // What would be the usual way to give out numbers is not there on a directory; a lock is.
    let directory = object_store::local::LocalFileSystem::new_with_prefix(bench.dir.path()).unwrap();
    let version = object_store::UpdateVersion { e_tag: Some("1".into()), version: None };
    let update = directory.put_opts(&"any".into(), PutPayload::new(), PutMode::Update(version).into()).await;
    assert!(matches!(update, Err(object_store::Error::NotImplemented { .. })), "{update:?}");

    let other_process = testing::reopen(bench.dir.path()).await;
    let mut tasks = Vec::new();
    for number in 0..8 {
        let repository = if number % 2 == 0 { bench.repository.clone() } else { other_process.clone() };
        let built = bench.small(&format!("s{number}")).build(&repository);
        tasks.push(tokio::spawn(async move { built.commit(&repository).await.receipt().sequence }));
    }
    let mut sequences = HashSet::new();
    for task in tasks {
        sequences.insert(task.await.unwrap());
    }
    assert_eq!(sequences, (1..=8).collect());
}

#[tokio::test]
async fn a_commit_repeated_gives_the_receipt_it_gave_and_another_one_is_refused() {
    let bench = Bench::new().await;
    let first = bench.small("same").commit(&bench.repository).await;
    let again = bench.small("same").commit(&bench.repository).await;
    assert_eq!(first.to_parts(), again.to_parts());
    let other = SnapshotBuilder::new(&bench.node, "same").build(&bench.repository);
    other.upload(&bench.repository).await;
    let refused = bench
        .repository
        .commit(&other.signed(&bench.repository), |_| true, &root_key(), some_time())
        .await
        .unwrap_err();
    insta::assert_snapshot!(bench.pin(&refused));
}

#[tokio::test]
async fn nothing_is_committed_that_refers_to_what_is_not_there() {
    let bench = Bench::new().await;
    let built = bench.small("x").build(&bench.repository);
    let signed = built.signed(&bench.repository);
    let root = root_key();
    let commit = |placed: bool| bench.repository.commit(&signed, move |_| placed, &root, some_time());
    let mut refusals = Vec::new();

    refusals.push(commit(true).await.unwrap_err());
    for list in &built.lists {
        bench.repository.put_list(&Hash::of(list), list.clone().into()).await.unwrap();
    }
    refusals.push(commit(false).await.unwrap_err());
    refusals.push(commit(true).await.unwrap_err());
    let shown: Vec<String> = refusals.iter().map(|refusal| bench.pin(refusal)).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
    assert!(bench.repository.snapshots(&bench.node).await.unwrap().snapshots.is_empty());

    built.upload(&bench.repository).await;
    commit(true).await.unwrap();
}

#[tokio::test]
async fn lists_that_a_restore_would_refuse_are_not_committed() {
    let bench = Bench::new().await;
    type Edit = fn(&mut Manifest);
    let edits: [(&str, Edit); 4] = [
        ("a segment twice", |m| {
            let again = m.volumes[1].lists[0];
            m.volumes[1].lists.push(again);
        }),
        ("another length", |m| m.volumes[1].volume.stream_bytes = node_model::Bytes(4096)),
        ("another volume's list", |m| m.volumes[1].lists = m.volumes[0].lists.clone()),
        ("a files list as a raw volume", |m| {
            m.volumes[0].lists = m.volumes[1].lists.clone();
            m.volumes[0].volume.stream_bytes = m.volumes[1].volume.stream_bytes;
            m.volumes[0].volume.volume = node_model::VolumeKind::Raw {
                offset_bytes: node_model::Bytes(0),
                length_bytes: m.volumes[1].volume.stream_bytes,
            };
        }),
    ];
    let mut shown = Vec::new();
    for (case, edit) in edits {
        let built = bench.small("x").edit(edit).build(&bench.repository);
        built.upload(&bench.repository).await;
        let signed = built.signed(&bench.repository);
        let refused = bench.repository.commit(&signed, |_| true, &root_key(), some_time()).await.unwrap_err();
        shown.push(format!("== {case}\n{}", bench.pin(&refused)));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[tokio::test]
async fn a_manifest_without_a_receipt_is_no_snapshot_and_stands_in_nobodys_way() {
    let bench = Bench::new().await;
    let leftover = bench.path(&ObjectName::Manifest(bench.node.clone(), "x".parse().unwrap()));
    fs::create_dir_all(leftover.parent().unwrap()).unwrap();
    fs::write(&leftover, b"half a mani").unwrap();
    assert!(bench.repository.snapshots(&bench.node).await.unwrap().snapshots.is_empty());
    assert!(bench.load_error("x").await.is_missing());
    bench.small("x").commit(&bench.repository).await;
    bench.repository.load(&bench.node, &"x".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn what_does_not_fit_its_name_is_not_stored() {
    let bench = Bench::new().await;
    let built = bench.small("x").build(&bench.repository);
    let wrong = Hash::of(b"something else");
    let pack = &built.packs[0];
    let mut flipped = pack.bytes.clone();
    flipped[9] ^= 1;
    assert!(VerifiedPack::verify(wrong, pack.bytes.clone().into()).is_err());
    assert!(VerifiedPack::verify(pack.name, flipped.clone().into()).is_err());
    assert!(VerifiedPack::verify(Hash::of(&flipped), flipped.into()).is_err(), "the frame is damaged");
    let list = built.lists[0].clone();
    assert!(bench.repository.put_list(&wrong, list.into()).await.is_err());
    assert!(bench.repository.put_list(&Hash::of(b"no list"), (&b"no list"[..]).into()).await.is_err());
    assert!(bench.repository.put_catalog(&Hash::of(b"no catalog"), (&b"no catalog"[..]).into()).await.is_err());
    let huge = vec![0; (4 << 20) + 1];
    assert!(matches!(
        bench.repository.put_list(&Hash::of(&huge), huge.into()).await,
        Err(RepositoryError::TooLarge { .. })
    ));
    for kind in ["packs", "lists", "catalogs", "placement"] {
        let files = walk(&bench.dir.path().join(kind));
        assert!(files.is_empty(), "{files:?}");
    }
}

fn walk(path: &std::path::Path) -> Vec<PathBuf> {
    let (mut files, mut waiting) = (Vec::new(), vec![path.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { files.push(path) }
        }
    }
    files
}

#[tokio::test]
async fn a_pack_without_its_known_chunks_holds_the_rest_in_order() {
    let bench = Bench::new().await;
    let built = SnapshotBuilder::new(&bench.node, "x").pack_bytes(1 << 30).build(&bench.repository);
    let pack = VerifiedPack::verify(built.packs[0].name, built.packs[0].bytes.clone().into()).unwrap();
    let hashes: Vec<Hash> = pack.index().rows().iter().map(|row| row.hash).collect();
    let known: HashSet<Hash> = hashes.iter().step_by(2).copied().collect();
    let rest = pack.without(&known).unwrap();
    let expected: Vec<Hash> = hashes.iter().copied().filter(|hash| !known.contains(hash)).collect();
    assert_eq!(rest.index().rows().iter().map(|row| row.hash).collect::<Vec<_>>(), expected);
    VerifiedPack::verify(rest.name(), rest.bytes().clone()).unwrap();
    assert_eq!(pack.without(&HashSet::new()).unwrap().name(), pack.name());
    assert!(pack.without(&hashes.into_iter().collect()).is_none());
}

#[tokio::test]
async fn placement_is_rebuilt_from_the_packs_alone() {
    let bench = Bench::new().await;
    SnapshotBuilder::new(&bench.node, "x").commit(&bench.repository).await;
    let before = bench.repository.load_placement().await.unwrap();
    let packs = before.packs.clone();
    assert!(packs.len() >= 3, "several packs");
    fs::remove_file(bench.path(&ObjectName::Placement(packs[0].name))).unwrap();
    fs::write(bench.path(&ObjectName::Placement(packs[1].name)), b"nonsense").unwrap();
    fs::copy(
        bench.path(&ObjectName::Placement(packs[2].name)),
        bench.path(&ObjectName::Placement(Hash::of(b"a pack that was compacted away"))),
    )
    .unwrap();

    let degraded = bench.repository.load_placement().await.unwrap();
    assert_eq!(degraded.from_packs, [packs[0].name, packs[1].name]);
    assert_eq!(degraded.stale, [Hash::of(b"a pack that was compacted away")]);
    assert_eq!(degraded.placement.len(), before.placement.len());

    let rebuilt = bench.repository.rebuild_placement().await.unwrap();
    assert_eq!(rebuilt, crate::placement::RebuiltPlacement { written: 2, removed: 1 });
    let after = bench.repository.load_placement().await.unwrap();
    assert!(after.from_packs.is_empty() && after.stale.is_empty());
    assert_eq!(bench.repository.rebuild_placement().await.unwrap(), Default::default());
}

#[tokio::test]
async fn a_pack_of_the_wrong_length_is_a_problem_and_holds_nothing() {
    let bench = Bench::new().await;
    SnapshotBuilder::new(&bench.node, "x").commit(&bench.repository).await;
    let packs = bench.repository.packs().await.unwrap();
    let cut = bench.path(&ObjectName::Pack(packs[0].name));
    let file = fs::File::options().write(true).open(&cut).unwrap();
    file.set_len(packs[0].bytes - 5).unwrap();
    let grown = bench.path(&ObjectName::Pack(packs[1].name));
    let bytes = fs::read(&grown).unwrap();
    fs::write(&grown, [&b"front"[..], &bytes].concat()).unwrap();
    let empty = bench.path(&ObjectName::Pack(packs[2].name));
    fs::write(&empty, b"").unwrap();
    let loaded = bench.repository.load_placement().await.unwrap();
    let shown: Vec<String> = loaded.problems.iter().map(|problem| bench.pin(problem)).collect();
    assert_eq!(shown.len(), 3);
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[tokio::test]
async fn damaged_and_foreign_snapshots_are_refused_with_what_and_which_and_what_now() {
    let bench = Bench::new().await;
    let snapshot: SnapshotId = "x".parse().unwrap();
    bench.small("x").commit(&bench.repository).await;
    bench.small("y").commit(&bench.repository).await;
    let object = |make: fn(NodeName, SnapshotId) -> ObjectName, id: &str| {
        bench.path(&make(bench.node.clone(), id.parse().unwrap()))
    };
    let manifest = object(ObjectName::Manifest, "x");
    let signature = object(ObjectName::Signature, "x");
    let receipt = object(ObjectName::Receipt, "x");
    let good = [&manifest, &signature, &receipt].map(|path| fs::read(path).unwrap());
    let mut shown = Vec::new();

    let restore = || {
        for (path, bytes) in [&manifest, &signature, &receipt].into_iter().zip(&good) {
            fs::write(path, bytes).unwrap();
        }
    };
    let mut flipped = good[0].clone();
    flipped[200] ^= 1;
    let stranger = NodeKey::from_seed(&[0x66; 32]);
    let by_stranger = stranger.sign(crate::sign::SignContext::Manifest, &good[0]).to_json();
    let other_root = RootKey::from_seed(&[0x67; 32]);
    let by_other_root = Receipt::unseal(&good[2], bench.repository.root_key()).unwrap().seal(&other_root);
    let huge = vec![b' '; 9 << 20];
    let cases: [(&str, &PathBuf, &[u8]); 9] = [
        ("a byte of the manifest flipped", &manifest, &flipped),
        ("the manifest cut short", &manifest, &good[0][..100]),
        ("the manifest of another snapshot", &manifest, &fs::read(object(ObjectName::Manifest, "y")).unwrap()),
        ("a manifest of 9 MiB", &manifest, &huge),
        ("signed by another key", &signature, &by_stranger),
        ("the signature of another snapshot", &signature, &fs::read(object(ObjectName::Signature, "y")).unwrap()),
        ("no signature document", &signature, b"{}"),
        ("a receipt by another root", &receipt, &by_other_root),
        ("the receipt of another snapshot", &receipt, &fs::read(object(ObjectName::Receipt, "y")).unwrap()),
    ];
    for (case, path, bytes) in cases {
        fs::write(path, bytes).unwrap();
        shown.push(format!("== {case}\n{}", bench.pin(&bench.load_error("x").await)));
        restore();
    }
    for (case, path) in [("no manifest", &manifest), ("no signature", &signature), ("no receipt", &receipt)] {
        fs::remove_file(path).unwrap();
        shown.push(format!("== {case}\n{}", bench.pin(&bench.load_error("x").await)));
        restore();
    }
    let renamed = bench.dir.path().join("snapshots/other-node");
    fs::create_dir_all(&renamed).unwrap();
    fs::rename(manifest.parent().unwrap(), renamed.join("x")).unwrap();
    let moved = bench.repository.load(&"other-node".parse().unwrap(), &snapshot).await.unwrap_err();
    shown.push(format!("== the snapshot under another node's name\n{}", bench.pin(&moved)));
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[tokio::test]
async fn manifests_of_the_future_and_of_nonsense_are_refused() {
    let bench = Bench::new().await;
    type Edit = fn(&mut Manifest);
    let edits: [(&str, Edit); 9] = [
        ("a newer format", |m| (m.format, m.agent_version) = (2, "3.1.4".into())),
        ("an unknown requirement", |m| {
            m.requires = vec![Requirement { feature: "blocks-volumes".into(), since: "0.4.0".into() }];
        }),
        ("two volumes of one name", |m| m.volumes[0].volume.name = m.volumes[1].volume.name.clone()),
        ("a volume of no device", |m| m.volumes[0].volume.device = "disk9".parse().unwrap()),
        ("a device twice", |m| m.spec.layout.devices[2].key = m.spec.layout.devices[1].key.clone()),
        ("a partition before its disk", |m| m.spec.layout.devices.swap(0, 1)),
        ("a volume without a list", |m| m.volumes[1].lists.clear()),
        ("files without a catalog", |m| m.volumes[1].catalogs.clear()),
        ("a raw volume beyond its disk", |m| {
            m.volumes[0].volume.volume = node_model::VolumeKind::Raw {
                offset_bytes: node_model::Bytes(u64::MAX),
                length_bytes: node_model::Bytes(440),
            };
        }),
    ];
    let certificate = testing::certificate(&bench.repository, &bench.node);
    let mut shown = Vec::new();
    for (case, edit) in edits {
        let built = bench.small("x").edit(edit).build(&bench.repository);
        let source =
            SignedManifest::verify(built.manifest_bytes, built.signature_bytes, &certificate).unwrap_err().into();
        let error = RepositoryError::Snapshot { node: bench.node.clone(), snapshot: "x".parse().unwrap(), source };
        shown.push(format!("== {case}\n{}", bench.pin(&error)));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[tokio::test]
async fn a_directory_is_opened_under_the_right_root_only() {
    let bench = Bench::new().await;
    let mut shown = Vec::new();
    let pin = Pin::Fingerprint(RootKey::from_seed(&[1; 32]).id());
    shown.push(Repository::open_directory(bench.dir.path(), &pin).await.unwrap_err());
    let empty = tempfile::tempdir().unwrap();
    let nothing = Repository::open_directory(empty.path(), &Pin::LocalDirectory).await.unwrap_err();
    let text = rendered(&nothing).replace(empty.path().to_str().unwrap(), "<empty>");
    shown.push(Repository::create_directory(bench.dir.path(), &root_key(), some_time()).await.unwrap_err());
    shown.push(bench.repository.latest(&bench.node).await.unwrap_err());
    shown.push(bench.repository.latest(&"nobody".parse().unwrap()).await.unwrap_err());
    shown.push(bench.repository.certificate(&"nobody".parse().unwrap()).await.unwrap_err());
    let snapshot = bench.small("x").commit(&bench.repository).await;
    shown.push(snapshot.volume(&"home".parse().unwrap()).unwrap_err());
    let wrong_root = RootKey::from_seed(&[1; 32]);
    let certificate = testing::certificate(&bench.repository, &bench.node);
    shown.push(bench.repository.put_certificate(&certificate, &wrong_root).await.unwrap_err());
    let info = bench.dir.path().join("repository.json");
    let good = fs::read_to_string(&info).unwrap();
    fs::write(&info, good.replace("\"target_bytes\": 1048576", "\"target_bytes\": 1048577")).unwrap();
    shown.push(Repository::open_directory(bench.dir.path(), &Pin::LocalDirectory).await.unwrap_err());
    fs::write(&info, good.replace("\"format\": 1", "\"format\": 7")).unwrap();
    shown.push(Repository::open_directory(bench.dir.path(), &Pin::LocalDirectory).await.unwrap_err());
    let shown: Vec<String> = shown.iter().map(|error| bench.pin(error)).chain([text]).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[tokio::test]
async fn files_of_dead_writers_are_seen_by_nobody_and_swept_after_a_day() {
    let bench = Bench::new().await;
    bench.small("x").commit(&bench.repository).await;
    let packs = bench.repository.packs().await.unwrap();
    let pack = bench.path(&ObjectName::Pack(packs[0].name));
    let (old, young) = (pack.with_extension("x#1"), pack.with_extension("x#2"));
    for path in [&old, &young] {
        fs::write(path, b"half").unwrap();
    }
    let two_days_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 60 * 60);
    fs::File::options().write(true).open(&old).unwrap().set_modified(two_days_ago).unwrap();
    assert_eq!(bench.repository.packs().await.unwrap(), packs);
    testing::reopen(bench.dir.path()).await;
    assert!(!old.exists() && young.exists());
}

#[tokio::test]
async fn a_store_without_directories_serves_as_well() {
    let store = std::sync::Arc::new(object_store::memory::InMemory::new());
    let repository = Repository::create(store.clone(), &root_key(), some_time()).await.unwrap();
    let node = node_name();
    repository.put_certificate(&testing::certificate(&repository, &node), &root_key()).await.unwrap();
    SnapshotBuilder::new(&node, "x").commit(&repository).await;
    let again = Repository::open(store.clone(), &Pin::Fingerprint(root_key().id())).await.unwrap();
    again.load(&node, &"x".parse().unwrap()).await.unwrap();
    assert!(matches!(
        Repository::create(store, &root_key(), some_time()).await,
        Err(RepositoryError::AlreadyARepository { .. })
    ));
}
