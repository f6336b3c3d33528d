//! Export against the real tools.

use std::fs;
use std::process::Command;

use futures::{StreamExt, TryStreamExt};

use super::Bench;
use crate::export::ExportForm;
use crate::placement::Placement;
use crate::repository::{ObjectName, RepositoryError};
use crate::testing::{SnapshotBuilder, noise, some_files};

async fn export(bench: &Bench, volume: &str, form: ExportForm) -> Result<Vec<u8>, RepositoryError> {
    let snapshot = bench.repository.load(&bench.node, &"x".parse().unwrap()).await?;
    let placement = bench.repository.load_placement().await?.placement;
    let volume = snapshot.volume(&volume.parse().unwrap())?;
    let stream = bench.repository.export(volume, &placement, form).await?;
    let announced = stream.len_bytes();
    let mut bytes = Vec::new();
    let mut stream = stream;
    while let Some(piece) = stream.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes.len() as u64, announced, "the announced length is the length");
    Ok(bytes)
}

#[tokio::test]
async fn the_exported_tar_zst_is_unpacked_by_zstd_and_tar() {
    let bench = Bench::new().await;
    SnapshotBuilder::new(&bench.node, "x").commit(&bench.repository).await;
    let out = tempfile::tempdir().unwrap();
    let (archive, tree) = (out.path().join("root.tar.zst"), out.path().join("tree"));
    fs::create_dir(&tree).unwrap();
    fs::write(&archive, export(&bench, "root", ExportForm::Compressed).await.unwrap()).unwrap();
    let unpacked = Command::new("tar").arg("--zstd").arg("-xpf").arg(&archive).arg("-C").arg(&tree).output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    for file in some_files() {
        assert_eq!(fs::read(tree.join(&file.path)).unwrap(), file.content, "{}", file.path);
    }
}

#[tokio::test]
async fn both_forms_hold_the_same_bytes_and_raw_volumes_come_as_they_are() {
    let bench = Bench::new().await;
    SnapshotBuilder::new(&bench.node, "x").commit(&bench.repository).await;
    let frames = export(&bench, "root", ExportForm::Compressed).await.unwrap();
    let decoded = export(&bench, "root", ExportForm::Decoded).await.unwrap();
    assert_eq!(zstd::decode_all(&frames[..]).unwrap(), decoded);
    assert_eq!(export(&bench, "boot-code", ExportForm::Decoded).await.unwrap(), noise(7, 440));
}

#[tokio::test]
async fn a_missing_chunk_is_known_before_the_first_byte() {
    let bench = Bench::new().await;
    let snapshot = SnapshotBuilder::new(&bench.node, "x").commit(&bench.repository).await;
    let volume = snapshot.volume(&"root".parse().unwrap()).unwrap();
    let error = bench.repository.export(volume, &Placement::new(), ExportForm::Decoded).await.err().unwrap();
    assert!(matches!(error, RepositoryError::ChunkMissing { .. }), "{error}");
}

#[tokio::test]
async fn no_byte_of_a_damaged_chunk_is_handed_out() {
    let bench = Bench::new().await;
    let snapshot = SnapshotBuilder::new(&bench.node, "x").commit(&bench.repository).await;
    let placement = bench.repository.load_placement().await.unwrap().placement;
    let volume = snapshot.volume(&"root".parse().unwrap()).unwrap();
    let good = export(&bench, "root", ExportForm::Compressed).await.unwrap();
    let last = bench.repository.chunk_list(volume).await.unwrap().into_iter().rev().nth(1).unwrap();
    let place = placement.locate(&last.hash).unwrap();
    bench.flip(&ObjectName::Pack(place.pack), place.offset as usize + place.stored_len as usize / 2);
    for form in [ExportForm::Compressed, ExportForm::Decoded] {
        let stream = bench.repository.export(volume, &placement, form).await.unwrap();
        let pieces: Vec<_> = stream.collect().await;
        let handed_out: Vec<u8> = pieces.iter().flatten().flat_map(|bytes| bytes.to_vec()).collect();
        assert!(matches!(pieces.last(), Some(Err(RepositoryError::Chunk { chunk, .. })) if *chunk == last.hash));
        if form == ExportForm::Compressed {
            assert!(good.starts_with(&handed_out) && handed_out.len() < good.len());
        }
    }
}

#[tokio::test]
async fn an_export_is_written_to_any_output() {
    let bench = Bench::new().await;
    let snapshot = SnapshotBuilder::new(&bench.node, "x").commit(&bench.repository).await;
    let placement = bench.repository.load_placement().await.unwrap().placement;
    let volume = snapshot.volume(&"boot-code".parse().unwrap()).unwrap();
    let stream = bench.repository.export(volume, &placement, ExportForm::Decoded).await.unwrap();
    let mut output = Vec::new();
    assert_eq!(stream.write_to(&mut output).await.unwrap(), 440);
    assert_eq!(output, noise(7, 440));
    let stream = bench.repository.export(volume, &placement, ExportForm::Decoded).await.unwrap();
    let mut room = [0; 10];
    let mut full = std::io::Cursor::new(&mut room[..]);
    let error = stream.write_to(&mut full).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot write the exported volume");
}
