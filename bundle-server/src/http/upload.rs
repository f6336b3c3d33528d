//! What a node stores. Nothing is answered with success before it is verified and durable.

use std::collections::HashSet;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use bundle::Hash;
use bundle::limits::{PACK_BYTES_MAX, SEGMENT_BYTES_MAX};
use bundle::node_model::NodeName;
use bundle::pack::PackError;
use bundle::repository::{RepositoryError, SignedManifest, VerifiedPack};
use server_api::limits::{COMMIT_BODY_BYTES_MAX, MISSING_CHUNKS_MAX};
use server_api::{CommitAnswer, CommitRequest, ErrorCode, MissingChunks, PackStored};

use super::body::{self, Upload};
use super::refusal::{Refusal, told};
use super::{App, Reply, Shared};

/// Chunks of a commit that are looked up together.
const LOOKUPS_AT_ONCE: usize = 16_384;

pub(super) fn parse_hash(text: &str) -> Result<Hash, Refusal> {
    text.parse().map_err(|error: bundle::InvalidHash| Refusal::new(ErrorCode::BadRequest, error.to_string()))
}

pub(super) async fn chunks_missing(
    State(app): Shared,
    Path(node): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let node = app.may_write(&headers, &node).await?;
    let bytes = body::read(&headers, body, MISSING_CHUNKS_MAX * Hash::BYTES).await?;
    let (hashes, odd) = bytes.as_chunks::<{ Hash::BYTES }>();
    if !odd.is_empty() {
        return Err(Refusal::new(ErrorCode::BadRequest, "the body is not a whole number of 32-byte hashes"));
    }
    let chunks: Vec<Hash> = hashes.iter().map(|hash| Hash::from_bytes(*hash)).collect();
    let owned = app.index.run(move |index| index.owns_placed(&node, &chunks)).await??;
    let missing = MissingChunks::from_flags(owned.into_iter().map(|owned| !owned));
    Ok(missing.as_bytes().to_vec().into_response())
}

