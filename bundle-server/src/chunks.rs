//! The chunk index: where each chunk lies, and which node has uploaded what. One SQLite file that can be rebuilt: the
//! places from the packs' own indexes, what a node owns from its committed snapshots. (A chunk that was uploaded but
//! not committed when the index was lost is simply uploaded again; its bytes are then found to be there.)

use std::path::{Path, PathBuf};

use bundle::Hash;
use bundle::node_model::NodeName;
use bundle::pack::PackIndex;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::state::{StateError, open_database};

const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE packs (
        id INTEGER PRIMARY KEY,
        hash BLOB NOT NULL UNIQUE,
        length_bytes INTEGER NOT NULL,
        verified_at TEXT
    ) STRICT;
    CREATE TABLE chunks (
        hash BLOB PRIMARY KEY,
        pack INTEGER NOT NULL REFERENCES packs (id),
        offset INTEGER NOT NULL,
        stored_len INTEGER NOT NULL,
        content_len INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX chunks_of_pack ON chunks (pack);
    CREATE TABLE nodes (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE owned (
        node INTEGER NOT NULL REFERENCES nodes (id),
        object BLOB NOT NULL,
        PRIMARY KEY (node, object)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE complete (
        since TEXT NOT NULL
    ) STRICT;
";

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkPlace {
    pub(crate) pack: Hash,
    pub(crate) offset: u64,
    pub(crate) stored_len: u32,
    pub(crate) content_len: u32,
}

/// A pack as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownPack {
    pub(crate) hash: Hash,
    pub(crate) length_bytes: u64,
    pub(crate) verified_at: Option<Timestamp>,
}

/// The index, open.
#[derive(Debug)]
pub(crate) struct ChunkIndex {
    connection: Connection,
    path: PathBuf,
}

impl ChunkIndex {
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        Ok(Self { connection: open_database(path, SCHEMA, VERSION)?, path: path.to_owned() })
    }

    fn failed(&self, source: rusqlite::Error) -> StateError {
        StateError::Database { path: self.path.clone(), source }
    }

    /// Runs `work` in one transaction.
    fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StateError> {
        let run = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run(&mut self.connection).map_err(|source| StateError::Database { path: self.path.clone(), source })
    }

    /// Whether it was built to the end once: an index without this is new, or its rebuilding was interrupted.
    pub(crate) fn is_complete(&self) -> Result<bool, StateError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM complete)";
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(|source| self.failed(source))
    }

    pub(crate) fn set_complete(&mut self, now: Timestamp) -> Result<(), StateError> {
        self.write(|transaction| {
            transaction.execute("INSERT INTO complete (since) VALUES (?1)", [now.to_string()]).map(drop)
        })
    }

    /// All packs it knows.
    pub(crate) fn packs(&self) -> Result<Vec<KnownPack>, StateError> {
        let read = || -> rusqlite::Result<Vec<KnownPack>> {
            self.connection
                .prepare("SELECT hash, length_bytes, verified_at FROM packs")?
                .query_map([], known_pack)?
                .collect()
        };
        read().map_err(|source| self.failed(source))
    }

    /// One pack.
    pub(crate) fn pack(&self, hash: &Hash) -> Result<Option<KnownPack>, StateError> {
        let sql = "SELECT hash, length_bytes, verified_at FROM packs WHERE hash = ?1";
        self.connection.query_row(sql, [hash.as_bytes()], known_pack).optional().map_err(|source| self.failed(source))
    }

    /// Takes in a pack that is durable. Chunks that lie elsewhere already stay where they are. `verified_at` is given
    /// if every byte of it was just hashed.
    pub(crate) fn add_pack(
        &mut self,
        hash: &Hash,
        index: &PackIndex,
        verified_at: Option<Timestamp>,
    ) -> Result<(), StateError> {
        self.write(|transaction| {
            let sql = "INSERT INTO packs (hash, length_bytes, verified_at) VALUES (?1, ?2, ?3)
                       ON CONFLICT (hash) DO UPDATE SET verified_at = coalesce(?3, verified_at) RETURNING id";
            let values = params![hash.as_bytes(), index.pack_bytes(), verified_at.map(|time| time.to_string())];
            let id: i64 = transaction.query_row(sql, values, |row| row.get(0))?;
            let sql = "INSERT OR IGNORE INTO chunks (hash, pack, offset, stored_len, content_len)
                       VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut insert = transaction.prepare_cached(sql)?;
            for row in index.rows() {
                insert.execute(params![row.hash.as_bytes(), id, row.offset, row.stored_len, row.content_len])?;
            }
            Ok(())
        })
    }

    /// Forgets a pack that is no longer there, and its chunks.
    pub(crate) fn remove_pack(&mut self, hash: &Hash) -> Result<(), StateError> {
        self.write(|transaction| {
            let of_pack = "(SELECT id FROM packs WHERE hash = ?1)";
            transaction.execute(&format!("DELETE FROM chunks WHERE pack = {of_pack}"), [hash.as_bytes()])?;
            transaction.execute("DELETE FROM packs WHERE hash = ?1", [hash.as_bytes()]).map(drop)
        })
    }

    pub(crate) fn set_verified(&mut self, packs: &[Hash], now: Timestamp) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut update = transaction.prepare_cached("UPDATE packs SET verified_at = ?2 WHERE hash = ?1")?;
            for pack in packs {
                update.execute(params![pack.as_bytes(), now.to_string()])?;
            }
            Ok(())
        })
    }

    /// Remembers that a node has uploaded these chunks or segments.
    pub(crate) fn own<'a>(
        &mut self,
        node: &NodeName,
        objects: impl Iterator<Item = &'a Hash>,
    ) -> Result<(), StateError> {
        self.write(|transaction| {
            transaction.execute("INSERT OR IGNORE INTO nodes (name) VALUES (?1)", [node.as_str()])?;
            let sql = "SELECT id FROM nodes WHERE name = ?1";
            let id: i64 = transaction.query_row(sql, [node.as_str()], |row| row.get(0))?;
            let mut insert =
                transaction.prepare_cached("INSERT OR IGNORE INTO owned (node, object) VALUES (?1, ?2)")?;
            for object in objects {
                insert.execute(params![id, object.as_bytes()])?;
            }
            Ok(())
        })
    }

    /// For each object, whether the node has uploaded it.
    pub(crate) fn owns(&self, node: &NodeName, objects: &[Hash]) -> Result<Vec<bool>, StateError> {
        let sql = "SELECT 1 FROM owned WHERE node = ?1 AND object = ?2";
        self.for_each(node, sql, objects)
    }

    /// For each chunk, whether the node has uploaded it and it still lies somewhere.
    pub(crate) fn owns_placed(&self, node: &NodeName, chunks: &[Hash]) -> Result<Vec<bool>, StateError> {
        let sql = "SELECT 1 FROM owned JOIN chunks ON chunks.hash = owned.object
                   WHERE owned.node = ?1 AND owned.object = ?2";
        self.for_each(node, sql, chunks)
    }

    fn for_each(&self, node: &NodeName, sql: &str, objects: &[Hash]) -> Result<Vec<bool>, StateError> {
        let read = || -> rusqlite::Result<Vec<bool>> {
            let find_node = "SELECT id FROM nodes WHERE name = ?1";
            let id: Option<i64> = self.connection.query_row(find_node, [node.as_str()], |row| row.get(0)).optional()?;
            let Some(id) = id else { return Ok(vec![false; objects.len()]) };
            let mut query = self.connection.prepare_cached(sql)?;
            objects.iter().map(|object| query.exists(params![id, object.as_bytes()])).collect()
        };
        read().map_err(|source| self.failed(source))
    }

    /// For each chunk, where it lies.
    pub(crate) fn places(&self, chunks: &[Hash]) -> Result<Vec<Option<ChunkPlace>>, StateError> {
        let read = || -> rusqlite::Result<Vec<Option<ChunkPlace>>> {
            let sql = "SELECT packs.hash, offset, stored_len, content_len
                       FROM chunks JOIN packs ON packs.id = chunks.pack WHERE chunks.hash = ?1";
            let mut query = self.connection.prepare_cached(sql)?;
            chunks.iter().map(|chunk| query.query_row([chunk.as_bytes()], chunk_place).optional()).collect()
        };
        read().map_err(|source| self.failed(source))
    }
}

fn known_pack(row: &rusqlite::Row<'_>) -> rusqlite::Result<KnownPack> {
    let verified_at: Option<String> = row.get(2)?;
    Ok(KnownPack {
        hash: Hash::from_bytes(row.get(0)?),
        length_bytes: row.get(1)?,
        verified_at: verified_at.and_then(|text| text.parse().ok()),
    })
}

fn chunk_place(row: &rusqlite::Row<'_>) -> rusqlite::Result<ChunkPlace> {
    Ok(ChunkPlace {
        pack: Hash::from_bytes(row.get(0)?),
        offset: row.get(1)?,
        stored_len: row.get(2)?,
        content_len: row.get(3)?,
    })
}
