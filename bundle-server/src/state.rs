//! What the server cannot rebuild: which nodes may speak, and the arms. One SQLite file, opened by the running server
//! and by the commands beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bundle::Hash;
use bundle::node_model::NodeName;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::arm::{Arm, ArmId};

/// The layout of the tables below; a file of a newer one is refused.
const VERSION: i64 = 1;

/// How long one process waits for another to finish its change.
const BUSY_WAIT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE nodes (
        name TEXT PRIMARY KEY,
        token_digest BLOB NOT NULL UNIQUE,
        added_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE arms (
        id TEXT PRIMARY KEY,
        node TEXT NOT NULL,
        secret_digest BLOB NOT NULL UNIQUE,
        token_digest BLOB UNIQUE,
        created_at TEXT NOT NULL,
        arm TEXT NOT NULL
    ) STRICT;
    CREATE INDEX arms_of_node ON arms (node);
";

/// Why the server's own records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite failed.
    #[error("the server's records {path} cannot be used")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A later version of rerack wrote the file.
    #[error("the server's records {path} have layout {found}; this version knows layout {VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// A record in it cannot be read.
    #[error("a record in {path} cannot be read")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl StateError {
    /// Whether the file itself is no good, as opposed to its disk or its users.
    pub(crate) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Database { source, .. } => {
                matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Newer { .. } | Self::Record { .. } => false,
        }
    }

    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        let Self::Database { source, .. } = self else { return false };
        source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    }
}

