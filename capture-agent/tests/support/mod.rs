//! A repository in a temporary directory, captures into it, and what they left there.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of what is shared")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use bundle::Hash;
use bundle::catalog::{CatalogEntry, CatalogError};
use bundle::manifest::ManifestVolume;
use bundle::pack::Pack;
use bundle::repository::{Repository, RepositoryInfo, VerifiedSnapshot};
use bundle::testing::{node_name, node_secret, root_key, some_spec};
use capture_agent::sink::DirectorySink;
use capture_agent::{
    CaptureError, CaptureOptions, CaptureReport, CaptureRequest, FilesRoot, Sink, SinkError, SourceKind, VolumeSource,
    capture,
};
use linux_io::fs::Expected;
use node_model::{DeviceKey, NodeName, SnapshotId};

/// A repository of one node.
pub struct TestRepository {
    pub directory: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
}

impl TestRepository {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(bundle::testing::repository(directory.path(), &[]));
        Self { directory, runtime }
    }

    pub fn sink(&self) -> DirectorySink {
        let node = node_name();
        DirectorySink::open_with(self.directory.path(), &node, &node_secret(&node), root_key()).unwrap()
    }

    pub fn capture(&self, sources: &[VolumeSource], options: &CaptureOptions) -> Result<CaptureReport, CaptureError> {
        capture_into(&self.sink(), sources, options)
    }

    /// The committed snapshot of a report, with all that it needs to be read.
    pub fn snapshot(&self, report: &CaptureReport) -> TestSnapshot<'_> {
        let repository = self.runtime.block_on(bundle::testing::reopen(self.directory.path()));
        let snapshot = self.runtime.block_on(repository.load(&node_name(), &report.snapshot)).unwrap();
        TestSnapshot { test: self, repository, snapshot }
    }
}

pub fn capture_into(
    sink: &dyn Sink,
    sources: &[VolumeSource],
    options: &CaptureOptions,
) -> Result<CaptureReport, CaptureError> {
    let spec = some_spec();
    let secret = node_secret(&node_name());
    let request = CaptureRequest { spec: &spec, sources, key: &secret.signing_key(), options };
    capture(&request, sink, &|_| {})
}

/// The root filesystem of the test node, read from `at`.
pub fn root_volume(at: &Path) -> VolumeSource {
    VolumeSource {
        name: "root".parse().unwrap(),
        device: DeviceKey::partition(&DeviceKey::disk(0), 2),
        kind: SourceKind::Files(FilesRoot::Mounted { at: at.to_owned(), shown: "/".into() }),
    }
}

pub struct TestSnapshot<'t> {
    test: &'t TestRepository,
    repository: Repository,
    pub snapshot: VerifiedSnapshot,
}

impl TestSnapshot<'_> {
    pub fn volume(&self, name: &str) -> &ManifestVolume {
        self.snapshot.manifest().volume(&name.parse().unwrap()).unwrap()
    }

    /// The volume's whole stream.
    pub fn stream(&self, name: &str) -> Vec<u8> {
        let runtime = &self.test.runtime;
        let placement = runtime.block_on(self.repository.load_placement()).unwrap().placement;
        let rows = runtime.block_on(self.repository.chunk_list(self.volume(name))).unwrap();
        let chunk = |hash: &Hash| {
            let place = placement.locate(hash).unwrap();
            runtime.block_on(self.repository.chunk(hash, &place)).unwrap()
        };
        rows.iter().flat_map(|row| chunk(&row.hash)).collect()
    }

    pub fn catalog(&self, name: &str) -> Vec<CatalogEntry> {
        let read = |name: &Hash| self.test.runtime.block_on(self.repository.catalog_segment(name)).unwrap();
        let segments: Vec<_> = self.volume(name).catalogs.iter().map(read).collect();
        segments.iter().flat_map(|segment| bundle::catalog::read_segment(segment).unwrap().entries).collect()
    }

    /// The catalog as a comparison expects it.
    pub fn expected(&self, name: &str) -> Vec<Result<Expected, Failed>> {
        let expect = |entry: CatalogEntry| Expected {
            content_hash: entry.placed.content_hash.map(|hash| *hash.as_bytes()),
            entry: entry.entry,
            allocated: None,
        };
        self.catalog(name).into_iter().map(|entry| Ok(expect(entry))).collect()
    }
}

/// Lets GNU tar extract a stream into a directory, and returns what it complains of.
pub fn untar(stream: Vec<u8>, directory: &Path) -> String {
    let mut tar = Command::new("tar")
        .args(["--extract", "--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file=-"])
        .arg("--directory")
        .arg(directory)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = tar.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&stream).unwrap());
    let output = tar.wait_with_output().unwrap();
    feeder.join().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Why a comparison with a catalog failed.
#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug only")]
pub enum Failed {
    Fs(linux_io::fs::FsError),
    Catalog(CatalogError),
}

impl From<linux_io::fs::FsError> for Failed {
    fn from(error: linux_io::fs::FsError) -> Self {
        Self::Fs(error)
    }
}

/// A sink that fails at the given number of calls, counted over all that store.
pub struct FailingSink<'s> {
    pub inner: &'s DirectorySink,
    pub calls_left: Mutex<u32>,
    pub committed: Mutex<bool>,
}

impl<'s> FailingSink<'s> {
    pub fn new(inner: &'s DirectorySink, calls: u32) -> Self {
        Self { inner, calls_left: Mutex::new(calls), committed: Mutex::new(false) }
    }

    fn count(&self) -> Result<(), SinkError> {
        let mut left = self.calls_left.lock().unwrap();
        *left = left.checked_sub(1).ok_or(SinkError::OtherCount { asked: 1, found: 0 })?;
        Ok(())
    }
}

impl Sink for FailingSink<'_> {
    fn info(&self) -> &RepositoryInfo {
        self.inner.info()
    }

    fn node(&self) -> &NodeName {
        self.inner.node()
    }

    fn latest(&self) -> Result<Option<SnapshotId>, SinkError> {
        self.inner.latest()
    }

    fn missing_chunks(&self, chunks: &[Hash]) -> Result<Vec<bool>, SinkError> {
        self.count()?;
        self.inner.missing_chunks(chunks)
    }

    fn put_pack(&self, pack: Pack) -> Result<(), SinkError> {
        self.count()?;
        self.inner.put_pack(pack)
    }

    fn put_list(&self, name: Hash, segment: Vec<u8>) -> Result<(), SinkError> {
        self.count()?;
        self.inner.put_list(name, segment)
    }

    fn put_catalog(&self, name: Hash, segment: Vec<u8>) -> Result<(), SinkError> {
        self.count()?;
        self.inner.put_catalog(name, segment)
    }

    fn commit(&self, id: &SnapshotId, manifest: Vec<u8>, signature: Vec<u8>) -> Result<VerifiedSnapshot, SinkError> {
        self.count()?;
        *self.committed.lock().unwrap() = true;
        self.inner.commit(id, manifest, signature)
    }
}
