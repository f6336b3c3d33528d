//! `docs/rescue.sh` gets everything back without any code of ours, in every shell there is.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::{Bench, is_installed};
use crate::repository::ObjectName;
use crate::testing::{SnapshotBuilder, TestFile, noise, some_files};

/// The shells that the script is run in, of those that are installed. `sh` always is.
fn shells() -> Vec<Vec<&'static str>> {
    let mut shells = vec![vec!["sh"]];
    for (program, words) in
        [("dash", vec!["dash"]), ("bash", vec!["bash", "--posix"]), ("busybox", vec!["busybox", "sh"])]
    {
        if is_installed(program) {
            shells.push(words);
        } else {
            println!("not tried in {program}: it is not installed");
        }
    }
    shells
}

fn rescue(shell: &[&str], repository: &Path, words: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rescue.sh");
    Command::new(shell[0]).args(&shell[1..]).arg(script).arg(repository).args(words).output().unwrap()
}

fn good(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

async fn two_snapshots() -> Bench {
    let bench = Bench::new().await;
    let old = vec![TestFile::new("etc/hostname", *b"old\n"), TestFile::new("srv/large", noise(1, 9 << 20))];
    SnapshotBuilder::new(&bench.node, "zz-older").files(old).commit(&bench.repository).await;
    SnapshotBuilder::new(&bench.node, "aa-newer").commit(&bench.repository).await;
    // What a dead server may have lost or left behind does not matter to the script.
    fs::remove_dir_all(bench.dir.path().join("placement")).unwrap();
    let pack = bench.repository.packs().await.unwrap()[0].name;
    let pack = bench.path(&ObjectName::Pack(pack));
    fs::write(pack.with_file_name(format!("{}#1", pack.file_name().unwrap().to_str().unwrap())), b"half").unwrap();
    bench
}

#[tokio::test]
async fn rescue_lists_what_there_is() {
    let bench = two_snapshots().await;
    for shell in shells() {
        let listed = String::from_utf8(good(rescue(&shell, bench.dir.path(), &["list"]))).unwrap();
        insta::assert_snapshot!("rescue_list", listed);
    }
}

#[tokio::test]
async fn rescue_unpacks_every_file_of_the_newest_snapshot() {
    let bench = two_snapshots().await;
    for shell in shells() {
        let out = tempfile::tempdir().unwrap();
        let target = out.path().to_str().unwrap();
        good(rescue(&shell, bench.dir.path(), &["extract", "web-03", "latest", "root", target]));
        for file in some_files() {
            assert_eq!(fs::read(out.path().join(&file.path)).unwrap(), file.content, "{} in {shell:?}", file.path);
        }
    }
}

#[tokio::test]
async fn rescue_gives_raw_volumes_and_archives_byte_for_byte() {
    let bench = two_snapshots().await;
    let raw = good(rescue(&["sh"], bench.dir.path(), &["cat", "web-03", "zz-older", "boot-code"]));
    assert_eq!(raw, noise(7, 440));
    let archive = good(rescue(&["sh"], bench.dir.path(), &["cat", "web-03", "zz-older", "root"]));
    let snapshot = bench.repository.load(&bench.node, &"zz-older".parse().unwrap()).await.unwrap();
    let placement = bench.repository.load_placement().await.unwrap().placement;
    let volume = snapshot.volume(&"root".parse().unwrap()).unwrap();
    let mut exported = Vec::new();
    let stream = bench.repository.export(volume, &placement, crate::export::ExportForm::Decoded).await.unwrap();
    stream.write_to(&mut exported).await.unwrap();
    assert!(archive == exported, "the script and the export differ");
}

#[tokio::test]
async fn rescue_says_what_it_cannot_do_and_writes_nothing_then() {
    let bench = two_snapshots().await;
    let repository = bench.dir.path();
    let refused = |words: &[&str]| {
        let output = rescue(&["sh"], repository, words);
        assert!(!output.status.success() && output.stdout.is_empty(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let mut said = vec![
        refused(&["cat", "web-03", "nothing", "root"]),
        refused(&["cat", "web-03", "latest", "nothing"]),
        refused(&["cat", "nobody", "latest", "root"]),
        refused(&["cat", "../..", "x", "root"]),
        refused(&["extract", "web-03", "latest", "boot-code", "/"]),
    ];
    let snapshot = bench.repository.load(&bench.node, &"aa-newer".parse().unwrap()).await.unwrap();
    let volume = snapshot.volume(&"root".parse().unwrap()).unwrap();
    let rows = bench.repository.chunk_list(volume).await.unwrap();
    let placement = bench.repository.load_placement().await.unwrap().placement;
    let pack = placement.locate(&rows[rows.len() - 2].hash).unwrap().pack;
    fs::write(bench.path(&ObjectName::Pack(pack)), b"not a pack any more").unwrap();
    let lost = refused(&["cat", "web-03", "latest", "root"]);
    assert!(lost.contains("has no index") && lost.contains("lies in no pack"), "{lost}");
    fs::remove_file(bench.path(&ObjectName::List(volume.lists[0]))).unwrap();
    said.push(refused(&["cat", "web-03", "latest", "root"]));
    insta::assert_snapshot!(said.concat());
}

#[tokio::test]
async fn rescue_fails_where_a_frame_is_torn() {
    let bench = two_snapshots().await;
    let snapshot = bench.repository.load(&bench.node, &"aa-newer".parse().unwrap()).await.unwrap();
    let volume = snapshot.volume(&"root".parse().unwrap()).unwrap();
    let first = bench.repository.chunk_list(volume).await.unwrap()[0];
    let place = bench.repository.load_placement().await.unwrap().placement.locate(&first.hash).unwrap();
    bench.flip(&ObjectName::Pack(place.pack), place.offset as usize);
    let out = tempfile::tempdir().unwrap();
    let target = out.path().to_str().unwrap();
    for words in [&["cat", "web-03", "latest", "root"][..], &["extract", "web-03", "latest", "root", target][..]] {
        assert!(!rescue(&["sh"], bench.dir.path(), words).status.success(), "{words:?}");
    }
}
