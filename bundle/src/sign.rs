//! Keys and domain-separated Ed25519 signatures.
//!
//! What is signed is never the bytes alone but `prefix || bytes`, where the prefix is 32 bytes that BLAKE3's key
//! derivation makes from the name of the [`SignContext`]. A signature made for one kind of document therefore never
//! fits another kind, whatever its bytes are.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::Hash;

/// Upper bound for a detached signature document, which is about 300 bytes.
pub const SIGNATURE_BYTES_MAX: usize = 4096;

/// What a signature is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignContext {
    /// `repository.json`, by the root key.
    Repository,
    /// A node's certificate, by the root key.
    NodeCertificate,
    /// A manifest, by the node's key.
    Manifest,
    /// A receipt, by the root key.
    Receipt,
}

impl SignContext {
    /// The name that separates this context from the others. It is part of the format.
    const fn name(self) -> &'static str {
        match self {
            Self::Repository => "rerack 2026-11 signature v1 repository",
            Self::NodeCertificate => "rerack 2026-11 signature v1 node-certificate",
            Self::Manifest => "rerack 2026-11 signature v1 manifest",
            Self::Receipt => "rerack 2026-11 signature v1 receipt",
        }
    }

    fn message(self, bytes: &[u8]) -> Vec<u8> {
        let prefix = blake3::derive_key(self.name(), &[]);
        [&prefix[..], bytes].concat()
    }
}

impl fmt::Display for SignContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repository => "repository.json",
            Self::NodeCertificate => "a node's certificate",
            Self::Manifest => "a manifest",
            Self::Receipt => "a receipt",
        })
    }
}

/// The name of a key: the BLAKE3 of its public half, 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub Hash);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for KeyId {
    type Err = <Hash as FromStr>::Err;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The public half of a key: 32 bytes that are a point of the curve, 64 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key whose encoding is `bytes`.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SignatureError> {
        VerifyingKey::from_bytes(bytes).map(Self).map_err(|_| SignatureError::NotAKey)
    }

    /// Its encoding.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        KeyId(Hash::of(self.as_bytes()))
    }

    /// Checks that `signature` was made by this key, for this context, over exactly these bytes.
    pub fn verify(&self, context: SignContext, bytes: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        if signature.context != context {
            return Err(SignatureError::OtherContext { expected: context, found: signature.context });
        }
        if signature.key_id != self.id() {
            return Err(SignatureError::OtherKey { expected: self.id(), found: signature.key_id });
        }
        self.0
            .verify_strict(&context.message(bytes), &ed25519_dalek::Signature::from_bytes(&signature.signature.0))
            .map_err(|_| SignatureError::DoesNotFit)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.as_bytes())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl TryFrom<String> for PublicKey {
    type Error = SignatureError;
    fn try_from(text: String) -> Result<Self, SignatureError> {
        let bytes: [u8; 32] = read_hex(&text).ok_or(SignatureError::NotAKey)?;
        Self::from_bytes(&bytes)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

/// A signature as it is stored: what it was made for, by whom, and its 64 bytes. `manifest.sig` is one as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What it was made for.
    pub context: SignContext,
    /// Who made it.
    pub key_id: KeyId,
    signature: SignatureBytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct SignatureBytes([u8; 64]);

impl TryFrom<String> for SignatureBytes {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        read_hex(&text).map(Self).ok_or("a signature is 128 hexadecimal digits")
    }
}

impl From<SignatureBytes> for String {
    fn from(bytes: SignatureBytes) -> String {
        Hex(&bytes.0).to_string()
    }
}

impl Signature {
    /// Reads a detached signature document.
    pub fn from_json(bytes: &[u8]) -> Result<Self, SignatureError> {
        if bytes.len() > SIGNATURE_BYTES_MAX {
            return Err(SignatureError::Malformed(format!("{} bytes are too many", bytes.len())));
        }
        serde_json::from_slice(bytes).map_err(|error| SignatureError::Malformed(error.to_string()))
    }

    /// The detached signature document.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("three strings serialise");
        bytes.push(b'\n');
        bytes
    }
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The bytes are no public key.
    #[error("not an Ed25519 public key (64 hexadecimal digits)")]
    NotAKey,
    /// The signature document cannot be read.
    #[error("not a signature document: {0}")]
    Malformed(String),
    /// It was made for another kind of document.
    #[error("the signature was made for {found}, not for {expected}")]
    OtherContext {
        /// What it should be for.
        expected: SignContext,
        /// What it says it is for.
        found: SignContext,
    },
    /// It was made by another key.
    #[error("signed by key {found}, not by {expected}")]
    OtherKey {
        /// The key that should have signed.
        expected: KeyId,
        /// The key that says it did.
        found: KeyId,
    },
    /// It is no signature of these bytes by this key.
    #[error("the signature does not fit the bytes")]
    DoesNotFit,
}

impl SignatureError {
    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotAKey | Self::Malformed(_) | Self::DoesNotFit => {
                "the object was changed after it was signed: run `rerack verify`, restore it from a mirror, or choose \
                 another snapshot"
            }
            Self::OtherContext { .. } => "the object was put in the place of another: choose another snapshot",
            Self::OtherKey { .. } => {
                "the object comes from another repository or another node: check the server address and the \
                 fingerprint"
            }
        }
    }
}

