//! Reading snapshots: their documents, lists, catalogs and placement.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bundle::Hash;
use bundle::node_model::{NodeName, SnapshotId};
use bundle::repository::{RepositoryError, VerifiedSnapshot};
use server_api::{DamagedSnapshot, ErrorCode, NodeFacts, SnapshotList, SnapshotSummary};

use super::refusal::{Refusal, told};
use super::upload::parse_hash;
use super::{App, Reply, Shared};

pub(super) fn parse_snapshot(text: &str) -> Result<SnapshotId, Refusal> {
    text.parse().map_err(|error: bundle::node_model::InvalidId| Refusal::new(ErrorCode::BadRequest, error.to_string()))
}

fn bytes_of(content_type: &'static str, bytes: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, content_type)], bytes).into_response()
}

impl App {
    pub(super) async fn facts(&self, node: &NodeName) -> Result<NodeFacts, Refusal> {
        let repository = &self.server.repository;
        // The signature was just made from these very facts, so the certificate equals the one that is stored.
        let certificate = repository.certificate(node).await?.seal(&self.server.root);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(NodeFacts {
            node: node.clone(),
            root_public_key: repository.root_key().to_string(),
            repository: text(repository.info_bytes()),
            certificate: text(&certificate),
        })
    }
}

pub(super) async fn facts(State(app): Shared, Path(node): Path<String>, headers: HeaderMap) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    Ok(Json(app.facts(&node).await?).into_response())
}

pub(super) async fn list(State(app): Shared, Path(node): Path<String>, headers: HeaderMap) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    let listing = app.server.repository.snapshots(&node).await?;
    let mut list = SnapshotList { snapshots: Vec::new(), damaged: Vec::new() };
    for summary in listing.snapshots {
        match app.server.repository.load(&node, &summary.snapshot).await {
            Ok(snapshot) => list.snapshots.push(summarised(&snapshot)),
            Err(error) => list.damaged.push(damaged(summary.snapshot, &error)),
        }
    }
    list.damaged.extend(listing.damaged.into_iter().map(|found| damaged(found.snapshot, &found.error)));
    Ok(Json(list).into_response())
}

fn damaged(snapshot: SnapshotId, error: &RepositoryError) -> DamagedSnapshot {
    DamagedSnapshot { snapshot, problem: told(error), hint: error.hint() }
}

fn summarised(snapshot: &VerifiedSnapshot) -> SnapshotSummary {
    let (manifest, receipt) = (snapshot.manifest(), snapshot.receipt());
    SnapshotSummary {
        snapshot: receipt.snapshot.clone(),
        sequence: receipt.sequence,
        received_at: receipt.received_at.to_string(),
        manifest: receipt.manifest,
        hostname: manifest.spec.identity.hostname.clone(),
        stream_bytes: manifest.volumes.iter().map(|volume| volume.volume.stream_bytes.get()).sum(),
        identity: manifest.spec.identity.clone(),
    }
}

pub(super) async fn manifest(
    State(app): Shared,
    Path((node, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    let parts = app.server.repository.snapshot_parts(&node, &parse_snapshot(&id)?).await?;
    Ok(bytes_of("application/json", parts.manifest))
}

pub(super) async fn signature(
    State(app): Shared,
    Path((node, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    let parts = app.server.repository.snapshot_parts(&node, &parse_snapshot(&id)?).await?;
    Ok(bytes_of("application/json", parts.signature))
}

pub(super) async fn receipt(State(app): Shared, Path((node, id)): Path<(String, String)>, headers: HeaderMap) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    let parts = app.server.repository.snapshot_parts(&node, &parse_snapshot(&id)?).await?;
    Ok(bytes_of("application/json", parts.receipt))
}

pub(super) async fn placement(
    State(app): Shared,
    Path((node, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    let reads = app.reads.get(&app.server, &app.index, &node, &parse_snapshot(&id)?).await?;
    if let Some(chunk) = reads.missing().first() {
        let message = format!("{} chunks of the snapshot lie in no pack; the first is {chunk}", reads.missing().len());
        return Err(Refusal::new(ErrorCode::Damaged, message)
            .hint("choose another snapshot; `rerack verify` on the server says what is missing"));
    }
    Ok(bytes_of("application/octet-stream", reads.placement().encode()))
}

/// Which kind of segment a snapshot is asked for.
#[derive(Clone, Copy)]
enum Segment {
    List,
    Catalog,
}

impl App {
    /// A segment that the snapshot refers to. Another one may be another node's.
    async fn segment(&self, node: &NodeName, id: &str, name: &Hash, kind: Segment) -> Reply {
        let snapshot = self.server.repository.load(node, &parse_snapshot(id)?).await?;
        let volumes = &snapshot.manifest().volumes;
        let repository = &self.server.repository;
        let (found, bytes) = match kind {
            Segment::List if volumes.iter().any(|volume| volume.lists.contains(name)) => {
                (true, repository.list_segment(name).await?)
            }
            Segment::Catalog if volumes.iter().any(|volume| volume.catalogs.contains(name)) => {
                (true, repository.catalog_segment(name).await?)
            }
            _ => (false, bytes::Bytes::new()),
        };
        if found {
            Ok(bytes_of("application/octet-stream", bytes))
        } else {
            Err(Refusal::new(ErrorCode::NotFound, format!("the snapshot refers to no such segment as {name}")))
        }
    }
}

pub(super) async fn list_segment(
    State(app): Shared,
    Path((node, id, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    app.segment(&node, &id, &parse_hash(&name)?, Segment::List).await
}

pub(super) async fn catalog_segment(
    State(app): Shared,
    Path((node, id, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    app.segment(&node, &id, &parse_hash(&name)?, Segment::Catalog).await
}
