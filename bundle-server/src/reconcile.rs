//! Brings the chunk index up to date with what lies in the repository: after a crash, after the index was lost, after
//! an old copy of it was put back.

use std::collections::HashSet;
use std::path::PathBuf;

use bundle::Hash;

use crate::ServerError;
use crate::chunks::ChunkIndex;
use crate::server::{Server, SharedIndex};

/// Opens the index. A file that SQLite finds damaged is put aside, because it can be rebuilt.
pub(crate) async fn open(path: PathBuf) -> Result<ChunkIndex, ServerError> {
    let open = move || match ChunkIndex::open(&path) {
        Err(error) if error.is_damage() => {
            tracing::warn!(path = %path.display(), "the chunk index is damaged and is rebuilt");
            for suffix in ["-wal", "-shm"] {
                let mut beside = path.clone().into_os_string();
                beside.push(suffix);
                let _ = std::fs::remove_file(beside);
            }
            let aside = path.with_extension("sqlite.damaged");
            std::fs::rename(&path, aside).map_err(|source| ServerError::File {
                action: "put aside",
                path: path.clone(),
                source,
            })?;
            Ok(ChunkIndex::open(&path)?)
        }
        opened => Ok(opened?),
    };
    tokio::task::spawn_blocking(open).await.map_err(|_| ServerError::Task)?
}

/// Takes in packs that the index does not know, forgets those that are gone, and, if the index is new, gives every
/// node what its committed snapshots refer to.
pub(crate) async fn bring_up_to_date(server: &Server, index: &SharedIndex) -> Result<(), ServerError> {
    let known = index.run(|index| index.packs()).await??;
    let present = server.repository.packs().await?;
    let known: HashSet<(Hash, u64)> = known.iter().map(|pack| (pack.hash, pack.length_bytes)).collect();
    let found: HashSet<(Hash, u64)> = present.iter().map(|pack| (pack.name, pack.bytes)).collect();
    for &(gone, _) in known.difference(&found) {
        tracing::warn!(pack = %gone, "a pack is gone or has another length; its chunks count as missing");
        index.run(move |index| index.remove_pack(&gone)).await??;
    }
    for pack in present.iter().filter(|pack| !known.contains(&(pack.name, pack.bytes))) {
        match server.repository.pack_index(pack).await {
            Ok(rows) => {
                let name = pack.name;
                index.run(move |index| index.add_pack(&name, &rows, None)).await??;
            }
            Err(error) => tracing::warn!(pack = %pack.name, %error, "a pack cannot be used"),
        }
    }
    if !index.run(|index| index.is_complete()).await?? {
        restore_ownership(server, index).await?;
        let now = server.now();
        index.run(move |index| index.set_complete(now)).await??;
    }
    Ok(())
}

async fn restore_ownership(server: &Server, index: &SharedIndex) -> Result<(), ServerError> {
    for node in server.repository.nodes().await? {
        for summary in server.repository.snapshots(&node).await?.snapshots {
            let snapshot = match server.repository.load(&node, &summary.snapshot).await {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    tracing::warn!(%node, snapshot = %summary.snapshot, %error, "a snapshot cannot be used");
                    continue;
                }
            };
            for volume in &snapshot.manifest().volumes {
                let mut objects: Vec<Hash> = volume.lists.iter().chain(&volume.catalogs).copied().collect();
                match server.repository.chunk_list(volume).await {
                    Ok(rows) => objects.extend(rows.iter().map(|row| row.hash)),
                    Err(error) => tracing::warn!(%node, snapshot = %summary.snapshot, %error, "a list is damaged"),
                }
                let node = node.clone();
                index.run(move |index| index.own(&node, objects.iter())).await??;
            }
        }
    }
    Ok(())
}