pub(super) async fn pack(
    State(app): Shared,
    Path((node, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let node = app.may_write(&headers, &node).await?;
    let name = parse_hash(&name)?;
    let uploads = app.server.own_directory().join("uploads");
    let upload = Upload::receive(&headers, body, PACK_BYTES_MAX, &uploads).await?;
    // A client that goes away now does not interrupt what was received whole.
    let storing = tokio::spawn(async move { app.store_pack(&node, name, upload).await });
    let stored = storing.await.map_err(|_| crate::ServerError::Task)??;
    Ok(Json(stored).into_response())
}

impl App {
    async fn store_pack(&self, node: &NodeName, name: Hash, upload: Upload) -> Result<PackStored, Refusal> {
        let _turn = self.verifying.acquire().await.map_err(|_| crate::ServerError::Task)?;
        let verify = move || -> Result<VerifiedPack, Refusal> {
            let bytes = upload.load()?;
            VerifiedPack::verify(name, bytes).map_err(|error| bad_pack(&error))
        };
        let pack = tokio::task::spawn_blocking(verify).await.map_err(|_| crate::ServerError::Task)??;
        let all: Vec<Hash> = pack.index().rows().iter().map(|row| row.hash).collect();
        let asked = all.clone();
        let places = self.index.run(move |index| index.places(&asked)).await??;
        let known: HashSet<Hash> = all.iter().zip(places).filter_map(|(chunk, place)| place.map(|_| *chunk)).collect();
        let mut stored_bytes = 0;
        if let Some(new) = pack.without(&known) {
            self.server.repository.put_pack(&new).await?;
            let (name, rows, now) = (new.name(), new.index().clone(), self.server.now());
            stored_bytes = rows.pack_bytes();
            self.index.run(move |index| index.add_pack(&name, &rows, Some(now))).await??;
        }
        let known_chunk_count = known.len() as u64;
        let new_chunk_count = all.len() as u64 - known_chunk_count;
        let node = node.clone();
        self.index.run(move |index| index.own(&node, all.iter())).await??;
        Ok(PackStored { new_chunk_count, known_chunk_count, stored_bytes })
    }
}

fn bad_pack(error: &PackError) -> Refusal {
    let code = match error {
        PackError::WrongName { .. } => ErrorCode::HashMismatch,
        _ => ErrorCode::BadPack,
    };
    Refusal::new(code, told(error)).hint("send the pack again; if it is refused again, the node's memory may be faulty")
}

/// What a client sent is wrong, as opposed to what the repository holds.
fn bad_segment(error: RepositoryError) -> Refusal {
    match &error {
        RepositoryError::Damaged { .. } => Refusal::new(ErrorCode::HashMismatch, told(&error)),
        RepositoryError::ListSegment { .. } | RepositoryError::Catalog { .. } => {
            Refusal::new(ErrorCode::BadSegment, told(&error))
        }
        _ => error.into(),
    }
}

pub(super) async fn list(
    State(app): Shared,
    Path((node, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let node = app.may_write(&headers, &node).await?;
    let name = parse_hash(&name)?;
    let bytes = body::read(&headers, body, SEGMENT_BYTES_MAX as usize).await?;
    app.server.repository.put_list(&name, bytes).await.map_err(bad_segment)?;
    app.index.run(move |index| index.own(&node, [name].iter())).await??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn catalog(
    State(app): Shared,
    Path((node, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let node = app.may_write(&headers, &node).await?;
    let name = parse_hash(&name)?;
    let bytes = body::read(&headers, body, SEGMENT_BYTES_MAX as usize).await?;
    app.server.repository.put_catalog(&name, bytes).await.map_err(bad_segment)?;
    app.index.run(move |index| index.own(&node, [name].iter())).await??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn commit(
    State(app): Shared,
    Path((node, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let node = app.may_write(&headers, &node).await?;
    let request: CommitRequest = body::read_json(&headers, body, COMMIT_BODY_BYTES_MAX).await?;
    let certificate = app.server.repository.certificate(&node).await?;
    let signed = SignedManifest::verify(request.manifest.into_bytes(), request.signature.into_bytes(), &certificate)?;
    let found = &signed.manifest().snapshot;
    if found.as_str() != id {
        let message = format!("the manifest is of snapshot {found}, but was sent as another");
        return Err(Refusal::new(ErrorCode::ManifestRefused, message));
    }
    // A client that goes away now does not interrupt a commit.
    let committing = tokio::spawn(async move { app.commit(&signed).await });
    let answer = committing.await.map_err(|_| crate::ServerError::Task)??;
    Ok(Json(answer).into_response())
}

impl App {
    async fn commit(&self, signed: &SignedManifest) -> Result<CommitAnswer, Refusal> {
        let manifest = signed.manifest();
        let segments: Vec<Hash> =
            manifest.volumes.iter().flat_map(|volume| volume.lists.iter().chain(&volume.catalogs)).copied().collect();
        let (node, asked) = (manifest.node.clone(), segments.clone());
        let owned = self.index.run(move |index| index.owns(&node, &asked)).await??;
        if let Some(at) = owned.iter().position(|owned| !owned) {
            let message = format!("the manifest refers to segment {}, which this node has not uploaded", segments[at]);
            return Err(Refusal::new(ErrorCode::SegmentNotUploaded, message));
        }
        let mut allowed = HashSet::new();
        for volume in &manifest.volumes {
            let rows = self.server.repository.chunk_list(volume).await?;
            for batch in rows.chunks(LOOKUPS_AT_ONCE) {
                let chunks: Vec<Hash> = batch.iter().map(|row| row.hash).collect();
                let (node, asked) = (manifest.node.clone(), chunks.clone());
                let owned = self.index.run(move |index| index.owns_placed(&node, &asked)).await??;
                if let Some(at) = owned.iter().position(|owned| !owned) {
                    let name = &volume.volume.name;
                    let message =
                        format!("volume {name} refers to chunk {}, which this node has not uploaded", chunks[at]);
                    return Err(Refusal::new(ErrorCode::ChunkNotUploaded, message)
                        .hint("ask for missing chunks again, upload them, and commit again"));
                }
                allowed.extend(chunks);
            }
        }
        let is_placed = |chunk: &Hash| allowed.contains(chunk);
        let server = &self.server;
        let committed = server.repository.commit(signed, is_placed, &server.root, server.now()).await?;
        let receipt = String::from_utf8(committed.to_parts().receipt)
            .map_err(|_| Refusal::new(ErrorCode::Damaged, "the receipt is not text"))?;
        let sequence = committed.receipt().sequence;
        tracing::info!(node = %manifest.node, snapshot = %manifest.snapshot, sequence, "committed");
        Ok(CommitAnswer { sequence, receipt })
    }
}
