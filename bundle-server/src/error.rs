//! Why the server, or a command on its directory, cannot do what it was asked.

use std::io;
use std::path::PathBuf;

use bundle::node_model::NodeName;
use bundle::repository::RepositoryError;
use bundle::sign::RandomnessError;
use bundle::trust::RootKeyFileError;

use crate::arm::ArmRefusal;
use crate::state::StateError;

/// Why the server, or a command on its directory, cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file or directory of the server's own.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no repository to open.
    #[error("{path} holds no repository")]
    NoRepository {
        /// The directory.
        path: PathBuf,
    },
    /// The repository is there, its root key is not.
    #[error("{path} holds a repository, but not its root key {key}")]
    NoRootKey {
        /// The directory.
        path: PathBuf,
        /// Where the key should be.
        key: PathBuf,
    },
    /// The root key cannot be read or written.
    #[error(transparent)]
    RootKey(#[from] RootKeyFileError),
    /// The repository.
    #[error(transparent)]
    Repository(Box<RepositoryError>),
    /// The server's own records.
    #[error(transparent)]
    State(#[from] StateError),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// No certificate could be made.
    #[error("cannot make the server's TLS certificate: {reason}")]
    Certificate {
        /// Why.
        reason: String,
    },
    /// Another server serves this directory.
    #[error("another server serves {path} already")]
    AlreadyServed {
        /// The directory.
        path: PathBuf,
    },
    /// The network.
    #[error("cannot serve")]
    Serve(#[source] io::Error),
    /// The node exists.
    #[error("there is a node {node} already")]
    NodeExists {
        /// The node.
        node: NodeName,
    },
    /// The node does not exist.
    #[error("there is no node {node}")]
    UnknownNode {
        /// The node.
        node: NodeName,
    },
    /// Nothing could be restored.
    #[error("{node} has no usable snapshot, so there is nothing to restore")]
    NothingToRestore {
        /// The node.
        node: NodeName,
    },
    /// A restore is running.
    #[error("a restore of {node} is under way (arm {arm}, {state})")]
    RestoreRunning {
        /// The node.
        node: NodeName,
        /// The arm.
        arm: String,
        /// How far it is.
        state: &'static str,
    },
    /// There is no such arm.
    #[error("there is no arm {arm}")]
    UnknownArm {
        /// The arm.
        arm: String,
    },
    /// The arm does not allow it.
    #[error("arm {arm}: {source}")]
    Arm {
        /// The arm.
        arm: String,
        /// Why; shown above.
        source: ArmRefusal,
    },
    /// A task of ours was lost.
    #[error("a task of the server ended unexpectedly")]
    Task,
}

impl From<RepositoryError> for ServerError {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(Box::new(error))
    }
}

impl ServerError {
    /// What an operator can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room on the filesystem of the repository".to_owned()
            }
            Self::File { .. } => {
                "run as the user who owns the repository's directory, and check that it is mounted".to_owned()
            }
            Self::NoRepository { path } => {
                format!("name the directory of a repository; `rerack serve {}` makes a new one", path.display())
            }
            Self::NoRootKey { key, .. } => {
                format!("bring {} back from a backup: without it no receipt can be signed", key.display())
            }
            Self::RootKey(error) => error.hint().to_owned(),
            Self::Repository(error) => return error.hint(),
            Self::State(StateError::Newer { .. }) => "use the version of rerack that served it last".to_owned(),
            Self::State(_) => "bring the server's directory back from a backup, or make room on its disk".to_owned(),
            Self::AlreadyServed { .. } => "stop the other `rerack serve` first".to_owned(),
            Self::Serve(_) => "check the address and that no other program listens on the port".to_owned(),
            Self::NodeExists { node } => {
                format!("to give it a new secret and make the old one worthless: rerack node add {node} --replace")
            }
            Self::UnknownNode { node } => format!("rerack node add {node}"),
            Self::NothingToRestore { .. } => "run `rerack capture` on the node while it lives".to_owned(),
            Self::RestoreRunning { arm, .. } => format!("if it will never end: rerack disarm {arm}"),
            Self::UnknownArm { .. } => "`rerack arms` lists them".to_owned(),
            Self::Randomness(_) | Self::Certificate { .. } | Self::Arm { .. } | Self::Task => return None,
        })
    }
}
