//! The bundle format: manifest, tar stream, chunks, packs and the repository they lie in.
