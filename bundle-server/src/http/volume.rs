//! A whole volume in one answer, for `curl`: the stored frames in list order, which are a valid `.zst`. Every chunk is
//! decoded and compared with its hash before its frame is sent; a damaged one breaks the answer off.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::IntoResponse;
use bundle::export::ExportForm;
use bundle::node_model::{VolumeKind, VolumeName};
use bundle::placement::{ChunkPlace, Placement};
use futures::TryStreamExt;
use server_api::{ErrorCode, SnapshotPlacement};

use super::refusal::{Refusal, told};
use super::snapshots::parse_snapshot;
use super::{Reply, Shared};

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
    let placement = places_in(reads.placement());
    let stream = app.server.repository.export(volume, &placement, ExportForm::Compressed).await?;
    let head = [
        (CONTENT_TYPE, "application/zstd".to_owned()),
        (CONTENT_LENGTH, stream.len_bytes().to_string()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{node}-{file}\"")),
    ];
    let watched = stream.inspect_err(move |error| {
        tracing::warn!(%node, file, error = told(error), "a volume became unreadable while it was sent");
    });
    Ok((head, Body::from_stream(watched)).into_response())
}

fn places_in(placement: &SnapshotPlacement) -> Placement {
    Placement::from_places(placement.chunks().iter().map(|placed| {
        let pack = placement.pack_of(placed).hash;
        let (offset, stored_len, content_len) = (placed.offset, placed.stored_len, placed.content_len);
        (placed.hash, ChunkPlace { pack, offset, stored_len, content_len })
    }))
}
