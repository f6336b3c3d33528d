//! A whole volume in one answer, for `curl`: the stored frames in list order, which are a valid `.zst`. Every chunk is
//! decoded and compared with its hash before its frame is sent; a damaged one breaks the answer off.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::IntoResponse;
use bundle::Hash;
use bundle::frame;
use bundle::node_model::{VolumeKind, VolumeName};
use bytes::Bytes;
use futures::{StreamExt, stream};
use server_api::{ErrorCode, PlacedChunk};

use super::refusal::{Refusal, told};
use super::snapshots::parse_snapshot;
use super::{App, Reply, Shared};

/// Chunks read and checked at once for one answer: at most 16 MiB of frames and as much content.
const CHUNKS_AT_ONCE: usize = 4;

pub(super) async fn whole(
    State(app): Shared,
    Path((node, id, file)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    let id = parse_snapshot(&id)?;
    let not_found = || {
        Refusal::new(ErrorCode::NotFound, "the snapshot has no such volume")
            .hint("ask for VOLUME.tar.zst (files) or VOLUME.raw.zst (raw); the manifest lists the volumes")
    };
    let (stem, wants_files) = match (file.strip_suffix(".tar.zst"), file.strip_suffix(".raw.zst")) {
        (Some(stem), _) => (stem, true),
        (None, Some(stem)) => (stem, false),
        (None, None) => return Err(not_found()),
    };
    let name: VolumeName = stem.parse().map_err(|_| not_found())?;
    let snapshot = app.server.repository.load(&node, &id).await?;
    let volume = snapshot.manifest().volume(&name).ok_or_else(not_found)?;
    if matches!(volume.volume.volume, VolumeKind::Files { .. }) != wants_files {
        return Err(not_found());
    }
    let reads = app.reads.get(&app.server, &app.index, &node, &id).await?;
    let placement = reads.placement();
    let mut frames: Vec<(Hash, PlacedChunk)> = Vec::new();
    for row in app.server.repository.chunk_list(volume).await? {
        let Some(placed) = placement.find(&row.hash) else {
            return Err(Refusal::new(ErrorCode::Damaged, format!("chunk {} lies in no pack", row.hash)));
        };
        frames.push((placement.pack_of(placed).hash, *placed));
    }
    let length: u64 = frames.iter().map(|(_, placed)| u64::from(placed.stored_len)).sum();
    let head = [
        (CONTENT_TYPE, "application/zstd".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{node}-{file}\"")),
    ];
    let checked = stream::iter(frames)
        .map(move |(pack, placed)| {
            let app = std::sync::Arc::clone(&app);
            async move { app.checked_frame(pack, placed).await }
        })
        .buffered(CHUNKS_AT_ONCE);
    Ok((head, Body::from_stream(checked)).into_response())
}

impl App {
    async fn checked_frame(&self, pack: Hash, placed: PlacedChunk) -> std::io::Result<Bytes> {
        let range = placed.offset..placed.offset + u64::from(placed.stored_len);
        let frame = self.server.repository.pack_range(&pack, range).await.map_err(|error| {
            tracing::warn!(%pack, error = told(&error), "a pack became unreadable while it was sent");
            std::io::Error::other(error)
        })?;
        let check = move || {
            frame::decompress_exact(&frame, placed.content_len, &placed.hash).map(|_| frame).map_err(|error| {
                tracing::warn!(%pack, chunk = %placed.hash, error = told(&error), "a chunk is damaged");
                std::io::Error::other(error)
            })
        };
        tokio::task::spawn_blocking(check).await.map_err(std::io::Error::other)?
    }
}
