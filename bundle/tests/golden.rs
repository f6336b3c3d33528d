//! Golden files: what was once written can be read for ever, and is written the same way today.
//!
//! `RERACK_BLESS=1` writes them anew. A difference in one that is released is a change of the format.

mod common;

use std::path::PathBuf;

use bundle::catalog;
use bundle::cut::{ChunkHashes, RawChunk, RawCutter};
use bundle::frame::{LEVEL_DEFAULT, compress, decompress_exact};
use bundle::list::{self, ChunkKind};
use bundle::pack::{self, PackBuilder, PackIndex};
use bundle::{Hash, tar};
use common::{awkward, build, noise};

/// The golden file of that name, after writing `now` to it if the goldens are being made.
fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("RERACK_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_tar_chunks_of_the_awkward_tree_are_pinned() {
    let built = build(&awkward());
    let mut headers = Vec::new();
    for (row, chunk) in built.rows.iter().zip(&built.chunks) {
        if row.kind == ChunkKind::Tar {
            headers.extend_from_slice(chunk);
        }
    }
    // Noise aside, a chunk of headers is small when it is compressed.
    let stored = golden("files.tar-chunks.zst", &compress(&headers, 19).unwrap());
    let then = zstd::bulk::decompress(&stored, 4 << 20).unwrap();
    assert!(then == headers, "the tar stream is written in another way than before");
    let mut rest = &then[..];
    for row in built.rows.iter().filter(|row| row.kind == ChunkKind::Tar) {
        let (chunk, behind) = rest.split_at(row.content_len as usize);
        rest = behind;
        tar::Reader::new(chunk).for_each(|item| drop(item.unwrap()));
    }
}

#[test]
fn the_list_of_the_awkward_tree_is_pinned() {
    let built = build(&awkward());
    let then = golden("files.list", &built.list[0]);
    assert!(then == built.list[0], "the chunk list is written in another way than before");
    assert_eq!(list::read_segment(&then).unwrap().rows, built.rows);
}

#[test]
fn the_catalog_of_the_awkward_tree_is_pinned() {
    let built = build(&awkward());
    let then = golden("files.catalog", &built.catalog[0]);
    assert_eq!(catalog::read_segment(&then).unwrap().entries, built.entries);
    // Another zstd may compress in another way; the content is what is pinned.
    let content = |segment: &[u8]| zstd::bulk::decompress(segment, 4 << 20).unwrap();
    assert!(content(&then) == content(&built.catalog[0]), "the catalog is written in another way than before");
}

#[test]
fn a_pack_is_pinned() {
    let chunks = [b"one chunk".repeat(100), noise(b"golden pack", 1000), tar::END.to_vec()];
    let mut builder = PackBuilder::new();
    for chunk in &chunks {
        builder.push(Hash::of(chunk), &compress(chunk, LEVEL_DEFAULT).unwrap()).unwrap();
    }
    let then = golden("pack", &builder.finish().unwrap().bytes);
    let index = pack::verify(&then, &Hash::of(&then)).unwrap();
    assert_eq!(index.rows().iter().map(|row| row.hash).collect::<Vec<_>>(), chunks.map(|chunk| Hash::of(&chunk)));

    let mut again = PackBuilder::new();
    for row in index.rows() {
        again.push(row.hash, &then[row.offset as usize..][..row.stored_len as usize]).unwrap();
    }
    assert!(again.finish().unwrap().bytes == then, "a pack is written in another way than before");
    let index_at = then.len() - pack::index_content_len(then.last_chunk().unwrap()).unwrap();
    assert_eq!(PackIndex::decode(&then[index_at..]).unwrap(), index);
}

#[test]
fn a_raw_volume_is_pinned() {
    let boot_code = noise(b"boot code", 440);
    let bios_boot = noise(b"BIOS boot", 5 << 20);
    let mut segments = Vec::new();
    for region in [&boot_code, &bios_boot] {
        let mut hashes = ChunkHashes::new();
        let mut cutter = RawCutter::new(|chunk: RawChunk| {
            hashes.set(chunk.ticket, Hash::of(&chunk.content));
            Ok(())
        });
        cutter.write(region).unwrap();
        let volume = cutter.finish().unwrap();
        let list = volume.list_segments(&hashes).unwrap();
        list::check_raw(&list::read_segment(&list[0]).unwrap().rows, region.len() as u64).unwrap();
        segments.extend(list);
    }
    let then = golden("raw.lists", &segments.concat());
    assert!(then == segments.concat(), "a raw volume is written in another way than before");
}

#[test]
fn the_end_of_every_stream_is_pinned() {
    let hash: Hash = "d6fd9de5bccf223f523b316c9cd1cf9a9d87ea42473d68e011dad13f09bf8917".parse().unwrap();
    assert_eq!(Hash::of(&tar::END), hash);
    let frame = golden("end.zst", &compress(&tar::END, LEVEL_DEFAULT).unwrap());
    assert_eq!(decompress_exact(&frame, 1024, &hash).unwrap(), tar::END);
}
