//! `repository.json`: what holds for everything in a repository.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{self, DocumentError, Requirement, RootSigned};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_BYTES_TARGET, LARGE_FILE_BYTES};
use crate::sign::{self, Hex, PublicKey, RandomnessError, RootKey, SignContext};
use crate::trust::Pin;

/// The name of a repository: 16 random bytes, 32 hexadecimal digits in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryId([u8; 16]);

impl RepositoryId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl FromStr for RepositoryId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        sign::read_hex(text).map(Self).ok_or("a repository id is 32 lower-case hexadecimal digits")
    }
}

impl TryFrom<String> for RepositoryId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RepositoryId> for String {
    fn from(id: RepositoryId) -> String {
        id.to_string()
    }
}

/// The key of the hash that decides where a tar stream is cut between entries. It keeps strangers from learning from
/// chunk sizes what a repository holds; who reads the repository knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CutKey([u8; 32]);

impl CutKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<String> for CutKey {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        sign::read_hex(&text).map(Self).ok_or("a cut key is 64 lower-case hexadecimal digits")
    }
}

impl From<CutKey> for String {
    fn from(key: CutKey) -> String {
        Hex(&key.0).to_string()
    }
}

/// How streams are cut into chunks. Agents cut alike, so that equal bytes become equal chunks; readers do not care.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunking {
    /// The algorithm that cuts large files.
    pub algorithm: ChunkingAlgorithm,
    /// Shortest piece that it makes.
    pub min_bytes: u64,
    /// Average piece.
    pub target_bytes: u64,
    /// Longest piece.
    pub max_bytes: u64,
    /// Size from which a file's content lies in data chunks.
    pub large_file_bytes: u64,
}

/// An algorithm of content-defined chunking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChunkingAlgorithm {
    /// FastCDC as its 2020 paper has it, normalisation level 1.
    #[serde(rename = "fastcdc-2020")]
    FastCdc2020,
}

impl Default for Chunking {
    fn default() -> Self {
        Self {
            algorithm: ChunkingAlgorithm::FastCdc2020,
            min_bytes: CHUNK_BYTES_MIN.into(),
            target_bytes: CHUNK_BYTES_TARGET.into(),
            max_bytes: CHUNK_BYTES_MAX.into(),
            large_file_bytes: LARGE_FILE_BYTES,
        }
    }
}

/// How chunks are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CipherSuite {
    /// Not at all.
    None,
}

/// What holds for everything in a repository, signed by its root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryInfo {
    /// Format of this document: 1.
    pub format: u32,
    /// What a reader must know.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// The repository's name.
    pub repository: RepositoryId,
    /// When it was made.
    pub created_at: Timestamp,
    /// The root key, trusted only where a [`Pin`] accepts it.
    pub root_key: PublicKey,
    /// How streams are cut.
    pub chunking: Chunking,
    /// Key of the cut between entries.
    pub cut_key: CutKey,
    /// How chunks are encrypted.
    pub cipher_suite: CipherSuite,
}

impl RootSigned for RepositoryInfo {
    const WHAT: &'static str = "repository.json";
    const CONTEXT: SignContext = SignContext::Repository;
    const FORMAT: u32 = 1;
}

/// Why `repository.json` is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// It cannot be read, or its signature is wrong.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It is signed by a root key other than the pinned one.
    #[error("the repository's root key is {found}, which is not the one pinned by {pin}")]
    OtherRoot {
        /// What was pinned.
        pin: Pin,
        /// The fingerprint found.
        found: crate::trust::Fingerprint,
    },
}

impl InfoError {
    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Document(error) => error.hint(),
            Self::OtherRoot { .. } => {
                "this is another repository, or somebody stands in its place: check the server address, then the \
                 fingerprint or code; never pin a key that you have not compared"
                    .into()
            }
        }
    }
}

impl RepositoryInfo {
    /// The facts of a new repository: a random id and cut key.
    pub fn generate(root: &PublicKey, created_at: Timestamp) -> Result<Self, RandomnessError> {
        Ok(Self {
            format: Self::FORMAT,
            requires: Vec::new(),
            repository: RepositoryId(*sign::random_bytes()?),
            created_at,
            root_key: *root,
            chunking: Chunking::default(),
            cut_key: CutKey(*sign::random_bytes()?),
            cipher_suite: CipherSuite::None,
        })
    }

    /// `repository.json` signed by the root.
    pub fn seal(&self, root: &RootKey) -> Vec<u8> {
        document::seal(self, root)
    }

    /// Reads `repository.json` that must be signed by a root key that `pin` accepts.
    pub fn unseal(bytes: &[u8], pin: &Pin) -> Result<Self, InfoError> {
        let unchecked: Self = document::peek(bytes)?;
        if !pin.accepts(&unchecked.root_key) {
            return Err(InfoError::OtherRoot { pin: pin.clone(), found: unchecked.root_key.id() });
        }
        Ok(document::unseal(bytes, &unchecked.root_key)?)
    }
}
