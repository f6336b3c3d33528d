//! A snapshot of a repository in a directory of this machine, named as `NODE` or `NODE@SNAPSHOT`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use bundle::repository::{Repository, VerifiedSnapshot};
use bundle::trust::Pin;
use node_model::{NodeName, SnapshotId};
use restore_engine::data::Place;
use restore_engine::prove::{ProvenSnapshot, Whereabouts, prove};
use tokio::runtime::Runtime;

use crate::problem::{OrProblem, Problem};

/// `NODE`, for its newest snapshot, or `NODE@SNAPSHOT`.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotName {
    pub(crate) node: NodeName,
    pub(crate) snapshot: Option<SnapshotId>,
}

impl FromStr for SnapshotName {
    type Err = node_model::InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (node, snapshot) = match text.split_once('@') {
            Some((node, "latest")) => (node, None),
            Some((node, snapshot)) => (node, Some(snapshot.parse()?)),
            None => (text, None),
        };
        Ok(Self { node: node.parse()?, snapshot })
    }
}

/// The repository of a command.
#[derive(clap::Args)]
pub(crate) struct RepositoryOptions {
    /// The repository's directory, as given to `rerack serve`.
    #[arg(long, value_name = "DIR", env = "RERACK_DIR")]
    pub(crate) dir: PathBuf,
}

/// A runtime for what waits.
pub(crate) fn runtime() -> Result<Runtime, Problem> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Problem::new(error, None))
}

/// Opens a repository on this machine.
pub(crate) fn open(runtime: &Runtime, directory: &Path) -> Result<Repository, Problem> {
    runtime
        .block_on(Repository::open_directory(directory, &Pin::LocalDirectory))
        .or_hint(bundle::repository::RepositoryError::hint)
}

/// Loads the named snapshot, verified from its receipt down.
pub(crate) fn load(
    runtime: &Runtime,
    repository: &Repository,
    name: &SnapshotName,
) -> Result<VerifiedSnapshot, Problem> {
    runtime
        .block_on(async {
            let snapshot = match &name.snapshot {
                Some(snapshot) => snapshot.clone(),
                None => repository.latest(&name.node).await?.snapshot,
            };
            repository.load(&name.node, &snapshot).await
        })
        .or_hint(bundle::repository::RepositoryError::hint)
}

/// Loads the named snapshot and proves that all of it is there.
pub(crate) fn load_proven(
    runtime: &Runtime,
    repository: &Repository,
    name: &SnapshotName,
) -> Result<ProvenSnapshot, Problem> {
    let verified = load(runtime, repository, name)?;
    let (placement, packs) = runtime
        .block_on(async { Ok((repository.load_placement().await?, repository.packs().await?)) })
        .or_hint(bundle::repository::RepositoryError::hint)?;
    let lengths: HashMap<_, _> = packs.iter().map(|pack| (pack.name, pack.bytes)).collect();
    let placement = Arc::new(placement.placement);
    let whereabouts = Whereabouts {
        locate: Arc::new(move |chunk| placement.locate(chunk).map(Place::from)),
        pack_bytes: &|pack| lengths.get(pack).copied(),
    };
    prove(Arc::new(verified), repository, &whereabouts, runtime.handle()).or_hint(|error| error.hint().to_owned())
}
