//! The server's directory, open: what `rerack serve` serves and what the commands beside it work on.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bundle::code::RestoreCode;
use bundle::node_model::NodeName;
use bundle::repository::{ROOT_KEY_PATH, Repository, SnapshotListing};
use bundle::sign::{self, RootKey};
use bundle::trust::{Fingerprint, NodeCertificate, NodeFile, NodeSecret, Pin};
use jiff::{SignedDuration, Timestamp};

use crate::ServerError;
use crate::arm::{Arm, ArmId, ArmState};
use crate::chunks::ChunkIndex;
use crate::reconcile;
use crate::state::State;

/// How long an arm can be claimed if nothing else is said.
pub const VALIDITY_DEFAULT: Duration = Duration::from_secs(3600);

/// Where the server takes the time from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// The server's directory, open. Clones share it.
#[derive(Clone)]
pub struct Server {
    pub(crate) directory: Arc<PathBuf>,
    pub(crate) repository: Repository,
    pub(crate) root: Arc<RootKey>,
    pub(crate) clock: Clock,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// An arm just made.
#[derive(Debug)]
pub struct Armed {
    /// The arm.
    pub arm: Arm,
    /// What the operator types at the machine. It can be read here and never again.
    pub code: RestoreCode,
}

/// A node with its snapshots.
#[derive(Debug)]
pub struct NodeListing {
    /// The node.
    pub node: NodeName,
    /// What it has.
    pub snapshots: SnapshotListing,
}

impl Server {
    /// Opens the repository in a directory, and makes it if there is none: the root key first, readable by its owner
    /// only.
    pub async fn open(directory: &Path, clock: Clock) -> Result<Self, ServerError> {
        if !directory.join("repository.json").exists() {
            create(directory, clock()).await?;
        }
        Self::open_existing(directory, clock).await
    }

