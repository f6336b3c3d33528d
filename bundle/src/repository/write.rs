//! Putting content into a repository. Everything is checked before it is stored, whoever brings it.

use std::collections::HashSet;

use bytes::Bytes;
use node_model::NodeName;
use object_store::{ObjectStoreExt, PutMode, PutPayload};

use super::{ObjectName, Repository, RepositoryError, directory};
use crate::Hash;
use crate::limits::{PACK_BYTES_MAX, SEGMENT_BYTES_MAX};
use crate::pack::{self, PackBuilder, PackError, PackIndex};
use crate::sign::RootKey;
use crate::trust::NodeCertificate;
use crate::{catalog, list};

/// A pack of which every frame has been decoded and compared with its hash.
#[derive(Debug, Clone)]
pub struct VerifiedPack {
    name: Hash,
    bytes: Bytes,
    index: PackIndex,
}

impl VerifiedPack {
    /// Checks the pack named `name`: its name, index, and every chunk. It takes about a tenth of a second of one core
    /// for a full pack.
    pub fn verify(name: Hash, bytes: Bytes) -> Result<Self, PackError> {
        if bytes.len() as u64 > PACK_BYTES_MAX {
            return Err(PackError::WrongLength { expected: PACK_BYTES_MAX, found: bytes.len() as u64 });
        }
        let index = pack::verify(&bytes, &name)?;
        Ok(Self { name, bytes, index })
    }

    /// The hash of its bytes.
    pub fn name(&self) -> Hash {
        self.name
    }

    /// What it holds.
    pub fn index(&self) -> &PackIndex {
        &self.index
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The pack of those chunks that are not in `present`, or `None` if none are left. The order stays.
    pub fn without(&self, present: &HashSet<Hash>) -> Option<Self> {
        if !self.index.rows().iter().any(|row| present.contains(&row.hash)) {
            return Some(self.clone());
        }
        let mut builder = PackBuilder::new();
        for row in self.index.rows().iter().filter(|row| !present.contains(&row.hash)) {
            let frame = &self.bytes[row.offset as usize..][..row.stored_len as usize];
            builder.push(row.hash, frame).expect("part of a valid pack is valid");
        }
        builder.finish().map(|pack| Self { name: pack.name, bytes: pack.bytes.into(), index: pack.index })
    }
}

impl Repository {
    /// Stores a pack, then its placement. Both are durable when this returns.
    pub async fn put_pack(&self, pack: &VerifiedPack) -> Result<(), RepositoryError> {
        self.put_named(&ObjectName::Pack(pack.name), pack.bytes.clone()).await?;
        self.put_placement(&pack.name, &pack.index).await
    }

    pub(crate) async fn put_placement(&self, pack: &Hash, index: &PackIndex) -> Result<(), RepositoryError> {
        self.put(&ObjectName::Placement(*pack), index.encode().into(), PutMode::Overwrite).await
    }

    /// Stores a segment of a chunk list. It is durable when this returns.
    pub async fn put_list(&self, name: &Hash, bytes: Bytes) -> Result<(), RepositoryError> {
        let object = ObjectName::List(*name);
        check_segment(&object, name, &bytes)?;
        list::read_segment(&bytes).map_err(|source| RepositoryError::ListSegment { object: object.clone(), source })?;
        self.put_named(&object, bytes).await
    }

    /// Stores a segment of a catalog. It is durable when this returns.
    pub async fn put_catalog(&self, name: &Hash, bytes: Bytes) -> Result<(), RepositoryError> {
        let object = ObjectName::Catalog(*name);
        check_segment(&object, name, &bytes)?;
        catalog::read_segment(&bytes)
            .map_err(|source| RepositoryError::Catalog { object: object.clone(), source: source.into() })?;
        self.put_named(&object, bytes).await
    }

    /// Stores a node's certificate, in place of one that it may have had.
    pub async fn put_certificate(&self, certificate: &NodeCertificate, root: &RootKey) -> Result<(), RepositoryError> {
        self.check_root(root)?;
        let object = ObjectName::Certificate(certificate.node.clone());
        self.put(&object, certificate.seal(root).into(), PutMode::Overwrite).await
    }

    /// The certificate of `node`.
    pub async fn certificate(&self, node: &NodeName) -> Result<NodeCertificate, RepositoryError> {
        let object = ObjectName::Certificate(node.clone());
        let bytes = match self.get_document(&object).await {
            Err(RepositoryError::Missing(_)) => return Err(RepositoryError::UnknownNode { node: node.clone() }),
            bytes => bytes?,
        };
        let certificate = NodeCertificate::unseal(&bytes, self.root_key())
            .map_err(|source| RepositoryError::Certificate { node: node.clone(), source })?;
        if certificate.node != *node || certificate.repository != self.info().repository {
            return Err(RepositoryError::ForeignCertificate { node: node.clone() });
        }
        Ok(certificate)
    }

    pub(super) fn check_root(&self, root: &RootKey) -> Result<(), RepositoryError> {
        let (expected, found) = (self.root_key().id(), root.id());
        if expected == found { Ok(()) } else { Err(RepositoryError::OtherRootKey { expected, found }) }
    }

    /// Stores an object whose bytes follow from its name. One that is there already with the same length is left as it
    /// is: the scrub finds it if it is damaged. One of another length is damaged for certain and replaced.
    async fn put_named(&self, object: &ObjectName, bytes: Bytes) -> Result<(), RepositoryError> {
        if let Ok(present) = self.store.head(&object.path()).await
            && present.size == bytes.len() as u64
        {
            return self.make_name_durable(object);
        }
        self.put(object, bytes, PutMode::Overwrite).await
    }

    /// Another process may have renamed the object into place and not have flushed the directory yet.
    fn make_name_durable(&self, object: &ObjectName) -> Result<(), RepositoryError> {
        match self.directory().map(|directory| directory.join(object.to_string())) {
            Some(path) => directory::flush_parent(&path),
            None => Ok(()),
        }
    }

    pub(super) async fn put(&self, object: &ObjectName, bytes: Bytes, mode: PutMode) -> Result<(), RepositoryError> {
        self.store
            .put_opts(&object.path(), PutPayload::from(bytes), mode.into())
            .await
            .map(drop)
            .map_err(|source| RepositoryError::Store { action: "write", object: object.to_string(), source })
    }
}

fn check_segment(object: &ObjectName, name: &Hash, bytes: &[u8]) -> Result<(), RepositoryError> {
    if bytes.len() > SEGMENT_BYTES_MAX as usize {
        let (found, max) = (bytes.len() as u64, SEGMENT_BYTES_MAX.into());
        return Err(RepositoryError::TooLarge { object: object.clone(), found, max });
    }
    let found = Hash::of(bytes);
    if found == *name { Ok(()) } else { Err(RepositoryError::Damaged { object: object.clone(), found }) }
}
