//! Whether everything that a snapshot needs is there, asked before anything is erased.

use std::collections::{HashMap, HashSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use bundle::Hash;
use server_api::{PackCheck, SnapshotCheck};

use super::refusal::told;
use super::snapshots::parse_snapshot;
use super::{Reply, Shared};

/// How many missing objects are named.
const NAMED_MAX: usize = 100;

pub(super) async fn check(State(app): Shared, Path((node, id)): Path<(String, String)>, headers: HeaderMap) -> Reply {
    let node = app.may_read(&headers, &node).await?;
    let id = parse_snapshot(&id)?;
    let repository = &app.server.repository;
    let snapshot = repository.load(&node, &id).await?;
    let mut missing_segments = Vec::new();
    for volume in &snapshot.manifest().volumes {
        for name in &volume.lists {
            if let Err(error) = repository.list_segment(name).await {
                tracing::warn!(%node, snapshot = %id, error = told(&error), "a list cannot be used");
                missing_segments.push(*name);
            }
        }
        for name in &volume.catalogs {
            if let Err(error) = repository.catalog_segment(name).await {
                tracing::warn!(%node, snapshot = %id, error = told(&error), "a catalog cannot be used");
                missing_segments.push(*name);
            }
        }
    }
    if !missing_segments.is_empty() {
        missing_segments.truncate(NAMED_MAX);
        let (packs, missing_chunks) = (Vec::new(), Vec::new());
        return Ok(
            Json(SnapshotCheck { packs, missing_chunks, missing_chunk_count: 0, missing_segments }).into_response()
        );
    }
    let reads = app.reads.get(&app.server, &app.index, &node, &id).await?;
    let needed: HashSet<Hash> = reads.placement().packs().iter().map(|pack| pack.hash).collect();
    // What lies on the disk now, not what the index remembers.
    let found: HashMap<Hash, u64> = repository
        .packs()
        .await?
        .into_iter()
        .filter(|pack| needed.contains(&pack.name))
        .map(|pack| (pack.name, pack.bytes))
        .collect();
    let asked: Vec<Hash> = reads.placement().packs().iter().map(|pack| pack.hash).collect();
    let known =
        app.index.run(move |index| asked.iter().map(|pack| index.pack(pack)).collect::<Result<Vec<_>, _>>()).await??;
    let packs = reads.placement().packs().iter().zip(known).map(|(pack, known)| PackCheck {
        pack: pack.hash,
        length_bytes: pack.length_bytes,
        found_bytes: found.get(&pack.hash).copied(),
        verified_at: known.and_then(|known| known.verified_at).map(|time| time.to_string()),
    });
    let check = SnapshotCheck {
        packs: packs.collect(),
        missing_chunks: reads.missing().iter().take(NAMED_MAX).copied().collect(),
        missing_chunk_count: reads.missing().len() as u64,
        missing_segments,
    };
    Ok(Json(check).into_response())
}