    /// Opens the repository in a directory.
    pub async fn open_existing(directory: &Path, clock: Clock) -> Result<Self, ServerError> {
        if !directory.join("repository.json").exists() {
            return Err(ServerError::NoRepository { path: directory.to_owned() });
        }
        let key = directory.join(ROOT_KEY_PATH);
        if !key.exists() {
            return Err(ServerError::NoRootKey { path: directory.to_owned(), key });
        }
        let root = RootKey::read_file(&key)?;
        let repository = Repository::open_directory(directory, &Pin::Fingerprint(root.id())).await?;
        let state = State::open(&directory.join("server/state.sqlite"))?;
        Ok(Self {
            directory: Arc::new(directory.to_owned()),
            repository,
            root: Arc::new(root),
            clock,
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What pins this repository.
    pub fn fingerprint(&self) -> Fingerprint {
        self.root.id()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn own_directory(&self) -> PathBuf {
        self.directory.join("server")
    }

    /// Runs `work` on the records, on a thread that may wait.
    pub(crate) async fn with_state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, ServerError> {
        let state = Arc::clone(&self.state);
        // A panic in another task leaves no half-made change: every change is one transaction.
        let run = move || work(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(run).await.map_err(|_| ServerError::Task)
    }

    /// Makes a node: signs its certificate and gives the file that makes a machine this node. With `replace`, a node
    /// that exists gets a new secret and its old one becomes worthless.
    pub async fn node_add(
        &self,
        node: &NodeName,
        servers: Vec<String>,
        replace: bool,
    ) -> Result<NodeFile, ServerError> {
        let name = node.clone();
        if self.with_state(move |state| state.has_node(&name)).await?? && !replace {
            return Err(ServerError::NodeExists { node: node.clone() });
        }
        let secret = NodeSecret::generate()?;
        let repository = self.repository.info().repository;
        let certificate = NodeCertificate::new(repository, node.clone(), secret.signing_key().public(), self.now());
        self.repository.put_certificate(&certificate, &self.root).await?;
        let (name, token, now) = (node.clone(), secret.bearer_token().digest(), self.now());
        self.with_state(move |state| state.put_node(&name, &token, now)).await??;
        Ok(NodeFile { repository, node: node.clone(), servers, root_fingerprint: self.fingerprint(), secret })
    }

    /// All nodes with their snapshots.
    pub async fn list(&self) -> Result<Vec<NodeListing>, ServerError> {
        let mut nodes = self.with_state(|state| state.nodes()).await??;
        nodes.extend(self.repository.nodes().await?);
        nodes.sort();
        nodes.dedup();
        let mut listings = Vec::with_capacity(nodes.len());
        for node in nodes {
            let snapshots = self.repository.snapshots(&node).await?;
            listings.push(NodeListing { node, snapshots });
        }
        Ok(listings)
    }

    /// Arms a node: one restore may erase and rebuild it, if it is claimed in time. An earlier arm that nobody has
    /// claimed is taken back; one that is in use is in the way.
    pub async fn arm(&self, node: &NodeName, validity: Duration) -> Result<Armed, ServerError> {
        if !self.repository.nodes().await?.contains(node) {
            return Err(ServerError::UnknownNode { node: node.clone() });
        }
        if self.repository.snapshots(node).await?.snapshots.is_empty() {
            return Err(ServerError::NothingToRestore { node: node.clone() });
        }
        let code = RestoreCode::generate(&self.fingerprint())?;
        let id = sign::random_bytes::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = self.now();
        let validity = SignedDuration::try_from(validity).unwrap_or(SignedDuration::MAX);
        let expires_at = now.checked_add(validity).unwrap_or(Timestamp::MAX);
        let arm = Arm { id, node: node.clone(), created_at: now, expires_at, state: ArmState::Armed, machine: None };
        let (new, secret) = (arm.clone(), code.secret_digest());
        let changed = self.with_state(move |state| {
            state.change_node_arms(&new.node.clone(), |arms| match arms.iter().find(|arm| arm.is_in_use()) {
                Some(running) => Err(ServerError::RestoreRunning {
                    node: running.node.clone(),
                    arm: running.id.clone(),
                    state: running.state.word(),
                }),
                None => {
                    for earlier in arms.iter_mut().filter(|arm| arm.state == ArmState::Armed) {
                        earlier.state = ArmState::Revoked;
                    }
                    Ok(Some((new, secret)))
                }
            })
        });
        changed.await???;
        Ok(Armed { arm, code })
    }

    /// All arms, the newest first.
    pub async fn arms(&self) -> Result<Vec<Arm>, ServerError> {
        Ok(self.with_state(|state| state.arms()).await??)
    }

    /// Takes an arm back. A machine that is restoring under it can read nothing more.
    pub async fn disarm(&self, id: &ArmId) -> Result<(), ServerError> {
        let unknown = || ServerError::UnknownArm { arm: id.clone() };
        let wanted = id.clone();
        let node = self.with_state(move |state| state.node_of_arm(&wanted)).await??.ok_or_else(unknown)?;
        let wanted = id.clone();
        let changed = self.with_state(move |state| {
            state.change_node_arms(&node, |arms| {
                let arm = arms
                    .iter_mut()
                    .find(|arm| arm.id == wanted)
                    .ok_or_else(|| ServerError::UnknownArm { arm: wanted.clone() })?;
                arm.revoke().map_err(|source| ServerError::Arm { arm: wanted.clone(), source })?;
                Ok(None)
            })
        });
        changed.await??
    }

    /// Opens the chunk index and brings it up to date with what lies in the repository.
    pub(crate) async fn open_index(&self) -> Result<SharedIndex, ServerError> {
        let path = self.own_directory().join("chunks.sqlite");
        let index = SharedIndex::new(reconcile::open(path).await?);
        reconcile::bring_up_to_date(self, &index).await?;
        Ok(index)
    }
}

/// The chunk index, shared between tasks.
#[derive(Debug, Clone)]
pub(crate) struct SharedIndex(Arc<Mutex<ChunkIndex>>);

impl SharedIndex {
    pub(crate) fn new(index: ChunkIndex) -> Self {
        Self(Arc::new(Mutex::new(index)))
    }

    /// Runs `work` on the index, on a thread that may wait.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut ChunkIndex) -> T + Send + 'static,
    ) -> Result<T, ServerError> {
        let index = Arc::clone(&self.0);
        // As with the records: every change is one transaction.
        let run = move || work(&mut index.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(run).await.map_err(|_| ServerError::Task)
    }
}

async fn create(directory: &Path, now: Timestamp) -> Result<(), ServerError> {
    let own = directory.join("server");
    let failed = |source| ServerError::File { action: "make", path: own.clone(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    match DirBuilder::new().mode(0o700).create(&own) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed)?,
    }
    // A first start that was interrupted has left the key: it is used, so that nobody is told two fingerprints.
    let key = directory.join(ROOT_KEY_PATH);
    let root = if key.exists() {
        RootKey::read_file(&key)?
    } else {
        let root = RootKey::generate()?;
        root.write_new_file(&key)?;
        root
    };
    Repository::create_directory(directory, &root, now).await?;
    Ok(())
}
