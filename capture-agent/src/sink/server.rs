//! A bundle server.

use std::time::{Duration, Instant};

use bundle::Hash;
use bundle::pack::Pack;
use bundle::repository::{RepositoryInfo, SnapshotParts, VerifiedSnapshot};
use bundle::trust::{NodeFile, Pin};
use bytes::Bytes;
use node_model::{NodeName, SnapshotId};
use server_api::{ClientError, Connection, NodeClient, Patience, ServerUrl};
use tokio::runtime::{Builder, Runtime};

use super::{Sink, SinkError};

/// How long a capture waits for a server that does not answer: a restart, a moved cable.
const OUTAGE_MAX: Duration = Duration::from_secs(600);

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// A bundle server, spoken to as one node.
#[derive(Debug)]
pub struct ServerSink {
    runtime: Runtime,
    client: NodeClient,
    info: RepositoryInfo,
    node: NodeName,
    outage_max: Duration,
}

impl ServerSink {
    /// Reaches the server that a node file names and proves that it is the right one. A server that does not answer
    /// now is an error; one that stops answering later is waited for.
    pub fn connect(file: &NodeFile, servers: &[ServerUrl]) -> Result<Self, SinkError> {
        let runtime = runtime()?;
        let pin = Pin::Fingerprint(file.root_fingerprint);
        let (client, info) = runtime.block_on(async {
            let connection = Connection::open(servers, &pin, Patience::default()).await?;
            let client = connection.as_node(file.node.clone(), file.secret.bearer_token());
            let facts = client.reader().facts().await?;
            let info = RepositoryInfo::unseal(facts.repository.as_bytes(), &pin)?;
            Ok::<_, SinkError>((client, info))
        })?;
        Ok(Self { runtime, client, info, node: file.node.clone(), outage_max: OUTAGE_MAX })
    }

    /// Waits at most this long for a server that stopped answering.
    pub fn with_outage_max(self, outage_max: Duration) -> Self {
        Self { outage_max, ..self }
    }

    /// Does `call` until it succeeds, fails for good, or the server has been away for too long. Every call here may be
    /// repeated: objects are named by their content, and a commit answers the same again.
    fn repeat<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let started = Instant::now();
        let mut pause = Duration::from_millis(500);
        loop {
            let error = match self.runtime.block_on(call()) {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_transient() && started.elapsed() < self.outage_max => error,
                Err(error) => return Err(error.into()),
            };
            let wait = error.retry_after().unwrap_or(pause).min(PAUSE_MAX);
            tracing::warn!(%error, seconds = wait.as_secs(), "the server is waited for");
            std::thread::sleep(wait);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// The threads that network and repository calls run on.
pub(super) fn runtime() -> Result<Runtime, SinkError> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("capture-io")
        .enable_all()
        .build()
        .map_err(SinkError::Threads)
}

impl Sink for ServerSink {
    fn info(&self) -> &RepositoryInfo {
        &self.info
    }

    fn node(&self) -> &NodeName {
        &self.node
    }

    fn latest(&self) -> Result<Option<SnapshotId>, SinkError> {
        let list = self.repeat(|| self.client.reader().snapshots())?;
        Ok(list.snapshots.last().map(|summary| summary.snapshot.clone()))
    }

    fn missing_chunks(&self, chunks: &[Hash]) -> Result<Vec<bool>, SinkError> {
        let missing = self.repeat(|| self.client.missing_chunks(chunks))?;
        Ok((0..chunks.len()).map(|index| missing.is_missing(index)).collect())
    }

    fn put_pack(&self, pack: Pack) -> Result<(), SinkError> {
        let bytes = Bytes::from(pack.bytes);
        self.repeat(|| self.client.put_pack(&pack.name, bytes.clone())).map(drop)
    }

    fn put_list(&self, name: Hash, segment: Vec<u8>) -> Result<(), SinkError> {
        let segment = Bytes::from(segment);
        self.repeat(|| self.client.put_list(&name, segment.clone()))
    }

    fn put_catalog(&self, name: Hash, segment: Vec<u8>) -> Result<(), SinkError> {
        let segment = Bytes::from(segment);
        self.repeat(|| self.client.put_catalog(&name, segment.clone()))
    }

    fn commit(&self, id: &SnapshotId, manifest: Vec<u8>, signature: Vec<u8>) -> Result<VerifiedSnapshot, SinkError> {
        let (text, signature_text) = (String::from_utf8_lossy(&manifest), String::from_utf8_lossy(&signature));
        let answer = self.repeat(|| self.client.commit_snapshot(id, &text, &signature_text))?;
        let parts = SnapshotParts { receipt: answer.receipt.into_bytes(), manifest: manifest.clone(), signature };
        Ok(VerifiedSnapshot::verify(parts, &self.info, &self.node, id)?)
    }
}
