//! Snapshots whose signatures have been checked. Nothing else is ever restored.

use node_model::{NodeName, SnapshotId};

use crate::Hash;
use crate::document::DocumentError;
use crate::manifest::{Manifest, ManifestError};
use crate::receipt::Receipt;
use crate::repository::{RepositoryId, RepositoryInfo};
use crate::sign::{PublicKey, SignContext, Signature, SignatureError};
use crate::trust::NodeCertificate;

/// The three objects that a snapshot can be verified from, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotParts {
    /// `manifest.json`.
    pub manifest: Vec<u8>,
    /// `manifest.sig`.
    pub signature: Vec<u8>,
    /// `receipt.json`.
    pub receipt: Vec<u8>,
}

/// Why a snapshot is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The receipt is not accepted.
    #[error(transparent)]
    Receipt(DocumentError),
    /// The manifest is not the one that the receipt was given for.
    #[error("the manifest is damaged: its hash is {found}, the receipt was given for {expected}")]
    DamagedManifest {
        /// What the receipt says.
        expected: Hash,
        /// What the bytes have.
        found: Hash,
    },
    /// The manifest's signature is not accepted.
    #[error("the manifest's signature is not accepted")]
    Signature(#[source] SignatureError),
    /// The manifest cannot be read or contradicts itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A document speaks of another repository, node or snapshot than it was found under.
    #[error("{document} is of {what} {found}, not {expected}")]
    Elsewhere {
        /// `the receipt`, `the manifest` or `the certificate`.
        document: &'static str,
        /// `repository`, `node` or `snapshot`.
        what: &'static str,
        /// Where it was found.
        expected: String,
        /// Of what it speaks.
        found: String,
    },
}

impl SnapshotError {
    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Receipt(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Signature(error) => error.hint().to_owned(),
            Self::DamagedManifest { .. } => {
                "run `rerack verify`; copy the manifest back from a mirror, or choose another snapshot".into()
            }
            Self::Elsewhere { .. } => {
                "an object was put in the place of another: choose another snapshot, and find out who can write to \
                 the repository"
                    .into()
            }
        }
    }
}

fn same<T: PartialEq + ToString>(
    document: &'static str,
    what: &'static str,
    expected: &T,
    found: &T,
) -> Result<(), SnapshotError> {
    if expected == found {
        return Ok(());
    }
    Err(SnapshotError::Elsewhere { document, what, expected: expected.to_string(), found: found.to_string() })
}

/// A manifest under a node's signature, before the server has said anything of it.
#[derive(Debug, Clone)]
pub struct SignedManifest {
    manifest: Manifest,
    node_key: PublicKey,
    manifest_bytes: Vec<u8>,
    signature_bytes: Vec<u8>,
}

impl SignedManifest {
    /// Accepts a manifest that the key of `certificate` signed for the certificate's node and repository.
    pub fn verify(manifest: Vec<u8>, signature: Vec<u8>, certificate: &NodeCertificate) -> Result<Self, SnapshotError> {
        let NodeCertificate { repository, node, public_key, .. } = certificate;
        Self::verify_under(manifest, signature, public_key, repository, node)
    }

    fn verify_under(
        manifest_bytes: Vec<u8>,
        signature_bytes: Vec<u8>,
        node_key: &PublicKey,
        repository: &RepositoryId,
        node: &NodeName,
    ) -> Result<Self, SnapshotError> {
        Signature::from_json(&signature_bytes)
            .and_then(|signature| node_key.verify(SignContext::Manifest, &manifest_bytes, &signature))
            .map_err(SnapshotError::Signature)?;
        let manifest = Manifest::from_json(&manifest_bytes)?;
        same("the manifest", "repository", repository, &manifest.repository)?;
        same("the manifest", "node", node, &manifest.node)?;
        Ok(Self { manifest, node_key: *node_key, manifest_bytes, signature_bytes })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The key that signed it.
    pub fn node_key(&self) -> &PublicKey {
        &self.node_key
    }

    /// The hash of the manifest's bytes.
    pub fn manifest_hash(&self) -> Hash {
        Hash::of(&self.manifest_bytes)
    }

    /// The manifest's bytes, as signed.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// The signature document's bytes.
    pub fn signature_bytes(&self) -> &[u8] {
        &self.signature_bytes
    }
}

/// A committed snapshot: the root key vouches for the receipt, the receipt for the node's key and the manifest's hash,
/// the node's key for the manifest. There is no other way to have one.
#[derive(Debug, Clone)]
pub struct VerifiedSnapshot {
    signed: SignedManifest,
    receipt: Receipt,
    receipt_bytes: Vec<u8>,
}

impl VerifiedSnapshot {
    /// Verifies the snapshot that was found under this node's name and this id, in the repository of `info`, which
    /// must come from [`RepositoryInfo::unseal`]. It needs no store: the restore environment verifies what it fetched
    /// with it.
    pub fn verify(
        parts: SnapshotParts,
        info: &RepositoryInfo,
        node: &NodeName,
        snapshot: &SnapshotId,
    ) -> Result<Self, SnapshotError> {
        let receipt = Receipt::unseal(&parts.receipt, &info.root_key).map_err(SnapshotError::Receipt)?;
        same("the receipt", "repository", &info.repository, &receipt.repository)?;
        same("the receipt", "node", node, &receipt.node)?;
        same("the receipt", "snapshot", snapshot, &receipt.snapshot)?;
        let found = Hash::of(&parts.manifest);
        if found != receipt.manifest {
            return Err(SnapshotError::DamagedManifest { expected: receipt.manifest, found });
        }
        let SnapshotParts { manifest, signature, receipt: receipt_bytes } = parts;
        let signed = SignedManifest::verify_under(manifest, signature, &receipt.node_key, &info.repository, node)?;
        same("the manifest", "snapshot", snapshot, &signed.manifest.snapshot)?;
        Ok(Self { signed, receipt, receipt_bytes })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.signed.manifest
    }

    /// The hash of the manifest's bytes, which names the snapshot everywhere else.
    pub fn manifest_hash(&self) -> Hash {
        self.receipt.manifest
    }

    /// The receipt.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The three objects again.
    pub fn to_parts(&self) -> SnapshotParts {
        SnapshotParts {
            manifest: self.signed.manifest_bytes.clone(),
            signature: self.signed.signature_bytes.clone(),
            receipt: self.receipt_bytes.clone(),
        }
    }
}
