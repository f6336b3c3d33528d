//! How a server is authenticated: its certificate must be signed by the repository's root key, and the root key is
//! known beforehand, by its fingerprint or by the part of it that a restore code carries. Names in certificates do
//! not matter; validity does.

use std::sync::Arc;

use bundle::sign::{KeyId, PublicKey};
use bundle::trust::Pin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// An Ed25519 public key as X.509 writes it, up to its 32 bytes and without the outer header (RFC 8410).
const ED25519_KEY_INFO_PREFIX: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a chain of certificates is not that of the pinned repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RootRefusal {
    /// The chain ends in another root key.
    #[error("the certificate is signed by root key {found}")]
    OtherRoot {
        /// The key found.
        found: KeyId,
    },
    /// The chain has no root that a bundle server could have.
    #[error("the certificate is not one of a bundle server")]
    NoRoot,
}

impl From<RootRefusal> for rustls::Error {
    fn from(refusal: RootRefusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

#[derive(Debug)]
struct RootVerifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

/// The root's certificate, which the server sends last, as the one trust anchor, and the key in it.
fn trust_anchor(root: &CertificateDer<'_>) -> Result<(RootCertStore, PublicKey), RootRefusal> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone().into_owned()).map_err(|_| RootRefusal::NoRoot)?;
    let key = roots
        .roots
        .first()
        .and_then(|anchor| anchor.subject_public_key_info.as_ref().strip_prefix(&ED25519_KEY_INFO_PREFIX[..]))
        .and_then(|key| <&[u8; 32]>::try_from(key).ok())
        .and_then(|key| PublicKey::from_bytes(key).ok())
        .ok_or(RootRefusal::NoRoot)?;
    Ok((roots, key))
}

impl ServerCertVerifier for RootVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (root, between) = intermediates.split_last().ok_or(RootRefusal::NoRoot)?;
        let (roots, key) = trust_anchor(root)?;
        if !self.pin.accepts(&key) {
            return Err(RootRefusal::OtherRoot { found: key.id() }.into());
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, between, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // The configuration below offers TLS 1.3 only.
        Err(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// TLS as clients speak it: version 1.3, the server's chain under `pin`.
pub(crate) fn client_config(pin: Pin) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(RootVerifier { pin, provider: Arc::clone(&provider) });
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bundle::code::RestoreCode;
    use bundle::sign::RootKey;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519, date_time_ymd};

    use super::*;

    /// 2026-11-21.
    const NOW: u64 = 1_795_219_200;
    const YEAR: u64 = 31_557_600;

    fn root_issuer(root: &RootKey) -> CertifiedIssuer<'static, KeyPair> {
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from(root.to_pkcs8_der().to_vec());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
        CertifiedIssuer::self_signed(params, key).unwrap()
    }

    fn chain(root: &RootKey, claimed_root: &RootKey) -> Vec<CertificateDer<'static>> {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(["another.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
        let leaf = params.signed_by(&key, &root_issuer(root)).unwrap();
        vec![leaf.der().clone(), root_issuer(claimed_root).der().clone()]
    }

    fn judge(pin: Pin, chain: &[CertificateDer<'_>], now: u64) -> Result<(), rustls::Error> {
        let verifier = RootVerifier { pin, provider: Arc::new(rustls::crypto::ring::default_provider()) };
        let name = ServerName::try_from("bundle.example").unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).map(|_| ())
    }

    fn root() -> RootKey {
        RootKey::from_seed(&[5; 32])
    }

    fn stranger() -> RootKey {
        RootKey::from_seed(&[6; 32])
    }

    #[test]
    fn the_pinned_root_is_accepted_whatever_the_names_say() {
        let code = RestoreCode::new(&root().id(), [1, 2, 3, 4, 5]);
        for pin in [Pin::Fingerprint(root().id()), Pin::from_code(&code)] {
            assert_eq!(judge(pin, &chain(&root(), &root()), NOW), Ok(()));
        }
    }

    #[test]
    fn another_root_is_refused_and_named() {
        let code = RestoreCode::new(&root().id(), [1, 2, 3, 4, 5]);
        for pin in [Pin::Fingerprint(root().id()), Pin::from_code(&code)] {
            let error = judge(pin, &chain(&stranger(), &stranger()), NOW).unwrap_err();
            assert!(format!("{error:?}").contains(&stranger().id().to_string()), "{error:?}");
        }
    }

    #[test]
    fn a_copy_of_the_roots_certificate_does_not_make_a_strangers_leaf_good() {
        let error = judge(Pin::Fingerprint(root().id()), &chain(&stranger(), &root()), NOW).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");
    }

    #[test]
    fn the_root_itself_must_be_sent() {
        let leaf_only = &chain(&root(), &root())[..1];
        assert!(judge(Pin::Fingerprint(root().id()), leaf_only, NOW).is_err());
    }

    #[test]
    fn a_dead_clock_is_noticed() {
        let pin = || Pin::Fingerprint(root().id());
        for now in [3600, NOW + 100 * YEAR] {
            let error = judge(pin(), &chain(&root(), &root()), now).unwrap_err();
            assert!(
                matches!(
                    error,
                    rustls::Error::InvalidCertificate(
                        CertificateError::NotValidYetContext { .. } | CertificateError::ExpiredContext { .. }
                    )
                ),
                "{error:?}"
            );
        }
    }
}
