//! A real server on the loopback address, over a temporary directory and a clock that tests set.
#![allow(dead_code, unreachable_pub, missing_docs)] // Each test file uses a part of it.

pub mod child;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bundle::Hash;
use bundle::code::RestoreCode;
use bundle::node_model::{MacAddress, MachineIdentity, NodeName, SnapshotId};
use bundle::testing::{BuiltSnapshot, SnapshotBuilder};
use bundle::trust::{NodeFile, Pin};
use bundle_server::{Clock, Server, ServerError};
use jiff::Timestamp;
use server_api::{ClientError, CommitAnswer, Connection, ErrorCode, NodeClient, Patience, ServerUrl};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// 2026-11-21 03:00 UTC.
const START_SECONDS: i64 = 1_795_230_000;

pub fn patience() -> Patience {
    Patience { connect: Duration::from_secs(5), stall: Duration::from_secs(2), answer: Duration::from_secs(20) }
}

pub struct TestServer {
    pub server: Server,
    pub url: ServerUrl,
    pub directory: PathBuf,
    seconds: Arc<AtomicI64>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Result<(), ServerError>>>,
    _temporary: Option<Arc<tempfile::TempDir>>,
}

impl TestServer {
    pub async fn start() -> Self {
        let temporary = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let mut started = Self::start_in(&temporary.path().join("repository")).await;
        started._temporary = Some(temporary);
        started
    }

    pub async fn start_in(directory: &Path) -> Self {
        let seconds = Arc::new(AtomicI64::new(START_SECONDS));
        let (server, url, stop, running) = run(directory, clock(&seconds)).await;
        let directory = directory.to_owned();
        Self { server, url, directory, seconds, stop: Some(stop), running: Some(running), _temporary: None }
    }

    /// Stops the server as its operator does.
    pub async fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(running) = self.running.take() {
            running.await.expect("the server's task").expect("a clean stop");
        }
    }

    /// Stops it, lets `meanwhile` touch its directory, and starts it again on another port.
    pub async fn restart(&mut self, meanwhile: impl FnOnce(&Path)) {
        self.stop().await;
        meanwhile(&self.directory);
        let (server, url, stop, running) = run(&self.directory, clock(&self.seconds)).await;
        (self.server, self.url, self.stop, self.running) = (server, url, Some(stop), Some(running));
    }

    pub fn advance(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn pin(&self) -> Pin {
        Pin::Fingerprint(self.server.fingerprint())
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(std::slice::from_ref(&self.url), &self.pin(), patience()).await.expect("a connection")
    }

    pub async fn connect_by_code(&self, code: &RestoreCode) -> Connection {
        Connection::open(std::slice::from_ref(&self.url), &Pin::from_code(code), patience())
            .await
            .expect("a connection")
    }

    pub async fn add_node(&self, name: &str) -> TestNode {
        let name: NodeName = name.parse().expect("a name");
        let file = self.server.node_add(&name, vec![self.url.to_string()], false).await.expect("a new node");
        TestNode { name, file }
    }

    /// How many bytes of packs there are.
    pub async fn pack_bytes(&self) -> u64 {
        self.server.repository().packs().await.expect("packs").iter().map(|pack| pack.bytes).sum()
    }

    /// Files that uploads have left behind.
    pub fn leftover_uploads(&self) -> usize {
        std::fs::read_dir(self.directory.join("server/uploads")).expect("the uploads").count()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

fn clock(seconds: &Arc<AtomicI64>) -> Clock {
    let seconds = Arc::clone(seconds);
    Arc::new(move || Timestamp::from_second(seconds.load(Ordering::SeqCst)).expect("a time"))
}

type Running = (Server, ServerUrl, oneshot::Sender<()>, JoinHandle<Result<(), ServerError>>);

async fn run(directory: &Path, clock: Clock) -> Running {
    let server = Server::open(directory, clock).await.expect("the server opens");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address")).parse().expect("a URL");
    let (stop, stopped) = oneshot::channel();
    let serving = server.clone();
    let running = tokio::spawn(async move {
        serving
            .serve(listener, async {
                let _ = stopped.await;
            })
            .await
    });
    (server, url, stop, running)
}

pub struct TestNode {
    pub name: NodeName,
    pub file: NodeFile,
}

impl TestNode {
    pub fn client(&self, connection: &Connection) -> NodeClient {
        connection.as_node(self.name.clone(), self.file.secret.bearer_token())
    }

    /// A snapshot of a small tree, signed with this node's key.
    pub fn build(&self, server: &TestServer, id: &str) -> BuiltSnapshot {
        self.sign(SnapshotBuilder::new(&self.name, id).build(server.server.repository()))
    }

    pub fn sign(&self, mut built: BuiltSnapshot) -> BuiltSnapshot {
        built.sign_with(&self.file.secret.signing_key());
        built
    }

    /// Captures: uploads everything and commits.
    pub async fn capture(&self, server: &TestServer, id: &str) -> BuiltSnapshot {
        let built = self.build(server, id);
        let client = self.client(&server.connect().await);
        upload(&client, &built).await;
        commit(&client, &built).await.expect("a commit");
        built
    }
}

pub async fn upload_packs(client: &NodeClient, built: &BuiltSnapshot) {
    for pack in &built.packs {
        client.put_pack(&pack.name, pack.bytes.clone().into()).await.expect("the pack is stored");
    }
}

pub async fn upload(client: &NodeClient, built: &BuiltSnapshot) {
    upload_packs(client, built).await;
    for list in &built.lists {
        client.put_list(&Hash::of(list), list.clone().into()).await.expect("the list is stored");
    }
    for catalog in &built.catalogs {
        client.put_catalog(&Hash::of(catalog), catalog.clone().into()).await.expect("the catalog is stored");
    }
}

pub async fn commit(client: &NodeClient, built: &BuiltSnapshot) -> Result<CommitAnswer, ClientError> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let id = built.manifest.snapshot.clone();
    client.commit_snapshot(&id, &text(&built.manifest_bytes), &text(&built.signature_bytes)).await
}

pub fn snapshot_id(text: &str) -> SnapshotId {
    text.parse().expect("a snapshot id")
}

pub fn machine(number: u8) -> MachineIdentity {
    MachineIdentity {
        system_uuid: Some(format!("00000000-0000-0000-0000-0000000000{number:02x}")),
        macs: vec![MacAddress([0x52, 0x54, 0, 0, 0, number])],
        ..MachineIdentity::default()
    }
}

/// The code and rendering of a refusal.
pub fn refusal<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> (ErrorCode, String) {
    let error = outcome.expect_err("a refusal");
    let code = error.code().unwrap_or_else(|| panic!("not a refusal: {error:?}"));
    let hint = error.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    (code, format!("{error}{hint}"))
}

/// A rendering without what differs from run to run: the server's port, and hashes.
pub fn settled(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split("127.0.0.1:").enumerate() {
        if index > 0 {
            out.push_str("127.0.0.1:PORT");
        }
        let part = if index > 0 { part.trim_start_matches(|c: char| c.is_ascii_digit()) } else { part };
        out.push_str(part);
    }
    let is_hash = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words: Vec<&str> = out.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).collect();
    words
        .into_iter()
        .map(|word| {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if is_hash(bare) { format!("HASH{}", &word[bare.len()..]) } else { word.to_owned() }
        })
        .collect()
}