/// A signing key; its secret half is wiped from memory when it is dropped and never shown.
macro_rules! signing_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Its secret half is wiped from memory when it is dropped, and `Debug` shows the key's name only.
        #[derive(Clone)]
        pub struct $name(SigningKey);

        impl $name {
            /// The key that grows from 32 secret bytes.
            pub fn from_seed(seed: &[u8; 32]) -> Self {
                Self(SigningKey::from_bytes(seed))
            }

            /// A new key from the operating system's randomness.
            pub fn generate() -> Result<Self, RandomnessError> {
                let seed = random_bytes::<32>()?;
                Ok(Self::from_seed(&seed))
            }

            /// The public half.
            pub fn public(&self) -> PublicKey {
                PublicKey(self.0.verifying_key())
            }

            /// The key's name.
            pub fn id(&self) -> KeyId {
                self.public().id()
            }

            /// Signs `bytes` for `context`.
            pub fn sign(&self, context: SignContext, bytes: &[u8]) -> Signature {
                let signature = self.0.sign(&context.message(bytes));
                Signature { context, key_id: self.id(), signature: SignatureBytes(signature.to_bytes()) }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.id())
            }
        }
    };
}

signing_key! {
    /// The key of a repository: it signs the server's TLS keys, the nodes' certificates and the receipts.
    RootKey
}
signing_key! {
    /// The key of a node: it signs manifests.
    NodeKey
}

/// An Ed25519 private key in PKCS#8 up to its 32 secret bytes (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
/// Upper bound for a key file, which is 119 bytes.
const PEM_BYTES_MAX: usize = 4096;

impl RootKey {
    /// The key as PKCS#8 DER, for the TLS library that signs the server's certificates.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(Vec::with_capacity(48));
        der.extend_from_slice(&PKCS8_PREFIX);
        der.extend_from_slice(self.0.as_bytes());
        der
    }

    /// The key as PKCS#8 PEM, which OpenSSL reads too.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let base64 = Zeroizing::new(data_encoding::BASE64.encode(&self.to_pkcs8_der()));
        Zeroizing::new(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", *base64))
    }

    /// Reads what [`RootKey::to_pem`] wrote.
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let wrong = || SignatureError::Malformed("not an Ed25519 private key in PKCS#8 PEM".to_owned());
        if pem.len() > PEM_BYTES_MAX {
            return Err(wrong());
        }
        let base64 =
            pem.trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END)).ok_or_else(wrong)?;
        let base64 = Zeroizing::new(base64.split_ascii_whitespace().collect::<String>());
        let der = Zeroizing::new(data_encoding::BASE64.decode(base64.as_bytes()).map_err(|_| wrong())?);
        let mut seed: [u8; 32] =
            der.strip_prefix(&PKCS8_PREFIX).and_then(|seed| seed.try_into().ok()).ok_or_else(wrong)?;
        let key = Self::from_seed(&seed);
        seed.zeroize();
        Ok(key)
    }
}

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomnessError(#[source] getrandom::Error);

/// `N` bytes of the operating system's randomness.
pub fn random_bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, RandomnessError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut bytes[..]).map_err(RandomnessError)?;
    Ok(bytes)
}

pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.0)
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// The `N` bytes that `2 * N` lower-case hexadecimal digits spell.
pub(crate) fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_fits_its_key_its_context_and_its_bytes_only() {
        let key = NodeKey::from_seed(&[7; 32]);
        let other = NodeKey::from_seed(&[8; 32]);
        let signature = key.sign(SignContext::Manifest, b"bytes");
        let public = key.public();
        assert_eq!(public.verify(SignContext::Manifest, b"bytes", &signature), Ok(()));
        assert_eq!(public.verify(SignContext::Manifest, b"bytez", &signature), Err(SignatureError::DoesNotFit));
        assert!(matches!(
            other.public().verify(SignContext::Manifest, b"bytes", &signature),
            Err(SignatureError::OtherKey { .. })
        ));
        assert!(matches!(
            public.verify(SignContext::Receipt, b"bytes", &signature),
            Err(SignatureError::OtherContext { .. })
        ));
    }

    #[test]
    fn a_signature_relabelled_for_another_context_or_key_does_not_fit() {
        let key = NodeKey::from_seed(&[7; 32]);
        let mut signature = key.sign(SignContext::Manifest, b"bytes");
        signature.context = SignContext::Receipt;
        assert_eq!(key.public().verify(SignContext::Receipt, b"bytes", &signature), Err(SignatureError::DoesNotFit));
        let other = NodeKey::from_seed(&[8; 32]);
        let mut signature = key.sign(SignContext::Manifest, b"bytes");
        signature.key_id = other.id();
        assert_eq!(other.public().verify(SignContext::Manifest, b"bytes", &signature), Err(SignatureError::DoesNotFit));
    }

    #[test]
    fn the_signature_document_is_pinned() {
        let key = NodeKey::from_seed(&[7; 32]);
        let json = key.sign(SignContext::Manifest, b"bytes").to_json();
        insta::assert_snapshot!(String::from_utf8(json.clone()).unwrap());
        assert_eq!(Signature::from_json(&json).unwrap(), key.sign(SignContext::Manifest, b"bytes"));
        assert!(Signature::from_json(&vec![b' '; SIGNATURE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        let key = RootKey::from_seed(&[0xab; 32]);
        let shown = format!("{key:?}");
        assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
        assert!(shown.contains(&key.id().to_string()));
    }

    #[test]
    fn a_root_key_survives_its_file() {
        let key = RootKey::from_seed(&[9; 32]);
        let pem = key.to_pem();
        assert_eq!(RootKey::from_pem(&pem).unwrap().id(), key.id());
        for bad in ["", "-----BEGIN PRIVATE KEY-----", &pem.replace("MC4C", "MC4D"), &pem[..60]] {
            assert!(RootKey::from_pem(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_of_the_wrong_length_or_off_the_curve_is_no_key() {
        assert!(PublicKey::try_from("00".repeat(31)).is_err());
        assert!(PublicKey::try_from("zz".repeat(32)).is_err());
        assert!(PublicKey::try_from(format!("02{}", "00".repeat(31))).is_err());
    }
}
