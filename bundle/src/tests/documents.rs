//! The JSON documents: pinned as they are written, harmless whatever they are read from.

use proptest::prelude::*;

use super::Bench;
use crate::manifest::Manifest;
use crate::receipt::Receipt;
use crate::repository::{RepositoryInfo, SignedManifest, SnapshotParts, VerifiedSnapshot};
use crate::sign::{NodeKey, SignContext, Signature};
use crate::testing::{self, SnapshotBuilder, TestFile, root_key, some_time};
use crate::trust::{NodeCertificate, Pin};

async fn one_snapshot() -> (Bench, SnapshotParts) {
    let bench = Bench::new().await;
    let files = vec![TestFile::new("etc/hostname", *b"web-03\n")];
    let snapshot = SnapshotBuilder::new(&bench.node, "x").files(files).commit(&bench.repository).await;
    let parts = snapshot.to_parts();
    (bench, parts)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A change of any of these files is a change of the format.
#[tokio::test]
async fn every_document_is_pinned() {
    let (bench, parts) = one_snapshot().await;
    insta::assert_snapshot!("golden_repository_json", text(bench.repository.info_bytes()));
    insta::assert_snapshot!("golden_manifest_json", text(&parts.manifest));
    insta::assert_snapshot!("golden_manifest_sig", text(&parts.signature));
    insta::assert_snapshot!("golden_receipt_json", text(&parts.receipt));
}

#[tokio::test]
async fn a_manifest_survives_being_written_and_read() {
    let (_bench, parts) = one_snapshot().await;
    let manifest = Manifest::from_json(&parts.manifest).unwrap();
    assert_eq!(manifest.to_json().unwrap(), parts.manifest);
    assert_eq!(Manifest::from_json(&manifest.to_json().unwrap()).unwrap(), manifest);
}

#[tokio::test]
async fn fields_of_a_later_version_are_passed_over_unless_they_are_required() {
    let (_bench, parts) = one_snapshot().await;
    let later = text(&parts.manifest).replacen("\"format\": 1,", "\"format\": 1, \"rejoin\": {\"how\": \"slurm\"},", 1);
    let manifest = Manifest::from_json(later.as_bytes()).unwrap();
    assert_eq!(manifest, Manifest::from_json(&parts.manifest).unwrap());
}

#[tokio::test]
async fn fault_38_an_old_manifest_with_its_good_signature_does_not_pass_for_a_newer_snapshot() {
    let bench = Bench::new().await;
    let small = |content: &str| vec![TestFile::new("etc/motd", content.to_owned())];
    let old = SnapshotBuilder::new(&bench.node, "old").files(small("old")).commit(&bench.repository).await.to_parts();
    let new = SnapshotBuilder::new(&bench.node, "new").files(small("new")).commit(&bench.repository).await.to_parts();
    let replayed = SnapshotParts { receipt: new.receipt.clone(), ..old.clone() };
    let under_new_name = SnapshotParts { manifest: old.manifest, signature: old.signature, receipt: old.receipt };
    for parts in [replayed, under_new_name] {
        let id = "new".parse().unwrap();
        assert!(VerifiedSnapshot::verify(parts, bench.repository.info(), &bench.node, &id).is_err());
    }
    let id = "new".parse().unwrap();
    VerifiedSnapshot::verify(new, bench.repository.info(), &bench.node, &id).unwrap();
}

#[tokio::test]
async fn fault_41_a_manifest_of_another_node_is_refused_under_a_good_signature() {
    let bench = Bench::new().await;
    let built = SnapshotBuilder::new(&"web-04".parse().unwrap(), "x").build(&bench.repository);
    let certificate = testing::certificate(&bench.repository, &bench.node);
    let signed_by_web_03 =
        testing::node_secret(&bench.node).signing_key().sign(SignContext::Manifest, &built.manifest_bytes).to_json();
    let error = SignedManifest::verify(built.manifest_bytes, signed_by_web_03, &certificate).unwrap_err();
    assert_eq!(error.to_string(), "the manifest is of node web-04, not web-03");
}

/// One good document of each kind, to be spoiled.
fn documents() -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (bench, parts) = runtime.block_on(one_snapshot());
    let certificate = testing::certificate(&bench.repository, &bench.node).seal(&root_key());
    vec![bench.repository.info_bytes().to_vec(), parts.manifest, parts.signature, parts.receipt, certificate]
}

/// Every reader meets the bytes. None may panic, and none may accept what another key would have had to sign.
fn read_as_everything(bytes: &[u8], original: &[u8]) {
    let root = root_key().public();
    let node = NodeKey::from_seed(&[1; 32]).public();
    let certificate = NodeCertificate::new(
        crate::repository::RepositoryId::from_bytes([0; 16]),
        "web-03".parse().unwrap(),
        node,
        some_time(),
    );
    let _ = Manifest::from_json(bytes);
    let _ = Signature::from_json(bytes);
    assert!(SignedManifest::verify(bytes.to_vec(), bytes.to_vec(), &certificate).is_err());
    if let Ok(info) = RepositoryInfo::unseal(bytes, &Pin::Fingerprint(root.id())) {
        assert_eq!(Some(info), RepositoryInfo::unseal(original, &Pin::Fingerprint(root.id())).ok());
    }
    if let Ok(receipt) = Receipt::unseal(bytes, &root) {
        assert_eq!(Some(receipt), Receipt::unseal(original, &root).ok());
    }
    if let Ok(certificate) = NodeCertificate::unseal(bytes, &root) {
        assert_eq!(Some(certificate), NodeCertificate::unseal(original, &root).ok());
    }
}

#[test]
fn fault_35_spoiled_documents_are_read_without_a_panic_and_never_believed() {
    let documents = documents();
    let strategy = (
        0..documents.len(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        any::<prop::sample::Index>(),
        any::<bool>(),
    );
    proptest!(ProptestConfig::with_cases(2000), |((which, edits, cut, shorten) in strategy)| {
        let original = &documents[which];
        let mut bytes = original.clone();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_as_everything(&bytes, original);
    });
}

#[test]
fn fault_35_deep_and_huge_json_is_refused_without_much_memory_or_stack() {
    let deep = "[".repeat(1 << 20);
    let deep_fields = "{\"document\":".repeat(1 << 16);
    for bytes in [deep.as_bytes(), deep_fields.as_bytes(), &vec![b' '; 9 << 20]] {
        read_as_everything(bytes, b"");
    }
}