/// Opens an SQLite file of ours: write-ahead log, every commit flushed, the layout made or checked.
pub(crate) fn open_database(path: &Path, schema: &str, version: i64) -> Result<Connection, StateError> {
    let failed = |source| StateError::Database { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(failed)?;
    let prepare = |connection: &mut Connection| -> rusqlite::Result<i64> {
        connection.busy_timeout(BUSY_WAIT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found == 0 {
            transaction.execute_batch(schema)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()?;
            return Ok(version);
        }
        Ok(found)
    };
    match prepare(&mut connection).map_err(failed)? {
        found if found == version => Ok(connection),
        found => Err(StateError::Newer { path: path.to_owned(), found }),
    }
}

/// The records, open.
#[derive(Debug)]
pub(crate) struct State {
    connection: Connection,
    path: PathBuf,
}

/// What a change of an arm led to: the inner result is the change's own.
type Changed<T> = Result<Option<T>, StateError>;

impl State {
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        Ok(Self { connection: open_database(path, SCHEMA, VERSION)?, path: path.to_owned() })
    }

    fn failed(&self, source: rusqlite::Error) -> StateError {
        StateError::Database { path: self.path.clone(), source }
    }

    fn record<T: serde::de::DeserializeOwned>(&self, text: &str) -> Result<T, StateError> {
        serde_json::from_str(text).map_err(|source| StateError::Record { path: self.path.clone(), source })
    }

    /// Remembers a node's token in place of one it may have had.
    pub(crate) fn put_node(&self, node: &NodeName, token: &Hash, now: Timestamp) -> Result<(), StateError> {
        let sql = "INSERT OR REPLACE INTO nodes (name, token_digest, added_at) VALUES (?1, ?2, ?3)";
        let values = params![node.as_str(), token.as_bytes(), now.to_string()];
        self.connection.execute(sql, values).map(drop).map_err(|source| self.failed(source))
    }

    pub(crate) fn has_node(&self, node: &NodeName) -> Result<bool, StateError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM nodes WHERE name = ?1)";
        self.connection.query_row(sql, [node.as_str()], |row| row.get(0)).map_err(|source| self.failed(source))
    }

    /// All nodes, by name.
    pub(crate) fn nodes(&self) -> Result<Vec<NodeName>, StateError> {
        let names = || -> rusqlite::Result<Vec<String>> {
            self.connection.prepare("SELECT name FROM nodes ORDER BY name")?.query_map([], |row| row.get(0))?.collect()
        };
        let names = names().map_err(|source| self.failed(source))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The node that holds a token.
    pub(crate) fn node_of_token(&self, token: &Hash) -> Result<Option<NodeName>, StateError> {
        let sql = "SELECT name FROM nodes WHERE token_digest = ?1";
        let name: Option<String> = self
            .connection
            .query_row(sql, [token.as_bytes()], |row| row.get(0))
            .optional()
            .map_err(|source| self.failed(source))?;
        Ok(name.and_then(|name| name.parse().ok()))
    }

    /// The arm whose restore holds a token.
    pub(crate) fn arm_of_token(&self, token: &Hash) -> Result<Option<Arm>, StateError> {
        let sql = "SELECT arm FROM arms WHERE token_digest = ?1";
        let text: Option<String> = self
            .connection
            .query_row(sql, [token.as_bytes()], |row| row.get(0))
            .optional()
            .map_err(|source| self.failed(source))?;
        text.map(|text| self.record(&text)).transpose()
    }

    /// All arms, the newest first.
    pub(crate) fn arms(&self) -> Result<Vec<Arm>, StateError> {
        let texts = || -> rusqlite::Result<Vec<String>> {
            self.connection
                .prepare("SELECT arm FROM arms ORDER BY created_at DESC, id")?
                .query_map([], |row| row.get(0))?
                .collect()
        };
        texts().map_err(|source| self.failed(source))?.iter().map(|text| self.record(text)).collect()
    }

    /// Changes the arms of one node together: what `change` leaves in the list is stored. An error of `change` leaves
    /// everything as it was. `added` are new arms with the digests of their secrets.
    pub(crate) fn change_node_arms<E>(
        &mut self,
        node: &NodeName,
        change: impl FnOnce(&mut Vec<Arm>) -> Result<Option<(Arm, Hash)>, E>,
    ) -> Result<Result<(), E>, StateError> {
        let path = self.path.clone();
        let failed = |source| StateError::Database { path: path.clone(), source };
        let unreadable = |source| StateError::Record { path: path.clone(), source };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let texts: Vec<String> = {
            let mut query = transaction.prepare("SELECT arm FROM arms WHERE node = ?1").map_err(failed)?;
            let rows = query.query_map([node.as_str()], |row| row.get(0)).map_err(failed)?;
            rows.collect::<rusqlite::Result<_>>().map_err(failed)?
        };
        let mut arms = Vec::with_capacity(texts.len());
        for text in texts {
            arms.push(serde_json::from_str::<Arm>(&text).map_err(unreadable)?);
        }
        let added = match change(&mut arms) {
            Ok(added) => added,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for arm in &arms {
            let text = serde_json::to_string(arm).map_err(unreadable)?;
            transaction.execute("UPDATE arms SET arm = ?2 WHERE id = ?1", [&arm.id, &text]).map_err(failed)?;
        }
        if let Some((arm, secret)) = added {
            let text = serde_json::to_string(&arm).map_err(unreadable)?;
            let sql = "INSERT INTO arms (id, node, secret_digest, created_at, arm) VALUES (?1, ?2, ?3, ?4, ?5)";
            let values = params![arm.id, arm.node.as_str(), secret.as_bytes(), arm.created_at.to_string(), text];
            transaction.execute(sql, values).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(Ok(()))
    }

    /// Changes the arm whose code has this secret, and gives it a new token if the change succeeds. `None` if no arm
    /// has it.
    pub(crate) fn change_arm_of_secret<E>(
        &mut self,
        secret: &Hash,
        token: &Hash,
        change: impl FnOnce(&mut Arm) -> Result<(), E>,
    ) -> Changed<Result<Arm, E>> {
        self.change_arm("secret_digest", secret, Some(token), change)
    }

    /// Changes the arm whose restore holds this token.
    pub(crate) fn change_arm_of_token<E>(
        &mut self,
        token: &Hash,
        change: impl FnOnce(&mut Arm) -> Result<(), E>,
    ) -> Changed<Result<Arm, E>> {
        self.change_arm("token_digest", token, None, change)
    }

    fn change_arm<E>(
        &mut self,
        column: &'static str,
        digest: &Hash,
        new_token: Option<&Hash>,
        change: impl FnOnce(&mut Arm) -> Result<(), E>,
    ) -> Changed<Result<Arm, E>> {
        let path = self.path.clone();
        let failed = |source| StateError::Database { path: path.clone(), source };
        let unreadable = |source| StateError::Record { path: path.clone(), source };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let sql = format!("SELECT arm FROM arms WHERE {column} = ?1");
        let text: Option<String> =
            transaction.query_row(&sql, [digest.as_bytes()], |row| row.get(0)).optional().map_err(failed)?;
        let Some(text) = text else { return Ok(None) };
        let mut arm: Arm = serde_json::from_str(&text).map_err(unreadable)?;
        if let Err(refusal) = change(&mut arm) {
            return Ok(Some(Err(refusal)));
        }
        let text = serde_json::to_string(&arm).map_err(unreadable)?;
        let sql = "UPDATE arms SET arm = ?2, token_digest = coalesce(?3, token_digest) WHERE id = ?1";
        let values = params![arm.id, text, new_token.map(|token| token.as_bytes())];
        transaction.execute(sql, values).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(Some(Ok(arm)))
    }

    /// The node of an arm, by the arm's name.
    pub(crate) fn node_of_arm(&self, id: &ArmId) -> Result<Option<NodeName>, StateError> {
        let name: Option<String> = self
            .connection
            .query_row("SELECT node FROM arms WHERE id = ?1", [id], |row| row.get(0))
            .optional()
            .map_err(|source| self.failed(source))?;
        Ok(name.and_then(|name| name.parse().ok()))
    }
}
