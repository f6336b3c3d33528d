//! The server's certificates. The root's own certificate and a leaf for this run are made from the root key whenever
//! the server starts, so no TLS key ever lies on a disk. They are valid from 2020 to 2120: a dead clock battery locks
//! nobody out, and the pin, not the date, is what is trusted.

use std::sync::Arc;

use bundle::sign::RootKey;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::ServerError;

fn params(name: &str, serial: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([format!("{name}.invalid")])?;
    params.distinguished_name.push(DnType::CommonName, format!("rerack {name}"));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params.serial_number = Some(SerialNumber::from(serial));
    Ok(params)
}

/// The chain that the server shows, leaf first and root last, and the leaf's key.
fn chain(root: &RootKey) -> Result<(Vec<CertificateDer<'static>>, KeyPair), rcgen::Error> {
    let der = root.to_pkcs8_der();
    let root_key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(&der[..]), &PKCS_ED25519)?;
    let mut root_params = params("root", 1)?;
    root_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root_params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = CertifiedIssuer::self_signed(root_params, root_key)?;

    let leaf_key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut leaf_params = params("server", 2)?;
    leaf_params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf_params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf_params.signed_by(&leaf_key, &root)?;
    Ok((vec![leaf.der().clone(), root.der().clone()], leaf_key))
}

/// TLS 1.3 under the root key.
pub(crate) fn server_config(root: &RootKey) -> Result<Arc<ServerConfig>, ServerError> {
    let failed = |reason: String| ServerError::Certificate { reason };
    let (chain, key) = chain(root).map_err(|error| failed(error.to_string()))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| failed(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defect_of_rustls_a_server_needs_no_installed_provider() {
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
        let config = server_config(&RootKey::from_seed(&[5; 32])).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    }
}
