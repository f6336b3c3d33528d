//! A repository: objects in a store, and what is true of them.
//!
//! [`Repository`] is the only place that knows where objects lie. It hands out nothing that it has not checked against
//! its name or its signature, and it writes in an order that a crash cannot turn into a receipt that points at
//! nothing: packs, placement, lists, catalogs, manifest, signature, receipt.
//!
//! # Durability
//! A local directory is written through `object_store`'s file store with its `fsync` switch on: a new object is
//! written beside its place, flushed, renamed into place, and its directory flushed before the call returns; the
//! directories themselves are made when the repository is. A process that is killed leaves at most files whose names
//! end in `#` and a number, which no reader sees; [`Repository::open_directory`] removes those older than a day.

mod commit;
mod directory;
mod error;
mod info;
mod name;
mod read;
mod snapshot;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

pub use error::RepositoryError;
pub use info::{Chunking, ChunkingAlgorithm, CipherSuite, CutKey, InfoError, RepositoryId, RepositoryInfo};
pub use name::ObjectName;
pub use read::{DamagedSnapshot, SnapshotListing, SnapshotSummary};
pub use snapshot::{SignedManifest, SnapshotError, SnapshotParts, VerifiedSnapshot};
pub use write::VerifiedPack;

use crate::document::SIGNED_DOCUMENT_BYTES_MAX;
use crate::sign::{PublicKey, RootKey};
use crate::trust::Pin;

/// Where a repository's directory holds its root key, when the server keeps both together.
pub const ROOT_KEY_PATH: &str = "server/root.key";

/// An open repository. Clones are cheap and share everything.
#[derive(Debug, Clone)]
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    info: Arc<RepositoryInfo>,
    info_bytes: Arc<[u8]>,
    directory: Option<Arc<PathBuf>>,
    /// Held while a commit picks its sequence number and writes its receipt.
    committing: Arc<tokio::sync::Mutex<()>>,
}

impl Repository {
    /// Makes a new repository in an empty store. The store must make every write durable before it returns.
    pub async fn create(
        store: Arc<dyn ObjectStore>,
        root: &RootKey,
        created_at: Timestamp,
    ) -> Result<Self, RepositoryError> {
        let info = RepositoryInfo::generate(&root.public(), created_at)?;
        Self::create_with(store, root, info).await
    }

    async fn create_with(
        store: Arc<dyn ObjectStore>,
        root: &RootKey,
        info: RepositoryInfo,
    ) -> Result<Self, RepositoryError> {
        let bytes = info.seal(root);
        let path = ObjectName::Repository.path();
        match store.put_opts(&path, PutPayload::from(bytes.clone()), PutMode::Create.into()).await {
            Ok(_) => Ok(Self::with(store, info, bytes)),
            Err(object_store::Error::AlreadyExists { .. }) => {
                Err(RepositoryError::AlreadyARepository { place: store.to_string() })
            }
            Err(source) => {
                Err(RepositoryError::Store { action: "write", object: ObjectName::Repository.to_string(), source })
            }
        }
    }

    /// Opens a repository whose root key `pin` accepts.
    pub async fn open(store: Arc<dyn ObjectStore>, pin: &Pin) -> Result<Self, RepositoryError> {
        let failed = |source| RepositoryError::Store { action: "read", object: "repository.json".into(), source };
        let found = match store.get(&ObjectName::Repository.path()).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(RepositoryError::NotARepository { place: store.to_string() });
            }
            found => found.map_err(failed)?,
        };
        if found.meta.size > SIGNED_DOCUMENT_BYTES_MAX as u64 {
            let (found, max) = (found.meta.size, SIGNED_DOCUMENT_BYTES_MAX as u64);
            return Err(RepositoryError::TooLarge { object: ObjectName::Repository, found, max });
        }
        let bytes = found.bytes().await.map_err(failed)?;
        let info = RepositoryInfo::unseal(&bytes, pin)?;
        Ok(Self::with(store, info, bytes.to_vec()))
    }

    /// Makes a new repository in a directory, which is made if it is not there.
    pub async fn create_directory(path: &Path, root: &RootKey, created_at: Timestamp) -> Result<Self, RepositoryError> {
        Self::create_directory_with(path, root, RepositoryInfo::generate(&root.public(), created_at)?).await
    }

    pub(crate) async fn create_directory_with(
        path: &Path,
        root: &RootKey,
        info: RepositoryInfo,
    ) -> Result<Self, RepositoryError> {
        if path.join("repository.json").exists() {
            return Err(RepositoryError::AlreadyARepository { place: path.display().to_string() });
        }
        directory::prepare(path)?;
        let store = directory::open_store(path)?;
        Ok(Self::create_with(store, root, info).await?.in_directory(path))
    }

    /// Opens the repository in a directory.
    pub async fn open_directory(path: &Path, pin: &Pin) -> Result<Self, RepositoryError> {
        if !path.join("repository.json").exists() {
            return Err(RepositoryError::NotARepository { place: path.display().to_string() });
        }
        let store = directory::open_store(path)?;
        directory::sweep_unfinished(path);
        Ok(Self::open(store, pin).await?.in_directory(path))
    }

    fn with(store: Arc<dyn ObjectStore>, info: RepositoryInfo, info_bytes: Vec<u8>) -> Self {
        Self { store, info: Arc::new(info), info_bytes: info_bytes.into(), directory: None, committing: Arc::default() }
    }

    fn in_directory(self, path: &Path) -> Self {
        Self { directory: Some(Arc::new(path.to_owned())), ..self }
    }

    /// What holds for everything in it.
    pub fn info(&self) -> &RepositoryInfo {
        &self.info
    }

    /// `repository.json` as it is stored, for a client that has a pin.
    pub fn info_bytes(&self) -> &[u8] {
        &self.info_bytes
    }

    /// The root key, which the pin given to [`Repository::open`] has accepted.
    pub fn root_key(&self) -> &PublicKey {
        &self.info.root_key
    }

    /// The directory it lies in, if it lies in one.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref().map(PathBuf::as_path)
    }
}
