//! What the server acknowledges lies on the disk: its system calls are watched by strace.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use bundle::pack::PackBuilder;
use bundle::trust::Pin;
use bundle::{Hash, frame};
use bundle_server::{Server, system_clock};
use common::child::Killable;
use common::{commit, patience};
use server_api::Connection;

/// Not a test by itself: the server that the next one watches, in a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn serve_until_killed() {
    common::child::serve().await;
}

/// The calls that make an object durable or announce one, in the order in which they were made.
struct Trace(Vec<String>);

impl Trace {
    /// The number of the call with which an object's writing began: bytes are gathered in `PATH#NUMBER`.
    fn began(&self, path: &str) -> usize {
        let gathered = format!("{path}#");
        self.0.iter().position(|line| line.contains(&gathered)).unwrap_or_else(|| panic!("{path} was never written"))
    }

    /// The number of the call after which an object lies on the disk: its bytes flushed before it got its name, and its
    /// directory flushed afterwards.
    fn durable(&self, path: &str) -> usize {
        let is = |line: &String, call: &str, path: &str| line.contains(call) && line.contains(path);
        let directory = path.rsplit_once('/').unwrap().0;
        let named = self
            .0
            .iter()
            .position(|line| (line.contains("rename") || line.contains("link")) && line.contains(&format!("{path}\"")))
            .unwrap_or_else(|| panic!("{path} never got its name"));
        let flushed = self.0[..named].iter().any(|line| is(line, "sync(", path));
        assert!(flushed, "{path} got its name before its bytes were flushed");
        let after = self.0[named..].iter().position(|line| is(line, "sync(", &format!("{directory}>")));
        named + after.unwrap_or_else(|| panic!("the directory of {path} is not flushed"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_upload_is_flushed_before_it_is_acknowledged() {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !works.is_ok_and(|status| status.success()) {
        eprintln!("skipped: strace is not installed, or may not trace");
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("repository");
    let server = Server::open(&directory, system_clock()).await.unwrap();
    let name = "web-03".parse().unwrap();
    let file = server.node_add(&name, vec!["https://127.0.0.1".to_owned()], false).await.unwrap();
    let mut built = bundle::testing::SnapshotBuilder::new(&name, "5af0").build(server.repository());
    built.sign_with(&file.secret.signing_key());
    let mut after = PackBuilder::new();
    after.push(Hash::of(b"after the commit"), &frame::compress(b"after the commit", 1).unwrap()).unwrap();
    let after = after.finish().unwrap();

    let log = temporary.path().join("trace");
    let calls = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,openat";
    let watcher = ["strace", "-D", "-f", "-y", "-s", "4096", "-e", calls, "-o", log.to_str().unwrap()];
    let (child, url) = Killable::start(&directory, &watcher).await;
    let pin = Pin::Fingerprint(server.fingerprint());
    let connection = Connection::open(std::slice::from_ref(&url), &pin, patience()).await.unwrap();
    let client = connection.as_node(name.clone(), file.secret.bearer_token());
    // One after another: the first call for the next object comes after the acknowledgement of the one before it.
    let mut objects = Vec::new();
    for pack in &built.packs {
        client.put_pack(&pack.name, pack.bytes.clone().into()).await.unwrap();
        objects.push(format!("packs/{}/{}", &pack.name.to_string()[..2], pack.name));
    }
    for list in &built.lists {
        client.put_list(&Hash::of(list), list.clone().into()).await.unwrap();
        objects.push(format!("lists/{}", Hash::of(list)));
    }
    for catalog in &built.catalogs {
        client.put_catalog(&Hash::of(catalog), catalog.clone().into()).await.unwrap();
        objects.push(format!("catalogs/{}", Hash::of(catalog)));
    }
    commit(&client, &built).await.unwrap();
    let snapshot = "snapshots/web-03/5af0";
    objects.extend(["manifest.json", "manifest.sig", "receipt.json"].map(|name| format!("{snapshot}/{name}")));
    client.put_pack(&after.name, after.bytes.into()).await.unwrap();
    objects.push(format!("packs/{}/{}", &after.name.to_string()[..2], after.name));
    drop(child);

    let trace = Trace(fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect());
    for pair in objects.windows(2) {
        assert!(trace.durable(&pair[0]) < trace.began(&pair[1]), "{} before {}", pair[0], pair[1]);
    }
    assert!(objects.len() > 6, "{objects:?}");
}
