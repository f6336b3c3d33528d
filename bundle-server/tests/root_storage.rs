//! A server whose disk is full or read-only, on small filesystems in memory, and one that is killed. (Mounting needs
//! root.)

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bundle::Hash;
use bundle::testing::{SnapshotBuilder, TestFile, noise};
use bundle_server::{Server, system_clock};
use common::child::Killable;
use common::{TestServer, commit, patience, refusal, snapshot_id, upload, upload_packs};
use server_api::{Connection, ErrorCode};

/// A small filesystem in memory, gone with this value.
struct SmallDisk(PathBuf, #[allow(dead_code)] tempfile::TempDir); // The directory lives as long as the mount.

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        fs::create_dir(&path).unwrap();
        let options = format!("size={size},mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).status();
        if mounted.is_ok_and(|status| status.success()) {
            Some(Self(path, directory))
        } else {
            eprintln!("skipped: mounting needs root");
            None
        }
    }

    /// Makes one directory of it read-only, as a failing disk does to all of it. (The whole cannot be: the server
    /// holds files open for writing.)
    fn protect(&self, directory: &Path) {
        for arguments in [["--bind"].as_slice(), &["-o", "remount,bind,ro"]] {
            let mut mount = Command::new("mount");
            mount.args(arguments).arg(directory);
            if arguments.len() == 1 {
                mount.arg(directory);
            }
            assert!(mount.status().unwrap().success());
        }
    }

    fn unprotect(&self, directory: &Path) {
        assert!(Command::new("umount").arg(directory).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", "--recursive"]).arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_16_a_full_disk_refuses_and_goes_on_reading() {
    let Some(disk) = SmallDisk::mount("40m") else { return };
    let server = TestServer::start_in(&disk.0.join("repository")).await;
    let node = server.add_node("web-03").await;
    let first = node.capture(&server, "5af0").await;
    let client = node.client(&server.connect().await);
    let files = vec![TestFile::new("large", noise(4711, 30 << 20))];
    let more = node.sign(SnapshotBuilder::new(&node.name, "5af1").files(files).build(server.server.repository()));
    let mut refused = None;
    for pack in &more.packs {
        if let Err(error) = client.put_pack(&pack.name, pack.bytes.clone().into()).await {
            refused = Some(error);
        }
    }
    let error = refused.expect("30 MiB do not fit");
    assert_eq!(error.code(), Some(ErrorCode::StorageFull), "{error}");
    assert!(error.hint().unwrap().contains("make room"), "{error}");
    assert_eq!(server.leftover_uploads(), 0);
    let outcome = commit(&client, &more).await;
    assert!(outcome.is_err(), "nothing is committed that is not whole");
    assert_eq!(client.reader().snapshots().await.unwrap().snapshots.len(), 1);
    assert!(client.reader().check(&first.manifest.snapshot).await.unwrap().is_whole());
    client.reader().placement(&first.manifest.snapshot).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_repository_acknowledges_nothing() {
    let Some(disk) = SmallDisk::mount("64m") else { return };
    let server = TestServer::start_in(&disk.0.join("repository")).await;
    let node = server.add_node("web-03").await;
    let client = node.client(&server.connect().await);
    let built = node.build(&server, "5af0");
    upload(&client, &built).await;
    let (snapshots, packs) = (server.directory.join("snapshots"), server.directory.join("packs"));
    disk.protect(&snapshots);
    disk.protect(&packs);
    let (code, text) = refusal(commit(&client, &built).await);
    assert_eq!(code, ErrorCode::StorageFailed, "{text}");
    assert!(text.contains("cannot be written"), "{text}");
    let more = SnapshotBuilder::new(&node.name, "5af1").files(vec![TestFile::new("new", noise(5, 400_000))]);
    let more = node.sign(more.build(server.server.repository()));
    let sent = client.put_pack(&more.packs[0].name, more.packs[0].bytes.clone().into()).await;
    assert_eq!(refusal(sent).0, ErrorCode::StorageFailed);
    let chunks: Vec<Hash> = more.packs[0].index.rows().iter().map(|row| row.hash).collect();
    assert!(client.missing_chunks(&chunks).await.unwrap().missing_count() > 0, "nothing was booked");
    disk.unprotect(&packs);
    disk.unprotect(&snapshots);
    assert!(client.reader().snapshots().await.unwrap().snapshots.is_empty(), "no receipt was written");
    commit(&client, &built).await.expect("when it can be written again the same commit succeeds");
}

/// Not a test by itself: the server that the next one kills, in a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn serve_until_killed() {
    common::child::serve().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_06_a_server_killed_at_any_moment_of_an_upload_leaves_whole_snapshots_only() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("repository");
    let server = Server::open(&directory, system_clock()).await.unwrap();
    let name = "web-03".parse().unwrap();
    let file = server.node_add(&name, vec!["https://127.0.0.1".to_owned()], false).await.unwrap();
    let pin = bundle::trust::Pin::Fingerprint(server.fingerprint());
    let mut committed = 0;
    for (round, wait_ms) in [1_u64, 20, 60, 120, 250, 500].into_iter().enumerate() {
        let id = format!("round-{round}");
        let files = vec![TestFile::new("data", noise(round as u64 + 100, 12 << 20))];
        let mut built = SnapshotBuilder::new(&name, &id).files(files).build(server.repository());
        built.sign_with(&file.secret.signing_key());
        let (mut child, url) = Killable::start(&directory, &[]).await;
        let connection = Connection::open(std::slice::from_ref(&url), &pin, patience()).await.unwrap();
        let client = connection.as_node(name.clone(), file.secret.bearer_token());
        let sending = {
            let built = built.clone();
            let client = client.clone();
            tokio::spawn(async move {
                for pack in &built.packs {
                    client.put_pack(&pack.name, pack.bytes.clone().into()).await.ok()?;
                }
                for list in &built.lists {
                    client.put_list(&Hash::of(list), list.clone().into()).await.ok()?;
                }
                for catalog in &built.catalogs {
                    client.put_catalog(&Hash::of(catalog), catalog.clone().into()).await.ok()?;
                }
                commit(&client, &built).await.ok()
            })
        };
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        child.kill();
        let acknowledged = sending.await.unwrap().is_some();

        let (_child, url) = Killable::start(&directory, &[]).await;
        let connection = Connection::open(std::slice::from_ref(&url), &pin, patience()).await.unwrap();
        let client = connection.as_node(name.clone(), file.secret.bearer_token());
        let list = client.reader().snapshots().await.unwrap();
        assert!(list.damaged.is_empty(), "{list:?}");
        let listed = list.snapshots.iter().any(|summary| summary.snapshot == snapshot_id(&id));
        assert!(listed || !acknowledged, "what was acknowledged after {wait_ms} ms is there");
        for summary in &list.snapshots {
            assert!(client.reader().check(&summary.snapshot).await.unwrap().is_whole(), "{}", summary.snapshot);
        }
        // The same node goes on where it was: what is there is not sent again.
        upload_packs(&client, &built).await;
        upload(&client, &built).await;
        commit(&client, &built).await.unwrap();
        committed += 1;
        assert_eq!(client.reader().snapshots().await.unwrap().snapshots.len(), committed);
    }
}
