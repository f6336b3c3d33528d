//! A scrub finds everything, and says what it means for which snapshot.

use std::fs;

use super::Bench;
use crate::repository::ObjectName;
use crate::testing::{SnapshotBuilder, TestFile, noise};
use crate::verify::{Depth, Report};

fn rendered(report: &Report) -> String {
    let mut lines: Vec<String> = report
        .findings
        .iter()
        .map(|finding| format!("{finding}\n  hint: {}", finding.hint().unwrap_or_default()))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Two snapshots that share one large file; the second has another one besides.
async fn two_snapshots() -> Bench {
    let bench = Bench::new().await;
    let shared = TestFile::new("srv/shared", noise(1, 3 << 20));
    let own = TestFile::new("srv/own", noise(2, 3 << 20));
    SnapshotBuilder::new(&bench.node, "first").files(vec![shared.clone()]).commit(&bench.repository).await;
    SnapshotBuilder::new(&bench.node, "second").files(vec![shared, own]).commit(&bench.repository).await;
    bench
}

async fn scrub(bench: &Bench, depth: Depth) -> Report {
    bench.repository.scrub(depth, |_| {}).await.unwrap()
}

/// The chunks of a snapshot's root volume.
async fn root_chunks(bench: &Bench, id: &str) -> Vec<crate::Hash> {
    let snapshot = bench.repository.load(&bench.node, &id.parse().unwrap()).await.unwrap();
    let rows = bench.repository.chunk_list(snapshot.volume(&"root".parse().unwrap()).unwrap()).await.unwrap();
    rows.iter().map(|row| row.hash).collect()
}

#[tokio::test]
async fn a_whole_repository_is_clean() {
    let bench = two_snapshots().await;
    let mut heard = 0;
    let report = bench.repository.scrub(Depth::Full, |_| heard += 1).await.unwrap();
    assert!(report.is_clean(), "{}", rendered(&report));
    assert_eq!(report.checked.snapshots, 2);
    assert_eq!(heard, report.checked.packs + report.checked.snapshots);
    assert!(report.checked.bytes > 6 << 20);
    assert!(scrub(&bench, Depth::Quick).await.is_clean());
}

#[tokio::test]
async fn fault_40_one_missing_chunk_is_found_and_the_snapshots_that_need_it_are_named() {
    let bench = two_snapshots().await;
    let first = root_chunks(&bench, "first").await;
    let second = root_chunks(&bench, "second").await;
    let own = second.iter().find(|chunk| !first.contains(chunk)).unwrap();
    let placement = bench.repository.load_placement().await.unwrap().placement;

    // The pack goes with its placement: the chunk lies nowhere any more.
    let pack = placement.locate(own).unwrap().pack;
    fs::remove_file(bench.path(&ObjectName::Pack(pack))).unwrap();
    fs::remove_file(bench.path(&ObjectName::Placement(pack))).unwrap();
    let report = scrub(&bench, Depth::Quick).await;
    insta::assert_snapshot!(rendered(&report));
    assert!(report.findings.iter().all(|finding| finding.is_loss()));

    let placement = bench.repository.load_placement().await.unwrap().placement;
    for (id, clean) in [("first", true), ("second", false)] {
        let id = id.parse().unwrap();
        let report = bench.repository.check_snapshot(&bench.node, &id, Depth::Quick, &placement).await;
        assert_eq!(report.is_clean(), clean, "{id}");
    }
}

#[tokio::test]
async fn fault_18_a_flipped_byte_is_found_in_every_class_of_object() {
    for class in ["pack", "list", "catalog", "manifest", "signature", "receipt", "certificate", "placement"] {
        let bench = Bench::new().await;
        let files = vec![TestFile::new("srv/file", noise(1, 300_000)), TestFile::new("srv/small", noise(2, 5000))];
        SnapshotBuilder::new(&bench.node, "second").files(files).commit(&bench.repository).await;
        let snapshot = bench.repository.load(&bench.node, &"second".parse().unwrap()).await.unwrap();
        let volume = snapshot.volume(&"root".parse().unwrap()).unwrap();
        let pack = bench.repository.packs().await.unwrap()[0];
        let id = || (bench.node.clone(), snapshot.manifest().snapshot.clone());
        let object = match class {
            "pack" => ObjectName::Pack(pack.name),
            "list" => ObjectName::List(volume.lists[0]),
            "catalog" => ObjectName::Catalog(volume.catalogs[0]),
            "manifest" => ObjectName::Manifest(id().0, id().1),
            "signature" => ObjectName::Signature(id().0, id().1),
            "receipt" => ObjectName::Receipt(id().0, id().1),
            "certificate" => ObjectName::Certificate(bench.node.clone()),
            _ => ObjectName::Placement(pack.name),
        };
        let length = fs::metadata(bench.path(&object)).unwrap().len() as usize;
        for at in [0, length / 3, length / 2, length - 2] {
            bench.flip(&object, at);
            let report = scrub(&bench, Depth::Full).await;
            assert!(!report.is_clean(), "{class}, byte {at} of {length}");
            bench.flip(&object, at);
        }
        assert!(scrub(&bench, Depth::Full).await.is_clean(), "{class} healed");
    }
}

#[tokio::test]
async fn only_snapshots_that_use_a_damaged_chunk_are_said_to_have_lost_it() {
    let bench = two_snapshots().await;
    let first = root_chunks(&bench, "first").await;
    let second = root_chunks(&bench, "second").await;
    let own = second.iter().find(|chunk| !first.contains(chunk)).unwrap();
    let placement = bench.repository.load_placement().await.unwrap().placement;
    let place = placement.locate(own).unwrap();
    bench.flip(&ObjectName::Pack(place.pack), place.offset as usize + 40);
    assert!(scrub(&bench, Depth::Quick).await.is_clean(), "a quick look reads no chunk");
    insta::assert_snapshot!(rendered(&scrub(&bench, Depth::Full).await));
    for (id, clean) in [("first", true), ("second", false)] {
        let id = id.parse().unwrap();
        let report = bench.repository.check_snapshot(&bench.node, &id, Depth::Full, &placement).await;
        assert_eq!(report.is_clean(), clean, "{id}");
        assert!(report.checked.bytes > 0 && report.checked.chunks > 0);
    }
}

#[tokio::test]
async fn a_scrub_goes_on_after_what_it_finds() {
    let bench = two_snapshots().await;
    let packs = bench.repository.packs().await.unwrap();
    fs::write(bench.path(&ObjectName::Pack(packs[0].name)), b"gone").unwrap();
    fs::remove_file(bench.path(&ObjectName::Placement(packs[1].name))).unwrap();
    let id = || (bench.node.clone(), "first".parse().unwrap());
    fs::remove_file(bench.path(&ObjectName::Manifest(id().0, id().1))).unwrap();
    let catalog = bench.repository.load(&bench.node, &"second".parse().unwrap()).await.unwrap();
    let catalog = catalog.volume(&"root".parse().unwrap()).unwrap().catalogs[0];
    fs::remove_file(bench.path(&ObjectName::Catalog(catalog))).unwrap();
    insta::assert_snapshot!(rendered(&scrub(&bench, Depth::Full).await));
}
