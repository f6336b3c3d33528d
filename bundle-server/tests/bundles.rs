//! Storing and reading bundles over HTTPS on the loopback address.

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use bundle::node_model::VolumeName;
use bundle::repository::{RepositoryInfo, SnapshotParts, VerifiedSnapshot};
use bundle::testing::{SnapshotBuilder, TestFile, noise, some_files};
use bundle::verify::Depth;
use bundle::{Hash, frame};
use common::{TestServer, commit, refusal, settled, snapshot_id, upload};
use server_api::{ClientError, ErrorCode};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_captures_is_read_back_and_verifies() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    let built = node.build(&server, "5af0");
    let client = node.client(&server.connect().await);
    let chunks: Vec<Hash> = built.packs.iter().flat_map(|pack| pack.index.rows().iter().map(|row| row.hash)).collect();
    assert_eq!(client.missing_chunks(&chunks).await.unwrap().missing_count(), chunks.len());
    upload(&client, &built).await;
    assert_eq!(client.missing_chunks(&chunks).await.unwrap().missing_count(), 0);
    let answer = commit(&client, &built).await.unwrap();
    assert_eq!(answer.sequence, 1);
    assert_eq!(commit(&client, &built).await.unwrap(), answer, "an answer that was lost is given again");

    let reader = client.reader();
    let id = snapshot_id("5af0");
    let list = reader.snapshots().await.unwrap();
    assert_eq!(list.snapshots.len(), 1);
    assert_eq!((&list.snapshots[0].snapshot, list.snapshots[0].sequence), (&id, 1));

    let facts = reader.facts().await.unwrap();
    let info = RepositoryInfo::unseal(facts.repository.as_bytes(), &server.pin()).unwrap();
    let documents = reader.documents(&id).await.unwrap();
    let parts = SnapshotParts {
        manifest: documents.manifest.to_vec(),
        signature: documents.signature.to_vec(),
        receipt: documents.receipt.to_vec(),
    };
    let snapshot = VerifiedSnapshot::verify(parts, &info, &node.name, &id).unwrap();
    assert_eq!(snapshot.manifest(), &built.manifest);

    let placement = reader.placement(&id).await.unwrap();
    for volume in &snapshot.manifest().volumes {
        for catalog in &volume.catalogs {
            reader.catalog(&id, catalog).await.unwrap();
        }
        for segment in &volume.lists {
            let segment = reader.list(&id, segment).await.unwrap();
            for row in bundle::list::read_segment(&segment).unwrap().rows {
                let placed = placement.find(&row.hash).expect("every chunk is placed");
                let range = placed.offset..placed.offset + u64::from(placed.stored_len);
                let pack = placement.pack_of(placed).hash;
                let answer = reader.pack_range(&server.url, &id, &pack, range).await.unwrap();
                let bytes = answer.collect(8 << 20).await.unwrap();
                frame::decompress_exact(&bytes, row.content_len, &row.hash).unwrap();
            }
        }
    }
    assert!(reader.check(&id).await.unwrap().is_whole());
    assert_eq!(server.leftover_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_zstd_and_tar_get_the_files_back() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    node.capture(&server, "5af0").await;
    let into = tempfile::tempdir().unwrap();
    let url = format!("{}/v1/nodes/web-03/snapshots/5af0/volumes/root.tar.zst", server.url);
    let header = format!("Authorization: Bearer {}", node.file.secret.bearer_token().reveal());
    let path = into.path().to_owned();
    let extracted = tokio::task::spawn_blocking(move || {
        let mut curl = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--insecure", "--header", &header, &url])
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut zstd =
            Command::new("zstd").arg("-dc").stdin(curl.stdout.take()?).stdout(Stdio::piped()).spawn().ok()?;
        let tar = Command::new("tar").arg("-x").arg("-C").arg(path).stdin(zstd.stdout.take()?).status().ok()?;
        Some((curl.wait().unwrap().success(), zstd.wait().unwrap().success(), tar.success()))
    });
    let Some(outcome) = extracted.await.unwrap() else {
        eprintln!("skipped: curl, zstd or tar is not installed");
        return;
    };
    assert_eq!(outcome, (true, true, true));
    for TestFile { path, content } in some_files() {
        assert!(fs::read(into.path().join(&path)).unwrap() == content, "{path} differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_two_nodes_have_is_stored_once_and_belongs_to_those_who_sent_it() {
    let server = TestServer::start().await;
    let (a, b) = (server.add_node("node-a").await, server.add_node("node-b").await);
    a.capture(&server, "a1").await;
    let stored = server.pack_bytes().await;

    let built = b.build(&server, "b1");
    let client = b.client(&server.connect().await);
    for list in &built.lists {
        client.put_list(&Hash::of(list), list.clone().into()).await.unwrap();
    }
    for catalog in &built.catalogs {
        client.put_catalog(&Hash::of(catalog), catalog.clone().into()).await.unwrap();
    }
    let (code, text) = refusal(commit(&client, &built).await);
    assert_eq!(code, ErrorCode::ChunkNotUploaded, "knowing a hash is not having the bytes: {text}");
    let chunks: Vec<Hash> = built.packs.iter().flat_map(|pack| pack.index.rows().iter().map(|row| row.hash)).collect();
    let missing = client.missing_chunks(&chunks).await.unwrap();
    assert_eq!(missing.missing_count(), chunks.len(), "nobody learns what others have stored");

    let mut more = SnapshotBuilder::new(&b.name, "b2");
    let mut files = some_files();
    files.push(TestFile::new("only/b", noise(99, 400_000)));
    more = more.files(files);
    let more = b.sign(more.build(server.server.repository()));
    let (mut new, mut known) = (0, 0);
    for pack in &more.packs {
        let answer = client.put_pack(&pack.name, pack.bytes.clone().into()).await.unwrap();
        new += answer.new_chunk_count;
        known += answer.known_chunk_count;
    }
    assert!(new >= 1 && known > new, "{new} new, {known} known");
    upload(&client, &more).await;
    commit(&client, &more).await.unwrap();
    let grown = server.pack_bytes().await - stored;
    assert!((400_000..900_000).contains(&grown), "grew by {grown}");
    assert!(client.reader().check(&snapshot_id("b2")).await.unwrap().is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_beyond_the_snapshots_own_chunks_is_refused() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    let client = node.client(&server.connect().await);
    // One pack in which every second chunk belongs to a snapshot, and the others to nobody's.
    let mut pack = bundle::pack::PackBuilder::new();
    for seed in 1000..1004 {
        let content = noise(seed, 50_000);
        pack.push(Hash::of(&content), &frame::compress(&content, 3).unwrap()).unwrap();
    }
    let stray = pack.finish().unwrap();
    client.put_pack(&stray.name, stray.bytes.clone().into()).await.unwrap();
    let built = node.capture(&server, "5af0").await;
    let reader = client.reader();
    let id = snapshot_id("5af0");

    let own = built.packs.iter().max_by_key(|pack| pack.bytes.len()).unwrap();
    let frames = own.index.frames_bytes();
    let whole = reader.pack_range(&server.url, &id, &own.name, 0..frames).await.unwrap();
    assert_eq!(whole.collect(80 << 20).await.unwrap(), own.bytes[..frames as usize], "all of it is its own");
    for range in [0..frames + 1, frames..frames + 1, frames - 1..frames + 10] {
        let (code, _) = refusal(reader.pack_range(&server.url, &id, &own.name, range.clone()).await);
        assert_eq!(code, ErrorCode::RangeNotAllowed, "{range:?}");
    }
    let (code, text) = refusal(reader.pack_range(&server.url, &id, &stray.name, 0..10).await);
    assert_eq!(code, ErrorCode::RangeNotAllowed, "{text}");
    let (code, _) = refusal(reader.list(&id, &Hash::of(b"another list")).await);
    assert_eq!(code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_it_says_is_not_stored() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    let client = node.client(&server.connect().await);
    let built = node.build(&server, "5af0");
    let pack = &built.packs[0];

    let mut refused = Vec::new();
    let mut check = |outcome: Result<(), ClientError>| {
        let (code, text) = refusal(outcome);
        refused.push(format!("{code}: {}", settled(&text)));
    };
    let other_name = Hash::of(b"another name");
    check(client.put_pack(&other_name, pack.bytes.clone().into()).await.map(drop));
    let cut = pack.bytes[..pack.bytes.len() / 2].to_vec();
    check(client.put_pack(&pack.name, cut.clone().into()).await.map(drop));
    check(client.put_pack(&Hash::of(&cut), cut.into()).await.map(drop));
    let mut flipped = pack.bytes.clone();
    flipped[1000] ^= 1;
    check(client.put_pack(&Hash::of(&flipped), flipped.into()).await.map(drop));
    check(client.put_list(&other_name, built.lists[0].clone().into()).await);
    check(client.put_list(&Hash::of(b"no list"), b"no list".to_vec().into()).await);
    check(client.put_catalog(&Hash::of(b"no catalog"), b"no catalog".to_vec().into()).await);
    insta::assert_snapshot!(refused.join("\n\n"));
    assert_eq!(server.pack_bytes().await, 0);
    assert_eq!(server.leftover_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    let client = node.client(&server.connect().await);
    let content: Vec<Vec<u8>> = (0..16).map(|seed| noise(seed, 4 << 20)).collect();
    let mut pack = bundle::pack::PackBuilder::new();
    for content in &content {
        pack.push(Hash::of(content), &frame::compress(content, 1).unwrap()).unwrap();
    }
    let pack = pack.finish().unwrap();
    let sending = client.put_pack(&pack.name, pack.bytes.into());
    let outcome = tokio::time::timeout(Duration::from_millis(40), sending).await;
    assert!(outcome.is_err(), "64 MiB were sent within 40 ms: the test needs a larger pack");
    for _ in 0..100 {
        if server.leftover_uploads() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.leftover_uploads(), 0);
    let chunks: Vec<Hash> = content.iter().map(|content| Hash::of(content)).collect();
    let missing = client.missing_chunks(&chunks).await.unwrap();
    assert!(matches!(missing.missing_count(), 0 | 16), "all of it or nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_refused_whole_and_says_what_is_missing() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    let other = server.add_node("web-04").await;
    let client = node.client(&server.connect().await);
    let built = node.build(&server, "5af0");

    let (code, _) = refusal(commit(&client, &built).await);
    assert_eq!(code, ErrorCode::SegmentNotUploaded);
    upload(&client, &built).await;
    let mut foreign = built.clone();
    foreign.sign_with(&other.file.secret.signing_key());
    let (code, text) = refusal(commit(&client, &foreign).await);
    assert_eq!(code, ErrorCode::ManifestRefused, "{text}");
    assert!(text.contains("signed by key"), "{text}");
    let mut damaged = built.clone();
    let at = damaged.manifest_bytes.iter().position(|&byte| byte == b'w').unwrap();
    damaged.manifest_bytes[at] = b'v';
    assert_eq!(refusal(commit(&client, &damaged).await).0, ErrorCode::ManifestRefused);
    assert!(client.reader().snapshots().await.unwrap().snapshots.is_empty(), "no receipt was written");

    commit(&client, &built).await.unwrap();
    let changed = SnapshotBuilder::new(&node.name, "5af0").edit(|manifest| manifest.agent_version.push('x'));
    let changed = node.sign(changed.build(server.server.repository()));
    assert_eq!(refusal(commit(&client, &changed).await).0, ErrorCode::SnapshotExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_38_an_old_signed_manifest_replayed_gains_nothing() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    let old = node.capture(&server, "old").await;
    let newer = SnapshotBuilder::new(&node.name, "new").files(vec![TestFile::new("etc/hostname", *b"new\n")]);
    let newer = node.sign(newer.build(server.server.repository()));
    let client = node.client(&server.connect().await);
    upload(&client, &newer).await;
    commit(&client, &newer).await.unwrap();

    // Sent again, it stays what it was: the older one.
    assert_eq!(commit(&client, &old).await.unwrap().sequence, 1);
    let latest = client.reader().snapshots().await.unwrap().snapshots.pop().unwrap();
    assert_eq!((latest.snapshot.as_str(), latest.sequence), ("new", 2));
    // Sent as another snapshot, it is refused.
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let outcome =
        client.commit_snapshot(&snapshot_id("fresh"), &text(&old.manifest_bytes), &text(&old.signature_bytes)).await;
    assert_eq!(refusal(outcome).0, ErrorCode::ManifestRefused);
    // Put by somebody else into the place of the newer one, it is listed as damaged and never as a snapshot.
    let place = server.directory.join("snapshots/web-03");
    for name in ["manifest.json", "manifest.sig", "receipt.json"] {
        fs::copy(place.join("old").join(name), place.join("new").join(name)).unwrap();
    }
    let list = client.reader().snapshots().await.unwrap();
    assert_eq!(list.snapshots.len(), 1);
    assert_eq!(list.damaged.len(), 1);
    assert_eq!(list.damaged[0].snapshot, snapshot_id("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_40_a_missing_or_short_pack_is_found_by_the_check() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    node.capture(&server, "5af0").await;
    let reader = node.client(&server.connect().await).reader().clone();
    let id = snapshot_id("5af0");
    let whole = reader.check(&id).await.unwrap();
    assert!(whole.is_whole() && whole.packs.len() > 1, "{whole:?}");
    assert!(whole.packs.iter().all(|pack| pack.verified_at.is_some()), "a pack is hashed when it comes");

    let pack_path = |hash: &Hash| server.directory.join(format!("packs/{}/{hash}", &hash.to_string()[..2]));
    let (first, second) = (whole.packs[0].pack, whole.packs[1].pack);
    fs::remove_file(pack_path(&first)).unwrap();
    fs::File::options().write(true).open(pack_path(&second)).unwrap().set_len(1000).unwrap();
    let check = reader.check(&id).await.unwrap();
    assert!(!check.is_whole());
    let bad: Vec<(Hash, Option<u64>)> =
        check.packs.iter().filter(|pack| !pack.is_whole()).map(|pack| (pack.pack, pack.found_bytes)).collect();
    assert_eq!(bad, [(first, None), (second, Some(1000))]);
    let rehashed = server.server.rehash_snapshot(&node.name, &id).await.unwrap();
    assert!(!rehashed.is_whole());
    assert!(!rehashed.missing_chunks.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hashing_a_snapshots_packs_finds_a_flipped_bit() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    node.capture(&server, "5af0").await;
    let id = snapshot_id("5af0");
    assert!(server.server.rehash_snapshot(&node.name, &id).await.unwrap().is_whole());
    let pack = server.server.repository().packs().await.unwrap()[0];
    let path = server.directory.join(format!("packs/{}/{}", &pack.name.to_string()[..2], pack.name));
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = server.server.rehash_snapshot(&node.name, &id).await.unwrap();
    assert_eq!(found.problems.len(), 1, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_notes_when_each_good_pack_was_seen_and_leaves_bad_ones_as_they_were() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    node.capture(&server, "5af0").await;
    let pack = server.server.repository().packs().await.unwrap()[0];
    let path = server.directory.join(format!("packs/{}/{}", &pack.name.to_string()[..2], pack.name));
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let reader = node.client(&server.connect().await).reader().clone();
    let seen = async || {
        let check = reader.check(&snapshot_id("5af0")).await.unwrap();
        check.packs.into_iter().map(|pack| (pack.pack, pack.verified_at.unwrap())).collect::<Vec<_>>()
    };
    let before = seen().await;
    server.advance(1000);
    let report = server.server.verify(Depth::Full, |_| {}).await.unwrap();
    assert!(!report.is_clean());
    for ((name, earlier), (_, later)) in before.into_iter().zip(seen().await) {
        assert_eq!(earlier == later, name == pack.name, "{name}: {earlier}, then {later}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_breaks_the_archive_off_instead_of_slipping_through() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    node.capture(&server, "5af0").await;
    let packs = server.server.repository().packs().await.unwrap();
    let pack = packs.iter().max_by_key(|pack| pack.bytes).unwrap();
    let path = server.directory.join(format!("packs/{}/{}", &pack.name.to_string()[..2], pack.name));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let reader = node.client(&server.connect().await).reader().clone();
    let name: VolumeName = "root".parse().unwrap();
    let answer = reader.volume_tar_zst(&snapshot_id("5af0"), &name).await.unwrap();
    assert!(matches!(answer.collect(64 << 20).await, Err(ClientError::BrokenOff { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_19_the_chunk_index_may_be_lost_damaged_or_old() {
    let mut server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    let built = node.capture(&server, "5af0").await;
    let chunks: Vec<Hash> = built.packs.iter().flat_map(|pack| pack.index.rows().iter().map(|row| row.hash)).collect();
    let index = |directory: &std::path::Path| directory.join("server/chunks.sqlite");
    let old_copy = tempfile::tempdir().unwrap();
    let old = old_copy.path().join("old");
    let keep_copy = |directory: &std::path::Path| {
        fs::copy(index(directory), &old).unwrap();
    };
    server.restart(keep_copy).await;
    let extra = SnapshotBuilder::new(&node.name, "2").files(vec![TestFile::new("new", noise(77, 500_000))]);
    let extra = node.sign(extra.build(server.server.repository()));
    let client = node.client(&server.connect().await);
    upload(&client, &extra).await;
    commit(&client, &extra).await.unwrap();

    let lose = |directory: &std::path::Path| fs::remove_file(index(directory)).unwrap();
    let damage = |directory: &std::path::Path| fs::write(index(directory), noise(5, 100_000)).unwrap();
    let put_back = |directory: &std::path::Path| {
        fs::copy(&old, index(directory)).unwrap();
    };
    type Harm<'a> = &'a dyn Fn(&std::path::Path);
    let cases: [(&str, Harm<'_>); 3] = [("lost", &lose), ("damaged", &damage), ("an old copy", &put_back)];
    for (case, meanwhile) in cases {
        server.restart(meanwhile).await;
        let client = node.client(&server.connect().await);
        for id in ["5af0", "2"] {
            assert!(client.reader().check(&snapshot_id(id)).await.unwrap().is_whole(), "{case}: {id}");
            client.reader().placement(&snapshot_id(id)).await.unwrap();
        }
        let missing = client.missing_chunks(&chunks).await.unwrap();
        assert_eq!(missing.missing_count(), 0, "{case}: the node still owns what it committed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_never_serve_one_directory() {
    let server = TestServer::start().await;
    server.connect().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = server.server.serve(listener, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("another server serves"), "{error}");
}
