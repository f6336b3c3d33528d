//! A writer that is stopped at any write leaves garbage, never a snapshot that is not whole.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use crate::Hash;
use crate::repository::{Repository, VerifiedPack};
use crate::testing::{self, SnapshotBuilder, TestFile, node_name, root_key, some_time};
use crate::trust::Pin;
use crate::verify::Depth;

/// A store whose disk takes a number of writes and is full from then on.
#[derive(Debug)]
struct FullAfter {
    inner: Arc<InMemory>,
    writes_left: AtomicUsize,
}

impl fmt::Display for FullAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk that gets full")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FullAfter {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let left = self.writes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
            return Err(object_store::Error::Generic { store: "test", source });
        }
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Uploads and commits as a capture does, up to the first error. Says whether it was acknowledged.
async fn capture(repository: &Repository, id: &str, content: &str) -> bool {
    let files = vec![TestFile::new("etc/motd", content), TestFile::new("srv/data", testing::noise(9, 300_000))];
    let built = SnapshotBuilder::new(&node_name(), id).files(files).pack_bytes(1).build(repository);
    for pack in &built.packs {
        let pack = VerifiedPack::verify(pack.name, Bytes::from(pack.bytes.clone())).unwrap();
        if repository.put_pack(&pack).await.is_err() {
            return false;
        }
    }
    for list in &built.lists {
        if repository.put_list(&Hash::of(list), list.clone().into()).await.is_err() {
            return false;
        }
    }
    for catalog in &built.catalogs {
        if repository.put_catalog(&Hash::of(catalog), catalog.clone().into()).await.is_err() {
            return false;
        }
    }
    let placement = repository.load_placement().await.unwrap().placement;
    let placed = |chunk: &Hash| placement.contains(chunk);
    repository.commit(&built.signed(repository), placed, &root_key(), some_time()).await.is_ok()
}

#[tokio::test]
async fn fault_06_whatever_write_is_the_last_every_listed_snapshot_is_whole_and_a_rerun_completes() {
    let mut refused = 0;
    for writes in 0.. {
        let inner = Arc::new(InMemory::new());
        let good = Repository::create(inner.clone(), &root_key(), some_time()).await.unwrap();
        good.put_certificate(&testing::certificate(&good, &node_name()), &root_key()).await.unwrap();
        assert!(capture(&good, "before", "before").await);

        let store = Arc::new(FullAfter { inner, writes_left: AtomicUsize::new(writes) });
        let dying = Repository::open(store, &Pin::LocalDirectory).await.unwrap();
        let acknowledged = capture(&dying, "during", "during").await;

        let report = good.scrub(Depth::Full, |_| {}).await.unwrap();
        assert!(report.findings.iter().all(|finding| !finding.is_loss()), "{writes} writes: {:?}", report.findings);
        let listed = good.snapshots(&node_name()).await.unwrap().snapshots;
        assert_eq!(listed.len(), if acknowledged { 2 } else { 1 }, "listed if and only if acknowledged");
        if acknowledged {
            break;
        }
        refused += 1;
        assert!(capture(&good, "during", "during").await, "a rerun completes after {writes} writes");
        assert!(good.scrub(Depth::Full, |_| {}).await.unwrap().is_clean(), "{writes} writes, then a rerun");
    }
    assert!(refused >= 8, "packs, placement, lists, catalogs, manifest, signature and receipt were each refused once");
}
